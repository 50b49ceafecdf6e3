"""Rescue: what a lost worker claimed, what has expired, and news that no longer comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from gateway.domain.changes import Change, Held, Horizons, end, give_up_waiting, rescue
from gateway.domain.reasons import Reason
from gateway.domain.states import State
from gateway.flow.ledger import Ledger
from gateway.telemetry import Metrics

__all__ = ["Overdue", "Rescue"]


class Overdue(Protocol):
    """Finds messages whose time is over; what it finds is judged again under the lock."""

    async def leases_over(self, most: int) -> Sequence[UUID]:
        """Claims whose lease is over."""
        ...

    async def expired(self, most: int) -> Sequence[UUID]:
        """Waiting messages whose time to be sent is over."""
        ...

    async def news_over(self, most: int) -> Sequence[UUID]:
        """Messages that are not final and whose time for news is over."""
        ...


class Rescue:
    """The chapter, in bounded steps: each returns how many messages it changed."""

    def __init__(self, overdue: Overdue, ledger: Ledger, metrics: Metrics, horizons: Horizons) -> None:
        self._overdue = overdue
        self._ledger = ledger
        self._metrics = metrics
        self._horizons = horizons

    async def claims(self, most: int = 500) -> int:
        """Unmarked claims of lost workers wait again; marked ones are unknown."""

        def judge(held: Mapping[UUID, Held], now: datetime) -> list[Change]:
            return [
                rescue(one.message, one.queued, now, self._horizons)
                for one in held.values()
                if one.queued is not None and one.queued.state != "waiting" and one.queued.lease_over
            ]

        changes = await self._ledger.change(await self._overdue.leases_over(most), judge, actor="rescue")
        for change in changes:
            self._metrics.claims_rescued_total.labels(to=change.state or "waiting").inc()
            self._metrics.moved(change)
        return len(changes)

    async def expired(self, most: int = 500) -> int:
        """Messages that nobody may send any more end as expired."""

        def judge(held: Mapping[UUID, Held], _now: datetime) -> list[Change]:
            return [
                end(one.message, one.queued, State.EXPIRED, Reason.EXPIRED, "time.expires_at")
                for one in held.values()
                if one.queued is not None and one.queued.state == "waiting" and one.queued.expired
            ]

        return self._count(await self._ledger.change(await self._overdue.expired(most), judge, actor="sweep"))

    async def without_news(self, most: int = 500) -> int:
        """``sent`` and ``unknown`` become final when nothing more is heard of them in time."""

        def judge(held: Mapping[UUID, Held], now: datetime) -> list[Change]:
            return [
                give_up_waiting(one.message)
                for one in held.values()
                if not one.message.final and one.message.settle_by is not None and one.message.settle_by <= now
            ]

        return self._count(await self._ledger.change(await self._overdue.news_over(most), judge, actor="sweep"))

    def _count(self, changes: Sequence[Change]) -> int:
        for change in changes:
            self._metrics.moved(change)
        return len(changes)
