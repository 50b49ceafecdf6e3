"""Restore: what a database lost is read from the topics, and written into it, before the gateway goes on.

Consents first, so that nobody is texted after a STOP; then what became of messages, so that nobody is texted twice; then the audit,
whose chains go on where the topic has them; then what waits and may have been sent; then keys that were destroyed. All of it may be
cut off anywhere and done again. docs/protocol.md says what it rests on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final, Protocol
from uuid import UUID

from pydantic import ValidationError

from gateway.domain.chain import Chained, decode
from gateway.domain.changes import Change, Held, end
from gateway.domain.cloudevents import ReceivedEvent, read_event
from gateway.domain.consent import ConsentKey
from gateway.domain.errors import BadEvent, CannotOpen
from gateway.domain.events import SUBJECT_HEADER, ConsentEvent, StatusEvent
from gateway.domain.ids import uid_time
from gateway.domain.reasons import Reason
from gateway.domain.restoring import ToldConsent, ToldState
from gateway.domain.states import State
from gateway.flow.audit import Tell
from gateway.flow.keys import DayKey
from gateway.flow.records import Record
from gateway.flow.vault import Hasher
from gateway.telemetry import get_logger

__all__ = ["Replayed", "RestoreReplay", "RestoreTopics"]

_BATCH: Final = 500
_RULE: Final = "restore.doubtful"

log = get_logger("restore")


@dataclass(frozen=True, slots=True)
class RestoreTopics:
    """The names of the topics that are read."""

    consent: str
    status: str
    audit: str


@dataclass(slots=True)
class Replayed:
    """What was done; ``faults`` are a line each, and leave the replay incomplete."""

    opt_outs: int = 0
    opt_ins: int = 0
    told_again: int = 0
    """Consents whose later word stands here: they get a version that readers heed."""
    came_on: int = 0
    """Messages that were known, and of which the topic tells something newer."""
    not_known: int = 0
    """Messages that were not."""
    audit_records: int = 0
    ended_unknown: int = 0
    """Messages that may have been sent, and of which nobody can say: they are not sent again."""
    keys_noted: int = 0
    keys_destroyed: int = 0
    faults: list[str] = field(default_factory=list)


class Topic(Protocol):
    """A topic, from its beginning to its end."""

    unreadable: list[tuple[int, int]]

    async def spans(self) -> dict[int, tuple[int, int]]: ...
    def read(self, partition: int, first: int, end: int) -> AsyncIterator[Sequence[Record]]: ...


class Store(Protocol):
    """The restored database."""

    async def consents(self, told: Sequence[ToldConsent]) -> Counter[str]: ...
    async def first_day(self) -> date | None: ...
    async def states(self, told: Sequence[ToldState]) -> tuple[int, int]: ...
    async def audit(self, links: Sequence[Chained]) -> tuple[int, list[str]]: ...
    async def doubtful(self, after: UUID, most: int) -> list[UUID]: ...
    async def note_ended(self, keys: Sequence[DayKey]) -> int: ...


class Ledger(Protocol):
    """Where messages change."""

    async def change(
        self, uids: Collection[UUID], judge: Callable[[Mapping[UUID, Held], object], list[Change]], *, actor: str | None = None
    ) -> list[Change]: ...


class Keys(Protocol):
    """The key ring, and what the database knows of it."""

    def destroyed(self) -> Sequence[DayKey]:
        """The keys of days that the ring says are destroyed."""
        ...

    async def end_known(self) -> int:
        """Destroy what the database knows to be destroyed and the ring still has; how many."""
        ...


class RestoreReplay:
    """The chapter. ``keep_waiting``: what waits is sent although nobody can say whether it was, as who asks answers for."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        hasher: Hasher,
        keys: Keys,
        open_topic: Callable[[str], AbstractAsyncContextManager[Topic]],
        topics: RestoreTopics,
        *,
        keep_waiting: bool = False,
        tell: Tell,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._hasher = hasher
        self._keys = keys
        self._open = open_topic
        self._topics = topics
        self._keep_waiting = keep_waiting
        self._tell = tell
        self._waits: set[UUID] = set()
        self.done = Replayed()

    async def run(self) -> Replayed:
        """All of it. Raises StoreUnavailable, BrokerUnavailable, a fault of the key ring."""
        async for records in self._records(self._topics.consent):
            await self._consents(records)
        first = await self._store.first_day() or date.min
        async for records in self._records(self._topics.status):
            await self._states(records, first)
        async for records in self._records(self._topics.audit):
            await self._audit(records)
        if not self._keep_waiting:
            await self._end_doubtful()
        self.done.keys_noted = await self._store.note_ended(await asyncio.to_thread(self._keys.destroyed))
        self.done.keys_destroyed = await self._keys.end_known()
        return self.done

    async def _records(self, name: str) -> AsyncIterator[Sequence[Record]]:
        async with self._open(name) as topic:
            spans = await topic.spans()
            with self._tell(name, sum(last - first for first, last in spans.values())) as advance:
                for partition, (first, last) in spans.items():
                    async for records in topic.read(partition, first, last):
                        for start in range(0, len(records), _BATCH):
                            yield records[start : start + _BATCH]
                        advance(len(records))
            self.done.faults += [f"{name}/{partition} {offset}: damaged" for partition, offset in topic.unreadable]

    def _event(self, record: Record, name: str) -> ReceivedEvent | None:
        if record.value is None:
            return None
        try:
            return read_event(record.headers, record.value)
        except BadEvent:
            self.done.faults.append(f"{name} {record.offset}: no event")
            return None

    async def _consents(self, records: Sequence[Record]) -> None:
        told = []
        for record in records:
            received = self._event(record, self._topics.consent)
            if received is None or received.type != ConsentEvent.TYPE:
                continue
            sealed = dict(record.headers).get(SUBJECT_HEADER)
            if sealed is None:
                self.done.faults.append(f"{self._topics.consent} {record.offset}: published by a version that sealed no person")
                continue
            try:
                event = ConsentEvent.model_validate_json(received.data)
                subject = self._hasher.open_subject(event.person, sealed.decode("ascii", "replace"))
            except (ValidationError, CannotOpen) as fault:
                why = str(fault) if isinstance(fault, CannotOpen) else "no consent event"
                self.done.faults.append(f"{self._topics.consent} {record.offset}: {why}")
                continue
            told.append(ToldConsent(ConsentKey(subject, event.tenant, event.scope, event.name), event))
        done = await self._store.consents(told)
        self.done.opt_outs += done["opt_out"]
        self.done.opt_ins += done["opt_in"]
        self.done.told_again += done["tell_again"]

    async def _states(self, records: Sequence[Record], first: date) -> None:
        told: dict[UUID, ToldState] = {}
        for record in records:
            received = self._event(record, self._topics.status)
            if received is None or received.type != StatusEvent.TYPE:
                continue
            try:
                uid = UUID(received.id.partition(":")[0])
                event = StatusEvent.model_validate_json(received.data)
            except ValueError:
                self.done.faults.append(f"{self._topics.status} {record.offset}: no status event")
                continue
            if uid_time(uid).date() >= first and (uid not in told or told[uid].event.version < event.version):
                told[uid] = ToldState(uid, event)
        came_on, not_known = await self._store.states(list(told.values()))
        self.done.came_on += came_on
        self.done.not_known += not_known
        for uid, one in told.items():
            (self._waits.add if one.event.state in ("accepted", "deferred") else self._waits.discard)(uid)

    async def _audit(self, records: Sequence[Record]) -> None:
        links = []
        for record in records:
            try:
                links.append(decode(record.value or b""))
            except ValueError:
                self.done.faults.append(f"{self._topics.audit} {record.offset}: no record of a chain")
        lacking, faults = await self._store.audit(links)
        self.done.audit_records += lacking
        self.done.faults += faults

    async def _end_doubtful(self) -> None:
        """What was taken in and told, and is in no queue here; then what waits here, and whose time had come."""

        def lost(held: Mapping[UUID, Held], _now: object) -> list[Change]:
            return [
                _unknown(one)
                for one in held.values()
                if one.queued is None and not one.message.final and one.message.state in (State.ACCEPTED, State.DEFERRED)
            ]

        def due(held: Mapping[UUID, Held], _now: object) -> list[Change]:
            return [_unknown(one) for one in held.values() if one.queued is not None]

        waits = sorted(self._waits)
        for start in range(0, len(waits), _BATCH):
            self.done.ended_unknown += len(await self._ledger.change(waits[start : start + _BATCH], lost))
        after = UUID(int=0)
        while uids := await self._store.doubtful(after, _BATCH):
            self.done.ended_unknown += len(await self._ledger.change(uids, due))
            after = uids[-1]


def _unknown(held: Held) -> Change:
    return replace(end(held.message, held.queued, State.UNKNOWN, Reason.NO_EVIDENCE, _RULE), evidence="restore")
