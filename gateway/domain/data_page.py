"""The page of the data map, docs/data-map.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.domain.data_map import Part
from gateway.domain.mapped_events import EVENTS, TOPICS
from gateway.domain.mapped_rest import ELSEWHERE, KEYS, LABELS, LOGS, PROVIDERS
from gateway.domain.mapped_tables import TABLES

__all__ = ["PARTS", "data_page"]

PARTS: Final = (TABLES, EVENTS, TOPICS, PROVIDERS, KEYS, ELSEWHERE, LABELS, LOGS)

_HEAD: Final = """\
# The data map

Where personal data is, why, for how long, and how it ends; and of every other column, field, label and key, why it is none. Made by
`gateway data-map --markdown` from the code; tests compare it with the schema, the events, what providers are sent, the metrics and the logs as they are.

*How long* names a policy's key ([policies](policies.md)) or a [setting](configuration.md). `gateway retention plan` says when that is for each tenant,
`gateway retention verify` looks whether it is so. The picture is in [architecture](architecture.md#where-personal-data-is).
"""


def data_page() -> str:
    """The page, in Markdown."""
    return "\n".join([_HEAD, *(line for part in PARTS for line in _part(part))])


def _part(part: Part) -> Iterator[str]:
    yield f"## {part.title}\n\n{part.text}\n"
    rows = list(part.rows())
    if rows:
        yield f"| where | {part.called} | what | why | form | how long | how it dies |\n| --- | --- | --- | --- | --- | --- | --- |"
        for area, names, held in rows:
            until = held.until
            key = f"`{until.key}`" if "." in until.key or "_" in until.key else until.key
            yield f"| `{area}` | {_named(names)} | {held.what} | {held.why} | {held.form} | {key} | {until.dies} |"
        yield "\nNone is in:\n"
    if not any(area.none for area in part.areas):
        yield ""
        return
    yield f"| where | {part.called} | because it is |\n| --- | --- | --- |"
    for found in part.areas:
        for names, because in found.none.items():
            yield f"| `{found.name}` | {_named(names)} | {because} |"
    yield ""


def _named(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split())
