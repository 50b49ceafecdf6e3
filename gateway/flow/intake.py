"""Intake: a batch of records is read, decided and made durable in one transaction; only then are its offsets committed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from gateway.domain.consent import Consent
from gateway.domain.errors import BadEvent, GatewayError, NotAllowed, StoreRefused
from gateway.domain.ids import new_uids
from gateway.flow.accept import Accepter, NewMessage, Read
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

    async def now(self) -> datetime:
        """The store's time."""
        ...

    async def consents_of(self, subject_ids: Sequence[bytes]) -> Mapping[bytes, Sequence[Consent]]:
        """What these people have said."""
        ...

    async def admit(self, messages: Sequence[NewMessage], dead_letters: Sequence[DeadLetter]) -> Admitted:
        """All of it or nothing; raises StoreRefused when a value of the batch can never be stored.

        Of a message whose id was there before with the same content, the first one's state is told again; one with other content is
        only reported: it comes back as a dead letter.
        """
        ...


@dataclass(slots=True)
class _Sorted:
    reads: list[tuple[Record, Read]] = field(default_factory=list)
    dead: list[tuple[Record, UUID, BadEvent, str | None]] = field(default_factory=list)


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
            try:
                batch = await self._source.next_batch(0.5, self._batch)
            except GatewayError as fault:
                log.warning("nothing read", why=str(fault))
                await asyncio.sleep(0.5)
                continue
            if batch is not None:
                await self._take(batch)

    def stop(self) -> None:
        """Take no further batch."""
        self._stopping = True

    async def _take(self, batch: Kind) -> None:
        began = clock()
        try:
            admitted = await self.admit(batch.topic, batch.partition, batch.records)
        except GatewayError as fault:
            log.warning("batch not taken, read again", why=str(fault), partition=batch.partition)
            await self._source.back_to(batch)
            await asyncio.sleep(0.5)
            return
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
        """Make a batch durable; a batch that PostgreSQL refuses is halved until the one record that it refuses stands alone."""
        try:
            return await self._admit(topic, partition, records)
        except StoreRefused:
            if len(records) == 1:
                fault = BadEvent("wrong_schema", "holds a value that cannot be stored")
                return await self._admit(topic, partition, records, refused=fault)
            middle = len(records) // 2
            first = await self.admit(topic, partition, records[:middle])
            return first + await self.admit(topic, partition, records[middle:])

    async def _admit(self, topic: str, partition: int, records: Sequence[Record], refused: BadEvent | None = None) -> int:
        now = await self._admission.now()
        sorted_out = await self._sort(topic, records, now, refused)
        subjects = {read.subject_id for _, read in sorted_out.reads if read.subject_id is not None}
        consents = await self._admission.consents_of(sorted(subjects))
        origin = {read.uid: (record, read) for record, read in sorted_out.reads}
        messages = [
            self._accepter.accept(read, consents.get(read.subject_id or b"", ()), now, self._level.pauses)
            async for _, read in in_turns(sorted_out.reads)
        ]
        dead = [
            self._accepter.burial.letter(record, uid, topic, partition, fault, now, tenant)
            for record, uid, fault, tenant in sorted_out.dead
        ]
        admitted = await self._admission.admit(messages, dead)
        if admitted.reused:
            fault = BadEvent("id_reused", "message_id: it was there before, with other content")
            reused = [
                self._accepter.burial.letter(origin[uid][0], uid, topic, partition, fault, now, origin[uid][1].message.tenant)
                for uid in sorted(admitted.reused)
            ]
            await self._admission.admit((), reused)
            dead += reused
        self._count(messages, admitted, dead)
        for _, _, fault, _ in sorted_out.dead:
            if isinstance(fault, NotAllowed):
                self._metrics.not_allowed_total.labels(why=fault.why).inc()
        return len(admitted.new)

    async def _sort(self, topic: str, records: Sequence[Record], now: datetime, refused: BadEvent | None) -> _Sorted:
        sorted_out = _Sorted()
        async for record, uid in in_turns(zip(records, new_uids(now, len(records)), strict=True)):
            tenant = None
            try:
                read = self._accepter.read(record, topic, uid, now)
                tenant = read.message.tenant
                if refused is not None:
                    raise refused
            except BadEvent as fault:
                sorted_out.dead.append((record, uid, fault, tenant))
            else:
                sorted_out.reads.append((record, read))
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
