"""Rows that die on time: days of PostgreSQL's tables, a tenant at a time, and whole partitions once every tenant's day is over.

How a day ends is in gateway.flow.retention_ending. Then its rows go, in bounded steps while others need their partition; else with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Final, Protocol
from uuid import UUID

from gateway.domain.closing import Closings
from gateway.domain.policy_retention import RetentionClass
from gateway.domain.retention_days import Terms
from gateway.flow.holds import Keeper, Thing
from gateway.flow.retention import Found, Planned
from gateway.flow.retention_ending import OF_MESSAGES, DayEnding
from gateway.flow.retention_tables import PLACE, KeptBy, Part, RowStore, Standing, bounds, rule_of
from gateway.flow.vault import SYSTEM_TENANT

__all__ = ["Looks", "Rows"]

_PLANNED: Final[Mapping[Thing, tuple[str, str]]] = {
    "content": ("bodies", "the day's key is destroyed, bodies go, messages keep what their events say"),
    "address": ("messages", "the day's key is destroyed, numbers are emptied"),
    "events": ("messages", "messages go, counts stay"),
    "audit": ("audit_chain", "audit records go, an anchor stays"),
}


_APART: Final[Mapping[str, tuple[RetentionClass, str]]] = {
    "queue": ("content", "messages that wait are sent, or ended and told"),
    "texts": ("content", "people's texts are published, or deleted where they never can be"),
    "numbers": ("address", "the day's key is destroyed, numbers that providers are owed are emptied"),
    "dead_letters": ("dead_letters", "the day's key is destroyed, dead letters go"),
    "told": ("events", "events are published, or deleted where they never can be"),
    "unchained": ("events", "audit records are chained, and go with their chain"),
    "senders": ("events", "who sent a text is emptied"),
    "proofs": ("consent_proof", "nothing ends a proof while its opt-in stands; an opt-out does"),
}
"""What stands in tables without partitions: its class, and how it ends."""


class Looks(Protocol):
    """What there is, by a look of its own."""

    async def standing(self) -> Sequence[Standing]:
        """What stands in tables without partitions."""
        ...

    async def kept(self) -> Sequence[KeptBy]:
        """What holds keep."""
        ...

    async def verify(self, now: datetime) -> Sequence[Found]:
        """The oldest of each table, tenant and class."""
        ...


class Rows:
    """The place. ``most`` bounds rows in a step; dropping a partition counts as one, however many rows it has."""

    def __init__(
        self,
        store: RowStore,
        terms: Terms,
        keeper: Keeper,
        days: DayEnding,
        looks: Looks,
        closings: Callable[[], Awaitable[Closings]],
    ) -> None:
        self._store = store
        self._terms = terms
        self._keeper = keeper
        self._days = days
        self._looks = looks
        self._closings = closings
        self._last: dict[tuple[Thing, str, date], UUID] = {}

    @property
    def name(self) -> str:
        """The place's name."""
        return PLACE

    async def plan(self, now: datetime) -> Sequence[Planned]:
        """Of each tenant and class the next day: of what is due how many rows there are, whenever it was; and what holds keep."""
        self._terms.heed(await self._closings())
        parts = await self._days.parts()
        planned = []
        for thing, (parent, how) in _PLANNED.items():
            days = [part.day for part in parts if part.parent == parent and part.attached]
            over = [day for day in days if self._days.may_hold_due(thing, day, now)]
            rows = {day: await self._store.rows(parent, *bounds(day)) for day in over}
            tenants = dict.fromkeys([*self._terms.tenants, *(name for found in rows.values() for name in found)])
            planned += [self._next(thing, tenant, days, rows, now, how) for tenant in tenants]
        return [*planned, *await self._plan_apart(now), *await self._plan_kept(now)]

    def _next(
        self, thing: Thing, tenant: str, days: Sequence[date], rows: Mapping[date, Mapping[str, int]], now: datetime, how: str
    ) -> Planned:
        left = [day for day in days if not self._days.ended.get((day, thing, tenant))]
        due = [day for day in left if self._days.is_due(thing, tenant, day, now)]
        count = sum(rows[day].get(tenant, 0) for day in due)
        ahead = [day for day in left if day not in due]
        at = now if count else self._terms.due(tenant, rule_of(thing), min(ahead)) if ahead else None
        if at is None and left:
            how = self._why_never(tenant, rule_of(thing))
        return Planned(PLACE, tenant, thing, at, count or None, how)

    async def _plan_apart(self, now: datetime) -> list[Planned]:
        planned = []
        for one in await self._looks.standing():
            data_class, how = _APART[one.what]
            if data_class == "consent_proof":
                planned.append(Planned(PLACE, one.tenant, data_class, None, sum(one.days.values()), how))
                continue
            due = [day for day in one.days if self._terms.is_over(one.tenant, data_class, day, now)]
            first = min(one.days)
            at = now if due else self._terms.due(one.tenant, data_class, first)
            count = sum(one.days[day] for day in due or [first])
            how = how if at is not None else self._why_never(one.tenant, data_class)
            planned.append(Planned(PLACE, one.tenant, data_class, at, count, how))
        return planned

    async def _plan_kept(self, now: datetime) -> list[Planned]:
        return [
            Planned(
                PLACE,
                one.tenant,
                "held",
                one.until if one.stands else now,
                one.count,
                f"legal hold {one.hold} keeps it"
                + (", until it is released" if one.stands and one.until is None else "" if one.stands else " no more: it goes"),
            )
            for one in await self._looks.kept()
        ]

    def _why_never(self, tenant: str, data_class: RetentionClass) -> str:
        if self._terms.left_open(tenant, data_class):
            return f"nothing ends it: the policy leaves retention.{data_class} open"
        return "nothing ends it yet: its period has no end"

    async def verify(self, now: datetime) -> Sequence[Found]:
        """What each table holds, by a look of its own."""
        self._terms.heed(await self._closings())
        return await self._looks.verify(now)

    async def left(self, now: datetime) -> str:
        """Days that are over, and that something stands in the way of."""
        self._terms.heed(await self._closings())
        days: set[tuple[str, date]] = set()
        for part in await self._days.parts():
            things: tuple[Thing, ...] = {"messages": OF_MESSAGES, "audit_chain": ("audit",)}.get(part.parent, ())
            for thing in things if part.attached else ():
                if self._days.may_hold_due(thing, part.day, now):
                    tenants = await self._days.tenants(part.parent, part.day, now)
                    days |= {(one, part.day) for one in tenants if self._days.waits(thing, one, part.day, now)}
        return f"{len(days)} days of tenants are due and wait: what is to be settled, told or chained first" if days else ""

    async def run(self, now: datetime, most: int) -> int:
        """A bounded step: what holds kept and is let go, then days, oldest first, then what lies apart."""
        self._terms.heed(await self._closings())
        done = await self._keeper.end(most)
        done += await self._keeper.keep_proofs(most - done) if done < most else 0
        parts = await self._days.parts()
        for work in (self._messages, self._audit, self._apart):
            if done >= most:
                break
            done += await work(parts, now, most - done)
        return done

    # -- messages and bodies ---------------------------------------------------------------------------------------------------

    async def _messages(self, parts: Sequence[Part], now: datetime, most: int) -> int:
        days: dict[date, dict[str, Part]] = {}
        for part in parts:
            if part.parent != "audit_chain":
                days.setdefault(part.day, {})[part.parent] = part
        done = await self._days.finish(OF_MESSAGES, {day for day, found in days.items() if "messages" in found})
        for day, found in days.items():
            if done >= most:
                break
            if not all(part.attached for part in found.values()) or any(
                self._days.may_hold_due(one, day, now) for one in OF_MESSAGES
            ):
                done += await self._day(day, found, now, most - done)
        return done

    async def _day(self, day: date, found: Mapping[str, Part], now: datetime, most: int) -> int:
        messages, bodies = found.get("messages"), found.get("bodies")
        if messages is None or not messages.attached:
            return sum([await self._days.drop(part) for part in found.values()])  # its tenants were all ended when that began
        tenants = await self._days.tenants("messages", day, now)
        done = 0
        for thing in OF_MESSAGES:
            done += await self._days.decide_all(thing, tenants, day, now, most - done)
        if done >= most:
            return done
        if bodies is not None and self._days.all_ended("content", tenants, day, now):
            done += await self._days.drop(bodies)
        if self._days.all_ended("events", tenants, day, now):
            return done + await self._days.drop(messages) + await self._days.finish(OF_MESSAGES, set(), only=day)
        for tenant in sorted(tenants):
            done += await self._empty(tenant, day, most - done) if done < most else 0
        return done

    async def _empty(self, tenant: str, day: date, most: int) -> int:
        """A step of what is decided of a tenant's day in a partition that others still need."""
        decided = [thing for thing in OF_MESSAGES if self._days.ended.get((day, thing, tenant)) is False]
        if "events" in decided:
            decided = ["events"]  # takes all else along
        for thing in decided:
            place = (thing, tenant, day)
            last = await self._store.step(thing, tenant, *bounds(day), self._last.pop(place, None), most)
            if last is not None:
                self._last[place] = last
                return most
            for gone in OF_MESSAGES if thing == "events" else (thing,):
                await self._days.mark_done(gone, tenant, day)
        return len(decided)

    # -- the audit's chains ----------------------------------------------------------------------------------------------------

    async def _audit(self, parts: Sequence[Part], now: datetime, most: int) -> int:
        chains = [part for part in parts if part.parent == "audit_chain"]
        messages = {part.day for part in parts if part.parent == "messages"}
        done = await self._days.finish(("audit",), {part.day for part in chains})
        standing: set[str] = set()  # whose chain begins before: nothing goes out of its middle
        for part in chains:
            if done >= most:
                break
            if not part.attached:
                done += await self._days.drop(part)
                continue
            if not self._days.may_hold_due("audit", part.day, now):
                break
            after = bounds(part.day)[1]
            tenants = await self._days.tenants("audit_chain", part.day, now)
            free = [one for one in tenants - standing if await self._audit_may_end(one, part.day, messages, now)]
            done += await self._days.decide_all("audit", free, part.day, now, most - done)
            if self._days.all_ended("audit", tenants, part.day, now):
                await self._store.anchor_day(after)
                done += await self._days.drop(part)
                continue
            for tenant in sorted(tenants):
                if self._days.ended.get((part.day, "audit", tenant)) is False and done < most:
                    gone = await self._store.delete_audit(tenant, after, most - done)
                    done += gone
                    if done < most:
                        await self._days.mark_done("audit", tenant, part.day)
            standing |= {one for one in tenants if not self._days.ended.get((part.day, "audit", one))}
        return done

    async def _audit_may_end(self, tenant: str, day: date, messages: set[date], now: datetime) -> bool:
        """After the day's messages, whose own counters a verification compares; and once the topic has it."""
        has_messages = day in messages and tenant in await self._days.tenants("messages", day, now)
        if has_messages and not self._days.ended.get((day, "events", tenant)):
            return False
        return not await self._store.audit_waits(tenant, bounds(day)[1])

    # -- tables without partitions ---------------------------------------------------------------------------------------------

    async def _apart(self, parts: Sequence[Part], now: datetime, most: int) -> int:
        messages = {part.day for part in parts if part.parent == "messages"}
        done = 0
        while done < most and (moved := await self._days_apart(messages, now, most - done)):
            done += moved
        for tenant in (*self._terms.tenants, SYSTEM_TENANT):
            content, events = (self._terms.not_before(tenant, one, now) for one in ("content", "events"))
            if content is not None and done < most:
                done += await self._store.delete_parked(tenant, content, inbound=True, most=most - done)
            if events is not None and done < most:
                done += await self._store.delete_parked(tenant, events, inbound=False, most=most - done)
                done += await self._store.empty_inbound(tenant, events, most - done) if done < most else 0
        return done

    async def _days_apart(self, messages: set[date], now: datetime, most: int) -> int:
        """The oldest day of each tenant; 0 when nothing of them is due, or something stands in the way."""
        done = 0
        for one in await self._store.apart():
            day = one.oldest
            thing: Thing = "dead_letters" if one.what == "dead_letters" else "address"
            if done >= most or not self._days.is_due(thing, one.tenant, day, now):
                continue
            if thing == "address":
                if day not in messages:  # else it ends with the day's messages
                    await self._days.destroy("address", one.tenant, day)
                    done += await self._store.empty_numbers(one.tenant, *bounds(day))
                continue
            done += await self._days.decide_all(thing, [one.tenant], day, now, most - done)
            if (day, thing, one.tenant) in self._days.ended and done < most:
                gone = await self._store.delete_letters(one.tenant, *bounds(day), most - done)
                done += gone
                if done < most:
                    await self._days.mark_done(thing, one.tenant, day)
        return done
