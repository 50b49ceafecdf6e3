"""What a worker claims and marks, and where: the values and the port of dispatch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from gateway.domain.changes import Change
from gateway.domain.decide import Asked, Decision, Facts

__all__ = ["Claimed", "Claims", "Instead", "Marked", "Taken"]


@dataclass(frozen=True, slots=True)
class Instead:
    """Another way out that a message may take, and that was well when it was claimed."""

    route_id: int
    sender: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message in this worker's hands: an attempt, its way out, and what is to be sent, sealed.

    ``tries_account``: it is the one request that tries an account whose breaker is open. ``instead``: the way of its next attempt, if
    the provider surely did not accept this one for the sake of its account or sender. ``elder``: while the key that people are hashed with
    is exchanged, the person's id under the version before.
    """

    uid: UUID
    tenant: str
    attempt: int
    category: str
    subject_id: bytes
    provider: str
    account: str
    sender: str
    to_sealed: bytes
    body_sealed: bytes
    tries_account: bool = False
    instead: Instead | None = None
    elder: bytes | None = None

    @property
    def person(self) -> bytes:
        """One id for all messages to a person, also while the key that people are hashed with is exchanged."""
        return self.elder or self.subject_id


@dataclass(frozen=True, slots=True)
class Taken:
    """What one claim did: what is in this worker's hands now, and what it ended, blocked or expired."""

    claimed: Sequence[Claimed] = ()
    ended: Sequence[Change] = ()


@dataclass(slots=True)
class Marked:
    """A claimed message that may go on the wire.

    ``start_by``, ``answered_at`` and ``stale_at`` are on :func:`~gateway.flow.fuse.clock`; ``marked_at`` and ``begun_at`` on PostgreSQL's.
    """

    claimed: Claimed
    start_by: float
    stale_at: float
    marked_at: datetime
    answered_at: float
    begun_at: datetime | None = None


class Claims(Protocol):
    """Where messages are claimed and marked."""

    async def claim(self, room: Mapping[str, int], decide: Callable[[Asked, Facts, datetime], Decision], most: int) -> Taken:
        """Lock what is due, read consent after, decide, take what may be sent and end what may not."""
        ...

    async def mark(self, claimed: Sequence[Claimed]) -> dict[UUID, datetime]:
        """Which of these are still ours with a lease that holds, and when they were marked: only they may go on the wire."""
        ...

    async def in_my_name(self) -> dict[UUID, int]:
        """The attempts that stand in this worker's name."""
        ...

    async def hold(self, account: str, sender: str, seconds: float, reason: str) -> None:
        """Let nothing of a sender, or with an empty sender of the account, be claimed for a while."""
        ...

    async def sends_after_stop(self, begun: Sequence[tuple[UUID, datetime, str]]) -> int:
        """How many of these requests, with the earliest moment each can have begun at and its sender, did so although a STOP was in force."""
        ...
