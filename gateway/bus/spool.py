"""Reading the spool: its one partition, from an offset that is kept elsewhere, without a group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from gateway.bus.address import BrokerAddress, client_options
from gateway.bus.progress import Progress
from gateway.bus.reading import PartitionReader, SessionBroken
from gateway.bus.records import Gap, Record
from gateway.bus.topics import describe
from gateway.domain.errors import BrokerUnavailable

__all__ = ["SpoolSource"]

T = TypeVar("T")

_LIMIT_SECONDS: Final = 4.0
# A reading counts from before it began, whatever this takes. One that began with a slow connection counts for nothing; the next finds it
# made. With one limit for both, a process on a machine that is busy made connections for ever and never asked anything.
_CONNECT_SECONDS: Final = 15.0
_WAIT_SECONDS: Final = 1.0


class SpoolSource:
    """The topic of the spool. It connects when it is asked something, and anew after a fault; every question has a time limit.

    ``on_gap`` is awaited before records are passed over that will never be read.
    """

    def __init__(self, address: BrokerAddress, topic: str, *, on_gap: Callable[[Gap], Awaitable[None]]) -> None:
        self._address = address
        self._topic = topic
        self._where = TopicPartition(topic, 0)
        self._on_gap = on_gap
        self._consumer: AIOKafkaConsumer | None = None
        self._reader: PartitionReader | None = None

    async def bounds(self) -> tuple[int, int]:
        """The first offset that is there, and the one after the last acknowledged record. BrokerUnavailable."""

        async def ask(consumer: AIOKafkaConsumer) -> tuple[int, int]:
            begin = await consumer.beginning_offsets([self._where])
            end = await consumer.end_offsets([self._where])
            return begin[self._where], end[self._where]

        return await self._asked(ask)

    async def read(self, offset: int, most: int) -> tuple[Sequence[Record], int]:
        """Records from ``offset`` on and the offset after them, or after what is passed over. BrokerUnavailable when nothing comes."""

        async def take(consumer: AIOKafkaConsumer) -> tuple[Sequence[Record], int]:
            if self._reader is None:
                consumer.assign([self._where])
                consumer.seek(self._where, offset)
                self._reader = PartitionReader(consumer, self._topic, self._on_gap)
            progress = Progress(offset)
            while True:  # what is damaged is read again some times before it is passed over
                found = await self._reader.read(0, progress, most, _WAIT_SECONDS, ours=lambda: True)
                if found is not None:
                    return found
                if progress.expected != offset:
                    return [], progress.expected

        return await self._asked(take)

    async def close(self) -> None:
        """Let go of the connection, if there is one."""
        consumer, self._consumer, self._reader = self._consumer, None, None
        if consumer is not None:
            task = asyncio.current_task()
            try:
                with suppress(KafkaError, OSError, TimeoutError):
                    await asyncio.wait_for(consumer.stop(), 1.0)
            except asyncio.CancelledError:  # without a group, aiokafka's stop() raises it by itself
                if task is not None and task.cancelling():
                    raise

    async def _asked(self, question: Callable[[AIOKafkaConsumer], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                consumer = await self._connected()
            async with asyncio.timeout(_LIMIT_SECONDS):
                return await question(consumer)
        except (KafkaError, SessionBroken, OSError, TimeoutError, KeyError) as fault:
            await self.close()
            raise BrokerUnavailable(f"the spool cannot be read: {type(fault).__name__}") from None
        except BaseException:
            await self.close()
            raise

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            # Asked for by name: what a consumer without a subscription knows of topics hangs on the broker.
            topic = (await describe(self._address, [self._topic])).get(self._topic)
            if topic is None or topic.partitions != 1:
                has = f"{topic.partitions} partitions, not one" if topic is not None else "no partition: it is not there"
                raise BrokerUnavailable(f"the topic {self._topic} has {has}")
            # read_uncommitted: the end is then that of all acknowledged records, whatever transaction somebody left open
            self._consumer = AIOKafkaConsumer(
                **client_options(self._address),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_uncommitted",
                request_timeout_ms=round(_LIMIT_SECONDS * 1000),
            )
            await self._consumer.start()
        return self._consumer
