"""Settle: what an answer means for its message is written, and what it means beyond it is heeded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from gateway.domain.changes import Change, Held, Horizons, settle
from gateway.domain.errors import CannotOpen, GatewayError, KeyMissing, StoreRefused
from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Unknown
from gateway.domain.retry import LONGEST_WISH, BackOff
from gateway.flow.batching import Batcher
from gateway.flow.claims import Claimed, Claims, Marked
from gateway.flow.fuse import clock
from gateway.flow.ledger import Ledger
from gateway.flow.surviving import survive
from gateway.telemetry import Metrics, get_logger

__all__ = ["Learned", "Settling"]

log = get_logger("settling")

Answered = tuple[Marked, Outcome]


class Learned(Protocol):
    """Where an opt-out that a provider told of goes."""

    async def learn(self, tenant: str, subject_id: bytes, sender: str) -> None:
        """The provider says that this person has opted out."""
        ...


class Settling:
    """The last step of an attempt: many answers to a transaction. ``person`` names whom a message is to, by the first id."""

    def __init__(
        self,
        claims: Claims,
        ledger: Ledger,
        learned: Learned,
        metrics: Metrics,
        *,
        horizons: Horizons,
        back_off: BackOff,
        person: Callable[[Claimed], bytes],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._claims = claims
        self._ledger = ledger
        self._learned = learned
        self._metrics = metrics
        self._horizons = horizons
        self._back_off = back_off
        self._person = person
        self._chance = chance
        self._unchecked: list[tuple[UUID, datetime, str]] = []
        self._batches: Batcher[Answered, Change | None] = Batcher(self._settle_batch)

    async def settle(self, marked: Marked, outcome: Outcome) -> Change | None:
        """Settle, however long PostgreSQL is away: what is known must not be lost, and settling late is allowed."""
        while True:
            try:
                return await self._batches.put((marked, outcome))
            except GatewayError as fault:
                log.warning("settling waits", why=str(fault))
                await asyncio.sleep(0.5)

    async def heed(self, claimed: Claimed, outcome: Outcome, change: Change | None) -> None:
        """What an answer means beyond its own message."""
        if change is not None:
            self._metrics.moved(change)
            if change.next_route is not None:
                self._metrics.rerouted_total.labels(account=claimed.account).inc()
        match outcome:
            case OptedOut():
                await self._learn(claimed)
            case Later(reason, code, wait, holds, operator):
                if operator:
                    self._metrics.operator_needed_total.labels(account=claimed.account).inc()
                    log.error("an operator must act", account=claimed.account, code=code, reason=reason)
                if holds == "message":
                    return
                seconds = min(wait, LONGEST_WISH) if wait is not None else 30.0 if operator else 1.0
                sender = claimed.sender if holds == "sender" else ""
                await survive(self._claims.hold(claimed.account, sender, seconds, reason), log, "settling waits")
            case Accepted() if change is not None and change.step == "contradicted":
                log.error("accepted twice", uid=str(claimed.uid))

    async def compare(self) -> None:
        """Compare what has begun, and is settled since the last time, with the opt-outs in force. What fails is compared the next time."""
        if self._unchecked:
            unchecked, self._unchecked = self._unchecked, []
            try:
                late = await self._claims.sends_after_stop(unchecked)
            except GatewayError:
                self._unchecked += unchecked
                raise
            self._metrics.sends_after_stop_total.inc(late)

    async def _learn(self, claimed: Claimed) -> None:
        """Tell the STOP chapter of an opt-out, however long PostgreSQL is away: it must not be forgotten."""
        done = False
        while not done:
            done = await survive(self._learn_once(claimed), log, "settling waits")
            await asyncio.sleep(0 if done else 0.5)

    async def _learn_once(self, claimed: Claimed) -> None:
        try:
            person = self._person(claimed)
        except (CannotOpen, KeyMissing):  # the number that was just texted: its day has ended meanwhile
            log.error("a provider's opt-out is not learned: the number can be read no more", uid=str(claimed.uid))  # noqa: TRY400 -- the fault says no more
            return
        await self._learned.learn(claimed.tenant, person, claimed.sender)

    async def _settle_batch(self, batch: Sequence[Answered]) -> list[Change | None]:
        began = clock()
        changes: dict[tuple[UUID, int], Change] = {}
        remaining = list(batch)
        while remaining:  # a late answer to an attempt may come beside the one to the next: each is judged on what the other left
            by_uid: dict[UUID, Answered] = {}
            for item in remaining:
                by_uid.setdefault(item[0].claimed.uid, item)
            remaining = [item for item in remaining if by_uid[item[0].claimed.uid] is not item]
            changes |= await self._settle_storable(by_uid)
        self._metrics.stage_seconds.labels(stage="settle").observe(clock() - began)
        begun = ((marked.claimed, marked.begun_at) for marked, _ in batch if marked.begun_at is not None)
        self._unchecked += [(claimed.uid, begun_at, claimed.sender) for claimed, begun_at in begun]
        return [changes.get((marked.claimed.uid, marked.claimed.attempt)) for marked, _ in batch]

    async def _settle_storable(self, by_uid: Mapping[UUID, Answered]) -> dict[tuple[UUID, int], Change]:
        """A round that PostgreSQL refuses is halved until the one answer that it refuses stands alone: that one is unknown."""
        try:
            return await self._settle_round(by_uid)
        except StoreRefused:
            items = list(by_uid.items())
            if len(items) == 1:
                return await self._settle_unknown(*items[0])
            middle = len(items) // 2
            first = await self._settle_storable(dict(items[:middle]))
            return first | await self._settle_storable(dict(items[middle:]))

    async def _settle_unknown(self, uid: UUID, answered: Answered) -> dict[tuple[UUID, int], Change]:
        """An answer that PostgreSQL refuses. If even this is refused, the attempt is let go, and its lease runs out."""
        try:
            return await self._settle_round({uid: (answered[0], Unknown("unstorable_answer"))})
        except StoreRefused:
            log.error("an answer cannot be stored", uid=str(uid))  # noqa: TRY400 -- the fault says no more
            return {}

    async def _settle_round(self, by_uid: Mapping[UUID, Answered]) -> dict[tuple[UUID, int], Change]:
        chances = {uid: self._chance() for uid in by_uid}

        def judge(held: Mapping[UUID, Held], now: datetime) -> list[Change]:
            changes = (self._settled(message, *by_uid[uid], chances[uid], now) for uid, message in held.items())
            return [change for change in changes if change is not None]

        changes = await self._ledger.change(by_uid, judge)
        return {(change.uid, by_uid[change.uid][0].claimed.attempt): change for change in changes}

    def _settled(self, held: Held, marked: Marked, outcome: Outcome, chance: float, now: datetime) -> Change | None:
        wait = 0.0
        instead = marked.claimed.instead
        if isinstance(outcome, Later):
            # how long the provider wants to be left alone is nothing to another
            asked = outcome.wait if instead is None or outcome.holds == "message" else None
            wait = self._back_off.delay((held.queued.tries if held.queued else 0) + 1, chance, asked)
        return settle(
            held.message,
            held.queued,
            marked.claimed.attempt,
            outcome,
            now,
            self._horizons,
            wait=wait,
            begun_at=marked.begun_at,
            instead=(instead.route_id, instead.sender) if instead is not None else None,
        )
