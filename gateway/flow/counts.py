"""Counts: how many status events of which kind, told a minute, an hour or a day at a time. The sweep calls it.

Nothing is counted in a process: the relay's removal of a published status event adds it to the store's counts, in one statement, and
here what is told goes from the counts to the outbox, in one transaction. So any process may be killed, and all of them may do this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from gateway.domain.counts import PERIODS, Cell, Period, close_day, sift
from gateway.domain.events import MetricsEvent, encode
from gateway.domain.ids import new_uids
from gateway.domain.reasons import Reason

__all__ = ["Counting", "Counts", "NewCount"]

_GRACE: Final = 15.0  # seconds: longer than a transaction may take, so that what belongs to a period is there when it is told


@dataclass(frozen=True, slots=True)
class NewCount:
    """A count to be published: an event of its own."""

    uid: UUID
    tenant: str
    payload: bytes


Judge = Callable[[Sequence[Cell], datetime], tuple[list[NewCount], list[Cell]]]
"""Pure but for the ids: the cells of periods that are over, and the store's time, to what is told and what waits."""


class Counts(Protocol):
    """Where status events are counted once they are published."""

    async def close(self, period: Period, grace: float, most: int, judge: Judge) -> int:
        """In one transaction: take the counts of periods that are over and whose events are published, whole periods of at most so
        many tenants, put what is told into the outbox and what waits back. Returns how many periods it took.
        """
        ...


class Counting:
    """The chapter. A count below ``smallest`` is not told as it is."""

    def __init__(self, counts: Counts, *, smallest: int) -> None:
        self._counts = counts
        self._smallest = smallest

    async def tell(self, most: int = 100) -> int:
        """Tell what is over, the shortest periods first: a longer one is whole only when they have been. Returns how many it took."""
        done = 0
        for period in PERIODS:
            taken = await self._counts.close(period, _GRACE, most, self._judge)
            done += taken
            if taken >= most:
                break
        return done

    def _judge(self, cells: Sequence[Cell], now: datetime) -> tuple[list[NewCount], list[Cell]]:
        days = [cell for cell in cells if cell.period == "day"]
        told, waiting = sift((cell for cell in cells if cell.period != "day"), self._smallest)
        told += close_day(days, self._smallest)
        uids = new_uids(now, len(told))
        return [NewCount(uid, cell.tenant, _payload(cell)) for uid, cell in zip(uids, told, strict=True)], waiting


def _payload(cell: Cell) -> bytes:
    values = asdict(cell)
    values["reason"] = None if cell.reason is None else Reason(cell.reason)
    return encode(MetricsEvent(**values))
