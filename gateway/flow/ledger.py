"""The port by which every chapter changes messages: lock, judge, write, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID

from gateway.domain.changes import Change, Held

__all__ = ["Judge", "Ledger"]

Judge = Callable[[Mapping[UUID, Held], datetime], Iterable[Change]]
"""Pure: the messages as they stand under the lock, and the store's time when they were asked for, to what changes."""


class Ledger(Protocol):
    """The messages."""

    async def now(self) -> datetime:
        """The store's time: the one that processes compare by."""
        ...

    async def change(self, uids: Iterable[UUID], judge: Judge, *, actor: str | None = None) -> list[Change]:
        """Lock these messages, ask what changes, write it; returns what was written. ``judge`` may be asked more than once."""
        ...

    async def accepted_as(self, account: str, provider_message_id: str, subject_id: bytes) -> tuple[UUID, int] | None:
        """The message to this person, and its attempt, that the provider account accepted by this id; None when none is known.

        Messages that went out in one request share that request's id.
        """
        ...
