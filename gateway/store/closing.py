"""The closing of customer accounts, by the statements of closing.sql."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gateway.domain.closing import Closing, Closings
from gateway.store.statements import affected, statements

if TYPE_CHECKING:
    from gateway.store.database import Database, Session

__all__ = ["ClosedAccounts", "closed_tenants", "is_closed"]


async def closed_tenants(database: Database) -> frozenset[str]:
    """Whose account is closed now."""
    return frozenset(row["tenant"] for row in await database.fetch(statements("closing")["closed"]))


async def is_closed(database: Database, tenant: str) -> bool:
    """Whether a tenant's account is closed now."""
    return bool((await database.fetch(statements("closing")["is_closed"], tenant))[0]["closed"])


class ClosedAccounts:
    """The table of closings, and what is kept of the customers. Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> datetime:
        """PostgreSQL's time."""
        moment: datetime = (await self._database.fetch(statements("ledger")["now"]))[0][0]
        return moment

    async def closings(self) -> Closings:
        """All that are noted."""
        rows = await self._database.fetch(statements("closing")["closings"])
        return {row["tenant"]: Closing(row["closed_at"], row["noted_at"]) for row in rows}

    async def list(self) -> Sequence[Mapping[str, Any]]:
        """The same, with who said so and why."""
        return [dict(row) for row in await self._database.fetch(statements("closing")["list"])]

    async def close(self, tenant: str, at: datetime | None, who: str, why: str, actor: str) -> datetime | None:
        """Note a closing, with its audit."""

        async def work(session: Session) -> datetime | None:
            row = await session.fetchrow(statements("closing")["close"], tenant, at, who, why, actor)
            if row is None:
                return None
            closed_at: datetime = row["closed_at"]
            await session.execute(statements("closing")["audit"], tenant, "account_closed", closed_at.isoformat(), actor)
            return closed_at

        return await self._database.transact(work)

    async def reopen(self, tenant: str, within: timedelta, actor: str) -> bool:
        """Take one away, with its audit."""

        async def work(session: Session) -> bool:
            row = await session.fetchrow(statements("closing")["reopen"], tenant, within)
            if row is not None:
                evidence = row["closed_at"].isoformat()
                await session.execute(statements("closing")["audit"], tenant, "account_reopened", evidence, actor)
            return row is not None

        return await self._database.transact(work)

    async def waiting(self, most: int) -> Sequence[UUID]:
        """Messages for which no request has begun."""
        return [row["uid"] for row in await self._database.fetch(statements("closing")["waiting"], most)]

    async def left(self, tenants: Collection[str]) -> Mapping[str, int]:
        """How much is kept of these customers, whatever the messages."""
        rows = await self._database.fetch(statements("closing")["left"], sorted(tenants)) if tenants else []
        return {row["tenant"]: row["count"] for row in rows}

    async def forget(self, tenant: str, most: int) -> int:
        """Forget what is kept of a customer, at most so much; the closing's own words go last, so that what broke off is begun again."""
        sql = statements("closing")
        forgotten = affected(await self._database.execute(sql["forget_senders"], tenant, most))
        if forgotten >= most:
            return forgotten

        async def work(session: Session) -> int:
            names = ("forget_pauses", "forget_tokens", "narrow_tokens", "forget_closing")
            return sum([affected(await session.execute(sql[name], tenant)) for name in names])

        return forgotten + await self._database.transact(work)
