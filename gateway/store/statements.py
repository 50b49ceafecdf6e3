"""Read the named statements of a .sql file: each begins with ``-- name: …``; and what PostgreSQL says that one has done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

__all__ = ["affected", "statements"]

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def statements(chapter: str) -> Mapping[str, str]:
    """The statements of ``gateway/store/<chapter>.sql`` by name."""
    text = files("gateway.store").joinpath(f"{chapter}.sql").read_text(encoding="utf-8")
    pieces = _NAME.split(text)[1:]
    return MappingProxyType(dict(zip(pieces[::2], (piece.strip() for piece in pieces[1::2]), strict=True)))


def affected(tag: str) -> int:
    """How many rows a statement changed, by PostgreSQL's command tag."""
    return int(tag.rpartition(" ")[2])
