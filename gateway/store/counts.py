"""Counts of status events, by the statements of counts.sql."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

from gateway.domain.counts import PERIODS, Cell, Period
from gateway.store.statements import statements

if TYPE_CHECKING:
    from gateway.flow.counts import Judge
    from gateway.store.database import Database, Session

__all__ = ["Counts"]

_row: Final = attrgetter("period", "start", "tenant", "provider", "category", "state", "reason", "count")


class Counts:
    """What was published and is not told of yet."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def close(self, period: Period, grace: float, most: int, judge: Judge) -> int:
        """In one transaction: take, judge, put what is told into the outbox and what waits back."""

        async def work(session: Session) -> int:
            sql = statements("counts")
            rows = await session.fetch(sql["take"], period, float(PERIODS[period]), grace, most)
            if not rows:
                return 0
            told, waiting = judge([Cell(*row.values()) for row in rows], await session.fetchval(statements("ledger")["now"]))
            if waiting:
                await session.execute(sql["wait"], *map(list, zip(*map(_row, waiting), strict=True)))
            if told:
                await session.execute(
                    sql["tell"], [one.uid for one in told], [one.tenant for one in told], [one.payload for one in told]
                )
            return len({(row["start"], row["tenant"]) for row in rows})

        return await self._database.transact(work)
