"""What a topic holds, as the gateway passes it on: records, batches of them, and gaps where records are gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = ["Batch", "Gap", "Record"]


class Record(NamedTuple):
    """A record as it came: nothing in it is checked. Its key, value and headers may hold personal data and are not shown."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp_ms: int

    def __repr__(self) -> str:
        return f"Record(offset={self.offset}, timestamp_ms={self.timestamp_ms})"


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition, in order. ``next_offset`` is what is read after them; offsets between may be missing.

    ``assignment`` and ``ticket`` are the source's own marks.
    """

    topic: str
    partition: int
    records: Sequence[Record] = field(repr=False)
    first_offset: int
    next_offset: int
    assignment: int = field(repr=False)
    ticket: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that the gateway will never have: from ``first_offset`` to before ``next_offset``.

    ``retention``: the topic's own retention took them before they were read. ``unreadable``: their bytes are damaged (a wrong checksum,
    a compression that does not open, a header that is not UTF-8); such a gap is one offset wide. ``rewound``: the topic ends before what was
    already read, so it was made anew or cut; reading goes on at ``next_offset``, its beginning, and nothing is known to be lost.
    """

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    why: Literal["retention", "unreadable", "rewound"]
