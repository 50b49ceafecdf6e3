"""Publishing events: at least once, in order for each key, with an answer for each event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from gateway.bus.address import BrokerAddress, client_options
from gateway.bus.inside import abort, unsend
from gateway.bus.lanes import Lane, partition_of, refusal, size_of, topic_fits
from gateway.domain.errors import BrokerUnavailable
from gateway.domain.publishing import Acknowledged, Failed, OutEvent, PublishResult, RefusedForGood

__all__ = ["EventPublisher"]

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.25
REQUEST_BYTES: Final = 256 * 1024  # one request of a partition; a broker takes a megabyte unless it is set otherwise
METADATA_SECONDS: Final = 1.0  # less than a relay has for a batch: a topic that is not there must not keep the others waiting


class EventPublisher:
    """Publishes batches of events with ``acks=all``.

    ``idempotent`` drops the repeats of the client's own retries; the embedded broker cannot do it. ``largest``: bytes of one event, above
    which it is refused without asking the broker.
    """

    def __init__(
        self,
        address: BrokerAddress,
        *,
        idempotent: bool,
        largest: int = 1_000_000,
    ) -> None:
        self._address = address
        self._idempotent = idempotent
        self._largest = largest
        self._producer: AIOKafkaProducer | None = None
        self._broken = False
        self._lock = asyncio.Lock()
        self._limit: asyncio.Timeout | None = None

    async def start(self, limit_seconds: float = 30.0) -> None:
        """Connect. BrokerUnavailable when no broker answers within the limit, or it cannot do what is asked."""
        last: BrokerUnavailable | None = None
        try:
            async with asyncio.timeout(limit_seconds):
                while True:
                    try:
                        self._producer = await self._connect(enable_idempotence=self._idempotent)
                    except BrokerUnavailable as problem:
                        last = problem
                        await asyncio.sleep(RETRY_SECONDS)
                    else:
                        return
        except TimeoutError:
            raise last or BrokerUnavailable("Kafka cannot be reached: no answer in time") from None

    async def check(self) -> None:
        """Ask the brokers for anything. BrokerUnavailable when none answers."""
        producer = self._producer
        if producer is None:
            raise BrokerUnavailable("Kafka is being connected to")
        try:
            await producer.client.fetch_all_metadata()
        except (KafkaError, OSError, TimeoutError) as problem:
            raise BrokerUnavailable(f"Kafka does not answer: {type(problem).__name__}") from None

    async def stop(self) -> None:
        """Close at once. What :meth:`publish` has no answer for yet is Failed, and may still arrive."""
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())
        async with self._lock:
            producer, self._producer = self._producer, None
            if producer is not None:
                await abort(producer)

    async def publish(self, batch: Sequence[OutEvent], limit_seconds: float = 30.0) -> list[PublishResult]:
        """Publish, and tell for each event, in the same order, what became of it. Raises nothing for what a broker does.

        Events of one key go to one partition and keep their order: a partition's next request leaves only when the one before is
        acknowledged, and after the first :class:`Failed` of a partition the rest of it are not sent: they are Failed as well. So the
        caller publishes again all that are Failed, in the same order, and before anything newer; some of them may then stand in the
        topic twice, never for the last time before an older one of their key. What is :class:`RefusedForGood` does not hold up the
        events after it: the caller puts it aside.

        After ``limit_seconds`` what is not acknowledged is Failed. Calls wait for one another.
        """
        results: list[PublishResult] = [Failed("no_answer")] * len(batch)
        async with self._lock:
            try:
                async with asyncio.timeout(limit_seconds) as self._limit:
                    await self._deliver(batch, results)
            except (BrokerUnavailable, TimeoutError) as problem:
                self._broken = True
                logger.warning(
                    "events cannot be published: %s", problem if isinstance(problem, BrokerUnavailable) else "no answer in time"
                )
                await self._drop()  # at once: what is on its way may arrive after what another publishes by then
            except BaseException:
                self._broken = True  # what is on its way must not arrive after what the caller publishes next
                raise
            finally:
                self._limit = None
        return results

    @property
    def alone(self) -> bool:
        """Whether nobody else can publish in our place: this one cannot keep others from it, and says yes."""
        return True

    async def take_over(self, limit_seconds: float) -> None:
        """Nothing has to be done before :meth:`publish`."""

    async def _deliver(self, batch: Sequence[OutEvent], results: list[PublishResult]) -> None:
        """Send the events and put the answers in their places; those without one stay Failed."""
        producer = await self._ready()
        await self._send_all(producer, await self._lanes(producer, batch, results), batch, results)

    async def _send_all(
        self, producer: AIOKafkaProducer, lanes: Sequence[Lane], batch: Sequence[OutEvent], results: list[PublishResult]
    ) -> None:
        """Send what there is for each partition, all of them at once."""
        await asyncio.gather(*(self._send(producer, lane, batch, results) for lane in lanes))

    async def _lanes(self, producer: AIOKafkaProducer, batch: Sequence[OutEvent], results: list[PublishResult]) -> list[Lane]:
        sizes: dict[str, int | PublishResult] = {}
        lanes: dict[tuple[str, int], Lane] = {}
        for place, event in enumerate(batch):
            count = sizes.get(event.topic)
            if count is None:
                count = sizes[event.topic] = await self._partitions(producer, event.topic)
            if not isinstance(count, int):
                results[place] = count
            elif size_of(event) > self._largest:
                results[place] = RefusedForGood("too_large")
            else:
                partition = partition_of(event.ordered_by or event.key or b"", count)
                lane = lanes.get((event.topic, partition))
                if lane is None:
                    lane = lanes[event.topic, partition] = Lane(event.topic, partition)
                lane.events.append(place)
        return list(lanes.values())

    async def _partitions(self, producer: AIOKafkaProducer, topic: str) -> int | PublishResult:
        if not topic_fits(topic):
            return RefusedForGood("invalid_topic")
        try:
            return len(await asyncio.wait_for(producer.partitions_for(topic), METADATA_SECONDS))
        except (KafkaError, TimeoutError) as problem:
            return Failed("no_topic" if isinstance(problem, TimeoutError) else type(problem).__name__)

    async def _send(
        self, producer: AIOKafkaProducer, lane: Lane, batch: Sequence[OutEvent], results: list[PublishResult]
    ) -> None:
        """Send what there is for a partition, until each event has its answer."""
        while not lane.done:
            builder = producer.create_batch()
            taken = 0
            for place in lane.events[lane.cursor : lane.cursor + lane.most]:
                event = batch[place]
                if builder.append(timestamp=None, key=event.key, value=event.value, headers=list(event.headers)) is None:
                    break
                taken += 1
            builder.close()  # sent at once, and nothing else is added
            places = lane.events[lane.cursor : lane.cursor + taken]
            try:
                sent = await (await producer.send_batch(builder, lane.topic, partition=lane.partition))
            except KafkaError as problem:
                why = refusal(problem)
                if why is None:
                    self._broken = True
                    for place in lane.events[lane.cursor :]:
                        results[place] = Failed(type(problem).__name__)
                    lane.cursor = len(lane.events)
                    return
                unsend(producer, lane, taken)
                if taken > 1:
                    lane.most = taken // 2
                else:
                    results[places[0]] = RefusedForGood(why)
                    lane.cursor += 1
                continue
            for number, place in enumerate(places):
                results[place] = Acknowledged(lane.partition, sent.offset + number if sent.offset >= 0 else -1)
            lane.cursor += taken

    async def _ready(self) -> AIOKafkaProducer:
        """A producer that has nothing left over from before: one that failed might deliver the old after the new."""
        if self._broken:
            await self._drop()
        if self._producer is None:
            self._producer = await self._connect(enable_idempotence=self._idempotent)
        self._broken = False
        return self._producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await abort(producer)

    async def _connect(self, **more: Any) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **client_options(self._address), acks="all", max_batch_size=REQUEST_BYTES, request_timeout_ms=10_000, **more
        )
        try:
            await producer.start()
        except (KafkaError, OSError, TimeoutError) as problem:
            await abort(producer)
            hint = "" if not self._idempotent else " (a broker that has no idempotent producers?)"
            raise BrokerUnavailable(f"Kafka cannot be reached: {type(problem).__name__}{hint}") from None
        except BaseException:
            await abort(producer)
            raise
        return producer
