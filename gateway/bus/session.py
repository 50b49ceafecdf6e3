"""One membership in a consumer group: joining, partitions that come and go, committing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from gateway.bus.address import BrokerAddress, client_options
from gateway.bus.progress import NEVER, Progress
from gateway.bus.reading import PartitionReader
from gateway.bus.records import Batch, Gap
from gateway.domain.errors import BrokerUnavailable

__all__ = ["Session"]

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.25


class Session(ConsumerRebalanceListener):
    """Reads one topic as a member of a group and commits what is durable, from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        address: BrokerAddress,
        topic: str,
        group: str,
        *,
        on_gap: Callable[[Gap], Awaitable[None]],
        session_timeout: float,
        commit_seconds: float,
        fetch_wait: float,
        paused: bool,
    ) -> None:
        self.open: dict[int, Progress] = {}
        """The partitions of ours whose first position is known."""
        self.changed = asyncio.Event()
        """Set when partitions come or go."""
        self._topic = topic
        self._group = group
        self._session_timeout = session_timeout
        self._commit_seconds = commit_seconds
        self._paused = paused
        self._rebalancing = True
        self._assignment = 0
        self._assigned = 0
        self._settled = asyncio.Event()
        self._dirty = asyncio.Event()
        self._commit_lock = asyncio.Lock()
        self._committing: asyncio.Task[None] | None = None
        self._beginning: asyncio.Task[None] | None = None
        milliseconds = round(session_timeout * 1000)
        self._consumer = AIOKafkaConsumer(
            **client_options(address),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=milliseconds,
            heartbeat_interval_ms=milliseconds // 3,
            request_timeout_ms=milliseconds + 10_000,  # a join may take the group a whole session time
            fetch_max_wait_ms=round(fetch_wait * 1000),
            metadata_max_age_ms=60_000,  # how soon new partitions of the topic are seen
        )
        self._reader = PartitionReader(self._consumer, topic, on_gap)

    async def check(self) -> None:
        """Ask the brokers which topics there are. BrokerUnavailable when none answers."""
        try:
            await self._consumer.topics()
        except (KafkaError, OSError, TimeoutError) as problem:
            raise BrokerUnavailable(f"Kafka does not answer: {type(problem).__name__}") from None

    async def start(self) -> None:
        """Connect and ask to join; partitions come later. BrokerUnavailable when that cannot be: then the session is of no more use."""
        try:
            await self._consumer.start()
            known = await self._consumer.topics()
        except (KafkaError, OSError, TimeoutError) as problem:
            await self._consumer.stop()
            raise BrokerUnavailable(f"Kafka cannot be reached: {type(problem).__name__}") from None
        if self._topic not in known:
            await self._consumer.stop()
            raise BrokerUnavailable(f"Kafka has no topic {self._topic}; make it with: gateway topics apply")
        # Subscribed only now, as the consumer's start would wait for the group otherwise.
        self._consumer.subscribe([self._topic], listener=self)
        self._committing = asyncio.create_task(self._keep_committing(), name=f"commit {self._topic}")

    async def stop(self, limit_seconds: float) -> None:
        """Commit what is durable and leave the group, each within the limit."""
        for task in (self._beginning, self._committing):
            if task is not None:
                task.cancel()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.commit(), limit_seconds)
        self._rebalancing = True
        self.open.clear()
        self.changed.set()
        self._settled.set()
        leaving = asyncio.create_task(self._consumer.stop(), name=f"leave {self._group}")
        await asyncio.wait([leaving], timeout=limit_seconds)
        if not leaving.done():
            leaving.cancel()
            await asyncio.wait([leaving])
        if leaving.cancelled() or leaving.exception() is not None:
            logger.warning("group %s was left without a word: the broker did not answer", self._group)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002  # all go in every rebalance
        """Wait a little for what is under way to become durable, commit it, forget the rest: its new owner reads it again."""
        self._rebalancing = True
        if self._beginning is not None:
            self._beginning.cancel()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wait_settled(), self._session_timeout / 3)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.commit(), self._session_timeout / 4)
        self.open.clear()
        self._reader.forget()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Pause again if paused, as a rebalance clears that, and find where to begin."""
        partitions = list(assigned)
        self._assignment += 1
        self._assigned = len(partitions)
        self._rebalancing = False
        if self._paused:
            self._consumer.pause(*partitions)
        # Not awaited: inside this call the group's heartbeats stand still.
        self._beginning = asyncio.create_task(self._begin(partitions), name=f"begin {self._topic}")

    async def _begin(self, assigned: list[TopicPartition]) -> None:
        """Set the first position of each partition: the committed offset, or the beginning for a group that is new to it."""
        while True:
            try:
                committed = await asyncio.gather(*map(self._consumer.committed, assigned))
                fresh = [where for where, offset in zip(assigned, committed, strict=True) if offset is None]
                begins = await self._consumer.beginning_offsets(fresh) if fresh else {}
                for where, offset in zip(assigned, committed, strict=True):
                    start = begins[where] if offset is None else offset
                    self._consumer.seek(where, start)
                    self.open[where.partition] = Progress(start, committed=NEVER if offset is None else offset)
            except (KafkaError, KeyError) as problem:
                logger.warning("first offsets of %s cannot be read: %s; trying again", self._topic, type(problem).__name__)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._dirty.set()  # a first offset is committed too: what retention takes from now on is then noticed
                self.changed.set()
                return

    @property
    def readable(self) -> list[int]:
        """The partitions that can be read now: none while the group shares them out anew."""
        return [] if self._rebalancing else sorted(self.open)

    async def take(self, partition: int, max_records: int, wait_seconds: float) -> Batch | None:
        """The next records of one partition, None when none came in time. SessionBroken when the client cannot go on."""
        progress, assignment = self.open.get(partition), self._assignment
        if progress is None or self._rebalancing:
            return None
        found = await self._reader.read(
            partition, progress, max_records, wait_seconds, ours=lambda: assignment == self._assignment and not self._rebalancing
        )
        if progress.due:
            self._dirty.set()
        if found is None:
            return None
        records, position = found
        if not records:  # aborted transactions, or what compaction left
            progress.skipped(position)
            return None
        ticket = progress.took(position)
        return Batch(self._topic, partition, records, records[0].offset, position, assignment, ticket)

    async def take_any(self, max_records: int, wait_seconds: float) -> Batch | None:
        """The next records of the partition that any come to first, None when none came in time. Doubtful when each must be read by itself."""
        assignment = self._assignment
        open_now = dict(self.open)
        found = await self._reader.read_any(
            {one: progress.expected for one, progress in open_now.items()},
            max_records,
            wait_seconds,
            ours=lambda: assignment == self._assignment and not self._rebalancing,
        )
        if found is None:
            return None
        partition, records, position = found
        ticket = open_now[partition].took(position)
        return Batch(self._topic, partition, records, records[0].offset, position, assignment, ticket)

    def heard(self) -> int | None:
        """A number that changes whenever the broker answers a fetch; None when no partition is ours and there is nothing to hear."""
        if not self.readable:
            return 0 if self._rebalancing or self._assigned else None
        return max(self._consumer.last_poll_timestamp(TopicPartition(self._topic, one)) or 0 for one in self.open)

    async def keep_alive(self) -> None:
        """While paused: show that the reader lives, as aiokafka leaves the group when it is not asked for records for five minutes."""
        if not self._rebalancing and (assigned := self._consumer.assignment()):
            with suppress(KafkaError):
                await self._consumer.getmany(*assigned, timeout_ms=0)

    def pause(self) -> None:
        self._paused = True
        self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        self._paused = False
        self._consumer.resume(*self._consumer.assignment())
        self.changed.set()

    def lag(self) -> dict[int, int]:
        """Records by partition that a new owner would read: from the first that is not durable to the end."""
        ends = {one: self._consumer.highwater(TopicPartition(self._topic, one)) for one in self.readable}
        return {one: max(0, end - self.open[one].durable_to) for one, end in ends.items() if end is not None}

    async def overdue(self, moment_ms: int) -> dict[int, int]:
        """Records by partition that are older than the moment and not durable yet. BrokerUnavailable."""
        first = await self._reader.first_since(self.readable, moment_ms) if self.readable else {}
        return {one: max(0, offset - self.open[one].durable_to) for one, offset in first.items() if one in self.open}

    def durable(self, batch: Batch) -> bool:
        """The batch is durable. False when its partition has gone since, or it has been given back."""
        progress = self.open.get(batch.partition)
        known = batch.assignment == self._assignment and progress is not None and progress.durable(batch.ticket)
        self._dirty.set()
        self._settled.set()
        return known

    def back_to(self, batch: Batch) -> None:
        """Read again from the batch on, if its partition is still ours; if not, it is read again anyway."""
        progress = self.open.get(batch.partition)
        if batch.assignment == self._assignment and progress is not None:
            progress.back_to(batch.ticket)
        self._settled.set()

    async def commit(self) -> None:
        """Commit all that is durable and not committed."""
        async with self._commit_lock:  # two at once could leave the older offset in force
            due = {one: (progress, progress.durable_to) for one, progress in self.open.items() if progress.due}
            if not due:
                return
            try:
                await self._consumer.commit({TopicPartition(self._topic, one): offset for one, (_, offset) in due.items()})
            except (CommitFailedError, IllegalStateError) as problem:
                # Partitions that went to another member: it reads what is not committed again, and repeats are recognised.
                logger.info("offsets of %s are not committed, its partitions have gone: %s", self._topic, type(problem).__name__)
            except KafkaError as problem:
                logger.warning("offsets of %s are not committed: %s; trying again", self._topic, type(problem).__name__)
                self._dirty.set()
            else:
                for progress, offset in due.values():
                    progress.committed = offset

    async def _keep_committing(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self.commit()
            await asyncio.sleep(self._commit_seconds)

    async def _wait_settled(self) -> None:
        while any(progress.outstanding for progress in self.open.values()):
            self._settled.clear()
            await self._settled.wait()
