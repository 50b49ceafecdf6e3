"""What ends when its time is over, by the statements of retention.sql."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gateway.domain.ids import uid_floor
from gateway.flow.holds import Persons, Thing
from gateway.flow.retention_tables import Apart, Part
from gateway.store.holds import covered
from gateway.store.statements import affected, statements

if TYPE_CHECKING:
    from gateway.store.database import Database, Session

__all__ = ["KEPT_OF_MESSAGES", "RetentionTables", "other_columns"]

KEPT_OF_MESSAGES: Final = (
    "uid", "tenant", "programme", "category", "kind", "message_id", "state", "reason", "final", "version", "steps", "policy", "rule",
    "expires_at", "not_before", "attempt", "provider", "account", "sender", "provider_message_id", "code", "parts", "begun_at",
    "changed_at", "correction",
)  # fmt: skip
"""What stays of a message once its content's time is over: what its events still say. Whom it was for and what it said is not on it.

``message_id`` is the producer's name of the message, by which it asks what became of it; ``provider_message_id`` is needed until the
provider's copy is gone. A column that a later version adds is emptied unless it is put here.
"""

_OWN_CLASS: Final = ("to_sealed",)  # the number: it ends with the class address
_STEPS: Final[Mapping[str, str]] = {
    "content": "reduce_messages",
    "address": "empty_numbers_of_messages",
    "events": "delete_messages",
}


class RetentionTables:
    """The tables, as far as days of them end. Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def parts(self) -> Sequence[Part]:
        """The days' partitions, by day."""
        return [Part(*row.values()) for row in await self._database.fetch(statements("retention")["partitions"])]

    async def tenants(self, parent: str, first: datetime, after: datetime) -> frozenset[str]:
        """Whose there is anything in a day. A day's partition is read whole for it."""

        async def work(session: Session) -> frozenset[str]:
            sql = statements("retention")
            await session.execute("set local enable_seqscan = on")
            of = "tenants_of_audit" if parent == "audit_chain" else "tenants_of_messages"
            rows = await session.fetch(sql[of], first, after)
            if parent != "audit_chain":
                rows += await session.fetch(sql["tenants_apart"], first, after)
            return frozenset(row["tenant"] for row in rows)

        return await self._database.transact(work)

    async def rows(self, parent: str, first: datetime, after: datetime) -> Mapping[str, int]:
        """How many rows each tenant has in a day. A day's partition is read whole for it."""

        async def work(session: Session) -> Mapping[str, int]:
            await session.execute("set local enable_seqscan = on")
            of = "rows_of_audit" if parent == "audit_chain" else "rows_of_messages"
            return {row["tenant"]: row["count"] for row in await session.fetch(statements("retention")[of], first, after)}

        return await self._database.transact(work)

    async def apart(self) -> Sequence[Apart]:
        """Where the oldest is of what lies in tables without partitions."""
        return [Apart(*row.values()) for row in await self._database.fetch(statements("retention")["oldest_apart"])]

    async def ended(self) -> Mapping[tuple[date, Thing, str], bool]:
        """The days that were decided to end, and whether nothing is left of them: by day, class and tenant."""
        rows = await self._database.fetch(statements("retention")["ended"])
        return {(row["day"], row["data_class"], row["tenant"]): row["done"] for row in rows}

    async def unsettled(self, tenant: str, first: datetime, after: datetime, most: int) -> Sequence[UUID]:
        """Messages of the day that are not settled."""
        rows = await self._database.fetch(statements("retention")["unsettled"], tenant, first, after, most)
        return [row["uid"] for row in rows]

    async def owed(self, tenant: str, first: datetime, after: datetime) -> bool:
        """Whether something of the day is still to be told."""
        return bool((await self._database.fetch(statements("retention")["owed"], tenant, first, after))[0]["owed"])

    async def audit_waits(self, tenant: str, after: datetime) -> bool:
        """Whether audit records from before are not chained yet, or not published."""
        return bool((await self._database.fetch(statements("retention")["audit_unpublished"], tenant, after))[0]["waits"])

    async def decide(self, thing: Thing, tenant: str, day: date, first: datetime, after: datetime, persons: Persons) -> bool:
        """Under the lock of the holds: is nothing covered that is not kept, nothing unsettled? Then the day is to die."""

        async def work(session: Session) -> bool:
            sql = statements("retention")
            await session.execute(sql["lock_holds"])
            if await covered(session, thing, tenant, first, after, persons, 1):
                return False
            if thing in _STEPS and await session.fetch(sql["unsettled"], tenant, first, after, 1):
                return False
            if thing == "events":
                await session.execute("set local enable_seqscan = on")
                await session.execute(sql["count_messages"], tenant, first, after, day)
            if await session.execute(sql["decide"], day, thing, tenant) == "INSERT 0 1":
                await session.execute(sql["audit"], tenant, "decided", f"retention.{thing}", day.isoformat(), "retention")
            return True

        return await self._database.transact(work)

    async def step(
        self, thing: Thing, tenant: str, first: datetime, after: datetime, last: UUID | None, most: int
    ) -> UUID | None:
        """Empty or delete a tenant's next rows of a day, those after ``last``; returns the new last, None when there are no more."""
        statement = statements("retention")[_STEPS[thing]]
        if thing == "content":
            for name, columns in (await other_columns(self._database)).items():
                statement = statement.replace(f"/* {name} */", columns)
        begin = last or UUID(int=uid_floor(first).int - 1)
        rows = await self._database.fetch(statement, tenant, begin, after, most)
        found: UUID | None = rows[0]["last"] if rows[0]["count"] == most else None
        return found

    async def delete_letters(self, tenant: str, first: datetime, after: datetime, most: int) -> int:
        """Delete dead letters of a day."""
        return await self._done("delete_letters", tenant, first, after, most)

    async def empty_numbers(self, tenant: str, first: datetime, after: datetime) -> int:
        """Let go of the numbers that providers were owed, of a day."""
        return await self._done("empty_numbers", tenant, first, after)

    async def delete_parked(self, tenant: str, before: datetime, *, inbound: bool, most: int) -> int:
        """Delete events from before that the broker will never take: people's texts, or all others."""
        return await self._done("delete_parked", tenant, before, inbound, most)

    async def empty_inbound(self, tenant: str, before: datetime, most: int) -> int:
        """Forget who sent texts before."""
        accounts = [row["account"] for row in await self._database.fetch(statements("retention")["inbound_accounts"])]
        return await self._done("empty_inbound", tenant, before, accounts, most)

    async def delete_audit(self, tenant: str, before: datetime, most: int) -> int:
        """Delete the beginning of a tenant's chain, and move its anchor along."""
        return int((await self._database.fetch(statements("retention")["delete_audit"], tenant, before, most))[0]["count"])

    async def anchor_day(self, after: datetime) -> None:
        """Write down where the chains begin once a day's partition is gone."""
        await self._database.execute(statements("retention")["anchor_day"], after)

    async def done(self, day: date, thing: Thing, tenant: str) -> None:
        """Nothing of it is left."""

        async def work(session: Session) -> None:
            sql = statements("retention")
            if await session.execute(sql["done"], day, thing, tenant) == "UPDATE 1":
                await session.execute(sql["audit"], tenant, "ended", f"retention.{thing}", day.isoformat(), "retention")

        await self._database.transact(work)

    async def drop(self, name: str) -> None:
        """Take a partition away and drop it; to be repeated wherever it broke off. Nobody who inserts or reads elsewhere waits for it."""
        for step in ("detaching", "dropping"):
            rows = await self._database.fetch(statements("retention")[step], name)
            for row in rows:
                await self._database.execute(row["statement"])

    async def _done(self, statement: str, *arguments: object) -> int:
        done = await self._database.execute(statements("retention")[statement], *arguments)
        return affected(done)


async def other_columns(database: Database) -> Mapping[str, str]:
    """The columns that are not kept of a message, but its number's: as what an update sets (emptied), and as what is asked (readable)."""
    kept = [*KEPT_OF_MESSAGES, *_OWN_CLASS]
    return {name: str(part) for name, part in (await database.fetch(statements("retention")["emptied"], kept))[0].items()}
