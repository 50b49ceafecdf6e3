"""How a tenant's class of a day ends, a step at a time, each a transaction of its own that may be repeated.

1. *settle*: what waits or is claimed is ended, and told; what is marked waits for its settlement, and the day with it.
2. *keep*: what a legal hold covers is sealed under the hold's key.
3. *decide*, under the lock of the holds: nothing unsettled, nothing covered that is not kept. From here on it dies.
4. *destroy*: the day's key, so that every copy is unreadable, in backups too.

What follows are the rows: see gateway.flow.retention_rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Final
from uuid import UUID

from gateway.domain.changes import Change, Held, end, give_up_waiting
from gateway.domain.closing import STILL_WRITTEN
from gateway.domain.errors import StoreUnavailable
from gateway.domain.reasons import Reason
from gateway.domain.retention_days import Terms
from gateway.domain.states import State
from gateway.flow.holds import Keeper, Thing
from gateway.flow.keys import DayKey, KeyEnding
from gateway.flow.ledger import Ledger
from gateway.flow.retention_tables import Part, RowStore, bounds, rule_of
from gateway.flow.vault import SYSTEM_TENANT, DataClass
from gateway.telemetry import Metrics, get_logger

__all__ = ["OF_MESSAGES", "DayEnding"]

_TAKEN_ALONG: Final[tuple[Thing, ...]] = ("content", "address")

OF_MESSAGES: Final[tuple[Thing, ...]] = (*_TAKEN_ALONG, "events")
"""In the order in which a message's end."""

_KEYS: Final[Mapping[Thing, tuple[DataClass, ...]]] = {
    "content": ("content", "inbound"),
    "address": ("address",),
    "events": (),
    "dead_letters": ("dead_letters",),
    "audit": (),
}

log = get_logger("retention")


class DayEnding:
    """Ends days. ``ended`` is what was decided, and whether nothing is left of it: by day, class and tenant."""

    def __init__(
        self, store: RowStore, terms: Terms, keeper: Keeper, ending: KeyEnding, ledger: Ledger, metrics: Metrics
    ) -> None:
        self._store = store
        self._terms = terms
        self._keeper = keeper
        self._ending = ending
        self._ledger = ledger
        self._metrics = metrics
        self._known: dict[tuple[str, date], frozenset[str]] = {}
        self._destroyed: set[tuple[Thing, str, date]] = set()
        self.ended: dict[tuple[date, Thing, str], bool] = {}

    async def parts(self) -> Sequence[Part]:
        """The partitions, and what of them is ended, read anew."""
        self.ended = dict(await self._store.ended())
        return await self._store.parts()

    async def tenants(self, parent: str, day: date, now: datetime) -> frozenset[str]:
        """Whose there is anything in a day; known for good once the day is past: nothing is added to it."""
        place = (parent, day)
        if place in self._known:
            return self._known[place]
        found = await self._store.tenants(parent, *bounds(day))
        if _is_written(day, now):
            self._known[place] = found
        return found

    def may_hold_due(self, thing: Thing, day: date, now: datetime) -> bool:
        """Whether some tenant's time is over for a day: no day is looked into before."""
        return any(self._terms.is_over(tenant, rule_of(thing), day, now) for tenant in (*self._terms.tenants, SYSTEM_TENANT))

    async def decide_all(self, thing: Thing, tenants: Iterable[str], day: date, now: datetime, most: int) -> int:
        """Decide what is due, and destroy its keys; how much was done."""
        done = 0
        for tenant in sorted(tenants):
            if done < most and self.is_due(thing, tenant, day, now) and (day, thing, tenant) not in self.ended:
                done += await self._decide(thing, tenant, day, most - done)
            if (day, thing, tenant) in self.ended and not self.ended[day, thing, tenant]:
                await self.destroy(thing, tenant, day)  # again after a crash; it may be repeated
        return done

    def is_due(self, thing: Thing, tenant: str, day: date, now: datetime) -> bool:
        """Whether a tenant's day is over."""
        return self._terms.is_over(tenant, rule_of(thing), day, now)

    def waits(self, thing: Thing, tenant: str, day: date, now: datetime) -> bool:
        """Whether a tenant's day is over, and not decided."""
        return self.is_due(thing, tenant, day, now) and (day, thing, tenant) not in self.ended

    def all_ended(self, thing: Thing, tenants: Iterable[str], day: date, now: datetime) -> bool:
        """Whether all of a partition is to die; an empty one goes once somebody's time is over. None goes on the day of a closing."""
        if not _is_written(day, now):
            return False
        return self.may_hold_due(thing, day, now) and all((day, thing, tenant) in self.ended for tenant in tenants)

    async def _decide(self, thing: Thing, tenant: str, day: date, most: int) -> int:
        """Settle, keep, decide; how much was done. A day that something still stands in the way of is left for the next run."""
        if thing == "events" and not all((day, one, tenant) in self.ended for one in _TAKEN_ALONG):
            return 0  # what was said and to whom would go with them, although something stands in the way of that
        first, after = bounds(day)
        done = 0
        if thing in OF_MESSAGES:
            open_ = await self._store.unsettled(tenant, first, after, most)
            done += await self._settle(thing, open_)
            if await self._store.owed(tenant, first, after):
                return done
        while done < most and (kept := await self._keeper.keep(thing, tenant, first, after, most - done)):
            done += kept
        if done < most and await self._store.decide(thing, tenant, day, first, after, await self._keeper.persons(tenant)):
            self.ended[day, thing, tenant] = False
            done += 1
        return done

    async def _settle(self, thing: Thing, uids: Sequence[UUID]) -> int:
        """End what nobody has begun to send, and wait no longer for news. What is marked settles by itself."""

        def judge(held: Mapping[UUID, Held], _now: datetime) -> list[Change]:
            changes = []
            for one in held.values():
                if one.queued is None and not one.message.final:
                    changes.append(give_up_waiting(one.message))
                elif one.queued is not None and one.queued.state != "marked":
                    changes.append(end(one.message, one.queued, State.EXPIRED, Reason.RETENTION, f"retention.{thing}"))
            return changes

        changes = await self._ledger.change(uids, judge, actor="retention")
        for change in changes:
            self._metrics.moved(change)
        return len(changes)

    async def destroy(self, thing: Thing, tenant: str, day: date) -> None:
        """Destroy the keys of what was decided; once by each process, so that what another left undone is done."""
        if (thing, tenant, day) in self._destroyed:
            return
        for data_class in _KEYS[thing]:
            await self._ending.destroy(DayKey(tenant, data_class, day))
        if thing == "address":
            await self._store.empty_numbers(tenant, *bounds(day))
        self._destroyed.add((thing, tenant, day))

    async def mark_done(self, thing: Thing, tenant: str, day: date) -> None:
        """Write down that nothing of it is left."""
        if self.ended.get((day, thing, tenant)) is False:
            await self._store.done(day, thing, tenant)
            self.ended[day, thing, tenant] = True

    async def finish(self, things: Iterable[Thing], there: set[date], *, only: date | None = None) -> int:
        """Days whose partition is gone are done: also where a crash came between the two."""
        for day, thing, tenant in [place for place, done in self.ended.items() if not done]:
            if thing in things and day not in there and only in (None, day):
                await self.destroy(thing, tenant, day)
                await self.mark_done(thing, tenant, day)
        return 0

    async def drop(self, part: Part) -> int:
        """Take a partition away; 0 when it is to be tried again."""
        try:
            await self._store.drop(part.name)
        except StoreUnavailable as fault:  # somebody reads it, or another run is at it: it is dropped at the next
            log.info("a partition is not dropped yet", partition=part.name, why=str(fault))
            return 0
        return 1


def _is_written(day: date, now: datetime) -> bool:
    """Whether a day is past, so that nobody adds to it."""
    return bounds(day)[1] + STILL_WRITTEN <= now
