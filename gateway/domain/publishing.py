"""An event on its way to a topic, and what the broker said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Acknowledged", "Failed", "OutEvent", "PublishResult", "RefusedForGood"]


@dataclass(frozen=True, slots=True)
class OutEvent:
    """An event to publish. Its key, headers and value are not shown. A value of None deletes the key from a compacted topic.

    ``ordered_by`` chooses the partition, so that events of several keys keep one order; None: the key does, which then must be there.
    """

    topic: str
    key: bytes | None = field(repr=False)
    headers: Sequence[tuple[str, bytes]] = field(repr=False)
    value: bytes | None = field(repr=False)
    ordered_by: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The brokers have it, in all replicas that must. ``offset`` is -1 where a repeat was recognised."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class RefusedForGood:
    """It will never be taken as it is: ``too_large`` or ``invalid_topic``."""

    why: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Not acknowledged, though it may have arrived; the same may work later. ``why`` is the kind of error."""

    why: str


PublishResult = Acknowledged | RefusedForGood | Failed
