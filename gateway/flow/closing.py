"""The closing of customer accounts: told by an operator or the system that bills, it ends what waits, and starts the periods after it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from gateway.domain.changes import Change, Held, end
from gateway.domain.closing import STILL_WRITTEN, Closings
from gateway.domain.errors import Conflict, NotFound
from gateway.domain.reasons import Reason
from gateway.domain.states import State
from gateway.flow.ledger import Ledger
from gateway.telemetry import Metrics

__all__ = ["Accounts", "ClosingStore", "Closures"]

_FARTHEST: Final = timedelta(days=366)  # what is later is a slip: a closing is told when it is known
_TAKEN_BACK: Final = STILL_WRITTEN / 2  # half of the time in which nothing dies of a closing yet: a sweep may be about to begin


class ClosingStore(Protocol):
    """Where closings are kept. Raises StoreUnavailable."""

    async def now(self) -> datetime:
        """The store's time."""
        ...

    async def closings(self) -> Closings:
        """All that are noted, also those to come."""
        ...

    async def list(self) -> Sequence[Mapping[str, Any]]:
        """The same, with who said so and why."""
        ...

    async def close(self, tenant: str, at: datetime | None, who: str, why: str, actor: str) -> datetime | None:
        """Note a closing, now unless a moment is given, with its audit; None when one is noted already."""
        ...

    async def reopen(self, tenant: str, within: timedelta, actor: str) -> bool:
        """Take a closing away that is to come, or so fresh, or of an earlier day, with its audit; False when none is."""
        ...

    async def waiting(self, most: int) -> Sequence[UUID]:
        """Messages of closed accounts for which no request has begun."""
        ...


class Accounts:
    """What operators and systems that bill do with customer accounts. ``known`` are those of tenants with a policy, enabled or not."""

    def __init__(self, store: ClosingStore, known: Collection[str]) -> None:
        self._store = store
        self._known = known

    async def close(self, tenant: str, who: str, why: str, actor: str, *, at: datetime | None = None) -> datetime:
        """Close a tenant's account; returns since when. ``at`` None: now. Raises NotFound without a policy; Conflict when a closing is
        noted already, or this one lies too far ahead.
        """
        if tenant not in self._known:
            raise NotFound("no policy has this tenant")
        now = await self._store.now()
        if at is not None and at > now + _FARTHEST:
            raise Conflict(f"the closing lies more than {_FARTHEST.days} days ahead")
        closed_at = await self._store.close(tenant, at, who, why, actor)
        if closed_at is None:
            noted = (await self._store.closings()).get(tenant)
            since = "" if noted is None else f" for {noted.at.isoformat(timespec='seconds')}"
            raise Conflict(f"the closing of {tenant} is noted already{since}: take it back first")
        return closed_at

    async def list(self) -> Sequence[Mapping[str, Any]]:
        """Which are closed, or will be."""
        return await self._store.list()

    async def reopen(self, tenant: str, actor: str) -> None:
        """Take a closing back. What has ended stays ended. Raises NotFound, and Conflict while what there is of that day is ending."""
        if await self._store.reopen(tenant, _TAKEN_BACK, actor):
            return
        if tenant not in await self._store.closings():
            raise NotFound(f"the account of {tenant} is not closed")
        raise Conflict(
            f"what {tenant} has of the day of its closing is ending: its account can be opened again from midnight, UTC"
        )


class Closures:
    """What closings end by the clock."""

    def __init__(self, store: ClosingStore, ledger: Ledger, metrics: Metrics) -> None:
        self._store = store
        self._ledger = ledger
        self._metrics = metrics

    async def end_waiting(self, most: int = 500) -> int:
        """What waits of a closed account is canceled, and told: nothing of it would be claimed any more."""

        def judge(held: Mapping[UUID, Held], _now: datetime) -> list[Change]:
            return [
                end(one.message, one.queued, State.CANCELED, Reason.ACCOUNT_CLOSED, "account.closed")
                for one in held.values()
                if one.queued is not None and one.queued.state != "marked"
            ]

        changes = await self._ledger.change(await self._store.waiting(most), judge, actor="sweep")
        for change in changes:
            self._metrics.moved(change)
        return len(changes)
