"""The tenants' backend: it publishes events to Kafka and remembers what it has published."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from gateway.bus.producer import EventPublisher
from gateway.demo.traffic import Message, Planned
from gateway.domain.errors import BrokerUnavailable
from gateway.domain.publishing import Acknowledged, OutEvent

__all__ = ["Backend"]

_TICK_SECONDS: Final = 0.1  # what is due within one is published together


class Backend:
    """Publishes, and keeps the books: every message, every dead letter that must come, and how many records there are."""

    def __init__(self, publisher: EventPublisher, topic: str) -> None:
        self._publisher = publisher
        self._topic = topic
        self._records: dict[tuple[str, str], tuple[Sequence[tuple[str, bytes]], bytes]] = {}
        self.messages: dict[tuple[str, str], Message] = {}
        self.malformed: dict[tuple[int, int], str] = {}
        """By partition and offset: the reason for which a record must end as a dead letter."""
        self.again = 0
        """How many records were the same event once more."""
        self.records = 0

    async def publish(self, *messages: Message) -> None:
        """Publish messages now, in order."""
        await self._publish([Planned(0.0, message) for message in messages])

    async def keep_pace(self, plan: Sequence[Planned]) -> None:
        """Publish everything at its time, from now on."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        rest = list(plan)
        while rest:
            await asyncio.sleep(max(0.0, began + rest[0].at - loop.time()))
            horizon = loop.time() - began + _TICK_SECONDS
            count = next((place for place, one in enumerate(rest) if one.at > horizon), len(rest))
            due, rest = rest[:count], rest[count:]
            await self._publish(due)

    async def _publish(self, due: Sequence[Planned]) -> None:
        now = datetime.now(UTC)
        events = [self._event(one, now) for one in due]
        for one in due:  # known before it can come back
            if one.message is not None:
                self.messages[one.message.key] = one.message
        for one, result in zip(due, await self._publisher.publish(events), strict=True):
            if not isinstance(result, Acknowledged):
                raise BrokerUnavailable(f"the broker did not take an event: {result.why}")
            self.records += 1
            self.again += one.again
            if one.reason:
                self.malformed[result.partition, result.offset] = one.reason

    def _event(self, one: Planned, now: datetime) -> OutEvent:
        if one.message is None:
            return OutEvent(self._topic, one.reason.encode(), list(one.headers), one.value)
        if one.message.key not in self._records:
            self._records[one.message.key] = one.message.record(now, structured=one.structured)
        headers, value = self._records[one.message.key]
        return OutEvent(self._topic, one.message.person.ref.encode(), list(headers), value)
