"""Dispatch: claim, mark, request, settle. docs/protocol.md tells the same story with pictures."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from gateway.domain.changes import Change, Held, Horizons, put_back, rescue, settle
from gateway.domain.decide import Asked, Decision, Facts
from gateway.domain.errors import GatewayError, StoreRefused, StoreUnavailable, Unavailable
from gateway.domain.ids import uid_time
from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Unknown
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import Text
from gateway.domain.retry import LONGEST_WISH, BackOff
from gateway.flow.batching import Batcher
from gateway.flow.fuse import clock
from gateway.flow.ledger import Ledger
from gateway.flow.pacing import Pacing
from gateway.telemetry import Metrics, get_logger

__all__ = ["Claimed", "Claims", "Contents", "Dispatch", "Gate", "Learned", "Limits", "Sender"]

log = get_logger("dispatch")
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message in this worker's hands; ``start_by`` is on :func:`~gateway.flow.fuse.clock`, known once it is marked."""

    uid: UUID
    tenant: str
    attempt: int
    tries: int
    category: str
    subject_id: bytes
    provider: str
    account: str
    sender: str
    to_sealed: bytes
    body_sealed: bytes


@dataclass(slots=True)
class _Marked:
    claimed: Claimed
    start_by: float
    marked_at: datetime
    answered_at: float
    begun_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds: T, F and L of docs/protocol.md, the poll when idle, how many messages one claim may
    take, and for how long slots that fall free one by one are gathered for one mark.
    """

    request: float = 7.0
    fuse: float = 2.0
    lease: float = 10.0
    idle: float = 0.05
    claim_batch: int = 100
    gather: float = 0.003


@dataclass(frozen=True, slots=True)
class Contents:
    """What a message says and to whom, unsealed only for its request."""

    to: PhoneNumber
    body: MessageBody


class Claims(Protocol):
    """Where messages are claimed and marked."""

    async def claim(
        self, room: Mapping[str, int], decide: Callable[[Asked, Facts, datetime], Decision], most: int
    ) -> list[Claimed]:
        """Lock what is due, read consent after, decide, and take what may be sent."""
        ...

    async def mark(self, claimed: Sequence[Claimed]) -> dict[UUID, datetime]:
        """Which of these are still ours with a lease that holds, and when they were marked: only they may go on the wire."""
        ...

    async def in_my_name(self) -> dict[UUID, int]:
        """The attempts that stand in this worker's name."""
        ...

    async def hold(self, account: str, sender: str, seconds: float, reason: str) -> None:
        """Let nothing of a sender, or with an empty sender of the account, be claimed for a while."""
        ...

    async def sends_after_stop(self, begun: Sequence[tuple[UUID, datetime]]) -> int:
        """How many of these requests, with the earliest moment each can have begun at, did so although a STOP was in force."""
        ...


class Sender(Protocol):
    """A provider account."""

    async def send(self, text: Text, callback_url: str) -> Outcome:
        """Ask the provider to accept a text; whatever happens is an outcome."""
        ...


class Learned(Protocol):
    """Where an opt-out that a provider told of goes."""

    async def learn(self, tenant: str, subject_id: bytes, sender: str) -> None:
        """The provider says that this person has opted out."""
        ...


class Gate(Protocol):
    """Whether anything may be claimed: not while people's texts may be waiting at a provider."""

    @property
    def open(self) -> bool:
        """Whether no text is missing that this process knows of."""
        ...

    def shut(self) -> None:
        """PostgreSQL was away, and with it perhaps the webhooks: look for missed texts before the next claim."""
        ...


@dataclass(slots=True)
class _Hands:
    """What this worker holds: claimed and ready to be marked, and every attempt until it is settled."""

    ready: dict[str, deque[Claimed]] = field(default_factory=dict)
    attempts: dict[UUID, int] = field(default_factory=dict)

    def waiting(self) -> dict[str, int]:
        return {account: len(queue) for account, queue in self.ready.items()}


class Dispatch:
    """One worker's share of the sending."""

    def __init__(
        self,
        claims: Claims,
        ledger: Ledger,
        senders: Mapping[str, Sender],
        pacing: Pacing,
        learned: Learned,
        gate: Gate,
        open_contents: Callable[[Claimed], Contents],
        callback_url: Callable[[Claimed], str],
        decide: Callable[[Asked, Facts, datetime], Decision],
        metrics: Metrics,
        *,
        limits: Limits,
        horizons: Horizons,
        back_off: BackOff,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._claims = claims
        self._ledger = ledger
        self._senders = senders
        self._pacing = pacing
        self._learned = learned
        self._gate = gate
        self._open = open_contents
        self._callback_url = callback_url
        self._decide = decide
        self._metrics = metrics
        self._limits = limits
        self._horizons = horizons
        self._back_off = back_off
        self._chance = chance
        self._hands = _Hands()
        self._settling: Batcher[tuple[_Marked, Outcome], Change | None] = Batcher(self._settle_batch)
        self._sending: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._left = asyncio.Event()
        self._left.set()
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Send until :meth:`stop`: claim what there is room for, mark what can start, let each request run its course."""
        if self._stopping:
            return
        self._left.clear()
        starter = asyncio.create_task(self._start_requests(), name="dispatch-start")
        checked = renewed = clock()
        try:
            await self._survive(self._pacing.renew())
            while self._goes_on():
                if starter.done():
                    starter.result()  # it ends by a fault only, and without it nothing would be sent
                self.wake.clear()
                if clock() - renewed >= 1:
                    renewed = clock()
                    await self._survive(self._pacing.renew())
                if clock() - checked >= 3:
                    checked = clock()
                    await self._survive(self._take_up_lost())
                room = self._pacing.room(self._hands.waiting())
                claimed = await self._claim(room) if room and self._gate.open else []
                if not claimed or not room:
                    await self._idle()
            self._pacing.freed.set()
            await starter
        finally:
            starter.cancel()
            await asyncio.gather(starter, return_exceptions=True)
            self._left.set()

    def _goes_on(self) -> bool:
        return not self._stopping

    async def stop(self, limit: float) -> None:
        """Claim no more, put back what has not started, and wait for what has, ``limit`` seconds at most."""
        ends = clock() + limit
        self._stopping = True
        self.wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._left.wait()  # a claim that is being committed is in hand then, and what is being marked has begun
        unstarted = [claimed for ready in self._hands.ready.values() for claimed in ready]
        self._hands.ready.clear()
        await self._survive(self._put_back({claimed.uid: claimed.attempt for claimed in unstarted}))
        if self._sending:
            await asyncio.wait(self._sending, timeout=max(0.0, ends - clock()))
        await self._survive(self._pacing.give_back())

    async def _claim(self, room: Mapping[str, int]) -> list[Claimed]:
        began = clock()
        try:
            claimed = await self._claims.claim(room, self._decide, self._limits.claim_batch)
        except GatewayError as fault:
            # consent, policy or keys cannot be read: nothing is sent
            if isinstance(fault, StoreUnavailable):
                self._gate.shut()
            log.warning("nothing claimed", why=str(fault))
            await asyncio.sleep(0.2)
            return []
        for message in claimed:
            self._hands.attempts[message.uid] = message.attempt
            self._hands.ready.setdefault(message.account, deque()).append(message)
        if claimed:
            self._metrics.stage_seconds.labels(stage="claim").observe(clock() - began)
            self._pacing.freed.set()
        return claimed

    async def _idle(self) -> None:
        try:
            async with asyncio.timeout(self._limits.idle):
                await self.wake.wait()
        except TimeoutError:
            pass

    async def _start_requests(self) -> None:
        """As slots fall free, mark what is ready in one batch and let its requests begin."""
        while not self._stopping:
            await self._pacing.freed.wait()
            if self._pacing.busy and not self._stopping:
                await asyncio.sleep(self._limits.gather)
            self._pacing.freed.clear()
            batch: list[Claimed] = []
            for account, ready in () if self._stopping else self._hands.ready.items():
                count = min(self._pacing.free(account), len(ready))
                batch += [ready.popleft() for _ in range(count)]
                if count:
                    self._pacing.take(account, count)
            if batch:
                await self._begin(batch)
            self.wake.set()  # a slot that is free and finds nothing ready is a reason to claim

    async def _begin(self, batch: list[Claimed]) -> None:
        asked_at = clock()
        try:
            marked = await self._claims.mark(batch)
            start_by = asked_at + self._limits.lease - self._limits.request - self._limits.fuse
        except Unavailable as fault:
            # Whether the mark was written is not known, that nothing has started is: each is settled as surely not sent.
            log.warning("nothing marked", why=str(fault))
            marked = dict.fromkeys((claimed.uid for claimed in batch), _NEVER)
            start_by = 0.0
        answered_at = clock()
        self._metrics.stage_seconds.labels(stage="mark").observe(answered_at - asked_at)
        refused: dict[UUID, int] = {}
        for claimed in batch:
            if (marked_at := marked.get(claimed.uid)) is None:
                self._pacing.release(claimed.account)
                refused[claimed.uid] = claimed.attempt
                continue
            task = asyncio.create_task(self._send(_Marked(claimed, start_by, marked_at, answered_at)))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        if refused:
            await self._survive(self._put_back(refused))  # what a STOP has taken is gone, what was paused or held waits again

    async def _send(self, marked: _Marked) -> None:
        claimed = marked.claimed
        try:
            outcome = await self._request(marked)
        finally:
            self._pacing.release(claimed.account)
        self._metrics.requests_total.labels(account=claimed.account, outcome=type(outcome).__name__.lower()).inc()
        change = await self._settle(marked, outcome)
        self._hands.attempts.pop(claimed.uid, None)
        await self._survive(self._heed(claimed, outcome, change))

    async def _settle(self, marked: _Marked, outcome: Outcome) -> Change | None:
        """Settle, however long PostgreSQL is away: what is known must not be lost, and settling late is allowed."""
        while True:
            try:
                return await self._settling.put((marked, outcome))
            except GatewayError as fault:
                log.warning("settling waits", why=str(fault))
                await asyncio.sleep(0.5)

    async def _request(self, marked: _Marked) -> Outcome:
        """One create request, if it may still begin. Nothing here is awaited between the look and the request."""
        claimed = marked.claimed
        try:
            contents = self._open(claimed)
        except GatewayError as fault:
            log.warning("content unreadable", why=str(fault), uid=str(claimed.uid))
            return Later(Reason.CONFIGURATION, "content_unreadable", operator=True)
        text = Text(claimed.uid, claimed.attempt, claimed.account, claimed.sender, contents.to, contents.body)
        url = self._callback_url(claimed)
        begins = clock()
        if begins >= marked.start_by:
            return Later(Reason.UNREACHABLE, "lease_too_short")
        marked.begun_at = marked.marked_at + timedelta(seconds=begins - marked.answered_at)
        self._metrics.stage_seconds.labels(stage="accept_to_request").observe(
            (marked.begun_at - uid_time(claimed.uid)).total_seconds()
        )
        outcome = await self._senders[claimed.account].send(text, url)
        self._metrics.stage_seconds.labels(stage="request").observe(clock() - begins)
        return outcome

    async def _settle_batch(self, batch: Sequence[tuple[_Marked, Outcome]]) -> list[Change | None]:
        began = clock()
        changes: dict[tuple[UUID, int], Change] = {}
        remaining = list(batch)
        while remaining:  # a late answer to an attempt may come beside the one to the next: each is judged on what the other left
            by_uid: dict[UUID, tuple[_Marked, Outcome]] = {}
            for item in remaining:
                by_uid.setdefault(item[0].claimed.uid, item)
            remaining = [item for item in remaining if by_uid[item[0].claimed.uid] is not item]
            changes |= await self._settle_storable(by_uid)
        self._metrics.stage_seconds.labels(stage="settle").observe(clock() - began)
        begun = [(marked.claimed.uid, marked.begun_at) for marked, _ in batch if marked.begun_at is not None]
        if begun and (late := await self._claims.sends_after_stop(begun)):
            self._metrics.sends_after_stop_total.inc(late)
        return [changes.get((marked.claimed.uid, marked.claimed.attempt)) for marked, _ in batch]

    async def _settle_storable(self, by_uid: Mapping[UUID, tuple[_Marked, Outcome]]) -> dict[tuple[UUID, int], Change]:
        """A round that PostgreSQL refuses is halved until the one answer that it refuses stands alone: that one is unknown."""
        try:
            return await self._settle_round(by_uid)
        except StoreRefused:
            items = list(by_uid.items())
            if len(items) == 1:
                uid, (marked, _) = items[0]
                return await self._settle_round({uid: (marked, Unknown("unstorable_answer"))})
            middle = len(items) // 2
            first = await self._settle_storable(dict(items[:middle]))
            return first | await self._settle_storable(dict(items[middle:]))

    async def _settle_round(self, by_uid: Mapping[UUID, tuple[_Marked, Outcome]]) -> dict[tuple[UUID, int], Change]:
        chances = {uid: self._chance() for uid in by_uid}

        def judge(held: Mapping[UUID, Held], now: datetime) -> list[Change]:
            changes = (self._settled(message, *by_uid[uid], chances[uid], now) for uid, message in held.items())
            return [change for change in changes if change is not None]

        changes = await self._ledger.change(by_uid, judge)
        return {(change.uid, by_uid[change.uid][0].claimed.attempt): change for change in changes}

    def _settled(self, held: Held, marked: _Marked, outcome: Outcome, chance: float, now: datetime) -> Change | None:
        wait = 0.0
        if isinstance(outcome, Later):
            wait = self._back_off.delay((held.queued.tries if held.queued else 0) + 1, chance, outcome.wait)
        return settle(
            held.message, held.queued, marked.claimed.attempt, outcome, now, self._horizons, wait=wait, begun_at=marked.begun_at
        )

    async def _heed(self, claimed: Claimed, outcome: Outcome, change: Change | None) -> None:
        """What an answer means beyond its own message."""
        if change is not None:
            self._metrics.moved(change, category=claimed.category)
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
                await self._claims.hold(claimed.account, claimed.sender if holds == "sender" else "", seconds, reason)
            case Accepted() if change is not None and change.step == "contradicted":
                log.error("accepted twice", uid=str(claimed.uid))

    async def _learn(self, claimed: Claimed) -> None:
        """Tell the STOP chapter of an opt-out, however long PostgreSQL is away: it must not be forgotten."""
        done = False
        while not done:
            done = await self._survive(self._learned.learn(claimed.tenant, claimed.subject_id, claimed.sender))
            await asyncio.sleep(0 if done else 0.5)

    async def _take_up_lost(self) -> None:
        """Attempts in this worker's name that it does not have in its hands: an answer of the store's that was lost."""
        standing = await self._claims.in_my_name()
        lost = {uid: attempt for uid, attempt in standing.items() if self._hands.attempts.get(uid) != attempt}

        def judge(held: Mapping[UUID, Held], now: datetime) -> list[Change]:
            return [
                rescue(one.message, one.queued, now, self._horizons, why="answer_lost")
                for uid, one in held.items()
                if one.queued is not None and one.queued.state != "waiting" and one.queued.attempt == lost[uid]
            ]

        for change in await self._ledger.change(lost, judge):
            self._metrics.moved(change)
            self._metrics.claims_rescued_total.labels(to=change.state or "waiting").inc()

    async def _put_back(self, attempts: Mapping[UUID, int]) -> None:
        def judge(held: Mapping[UUID, Held], now: datetime) -> list[Change]:
            return [
                put_back(one.queued, now, step="released")
                for uid, one in held.items()
                if one.queued is not None and one.queued.state == "claimed" and one.queued.attempt == attempts[uid]
            ]

        await self._ledger.change(attempts, judge)
        for uid in attempts:
            self._hands.attempts.pop(uid, None)

    async def _survive(self, work: Awaitable[object]) -> bool:
        """Do a piece of work; False, with a line in the log, when a part of the gateway is away."""
        try:
            await work
        except GatewayError as fault:
            log.warning("dispatch waits", why=str(fault))
            return False
        return True
