"""What a verification of the audit reads, by the statements of audit.sql."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gateway.domain.chain import GENESIS, Anchor, Chained
from gateway.flow.audit import ChainEnd, Counted
from gateway.store.chain import chained_from
from gateway.store.statements import statements

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.store.database import Database, Session

__all__ = ["AuditReader"]

_LARGEST: Final = 2**63 - 1


class AuditReader:
    """Reads the chains, each piece in a short statement of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def _rows(self, name: str, *arguments: object) -> list[Record]:
        return await self._database.fetch(statements("audit")[name], *arguments)

    async def ends(self, recent: timedelta | None) -> list[ChainEnd]:
        """The end of every chain, by tenant; one whose head is gone ends before its first record."""
        seconds = timedelta(days=36_500) if recent is None else recent
        return [
            ChainEnd(
                row["tenant"],
                Anchor(row["sequence"], row["hash"]) if row["hash"] is not None else GENESIS,
                row["published"],
                published_recently=bool(row["recent"]),
            )
            for row in await self._rows("heads", seconds.total_seconds())
        ]

    async def anchors(self, tenant: str) -> list[Anchor]:
        """The anchors of a chain, in order."""
        return [Anchor(*row.values()) for row in await self._rows("anchors", tenant)]

    async def first(self, tenant: str) -> int | None:
        """The lowest sequence that is there."""
        found: int | None = (await self._rows("first", tenant))[0]["sequence"]
        return found

    async def records(self, tenant: str, after: int, upto: int, most: int) -> list[Chained]:
        """The next records of a chain, in order; of one sequence all, be it more than ``most``."""
        return [chained_from(row) for row in await self._rows("records", tenant, after, upto, most)]

    async def beyond(self, tenant: str) -> tuple[int, int] | None:
        """The first and the last sequence past the head, where there is one."""
        row = (await self._rows("beyond", tenant))[0]
        return None if row["first"] is None else (row["first"], row["last"])

    async def hashes(self, tenant: str, sequences: Sequence[int]) -> dict[int, bytes]:
        """The hashes of those of these records that are there."""
        wanted = [one for one in sequences if 0 < one <= _LARGEST]
        return {row["sequence"]: row["hash"] for row in await self._rows("hashes", tenant, wanted)}

    async def messages(self) -> int:
        """About how many messages there are."""
        found: int = (await self._rows("messages"))[0]["messages"]
        return found

    async def unchained(self) -> dict[str, int]:
        """How many records of each tenant wait to be chained."""
        return {row["tenant"]: row["records"] for row in await self._rows("unchained")}

    async def counted(self, after: UUID, most: int) -> list[Counted]:
        """The next messages by uid, what their own counters say, and which records are there. Of one moment, all of it."""

        async def work(session: Session) -> list[Counted]:
            await session.execute("set transaction isolation level repeatable read, read only")
            messages = await session.fetch(statements("audit")["counters"], after, most)
            if not messages:
                return []
            rows = await session.fetch(statements("audit")["numbers"], after, messages[-1]["uid"])
            numbers = {row["uid"]: row["numbers"] for row in rows}
            return [Counted(row["tenant"], row["uid"], row["steps"], numbers.get(row["uid"], ())) for row in messages]

        return await self._database.transact(work)
