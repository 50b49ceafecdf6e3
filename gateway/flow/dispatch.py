"""Dispatch: claim, mark, request, settle. docs/protocol.md tells the same story with pictures."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from gateway.domain.changes import Change, Held, Horizons, Queued, Recorded, put_back, rescue
from gateway.domain.decide import Asked, Decision, Facts
from gateway.domain.errors import GatewayError, StoreUnavailable, Unavailable
from gateway.domain.ids import uid_time
from gateway.domain.outcome import Later, Outcome
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import Text
from gateway.flow.breaker import Breaker
from gateway.flow.claims import Claimed, Claims, Marked
from gateway.flow.fuse import clock
from gateway.flow.hands import Hands
from gateway.flow.ledger import Ledger
from gateway.flow.pacing import Pacing
from gateway.flow.provider import Abilities
from gateway.flow.settling import Settling
from gateway.flow.surviving import survive
from gateway.flow.turns import rest
from gateway.telemetry import Metrics, get_logger

__all__ = ["Contents", "Dispatch", "Gate", "Limits", "Sender"]

log = get_logger("dispatch")


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds: T, F and L of docs/protocol.md, the poll when idle, and how many messages one claim may take.

    ``gather`` is for how long slots that fall free one by one are gathered for one mark, and ``apart`` what lies between the beginnings
    of two claims, unless the first was full; what is marked and has found no slot after ``stale`` goes back, so that neither a STOP nor a
    pause waits for it.
    """

    request: float = 7.0
    fuse: float = 2.0
    lease: float = 10.0
    idle: float = 0.05
    claim_batch: int = 100
    gather: float = 0.005
    apart: float = 0.01
    stale: float = 0.25


@dataclass(frozen=True, slots=True)
class Contents:
    """What a message says and to whom, unsealed only for its request."""

    to: PhoneNumber
    body: MessageBody


class Sender(Protocol):
    """A provider account."""

    @property
    def abilities(self) -> Abilities: ...

    async def send(self, texts: Sequence[Text]) -> Sequence[Outcome]:
        """Ask the provider once to accept texts of one sender, no two to the same person; whatever happens is an outcome for each."""
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


class Dispatch:
    """One worker's share of the sending."""

    def __init__(
        self,
        claims: Claims,
        ledger: Ledger,
        senders: Mapping[str, Sender],
        pacing: Pacing,
        settling: Settling,
        breaker: Breaker,
        gate: Gate,
        open_contents: Callable[[Claimed], Contents],
        callback_url: Callable[[Claimed], str],
        decide: Callable[[Asked, Facts, datetime], Decision],
        metrics: Metrics,
        *,
        limits: Limits,
        horizons: Horizons,
    ) -> None:
        self._claims = claims
        self._ledger = ledger
        self._senders = senders
        self._pacing = pacing
        self._settling = settling
        self._breaker = breaker
        self._gate = gate
        self._open = open_contents
        self._callback_url = callback_url
        self._decide = decide
        self._metrics = metrics
        self._limits = limits
        self._horizons = horizons
        self._claim_seconds = metrics.stage_seconds.labels(stage="claim")
        self._mark_seconds = metrics.stage_seconds.labels(stage="mark")
        self._accept_to_request_seconds = metrics.stage_seconds.labels(stage="accept_to_request")
        self._request_seconds = metrics.stage_seconds.labels(stage="request")
        self._hands = Hands()
        self._sending: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._drained = False  # the last claim found less than it had room for: a slot that falls free is no reason for another
        self._left = asyncio.Event()
        self._left.set()
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Send until :meth:`stop`: claim what there is room for, mark what can start, let each request run its course."""
        if self._stopping:
            return
        self._left.clear()
        marking = asyncio.create_task(self._mark_in_time(), name="dispatch-mark")
        checked = renewed = clock()
        try:
            await survive(self._pacing.renew(), log, "dispatch waits")
            while self._goes_on():
                if marking.done():
                    marking.result()  # it ends by a fault only, and without it nothing would be sent
                self.wake.clear()
                if clock() - renewed >= 1:
                    renewed = clock()
                    await survive(self._pacing.renew(), log, "dispatch waits")
                    await survive(self._settling.compare(), log, "dispatch waits")
                if clock() - checked >= 3:
                    checked = clock()
                    await survive(self._take_up_lost(), log, "dispatch waits")
                self._hands.owe_stale(clock())
                await survive(self._put_back(), log, "dispatch waits")
                room = self._pacing.room(self._hands.waiting())
                may_claim = bool(room) and self._gate.open
                began = clock()
                taken = await self._claim(room) if may_claim else 0
                self._drained = may_claim and taken < min(self._limits.claim_batch, *room.values())
                if self._drained or not taken:
                    await rest(self.wake, self._limits.idle)
                if taken < self._limits.claim_batch:  # messages gather for a moment: a transaction is worth its while
                    await asyncio.sleep(began + self._limits.apart - clock())
            self._pacing.freed.set()
            await marking
        finally:
            marking.cancel()
            await asyncio.gather(marking, return_exceptions=True)
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
                await self._left.wait()  # a claim or a mark that is being committed is in hand then
        self._hands.owe_all()
        await survive(self._put_back(), log, "dispatch waits")
        if self._sending:
            await asyncio.wait(self._sending, timeout=max(0.0, ends - clock()))
        await survive(self._put_back(), log, "dispatch waits")
        await survive(self._settling.compare(), log, "dispatch waits")
        await survive(self._pacing.give_back(), log, "dispatch waits")

    async def _claim(self, room: Mapping[str, int]) -> int:
        """How many messages were claimed or ended: fewer than there was room for means that no more are due."""
        began = clock()
        try:
            taken = await self._claims.claim(room, self._decide, self._limits.claim_batch)
        except GatewayError as fault:
            # consent, policy or keys cannot be read: nothing is sent
            if isinstance(fault, StoreUnavailable):
                self._gate.shut()
            log.warning("nothing claimed", why=str(fault))
            await asyncio.sleep(0.2)
            return 0
        for change in taken.ended:
            self._metrics.moved(change)
        for message in taken.claimed:
            self._hands.attempts[message.uid] = message.attempt
            self._hands.ready.setdefault(message.account, deque()).append(message)
        if taken.claimed:
            self._claim_seconds.observe(clock() - began)
            self._pacing.freed.set()
        return len(taken.claimed) + len(taken.ended)

    async def _mark_in_time(self) -> None:
        """Keep marked what can begin now, and what will find a slot in a moment: a slot that falls free waits for no statement."""
        while not self._stopping:
            await self._pacing.freed.wait()
            if self._pacing.busy and not self._stopping:
                await asyncio.sleep(self._limits.gather)
            self._pacing.freed.clear()
            self._begin_all()  # a share that was renewed may let begin what found no slot in the old one
            batch = [] if self._stopping else self._hands.to_mark(self._pacing)
            if batch:
                await self._mark(batch)
            if not self._drained:
                self.wake.set()  # a slot that is free and finds nothing ready is a reason to claim

    async def _mark(self, batch: list[Claimed]) -> None:
        asked_at = clock()
        try:
            marked = await self._claims.mark(batch)
        except Unavailable as fault:
            log.warning("nothing marked", why=str(fault))
            self._hands.owe(batch)  # whether the mark was written is not known, that nothing has begun is
            return
        answered_at = clock()
        self._mark_seconds.observe(answered_at - asked_at)
        start_by = asked_at + self._limits.lease - self._limits.request - self._limits.fuse
        for claimed in batch:
            if (marked_at := marked.get(claimed.uid)) is None:
                self._hands.owe([claimed])  # what a STOP has taken is gone, what was paused or held waits again
                continue
            one = Marked(claimed, start_by, asked_at + self._limits.stale, marked_at, answered_at)
            self._hands.marked.setdefault(claimed.account, deque()).append(one)
        self._begin_all()

    def _begin_all(self) -> None:
        for account in self._hands.marked:
            self._begin(account)

    def _begin(self, account: str) -> None:
        """Let what is marked go on the wire, as far as slots are free."""
        marked = self._hands.marked.get(account)
        while marked and not self._stopping and self._pacing.free(account) > 0:
            self._pacing.take(account, 1)
            task = asyncio.create_task(self._send(account, self._hands.next_request(account, self._pacing.batch(account))))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, account: str, together: Sequence[Marked]) -> None:
        """One request and what follows from it, for each of its messages by itself: none waits for another's."""
        try:
            outcomes = await self._request(account, together)
        finally:
            self._pacing.release(account)
            self._begin(account)
        if len(together) == 1:  # as nearly always: no task more for it
            await self._conclude(together[0], outcomes[0])
        else:
            await asyncio.gather(*map(self._conclude, together, outcomes))
        await self._breaker.heard(account, outcomes, tried=any(marked.claimed.tries_account for marked in together))

    async def _conclude(self, marked: Marked, outcome: Outcome) -> None:
        claimed = marked.claimed
        self._metrics.requests_total.labels(account=claimed.account, outcome=type(outcome).__name__.lower()).inc()
        change = await self._settling.settle(marked, outcome)
        self._hands.forget(claimed.uid, claimed.attempt)
        await self._settling.heed(claimed, outcome, change)

    async def _request(self, account: str, together: Sequence[Marked]) -> list[Outcome]:
        """One create request for those that may still begin. Nothing here is awaited between the look and the request."""
        texts: dict[UUID, Text] = {}
        outcomes: dict[UUID, Outcome] = {}
        begins = clock()
        for marked in together:
            claimed = marked.claimed
            try:
                contents = self._open(claimed)
            except GatewayError as fault:
                log.warning("content unreadable", why=str(fault), uid=str(claimed.uid))
                outcomes[claimed.uid] = Later(Reason.CONFIGURATION, "content_unreadable", operator=True)
                continue
            if begins >= marked.start_by:
                outcomes[claimed.uid] = Later(Reason.UNREACHABLE, "lease_too_short")
                continue
            url = self._callback_url(claimed)
            texts[claimed.uid] = Text(
                claimed.uid, claimed.attempt, claimed.account, claimed.sender, contents.to, contents.body, url
            )
            marked.begun_at = marked.marked_at + timedelta(seconds=begins - marked.answered_at)
            self._accept_to_request_seconds.observe((marked.begun_at - uid_time(claimed.uid)).total_seconds())
        if texts:
            answers = await self._senders[account].send(list(texts.values()))
            outcomes |= dict(zip(texts, answers, strict=True))
            self._request_seconds.observe(clock() - begins)
        return [outcomes[marked.claimed.uid] for marked in together]

    async def _take_up_lost(self) -> None:
        """Attempts in this worker's name that it does not have in its hands: an answer of the store's that was lost."""
        standing = await self._claims.in_my_name()
        lost = {uid: attempt for uid, attempt in standing.items() if self._hands.attempts.get(uid) != attempt}

        def judge(held: Mapping[UUID, Held], now: datetime) -> list[Change]:
            return [rescue(message, queued, now, self._horizons, why="answer_lost") for message, queued in _still(held, lost)]

        for change in await self._ledger.change(lost, judge):
            self._metrics.moved(change)
            self._metrics.claims_rescued_total.labels(to=change.state or "waiting").inc()

    async def _put_back(self) -> None:
        """Let attempts that have surely not begun, marked or not, wait again; tried again until it is done."""
        owed = dict(self._hands.owed)

        def judge(held: Mapping[UUID, Held], now: datetime) -> list[Change]:
            return [put_back(queued, now, step="released") for _, queued in _still(held, owed)]

        await self._ledger.change(owed, judge)
        for uid, attempt in owed.items():
            self._hands.forget(uid, attempt)


def _still(held: Mapping[UUID, Held], attempts: Mapping[UUID, int]) -> Iterator[tuple[Recorded, Queued]]:
    """Those that are still under way in these attempts."""
    for uid, one in held.items():
        if one.queued is not None and one.queued.state != "waiting" and one.queued.attempt == attempts[uid]:
            yield one.message, one.queued
