"""The provider's copies: what an account keeps of our texts, and of people's, is erased there by the tenant's deadlines.

What is to be erased is noted some hours ahead in a table of its own, from the rows that tell of it: those may go before the provider
answers. Here it is taken for a lease, asked for, and settled. Asking twice is asking once, as what is not there is gone; whoever is killed
between the answer and its note leaves the question to the next.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol
from uuid import UUID

from gateway.domain.closing import STILL_WRITTEN, Closings, closed_at
from gateway.domain.errors import GatewayError
from gateway.domain.horizon import not_after
from gateway.domain.policy import Policy
from gateway.domain.policy_retention import Retention, RetentionClass
from gateway.domain.retention import Calendar, Duration
from gateway.domain.retry import BackOff
from gateway.flow.fuse import clock
from gateway.flow.provider import Abilities, Copies, Erasure
from gateway.telemetry import Metrics, get_logger

__all__ = [
    "NOBODY", "NOTED_AT_ONCE", "CopyNotes", "Eraser", "Erasing", "Holds", "Over", "Part", "Rule", "Taken", "Whose", "classes_of", "own_closing", "parts_over",
    "parts_to_note", "periods_of", "rules_of",
]  # fmt: skip

NOBODY: Final = ""
"""Whose a person's text is that is no tenant's."""

Part = Literal["text", "all"]
"""What of a copy is to go: its text, or all of it, the person's number too."""

Whose = tuple[str, bytes | None, UUID | None]
"""Whose a copy is: a tenant's, a person's by the keyed hash of the number, a message's."""

Rule = tuple[Retention, Calendar | None]
"""How long each class is kept, and whose business days are counted."""

LEASE: Final = 120.0  # seconds; more than any of its calls take, with those before it
LATERS: Final = 30  # times that a provider may put off one copy, over some days: then it never will take it
_NOTED_AHEAD: Final = timedelta(hours=36)  # a row may go at the midnight before its copy's last moment: up to a day earlier
NOTED_AT_ONCE: Final = 2000
_AT_ONCE: Final = 4  # calls; an account's requests are there for texts first
_CHUNK_SECONDS: Final = 20.0
_STEP_SECONDS: Final = 60.0  # after which a step ends, whatever is left
_HOUR: Final = 3600.0

log = get_logger("copies")


@dataclass(frozen=True, slots=True)
class Over:
    """Until when a tenant's copies, or their texts, must have been made to be over now."""

    tenant: str
    part: Part
    horizon: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """A copy that was taken to be erased. ``standing``: whether its id is known, and what of the message is where it is not."""

    id: int
    tenant: str
    subject_id: bytes | None
    uid: UUID | None
    part: Part
    tries: int
    laters: int
    provider_message_id: str | None
    standing: Literal["known", "lost", "open", "unknown", "elsewhere"]

    @property
    def whose(self) -> Whose:
        return self.tenant, self.subject_id, self.uid


class CopyNotes(Protocol):
    """Where it is noted what is to be erased. Everything raises StoreUnavailable."""

    async def tenants(self, account: str) -> Collection[str]: ...
    async def note(self, account: str, over: Over, most: int) -> bool: ...
    async def take(self, account: str, over: Sequence[Over], most: int, lease: float) -> Sequence[Taken]: ...
    async def settle(self, provider: str, results: Sequence[tuple[Taken, str]]) -> None: ...
    async def put_back(self, waits: Sequence[tuple[Taken, float, bool]]) -> None: ...


class Holds(Protocol):
    """Legal holds."""

    async def held(self, copies: Collection[Whose]) -> Collection[Whose]:
        """Which of these may not be deleted now. Raises StoreUnavailable."""
        ...


class Eraser(Protocol):
    """A provider account that keeps copies."""

    @property
    def name(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def abilities(self) -> Abilities: ...
    async def redact(self, provider_message_id: str) -> Erasure: ...
    async def delete(self, provider_message_id: str) -> Erasure: ...
    async def oldest_copies(self, sender: str, before: datetime) -> Copies: ...


def classes_of(part: Part, abilities: Abilities | None) -> tuple[RetentionClass, ...]:
    """The classes of data of which the first that ends takes this part of a copy with it; the text's, too, where it cannot go alone.

    Without ``abilities`` nobody knows what can.
    """
    if part == "text":
        return ("content",)
    return ("address", "events") if abilities is not None and abilities.redacts else ("address", "events", "content")


def rules_of(policies: Iterable[Policy], tenant: str) -> list[Rule]:
    """What a tenant's copies go by: its own policy, be it enabled or not. What is no tenant's that has one goes by those of all that are
    enabled, and by what holds where none says else.
    """
    policies = list(policies)
    own = [one for one in policies if one.tenant == tenant]
    rules: list[Rule] = [(one.retention, one.known_business_days) for one in own or policies if own or one.enabled]
    return rules if own else [*rules, (Retention(), None)]


def periods_of(rules: Iterable[Rule], classes: Sequence[RetentionClass]) -> list[tuple[Duration, Calendar | None]]:
    """How long these classes are kept, as far as somebody knows."""
    kept = [(rule.of(one), calendar) for rule, calendar in rules for one in classes]
    return [
        (one, calendar)
        for one, calendar in kept
        if isinstance(one, Duration) and (calendar is not None or not one.needs_calendar)
    ]


def own_closing(policies: Iterable[Policy], tenant: str, closings: Closings) -> datetime | None:
    """When the account of a tenant that has a policy is closed. Nobody's closing ends what is no tenant's that has one."""
    return closed_at(closings, tenant) if any(one.tenant == tenant for one in policies) else None


def parts_over(
    policies: Iterable[Policy], abilities: Abilities | None, now: datetime, closings: Closings, strangers: Iterable[str] = ()
) -> list[Over]:
    """What of each tenant's copies is over. A text goes with its content's deadline; all of it with the address, or what the events tell.

    ``strangers`` are tenants without a policy: theirs, as a text of a person's that is no tenant's, go by the shortest of all deadlines,
    as of accounts that are open.
    """
    policies = list(policies)
    found = []
    for tenant in dict.fromkeys([*(policy.tenant for policy in policies), *strangers, NOBODY]):
        rules, closed = rules_of(policies, tenant), own_closing(policies, tenant, closings)
        text, whole = (_latest(periods_of(rules, classes_of(part, abilities)), now, closed) for part in ("text", "all"))
        if whole is not None:
            found.append(Over(tenant, "all", whole))
        if abilities is not None and abilities.redacts and text is not None and (whole is None or text > whole):
            found.append(Over(tenant, "text", text))
    return found


def parts_to_note(
    policies: Iterable[Policy], abilities: Abilities | None, now: datetime, closings: Closings, strangers: Iterable[str]
) -> list[Over]:
    """What will be over soon. What is passed over once is not noted any more, so that none is that may not be in the tables yet: with a
    closing all is over.
    """
    soon = parts_over(policies, abilities, now + _NOTED_AHEAD, closings, strangers)
    return [replace(one, horizon=min(one.horizon, now - STILL_WRITTEN)) for one in soon]


def _latest(periods: Iterable[tuple[Duration, Calendar | None]], now: datetime, closed: datetime | None) -> datetime | None:
    horizons = [not_after(now, duration, calendar, closed=closed) for duration, calendar in periods]
    return max((one for one in horizons if one is not None), default=None)


class _Silent(GatewayError):
    """So many calls in a row got no answer that the others of the same step are not made."""


class Erasing:
    """The chapter, for one account. ``elapsed`` is in seconds; ``pause`` waits for as many."""

    def __init__(
        self,
        provider: Eraser,
        policies: Sequence[Policy],
        notes: CopyNotes,
        holds: Holds,
        metrics: Metrics,
        closings: Callable[[], Awaitable[Closings]],
        *,
        back_off: BackOff = BackOff(5.0, 300.0),  # noqa: B008 - frozen
        put_off: BackOff = BackOff(300.0, 6 * _HOUR),  # noqa: B008 - frozen
        turn: BackOff = BackOff(30.0, _HOUR),  # noqa: B008 - frozen
        chance: Callable[[], float] = random.random,
        elapsed: Callable[[], float] = clock,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._provider = provider
        self._policies = policies
        self._notes = notes
        self._holds = holds
        self._metrics = metrics
        self._closings = closings
        self._back_off = back_off
        self._put_off = put_off
        self._turn = turn
        self._chance = chance
        self._elapsed = elapsed
        self._pause = pause
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._next_call = 0.0
        self._waits_until = 0.0
        self._failures = 0
        self._failed_in_row = 0

    async def run(self, now: datetime, most: int) -> int:
        """Note what will soon be due, and erase what is: ``most`` copies, or what a minute is enough for. Returns how many are over."""
        abilities, account = self._provider.abilities, self._provider.account
        ended, ends = 0, self._elapsed() + _STEP_SECONDS
        tenants, closings = await self._notes.tenants(account), await self._closings()
        for soon in parts_to_note(self._policies, abilities, now, closings, tenants):
            while await self._notes.note(account, soon, NOTED_AT_ONCE) and self._elapsed() < ends:
                pass
        over = parts_over(self._policies, abilities, now, closings, tenants)
        chunk = max(1, min(50, int(_CHUNK_SECONDS / max(abilities.erasure_seconds, 0.01))))
        while ended < most and self._waits_until <= self._elapsed() < ends:
            taken = await self._notes.take(account, over, min(chunk, most - ended), LEASE)
            if not taken:
                break
            ended += await self._erase(taken)
        return ended

    async def _erase(self, taken: Sequence[Taken]) -> int:
        held = set(await self._holds.held({one.whose for one in taken}))
        asked = [one for one in taken if one.standing == "known" and one.whose not in held]
        self._failed_in_row = 0
        results = dict(zip((one.id for one in asked), await asyncio.gather(*map(self._ask, asked)), strict=True))
        of_account = all(result in ("later", "failed", "unasked") for result in results.values())
        over: list[tuple[Taken, str]] = []
        again: list[tuple[Taken, float, bool]] = []
        for one in taken:
            result: str = results.get(one.id) or ("held" if one.standing == "known" else one.standing)
            put_off = result == "later" or (result == "failed" and not of_account)
            wait = self._wait(one, result, put_off=put_off)
            if wait is not None:
                again.append((one, wait, put_off))
            else:
                result = "exhausted" if put_off else "unknown" if result == "lost" else result
                over.append((one, result))
            if result != "unasked":
                self._metrics.provider_copies_total.labels(account=self._provider.account, result=result).inc()
        if over:
            await self._notes.settle(self._provider.name, over)
        if again:
            await self._notes.put_back(again)
        self._heed(failed=bool(asked) and of_account, asked=bool(asked))
        return len(over)

    def _wait(self, one: Taken, result: str, *, put_off: bool) -> float | None:
        """In how many seconds a copy is looked at again; None when it is over."""
        if put_off:
            return self._put_off.delay(one.laters + 1, self._chance()) if one.laters + 1 < LATERS else None
        match result:
            case "unasked":
                return 1.0  # the account waits; the copy is ready when it is back
            case "failed":  # it lets others go first: perhaps it was not the account
                return self._turn.delay(one.tries, self._chance())
            case "open" | "held":
                return _HOUR
            case "unknown":
                return 6 * _HOUR if one.tries < LATERS else None  # a late callback may still tell
            case _:
                return None

    async def _ask(self, one: Taken) -> Literal["done", "later", "never", "failed", "unasked"]:
        """Erase one copy. One that cannot be deleted yet is to lose its text at least."""
        able = self._provider.abilities
        if one.provider_message_id is None or not (able.deletes if one.part == "all" else able.redacts):
            return "never"
        try:
            erase = self._provider.redact if one.part == "text" else self._provider.delete
            erasure = await self._paced(erase, one.provider_message_id)
            if erasure == "later" and one.part == "all" and able.redacts:
                await self._paced(self._provider.redact, one.provider_message_id)
        except _Silent:
            return "unasked"
        except GatewayError as fault:
            self._failed_in_row += 1
            log.warning("a copy is not erased", account=self._provider.account, why=str(fault))
            return "failed"
        self._failed_in_row = 0
        return erasure

    async def _paced(self, ask: Callable[[str], Awaitable[Erasure]], provider_message_id: str) -> Erasure:
        async with self._places:
            if self._failed_in_row >= _AT_ONCE:
                raise _Silent("the account does not answer")
            begins = max(self._elapsed(), self._next_call)
            self._next_call = begins + self._provider.abilities.erasure_seconds
            await self._pause(begins - self._elapsed())
            return await ask(provider_message_id)

    def _heed(self, *, failed: bool, asked: bool) -> None:
        """An account that erases nothing is asked ever more seldom."""
        if failed:
            self._failures += 1
            self._waits_until = self._elapsed() + self._back_off.delay(self._failures, self._chance())
        elif asked:
            self._failures = 0
