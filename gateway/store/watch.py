"""What is overdue, doubtful or growing, by the statements of watch.sql."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from gateway.flow.evidence import Doubt
from gateway.flow.people import FirstKey, People
from gateway.store.migrate import DAYS_AHEAD
from gateway.store.statements import affected, statements
from gateway.telemetry import Metrics

if TYPE_CHECKING:
    from gateway.store.database import Database, Session

__all__ = ["Watch"]


class Watch:
    """Finds work for rescue, evidence and the sweep."""

    def __init__(self, database: Database, people: People | None = None) -> None:
        self._database = database
        self._people = people or FirstKey()

    async def leases_over(self, most: int) -> Sequence[UUID]:
        """Claims whose lease is over."""
        return await self._uids("leases_over", most)

    async def expired(self, most: int) -> Sequence[UUID]:
        """Waiting messages whose time to be sent is over."""
        return await self._uids("expired", most)

    async def news_over(self, most: int) -> Sequence[UUID]:
        """Messages that are not final and whose time for news is over."""
        return await self._uids("news_over", most)

    async def _uids(self, name: str, most: int) -> list[UUID]:
        return [row["uid"] for row in await self._database.fetch(statements("watch")[name], most)]

    async def due(self, most: int) -> Sequence[Doubt]:
        """Unknown outcomes to be looked into now."""
        return [Doubt(*row.values()) for row in await self._database.fetch(statements("watch")["doubts"], most)]

    async def rivals(self, uid: UUID, person: bytes) -> int:
        """How many others are as open as this one."""
        rows = await self._database.fetch(statements("watch")["rivals"], uid, self._people.line(person))
        return int(rows[0]["rivals"]) if rows else 0

    async def claimed_elsewhere(self, person: bytes, provider_message_ids: Sequence[str]) -> frozenset[str]:
        """Which of the provider's ids belong to a message of this person already."""
        if not provider_message_ids:
            return frozenset()
        rows = await self._database.fetch(
            statements("watch")["claimed_elsewhere"], self._people.line(person), list(provider_message_ids)
        )
        return frozenset(row["provider_message_id"] for row in rows)

    async def measure(self, metrics: Metrics, spool: str | None = None) -> None:
        """Set the gauges of the queue and the outbox, and of the spool of this topic."""
        levels = {row["state"]: row for row in await self._database.fetch(statements("watch")["queue_levels"])}
        for state in ("waiting", "claimed", "marked"):
            level = levels.get(state)
            metrics.queue_messages.labels(state=state).set(level["messages"] if level is not None else 0)
            metrics.queue_oldest_seconds.labels(state=state).set(level["oldest"] if level is not None else 0)
        outbox = (await self._database.fetch(statements("watch")["outbox_level"]))[0]
        metrics.outbox_events.set(outbox["events"])
        metrics.outbox_oldest_seconds.set(outbox["oldest"])
        metrics.outbox_parked_events.set(outbox["parked"])
        audit = (await self._database.fetch(statements("watch")["audit_level"]))[0]
        metrics.audit_unchained_records.set(audit["records"])
        metrics.audit_unchained_oldest_seconds.set(audit["oldest"])
        metrics.audit_unpublished_records.set(audit["unpublished"])
        for row in await self._database.fetch(statements("routing")["breakers"]):
            metrics.breaker_state.labels(account=row["account"]).set(row["level"])
        barriers = (await self._database.fetch(statements("watch")["barriers"]))[0]
        metrics.catch_up_barriers.set(barriers["barriers"])
        shut = await self._database.fetch(statements("spool")["shut"], spool) if spool is not None else []
        metrics.spool_shut_seconds.set(shut[0]["seconds"] if shut else 0)

    async def ensure_days(self) -> None:
        """Make the partitions of the next two weeks. DDL waits for a lock a moment only, and is tried again at the next sweep."""

        async def work(session: Session) -> None:
            await session.execute("set local lock_timeout = '500ms'")
            await session.execute(statements("watch")["ensure_days"], DAYS_AHEAD)

        await self._database.transact(work)

    async def forget_ids(self, window_seconds: float, most: int = 5000) -> int:
        """Message ids whose dedupe window is over; returns how many."""
        done = await self._database.execute(statements("watch")["forget_ids"], window_seconds, most)
        return affected(done)
