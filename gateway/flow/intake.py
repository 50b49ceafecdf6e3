"""Intake: records of any partitions are read, decided and made durable in one transaction; only then are their offsets committed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID

from gateway.domain.consent import Consent
from gateway.domain.errors import BadEvent, GatewayError, NotAllowed, StoreRefused
from gateway.domain.ids import new_uids
from gateway.flow.accept import Accepter, KeptSenders, NewMessage, Read
from gateway.flow.burial import DeadLetter
from gateway.flow.fuse import clock
from gateway.flow.level import Level
from gateway.flow.records import Record
from gateway.flow.turns import in_turns
from gateway.telemetry import Metrics, get_logger

__all__ = ["Admission", "Admitted", "Batch", "Intake", "Source"]

log = get_logger("intake")


class Batch(Protocol):
    """Records of one partition, in order."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def records(self) -> Sequence[Record]: ...


Kind = TypeVar("Kind", bound=Batch)
Placed = tuple[int, Record]
"""A record and its partition."""


class Source(Protocol[Kind]):
    """The input topic, as a member of its consumer group."""

    async def next_batch(self, limit_seconds: float, max_records: int = 500) -> Kind | None: ...
    async def durable(self, batch: Kind) -> None: ...
    async def back_to(self, batch: Kind) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a transaction took in: uids of new messages; message ids that were there before; and those with other content."""

    new: frozenset[UUID]
    duplicates: frozenset[UUID]
    reused: frozenset[UUID]


class Admission(Protocol):
    """Where messages and dead letters are made durable."""

    async def begin(self) -> tuple[datetime, frozenset[str]]:
        """The store's time, and the tenants whose customer account is closed. What is admitted a moment after is never claimed."""
        ...

    async def consents_of(self, subject_ids: Sequence[bytes]) -> Mapping[bytes, Sequence[Consent]]:
        """What these people have said."""
        ...

    async def kept_senders(self, subject_ids: Sequence[bytes]) -> Mapping[tuple[bytes, str, str], KeptSenders]:
        """Which senders these people have, by person, tenant and programme."""
        ...

    async def admit(self, messages: Sequence[NewMessage], dead_letters: Sequence[DeadLetter]) -> Admitted:
        """All of it or nothing; raises StoreRefused when a value of the batch can never be stored.

        Of a message whose id was there before with the same content, the first one's state is told again; one with other content is
        only reported: it comes back as a dead letter.
        """
        ...


class _ReadRecord(NamedTuple):
    placed: Placed
    read: Read


@dataclass(slots=True)
class _Sorted:
    reads: list[_ReadRecord] = field(default_factory=list)
    dead: list[tuple[Placed, UUID, BadEvent, str | None]] = field(default_factory=list)


class Intake(Generic[Kind]):
    """The chapter, for one topic; ``level`` is shared by all that a process reads."""

    def __init__(
        self,
        source: Source[Kind],
        admission: Admission,
        accepter: Accepter,
        level: Level,
        metrics: Metrics,
        *,
        batch: int = 500,
        accepted: asyncio.Event | None = None,
    ) -> None:
        self._source = source
        self._admission = admission
        self._accepter = accepter
        self._level = level
        self._metrics = metrics
        self._batch = batch
        self._accepted = accepted
        self._paused = False
        self._stopping = False

    async def run(self) -> None:
        """Take batches in until :meth:`stop`."""
        while not self._stopping:
            await self._mind_the_level()
            batches: list[Kind] = []
            try:
                async for batch in self._next_batches():
                    batches.append(batch)  # noqa: PERF401 -- what was read before a fault is kept
            except GatewayError as fault:
                log.warning("nothing read", why=str(fault))
                if not batches:
                    await asyncio.sleep(0.5)
            if batches:
                await self._take(batches)

    def stop(self) -> None:
        """Take no further batch."""
        self._stopping = True

    async def _next_batches(self) -> AsyncIterator[Kind]:
        """What is there, of whatever partitions, as much as one transaction is to hold; waited for when there is nothing."""
        left, wait = self._batch, 0.5
        while left > 0 and (batch := await self._source.next_batch(wait, left)) is not None:
            yield batch
            left, wait = left - len(batch.records), 0.0

    async def _take(self, batches: Sequence[Kind]) -> None:
        began = clock()
        placed = [(batch.partition, record) for batch in batches for record in batch.records]
        try:
            admitted = await self._admit_storable(batches[0].topic, placed)
        except GatewayError as fault:
            log.warning(
                "records not taken, read again", why=str(fault), partitions=sorted({batch.partition for batch in batches})
            )
            for batch in batches:
                await self._source.back_to(batch)
            await asyncio.sleep(0.5)
            return
        for batch in batches:
            await self._source.durable(batch)
        if admitted and self._accepted is not None:
            self._accepted.set()
        self._metrics.stage_seconds.labels(stage="intake_batch").observe(clock() - began)

    async def _mind_the_level(self) -> None:
        await self._level.look()
        if self._level.full is not self._paused:
            self._paused = self._level.full
            (self._source.pause if self._paused else self._source.resume)()

    async def admit(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        """Make records of one partition durable; returns how many new messages they were."""
        return await self._admit_storable(topic, [(partition, record) for record in records])

    async def _admit_storable(self, topic: str, placed: Sequence[Placed]) -> int:
        """What PostgreSQL refuses together is halved until the one record that it refuses stands alone."""
        try:
            return await self._admit(topic, placed)
        except StoreRefused:
            if len(placed) == 1:
                fault = BadEvent("wrong_schema", "holds a value that cannot be stored")
                return await self._admit(topic, placed, refused=fault)
            middle = len(placed) // 2
            first = await self._admit_storable(topic, placed[:middle])
            return first + await self._admit_storable(topic, placed[middle:])

    async def _admit(self, topic: str, placed: Sequence[Placed], refused: BadEvent | None = None) -> int:
        now, closed = await self._admission.begin()
        sorted_out = await self._sort(topic, placed, now, closed, refused)
        subjects = {one.read.subject_id for one in sorted_out.reads if one.read.subject_id is not None}
        consents = await self._admission.consents_of(sorted(subjects))
        kept = await self._kept_senders([one.read for one in sorted_out.reads])
        origin = {one.read.uid: one for one in sorted_out.reads}
        messages = [
            self._accepter.accept(
                one.read,
                consents.get(one.read.subject_id or b"", ()),
                now,
                self._level.pauses,
                kept=kept.get((one.read.subject_id or b"", one.read.message.tenant, one.read.message.programme), {}),
                ill=self._level.ill,
            )
            async for one in in_turns(sorted_out.reads)
        ]
        dead = [
            self._accepter.burial.letter(record, uid, topic, partition, fault, now, tenant)
            for (partition, record), uid, fault, tenant in sorted_out.dead
        ]
        admitted = await self._admission.admit(messages, dead)
        if admitted.reused:
            fault = BadEvent("id_reused", "message_id: it was there before, with other content")
            reused = []
            for uid in sorted(admitted.reused):
                partition, record = origin[uid].placed
                tenant = origin[uid].read.message.tenant
                reused.append(self._accepter.burial.letter(record, uid, topic, partition, fault, now, tenant))
            await self._admission.admit((), reused)
            dead += reused
        self._count(messages, admitted, dead)
        for _, _, fault, _ in sorted_out.dead:
            if isinstance(fault, NotAllowed):
                self._metrics.not_allowed_total.labels(why=fault.why).inc()
        return len(admitted.new)

    async def _kept_senders(self, reads: Sequence[Read]) -> Mapping[tuple[bytes, str, str], KeptSenders]:
        """The senders that people have, where there is something to choose."""
        choosing = {read.subject_id for read in reads if read.subject_id is not None and self._accepter.may_choose(read)}
        return await self._admission.kept_senders(sorted(choosing)) if choosing else {}

    async def _sort(
        self, topic: str, placed: Sequence[Placed], now: datetime, closed: Collection[str], refused: BadEvent | None
    ) -> _Sorted:
        sorted_out = _Sorted()
        async for one, uid in in_turns(zip(placed, new_uids(now, len(placed)), strict=True)):
            tenant = None
            try:
                read = self._accepter.read(one[1], topic, uid, now)
                tenant = read.message.tenant
                if (wrong := _closed(tenant, closed) or refused) is not None:
                    raise wrong
            except BadEvent as fault:
                sorted_out.dead.append((one, uid, fault, tenant))
            else:
                sorted_out.reads.append(_ReadRecord(one, read))
        return sorted_out

    def _count(self, messages: Sequence[NewMessage], admitted: Admitted, dead: Sequence[DeadLetter]) -> None:
        results = self._metrics.intake_records_total
        results.labels(result="accepted").inc(len(admitted.new))
        results.labels(result="duplicate").inc(len(messages) - len(admitted.new) - len(admitted.reused))
        results.labels(result="dead_letter").inc(len(dead))
        for letter in dead:
            self._metrics.dead_letters_total.labels(reason=letter.reason).inc()
        moved = Counter((one.state, one.reason, one.category) for one in messages if one.uid in admitted.new)
        for (state, reason, category), count in moved.items():
            self._metrics.messages_total.labels(state=state, reason=reason, provider="", category=category).inc(count)


def _closed(tenant: str, closed: Collection[str]) -> BadEvent | None:
    """Why nothing is taken in for a tenant any more, if that is so."""
    return BadEvent("tenant_closed", f"tenant: the customer account of {tenant} is closed") if tenant in closed else None
