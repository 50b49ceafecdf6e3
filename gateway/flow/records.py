"""A record of an input topic, and where it comes from: from its producer, or put back by an operator."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol
from uuid import UUID

__all__ = ["REPLAY_HEADER", "Origin", "Record", "ReplayMarks", "origin_of"]

REPLAY_HEADER: Final = "gateway_replay"
"""Stands beside a record that was put back: a token that names the dead letter which it first became."""


class Record(Protocol):
    """A record of the input topic, as it came."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...
    @property
    def timestamp_ms(self) -> int: ...


class ReplayMarks(Protocol):
    """Makes and reads the tokens of :data:`REPLAY_HEADER`."""

    def make(self, first: UUID, timestamp_ms: int, sha256: bytes) -> str:
        """The token of a record that is put back."""
        ...

    def read(self, token: str, sha256: bytes) -> tuple[UUID, int] | None:
        """The first dead letter's uid and the record's first timestamp; None when the token is not ours."""
        ...


class Origin(NamedTuple):
    """``first``: the dead letter that a record which was put back first became. ``timestamp_ms``: when it first came; below 0: unknown."""

    first: UUID | None
    timestamp_ms: int


def origin_of(record: Record, marks: ReplayMarks) -> Origin:
    """Where a record comes from. A header that is not ours says nothing: whoever may write the topic can put one there."""
    for name, value in record.headers:
        if name == REPLAY_HEADER and value is not None:
            found = marks.read(value.decode("latin-1"), hashlib.sha256(record.value or b"").digest())
            if found is not None:
                first, timestamp_ms = found
                return Origin(first, min(timestamp_ms, record.timestamp_ms) if record.timestamp_ms >= 0 else timestamp_ms)
    return Origin(None, record.timestamp_ms)
