"""Reading a whole topic once, each partition from where it begins to where it ends now, without joining a group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from gateway.bus.address import BrokerAddress, client_options
from gateway.bus.progress import Progress
from gateway.bus.reading import PartitionReader, SessionBroken
from gateway.bus.records import Gap, Record
from gateway.bus.topics import describe
from gateway.domain.errors import BrokerUnavailable

__all__ = ["TopicReplay", "replaying"]

_WAIT_SECONDS: Final = 1.0
_MOST_WAITS: Final = 30  # in a row that bring nothing
_BATCH: Final = 1000


class TopicReplay:
    """The records of a topic. ``unreadable`` are those whose bytes are damaged, by partition and offset: they are passed over.

    ``keeps``: how long the topic keeps its records, at least; None for ever.
    """

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, partitions: int, keeps: timedelta | None) -> None:
        self.unreadable: list[tuple[int, int]] = []
        self.keeps = keeps
        self._consumer = consumer
        self._topic = topic
        self._places = [TopicPartition(topic, number) for number in range(partitions)]
        self._reader = PartitionReader(consumer, topic, self._passed_over)
        consumer.assign(self._places)

    async def spans(self) -> dict[int, tuple[int, int]]:
        """By partition: its first offset, and the one after its last. BrokerUnavailable."""
        try:
            begins = await self._consumer.beginning_offsets(self._places)
            ends = await self._consumer.end_offsets(self._places)
        except KafkaError as problem:
            raise BrokerUnavailable(f"Kafka does not answer: {type(problem).__name__}") from None
        return {place.partition: (begins[place], ends[place]) for place in self._places}

    async def read(self, partition: int, first: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """The records of a partition from ``first`` to ``end``, or to where it ended at the first answer, some at a time. BrokerUnavailable.

        That may be later than ``end``: of batches of records the embedded broker tells the end one record after the last one's beginning.
        """
        where, progress, waits, told = TopicPartition(self._topic, partition), Progress(first), 0, False
        self._consumer.seek(where, first)
        while progress.expected < end:
            before = progress.expected
            try:
                found = await self._reader.read(partition, progress, _BATCH, _WAIT_SECONDS, ours=lambda: True)
            except SessionBroken as problem:
                raise BrokerUnavailable(f"Kafka does not answer: {problem}") from None
            if found is not None:
                if not told:
                    end, told = max(end, self._consumer.highwater(where) or 0), True
                records, position = found
                progress.skipped(position)  # nothing is committed: it counts as read
                if records:
                    yield [record for record in records if record.offset < end]
            waits = waits + 1 if progress.expected == before else 0
            if waits > _MOST_WAITS:
                raise BrokerUnavailable(f"Kafka does not hand out what {self._topic} holds")

    async def _passed_over(self, gap: Gap) -> None:
        if gap.why == "unreadable":
            self.unreadable.append((gap.partition, gap.first_offset))


@asynccontextmanager
async def replaying(address: BrokerAddress, topic: str) -> AsyncIterator[TopicReplay]:
    """Connect. BrokerUnavailable when no broker answers, or there is no such topic."""
    facts = (await describe(address, [topic])).get(topic)
    if facts is None:
        raise BrokerUnavailable(f"Kafka has no topic {topic}; make it with: gateway topics apply")
    keeps = None if facts.retention_ms is None else timedelta(milliseconds=facts.retention_ms)
    consumer = AIOKafkaConsumer(
        **client_options(address),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
    )
    try:
        await consumer.start()
        yield TopicReplay(consumer, topic, facts.partitions, keeps)
    except (OSError, KafkaError) as problem:
        raise BrokerUnavailable(f"Kafka cannot be reached: {type(problem).__name__}") from None
    finally:
        await consumer.stop()
