"""Lock messages, ask pure code what changes, write it: the one way in which a message's state moves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gateway.domain.changes import Change, Held, Queued, Recorded
from gateway.domain.states import State
from gateway.flow.people import FirstKey, People
from gateway.store.statements import statements

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.flow.ledger import Judge
    from gateway.store.database import Database, Session

__all__ = ["Ledger", "apply", "lock_messages", "queued_from"]

_FIELDS: Final = (
    "uid", "tenant", "step", "number", "queue", "due_at", "lane_until", "attempt", "state",
    "reason", "final", "version", "told", "correction", "policy", "rule", "provider", "account",
    "sender", "provider_message_id", "code", "parts", "begun_at", "settle_by", "check_at", "evidence",
    "next_route", "next_sender",
)  # fmt: skip # in the order of the statement's arrays
_row = attrgetter(*_FIELDS)


def queued_from(row: Record) -> Queued:
    """A locked row of the queue."""
    return Queued(
        uid=row["uid"],
        tenant=row["tenant"],
        state=row["state"],
        attempt=row["attempt"],
        tries=row["tries"],
        steps=row["steps"],
        provider=row["provider"],
        account=row["account"],
        sender=row["sender"],
        worker_id=row["worker_id"],
        marked_at=row["marked_at"],
        lease_over=row["lease_over"],
        expired=row["expired"],
    )


def _recorded(row: Record) -> Recorded:
    return Recorded(
        uid=row["uid"],
        tenant=row["tenant"],
        programme=row["programme"],
        category=row["category"],
        kind=row["kind"],
        subject_id=row["subject_id"] or b"",
        state=State(row["state"]),
        final=row["final"],
        version=row["version"],
        steps=row["steps"],
        attempt=row["attempt"],
        account=row["account"],
        sender=row["sender"],
        provider_message_id=row["provider_message_id"],
        policy=row["policy"],
        rule=row["rule"],
        settle_by=row["settle_by"],
    )


async def lock_messages(session: Session, uids: Sequence[UUID]) -> dict[UUID, Recorded]:
    """The records of messages, locked in id order. The queue's rows are locked before."""
    return (await _lock_messages(session, uids))[0]


async def _lock_messages(session: Session, uids: Sequence[UUID]) -> tuple[dict[UUID, Recorded], datetime | None]:
    """The records, and the time when they were asked for; None where there is none."""
    rows = await session.fetch(statements("ledger")["lock_messages"], uids)
    return {row["uid"]: _recorded(row) for row in rows}, rows[0]["asked_at"] if rows else None


async def apply(session: Session, changes: Sequence[Change], *, worker_id: str | None, lease: float, actor: str) -> None:
    """Write changes, their audit records and their events, in one statement. ``lease`` is in seconds, for claims."""
    if changes:
        # unnest() fills a shorter array up with nulls: a field that no change of the batch has is sent as an empty one.
        columns = (
            list(column) if any(value is not None for value in column) else [] for column in zip(*map(_row, changes), strict=True)
        )
        await session.execute(statements("ledger")["apply"], worker_id, lease, actor, *columns)


class Ledger:
    """The messages, changed only by :meth:`change`. ``actor`` names this process in the audit."""

    def __init__(self, database: Database, actor: str, people: People | None = None) -> None:
        self._database = database
        self._actor = actor
        self._people = people or FirstKey()

    async def now(self) -> datetime:
        """PostgreSQL's time: the one that processes compare by."""
        found: datetime = (await self._database.fetch(statements("ledger")["now"]))[0][0]
        return found

    async def change(self, uids: Iterable[UUID], judge: Judge, *, actor: str | None = None) -> list[Change]:
        """In one transaction: lock these messages, ask ``judge`` what changes, write that; returns what was written.

        ``judge`` is pure and may be asked again: after a deadlock the transaction runs from its beginning.
        """
        wanted = sorted(set(uids))

        async def work(session: Session) -> list[Change]:
            queued = {row["uid"]: queued_from(row) for row in await session.fetch(statements("ledger")["lock_queue"], wanted)}
            messages, now = await _lock_messages(session, wanted)
            if now is None:  # none of them is there: what judges may want to know that, too
                now = await session.fetchval(statements("ledger")["now"])
            changes = list(judge({uid: Held(message, queued.get(uid)) for uid, message in messages.items()}, now))
            await apply(session, changes, worker_id=None, lease=0, actor=actor or self._actor)
            return changes

        return await self._database.transact(work) if wanted else []

    async def accepted_as(self, account: str, provider_message_id: str, subject_id: bytes) -> tuple[UUID, int] | None:
        """The message to this person, and its attempt, that the provider account accepted by this id; None when none is known."""
        rows = await self._database.fetch(
            statements("ledger")["accepted_as"], account, provider_message_id, self._people.line(subject_id)
        )
        return (rows[0]["uid"], rows[0]["attempt"]) if rows else None
