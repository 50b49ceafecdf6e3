"""Pages by token, and a query's parameters, which may come more than once."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

from gateway.simulator.ringcentral.errors import Fault, parameter

__all__ = ["LARGEST", "Query", "count_asked", "one_asked", "token_page"]

LARGEST: Final = 1000

Query = dict[str, list[str]]
ItemT = TypeVar("ItemT")


def token_page(
    found: Iterable[ItemT], query: Query, place: Callable[[ItemT], int], tell: Callable[[ItemT], dict[str, Any]], *, default: int
) -> dict[str, Any] | Fault:
    """A page of what is found, in falling order of ``place``: a token is the place that the page before has ended with."""
    size = count_asked(query, "perPage", default)
    if size is None:
        return parameter("perPage")
    size = min(size, LARGEST)
    token = one_asked(query, "pageToken")
    before: int | None = None
    if token:
        try:
            before = int(base64.urlsafe_b64decode(token))
        except ValueError:
            return parameter("pageToken")
    rest: Iterator[ItemT] = (one for one in found if before is None or place(one) < before)
    shown = list(islice(rest, size))
    paging: dict[str, Any] = {"perPage": size}
    if token:
        paging["pageToken"] = token
    if shown:
        paging["firstPageToken"] = _token(1 << 62)
        if next(rest, None) is not None:
            paging["nextPageToken"] = _token(place(shown[-1]))
    return {"records": [tell(one) for one in shown], "paging": paging}


def _token(place: int) -> str:
    return base64.urlsafe_b64encode(str(place).encode()).decode()


def one_asked(query: Query, name: str, default: str = "") -> str:
    """A parameter; of several the last."""
    return query.get(name, [default])[-1]


def count_asked(query: Query, name: str, default: int) -> int | None:
    """A parameter that is a number above 0, or None where it is none."""
    text = one_asked(query, name, str(default))
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None
