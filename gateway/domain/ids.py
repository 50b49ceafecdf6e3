"""The gateway's own ids: UUIDs of version 7, whose first half tells the time (RFC 9562, 5.7 and method 3 of 6.2)."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

__all__ = ["new_uid", "new_uids", "uid_floor", "uid_time"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_BITS = (1 << 62) - 1


def _stem(moment: datetime) -> int:
    """All but the random part: 48 bits of milliseconds, then the fraction of a millisecond in 12 bits, so that ids sort by the µs."""
    milliseconds, microseconds = divmod((moment - _EPOCH) // _MICROSECOND, 1000)
    return milliseconds << 80 | _VERSION_7 | (microseconds << 12) // 1000 << 64 | _VARIANT


def new_uid(now: datetime) -> UUID:
    """A fresh id that carries the moment, exact to the microsecond. ``now`` is aware and not before 1970."""
    return UUID(int=_stem(now) | int.from_bytes(os.urandom(8)) & _RANDOM_BITS)


def new_uids(now: datetime, count: int) -> list[UUID]:
    """As many fresh ids of one moment, in ascending order: a batch keeps its order when it is sorted by id."""
    stem = _stem(now)
    noise = os.urandom(8 * count)
    tails = sorted(int.from_bytes(noise[start : start + 8]) & _RANDOM_BITS for start in range(0, 8 * count, 8))
    return [UUID(int=stem | tail) for tail in tails]


def uid_time(uid: UUID) -> datetime:
    """The moment an id was made for, in UTC. ``ValueError`` when it is not of version 7."""
    if uid.version != 7:
        raise ValueError("not a UUID of version 7")
    fraction = uid.int >> 64 & 0xFFF
    microseconds = (fraction * 1000 + 0xFFF) >> 12
    return _EPOCH + timedelta(milliseconds=uid.int >> 80, microseconds=microseconds)


def uid_floor(moment: datetime) -> UUID:
    """A bound below every id of that millisecond and above every earlier one, for partitions; the same as SQL's ``uid_floor``."""
    return UUID(int=(moment - _EPOCH) // timedelta(milliseconds=1) << 80)
