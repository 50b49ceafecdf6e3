"""What a backend learns: the gateway's output topics, read as any consumer would read them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from pydantic import ValidationError

from gateway.bus.address import BrokerAddress
from gateway.bus.consumer import RecordSource
from gateway.bus.records import Gap, Record
from gateway.domain.cloudevents import read_event
from gateway.domain.errors import BadEvent
from gateway.domain.events import ConsentEvent, DeadLetterEvent, InboundEvent, StatusEvent
from gateway.settings import Topics

__all__ = ["Watch", "watching"]

_GROUP: Final = "demo"
_SESSION_SECONDS: Final = 6.0

Told = StatusEvent | ConsentEvent | InboundEvent | DeadLetterEvent
_MODELS: Final[dict[str, type[Told]]] = {
    model.TYPE: model for model in (StatusEvent, ConsentEvent, InboundEvent, DeadLetterEvent)
}


class Watch:
    """All that the topics have told. A reader drops repeats by the event's id, and what is older than it knows by the version."""

    def __init__(self) -> None:
        self.latest: dict[tuple[str, str], StatusEvent] = {}
        self.seen: dict[tuple[str, str], set[str]] = {}
        """By message: the states that it was in."""
        self.consents: list[ConsentEvent] = []
        self.dead_letters: dict[tuple[int, int], DeadLetterEvent] = {}
        """By partition and offset of the record."""
        self.inbound: list[InboundEvent] = []
        self.repeats = 0
        self.overtaken = 0
        self.unreadable: list[str] = []
        self.gaps: list[str] = []
        self.readers: list[asyncio.Task[None]] = []
        """One a topic; none ends by itself."""
        self._ids: set[str] = set()
        self._changed = asyncio.Condition()

    async def until(self, condition: Callable[[], object], within: float) -> bool:
        """Whether the condition comes true in time; it is asked after every event."""
        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(lambda: bool(condition()))
        except TimeoutError:
            return False
        return True

    def count(self) -> Counter[str]:
        """How many messages are in each state."""
        return Counter(event.state for event in self.latest.values())

    def blocked(self) -> Counter[str]:
        """Why messages were blocked."""
        return Counter(str(event.reason) for event in self.latest.values() if event.state == "blocked")

    async def take(self, records: list[Record]) -> None:
        """Read some records and tell whoever waits."""
        for record in records:
            self._read(record)
        async with self._changed:
            self._changed.notify_all()

    def _read(self, record: Record) -> None:
        try:
            envelope = read_event(record.headers, record.value)
            event = _MODELS[envelope.type].model_validate_json(envelope.data)
        except (BadEvent, KeyError, ValidationError) as fault:
            self.unreadable.append(type(fault).__name__)
            return
        if (name := f"{envelope.type} {envelope.id}") in self._ids:
            self.repeats += 1
            return
        self._ids.add(name)
        match event:
            case StatusEvent():
                self._status(event)
            case ConsentEvent():
                self.consents.append(event)
            case InboundEvent():
                self.inbound.append(event)
            case DeadLetterEvent():
                self.dead_letters[event.partition, event.offset] = event

    def _status(self, event: StatusEvent) -> None:
        key = (event.tenant, event.message_id)
        self.seen.setdefault(key, set()).add(event.state)
        known = self.latest.get(key)
        if known is None or event.version > known.version:
            self.latest[key] = event
        else:
            self.overtaken += 1


@asynccontextmanager
async def watching(broker: BrokerAddress, topics: Topics) -> AsyncIterator[Watch]:
    """Read the output topics from their beginning while the context lasts."""
    watch = Watch()

    async def on_gap(gap: Gap) -> None:
        watch.gaps.append(f"{gap.topic}: {gap.why}")

    names = (topics.status, topics.consent, topics.inbound, topics.dead_letter)
    sources = [RecordSource(broker, name, f"{_GROUP} {name}", on_gap=on_gap, session_timeout=_SESSION_SECONDS) for name in names]
    async with AsyncExitStack() as stack:
        for source in sources:
            await source.start()
            stack.push_async_callback(source.stop)
        watch.readers += [asyncio.create_task(_follow(source, watch), name="watch") for source in sources]
        try:
            yield watch
        finally:
            for task in watch.readers:
                task.cancel()
            await asyncio.gather(*watch.readers, return_exceptions=True)


async def _follow(source: RecordSource, watch: Watch) -> None:
    while True:
        batch = await source.next_batch(1.0)
        if batch is not None:
            await watch.take(list(batch.records))
            await source.durable(batch)
