"""Reading and writing topics on a real broker, some of it behind a wire that can be cut or falsified.

``make test`` runs them on the embedded broker, ``make test-kafka`` on Apache Kafka, and there also what only that one can do.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.record.util import calc_crc32c
from prometheus_client import CollectorRegistry

from gateway.app.lag import Lag
from gateway.bus.address import BrokerAddress
from gateway.bus.consumer import RecordSource
from gateway.bus.lanes import partition_of
from gateway.bus.producer import EventPublisher
from gateway.bus.records import Batch, Gap
from gateway.bus.topics import TopicSpec, apply, describe
from gateway.domain.errors import BrokerUnavailable
from gateway.domain.publishing import Acknowledged, Failed, OutEvent, RefusedForGood
from gateway.embedded.programs import broker_program
from gateway.telemetry import Metrics
from tests.kafka.server import KafkaServer
from tests.support import free_port, until

SESSION_SECONDS = 1.0  # the embedded broker's first join takes half of it
LIMIT_SECONDS = 20.0
numbers = itertools.count()


@pytest.fixture
def address(broker: str) -> BrokerAddress:
    return BrokerAddress(broker)


Behind = Callable[["Wire"], AbstractAsyncContextManager[BrokerAddress]]


@pytest.fixture
def behind(broker: str, tmp_path: Path, request: pytest.FixtureRequest) -> Behind:  # it says on which broker
    """A broker that clients reach by the wire given, and by no other way."""

    @asynccontextmanager
    async def on_kafka(wire: Wire) -> AsyncIterator[BrokerAddress]:
        server: KafkaServer = request.getfixturevalue("kafka_server")
        port, wire.port = server.wired
        async with wire.to(port) as address:
            yield address

    @asynccontextmanager
    async def on_the_embedded(wire: Wire) -> AsyncIterator[BrokerAddress]:
        port, advertised = free_port(), wire.port
        command = [str(broker_program(tmp_path)), "broker", "--storage-engine", "memory://tansu/"]
        command += ["--listener-url", f"tcp://127.0.0.1:{port}", "--advertised-listener-url", f"tcp://127.0.0.1:{advertised}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: ASYNC220  # starts at once
            try:
                await until(lambda: answers(port), LIMIT_SECONDS)
                async with wire.to(port) as address:
                    yield address
            finally:
                process.kill()

    return on_kafka if request.config.getoption("--kafka") else on_the_embedded


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


class Wire:
    """Between the clients and the broker: can be cut, and can falsify what the broker sends."""

    def __init__(self, falsify: Callable[[bytes], bytes] = lambda data: data) -> None:
        self.port = free_port()
        self.falsify = falsify
        self.whole = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def to(self, port: int) -> AsyncIterator[BrokerAddress]:
        async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not self.whole:
                writer.close()
                return
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
            self._writers |= {writer, there_writer}
            for source, sink, change in ((reader, there_writer, False), (there_reader, writer, True)):
                task = asyncio.create_task(self._carry(source, sink, change=change))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(joined, "127.0.0.1", self.port)
        try:
            yield BrokerAddress(f"127.0.0.1:{self.port}")
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, change: bool) -> None:
        try:
            while True:
                # A whole answer at a time: what is to be falsified is never cut in two.
                size = await source.readexactly(4)
                data = await source.readexactly(int.from_bytes(size, "big"))
                sink.write(size + (self.falsify(data) if change else data))
                await sink.drain()
        except (OSError, EOFError):
            pass
        finally:
            sink.close()

    def cut(self) -> None:
        self.whole = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def mend(self) -> None:
        self.whole = True


class Gaps(list[Gap]):
    async def __call__(self, gap: Gap) -> None:
        self.append(gap)


async def new_topic(address: BrokerAddress, partitions: int = 1, **config: str) -> str:
    name = f"test-{os.getpid()}-{time.time_ns()}-{next(numbers)}"
    settings = {key.replace("_", "."): value for key, value in config.items()}
    assert [change.what for change in await apply(address, [TopicSpec(name, partitions, settings)])] == ["created"]
    return name


async def fill(address: BrokerAddress, topic: str, values: list[bytes], *, partition: int | None = None) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address.servers, acks="all")
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, key=b"k", partition=partition)
    finally:
        await producer.stop()


@asynccontextmanager
async def reading(
    address: BrokerAddress,
    topic: str,
    *,
    group: str = "group",
    gaps: Callable[[Gap], Awaitable[None]] | None = None,
    session: float = SESSION_SECONDS,
) -> AsyncIterator[RecordSource]:
    source = RecordSource(address, topic, f"group-{topic}", on_gap=Gaps() if gaps is None else gaps, session_timeout=session)
    await source.start(LIMIT_SECONDS)
    try:
        yield source
    finally:
        await source.stop()


async def next_batch(source: RecordSource, max_records: int = 500, seconds: float = LIMIT_SECONDS) -> Batch:
    batch = await source.next_batch(seconds, max_records)
    assert batch is not None
    return batch


async def values_of(source: RecordSource, count: int, *, durable: bool = True, max_records: int = 500) -> list[bytes | None]:
    values: list[bytes | None] = []
    while len(values) < count:
        batch = await next_batch(source, max_records)
        values += [record.value for record in batch.records]
        if durable:
            await source.durable(batch)
    return values


def some(count: int, prefix: bytes = b"value") -> list[bytes]:
    return [b"%s-%d" % (prefix, number) for number in range(count)]


# ---------------------------------------------------------------------------------------------------------------- reading


async def test_records_come_whole_in_order_and_from_the_beginning_for_a_new_group(address: BrokerAddress) -> None:
    topic = await new_topic(address)
    publisher = EventPublisher(address, idempotent=False)
    await publisher.start()
    await publisher.publish([OutEvent(topic, b"key", [("a", b"1"), ("b", b"\xff")], b"value"), OutEvent(topic, b"key", [], None)])
    await publisher.stop()
    async with reading(address, topic) as source:
        batch = await next_batch(source)
        first, second = batch.records
        assert (batch.topic, batch.partition, batch.first_offset, batch.next_offset) == (topic, 0, 0, 2)
        assert (first.offset, first.key, first.value, list(first.headers)) == (0, b"key", b"value", [("a", b"1"), ("b", b"\xff")])
        assert abs(first.timestamp_ms / 1000 - time.time()) < 60
        assert (second.offset, second.value) == (1, None)
        assert source.lag() == {0: 2}
        await source.durable(batch)
        assert source.lag() == {0: 0}
        assert await source.next_batch(0.1) is None


async def test_only_what_is_durable_is_committed_and_only_without_a_hole(address: BrokerAddress) -> None:
    topic = await new_topic(address)
    await fill(address, topic, some(40))
    async with reading(address, topic) as source:
        first, second, third, fourth = [await next_batch(source, 10) for _ in range(4)]
        assert [one.first_offset for one in (first, second, third, fourth)] == [0, 10, 20, 30]
        await source.durable(first)
        await source.durable(third)
        await source.durable(fourth)
    async with reading(address, topic) as source:
        again = await next_batch(source)
        assert (again.first_offset, again.next_offset) == (10, 40)
        await source.durable(again)
    async with reading(address, topic) as source:
        assert await source.next_batch(3.0) is None


async def test_offsets_are_committed_while_reading_goes_on(address: BrokerAddress) -> None:
    topic = await new_topic(address)
    await fill(address, topic, some(10))
    async with reading(address, topic) as source:
        await source.durable(await next_batch(source))
        assert source._session is not None
        progress = source._session.open[0]
        await until(lambda: progress.committed == 10, 2.0)


READ_AND_DIE = """
import asyncio, os, sys
from gateway.bus.address import BrokerAddress
from gateway.bus.consumer import RecordSource
async def gap(gap): raise AssertionError(gap)
async def main():
    source = RecordSource(BrokerAddress(sys.argv[1]), sys.argv[2], "group-" + sys.argv[2], on_gap=gap, session_timeout=1.0)
    await source.start(20)
    one = await source.next_batch(20, 10)
    two = await source.next_batch(20, 10)
    await source.durable(one)
    while source._session.open[0].committed != 10:
        await source.next_batch(0.05)
    os._exit(two.first_offset)
asyncio.run(main())
"""


async def test_a_killed_reader_loses_nothing(address: BrokerAddress) -> None:
    topic = await new_topic(address)
    await fill(address, topic, some(30))
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", READ_AND_DIE, address.servers, topic)
    assert await asyncio.wait_for(killed.wait(), LIMIT_SECONDS) == 10
    async with reading(address, topic) as source:
        batch = await next_batch(source)
        assert (batch.first_offset, batch.next_offset) == (10, 30)


async def test_a_failed_batch_and_all_after_it_come_again(address: BrokerAddress) -> None:
    topic = await new_topic(address)
    await fill(address, topic, some(30))
    async with reading(address, topic) as source:
        first, second, third = [await next_batch(source, 10) for _ in range(3)]
        await source.back_to(second)
        await source.durable(first)
        await source.durable(third)  # finished although it comes again: counts for nothing
        again = await next_batch(source)
        assert (again.first_offset, again.next_offset) == (10, 30)
        await source.back_to(again)
        assert (await next_batch(source)).first_offset == 10
    async with reading(address, topic) as source:
        assert (await next_batch(source)).first_offset == 10


async def test_poison_comes_like_any_record(address: BrokerAddress) -> None:
    topic = await new_topic(address)
    poison = [b"", b"\xff\xfe\x00", b"\x00" * 10, b"{" * 5000, b"x" * 900_000]
    values = [b"good-1", *poison, b"good-2"]
    await fill(address, topic, values)
    async with reading(address, topic) as source:
        assert await values_of(source, len(values)) == values
        assert source.unreadable == 0


async def test_partitions_take_turns(address: BrokerAddress) -> None:
    topic = await new_topic(address, 3)
    for partition in range(3):
        await fill(address, topic, some(40), partition=partition)
    async with reading(address, topic) as source:
        source.pause()
        await within_reading(source, lambda: len(source.partitions) == 3)
        source.resume()  # now all are fetched together
        turns: list[int] = []
        while len(turns) < 12:
            batch = await next_batch(source, 10)
            turns.append(batch.partition)
            await source.durable(batch)
        assert sorted(turns) == sorted([0, 1, 2] * 4)
        assert source.lag() == {0: 0, 1: 0, 2: 0}
        assert max(len(list(run)) for _, run in itertools.groupby(turns)) <= 2


async def within_reading(source: RecordSource, condition: Callable[[], bool], seconds: float = LIMIT_SECONDS) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "did not come about in time"
        batch = await source.next_batch(0.05, 1)
        if batch is not None:
            await source.back_to(batch)


async def test_paused_nothing_comes_also_over_a_rebalance(address: BrokerAddress) -> None:
    topic = await new_topic(address, 4)
    async with reading(address, topic) as one:
        await within_reading(one, lambda: len(one.partitions) == 4)
        one.pause()
        async with reading(address, topic) as other:
            other.pause()
            for source in (one, other):
                assert await source.next_batch(0.1) is None
            both = (one, other)
            until = time.monotonic() + LIMIT_SECONDS
            while not (len(one.partitions) == 2 and len(other.partitions) == 2):
                assert time.monotonic() < until
                assert [await source.next_batch(0.05) for source in both] == [None, None]
            for source in both:
                assert source._session is not None
                assert source._session._consumer.paused() == source._session._consumer.assignment()
            for partition in range(4):
                await fill(address, topic, some(5), partition=partition)
            for source in both:
                assert await source.next_batch(1.0) is None
            one.resume()
            seen = {(await next_batch(one)).partition for _ in range(2)}
            assert seen == set(one.partitions)
            assert await other.next_batch(0.5) is None
        # The other has left: its partitions come back, unread.
        batches = [await next_batch(one) for _ in range(4)]
        assert {batch.partition for batch in batches} == {0, 1, 2, 3}
        assert {batch.first_offset for batch in batches} == {0}


async def test_who_is_paused_for_long_keeps_its_partitions(address: BrokerAddress) -> None:
    """aiokafka leaves the group when it is not asked for records for so long, in service five minutes: here one second."""
    topic = await new_topic(address, 2)
    async with reading(address, topic) as source:
        await within_reading(source, lambda: len(source.partitions) == 2)
        source.pause()
        session = source._session
        assert session is not None
        assignment = session._assignment
        coordinator = session._consumer._coordinator
        assert isinstance(coordinator, GroupCoordinator)
        coordinator._max_poll_interval = 1.0
        ends = time.monotonic() + 3
        while time.monotonic() < ends:
            assert await source.next_batch(0.1) is None
        await fill(address, topic, some(3))
        source.resume()
        assert len(await values_of(source, 3)) == 3
        assert source._session is session
        assert session._assignment == assignment


async def test_a_batch_finished_during_a_rebalance_is_committed(address: BrokerAddress) -> None:
    topic = await new_topic(address, 2)
    for partition in range(2):
        await fill(address, topic, some(5), partition=partition)
    async with reading(address, topic, session=3.0) as one:
        batches = [await next_batch(one), await next_batch(one)]
        assert one._session is not None
        session = one._session
        async with reading(address, topic, session=3.0) as other:
            await until(lambda: session._rebalancing, LIMIT_SECONDS)
            for batch in batches:
                await one.durable(batch)
            await until(lambda: not session._rebalancing, LIMIT_SECONDS)
            assert await one.next_batch(1.0) is None
            assert await other.next_batch(2.5) is None


async def test_a_batch_lost_in_a_rebalance_comes_again_and_its_late_end_harms_nothing(address: BrokerAddress) -> None:
    topic = await new_topic(address, 2)
    for partition in range(2):
        await fill(address, topic, some(5), partition=partition)
    async with reading(address, topic) as one:
        batches = [await next_batch(one), await next_batch(one)]
        async with reading(address, topic) as other:
            mine, theirs = await asyncio.gather(next_batch(one), next_batch(other))
            for batch in batches:
                await one.durable(batch)
                await one.back_to(batch)
            assert {mine.partition, theirs.partition} == {0, 1}
            assert mine.first_offset == theirs.first_offset == 0
            await one.durable(mine)
            await other.durable(theirs)
        await within_reading(one, lambda: len(one.partitions) == 2)
        assert await one.next_batch(0.5) is None


async def test_stop_commits_and_leaves_at_once(address: BrokerAddress) -> None:
    topic = await new_topic(address)
    await fill(address, topic, some(10))
    async with reading(address, topic) as source:
        await source.durable(await next_batch(source))
        started = time.monotonic()
    assert time.monotonic() - started < 4.0  # not the 5 s that stop() may take
    assert await source.next_batch(1.0) is None
    await source.stop()
    await fill(address, topic, [b"new"])
    async with reading(address, topic) as source:
        assert (await next_batch(source)).first_offset == 10


async def test_an_idle_or_paused_reader_rests(address: BrokerAddress) -> None:
    topic = await new_topic(address, 6)
    async with reading(address, topic) as source:
        await within_reading(source, lambda: len(source.partitions) == 6)
        for paused in (False, True):
            if paused:
                source.pause()
            spent = time.process_time()
            assert await source.next_batch(2.0) is None
            assert time.process_time() - spent < 0.3


async def test_without_a_broker_or_topic_the_start_is_refused_in_time(address: BrokerAddress) -> None:
    nobody = BrokerAddress(f"127.0.0.1:{free_port()}")
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        await RecordSource(nobody, "t", "g", on_gap=Gaps()).start(1.0)
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        await EventPublisher(nobody, idempotent=False).start(1.0)
    with pytest.raises(BrokerUnavailable, match="does not answer"):
        await describe(nobody, ["t"])
    with pytest.raises(BrokerUnavailable, match="no topic missing"):
        await RecordSource(address, "missing", "g", on_gap=Gaps()).start(0.5)
    assert time.monotonic() - started < 8.0


async def test_a_broker_without_idempotent_producers_is_told_from_one_that_is_away(embedded_broker: str) -> None:
    with pytest.raises(BrokerUnavailable, match="idempotent"):
        await EventPublisher(BrokerAddress(embedded_broker), idempotent=True).start(0.5)


async def readers_come_and_go(address: BrokerAddress, at_once: int) -> None:
    """Whatever happens to readers, every record becomes durable, and never is anything committed that is not."""
    topic, chance = await new_topic(address, 4), random.Random(7)
    publisher = EventPublisher(address, idempotent=False)
    await publisher.start()
    count = 6000
    await publisher.publish([OutEvent(topic, b"key-%d" % number, [], b"%d" % number) for number in range(count)])
    await publisher.stop()
    durable: set[tuple[int, int]] = set()
    gaps = Gaps()

    async def read_for(batches: int) -> None:
        async with reading(address, topic, gaps=gaps) as source:
            held: list[Batch] = []
            for _ in range(batches):
                batch = await source.next_batch(0.5 if source.partitions else 3.0, chance.randint(1, 120))
                if batch is not None:
                    held.append(batch)
                elif not held and source.partitions:
                    break
                chance.shuffle(held)
                while held and (batch is None or len(held) > 3):
                    one = held.pop()
                    if chance.random() < 0.2:
                        await source.back_to(one)
                    else:
                        durable.update((one.partition, record.offset) for record in one.records)
                        await source.durable(one)
                if chance.random() < 0.05:
                    source.pause()
                    source.resume()
                for partition, progress in source._session.open.items() if source._session else ():
                    assert all((partition, offset) in durable for offset in range(max(progress.committed, 0)))
            # What is held now is dropped, as by a crash.

    until = time.monotonic() + 60
    while len(durable) < count:
        assert time.monotonic() < until
        await asyncio.gather(*(read_for(chance.randint(20, 60)) for _ in range(at_once)))
    assert gaps == []


async def test_readers_that_come_go_and_fail_lose_nothing(address: BrokerAddress) -> None:
    # One at a time: members that leave while the embedded broker shares out partitions can leave it without a leader for good.
    await readers_come_and_go(address, 1)


# ---------------------------------------------------------------------------------------------------------------- a bad wire


async def test_a_damaged_record_is_passed_over_alone_and_told(behind: Behind) -> None:
    wire, gaps = Wire(lambda data: data.replace(b"MARKED", b"MANGLE")), Gaps()
    async with behind(wire) as address:
        topic = await new_topic(address, 2)
        await fill(address, topic, [*some(20), b"MARKED", *some(20, b"after"), b"MARKED"], partition=0)
        await fill(address, topic, some(20, b"other"), partition=1)
        async with reading(address, topic, gaps=gaps) as source:
            values = await values_of(source, 60)
            assert sorted(filter(None, values)) == sorted([*some(20), *some(20, b"after"), *some(20, b"other")])
            await within_reading(source, lambda: source.unreadable == 2)
            assert gaps == [Gap(topic, 0, 20, 21, "unreadable"), Gap(topic, 0, 41, 42, "unreadable")]
            session = source._session
            assert session is not None
            await until(lambda: session.open[0].committed == 42, LIMIT_SECONDS)


async def test_a_gap_that_cannot_be_told_is_not_passed_over(behind: Behind) -> None:
    wire, told = Wire(lambda data: data.replace(b"MARKED", b"MANGLE")), Gaps()
    failures = iter([True, True])

    async def tell(gap: Gap) -> None:
        if next(failures, False):
            raise ConnectionError("the store is away")
        told.append(gap)

    async with behind(wire) as address:
        topic = await new_topic(address)
        await fill(address, topic, [b"MARKED", b"good"])
        async with reading(address, topic, gaps=tell) as source:
            for _ in range(2):
                with pytest.raises(ConnectionError):
                    await next_batch(source)
                assert source.unreadable == 0
            assert (await next_batch(source)).first_offset == 1
            assert [gap.first_offset for gap in told] == [0]


async def test_damage_on_the_way_costs_nothing(behind: Behind) -> None:
    often = iter([True] * 2)
    wire, gaps = Wire(), Gaps()
    wire.falsify = lambda data: data.replace(b"MARKED", b"MANGLE") if b"MARKED" in data and next(often, False) else data
    async with behind(wire) as address:
        topic = await new_topic(address)
        values = [*some(5), b"MARKED", *some(5)]
        await fill(address, topic, values)
        async with reading(address, topic, gaps=gaps) as source:
            assert await values_of(source, len(values)) == values
            assert gaps == []


async def test_a_header_that_is_not_utf8_does_not_stop_its_partition(address: BrokerAddress) -> None:
    topic, gaps = await new_topic(address), Gaps()
    producer = AIOKafkaProducer(bootstrap_servers=address.servers)
    await producer.start()
    for values in (some(3), [b"bad"], some(3, b"after")):
        batch = producer.create_batch()
        for value in values:
            batch.append(timestamp=None, key=b"k", value=value, headers=[("MARKED", b"")])
        if values == [b"bad"]:
            raw = bytearray(bytes(batch._build()).replace(b"MARKED", b"\xff\xfeBAD!"))
            raw[17:21] = calc_crc32c(raw[21:]).to_bytes(4, "big")
            batch._buffer = raw
        await (await producer.send_batch(batch, topic, partition=0))
    await producer.stop()
    async with reading(address, topic, gaps=gaps) as source:
        assert await values_of(source, 6) == [*some(3), *some(3, b"after")]
        assert gaps == [Gap(topic, 0, 3, 4, "unreadable")]


async def test_a_broker_that_goes_and_comes_back(behind: Behind) -> None:
    wire = Wire()
    async with behind(wire) as address:
        topic = await new_topic(address)
        publisher = EventPublisher(address, idempotent=False)
        await publisher.start()
        async with reading(address, topic) as source:
            events = [OutEvent(topic, b"k", [], value) for value in some(10)]
            assert {type(result) for result in await publisher.publish(events)} == {Acknowledged}
            batch = await next_batch(source)
            wire.cut()
            await source.durable(batch)
            assert await source.next_batch(0.5) is None
            assert await publisher.publish(events, limit_seconds=0.5) == [Failed("no_answer")] * 10
            assert {type(result) for result in await publisher.publish(events, limit_seconds=0.5)} == {Failed}
            wire.mend()
            assert {type(result) for result in await publisher.publish(events)} == {Acknowledged}
            values: list[bytes | None] = []

            async def caught_up() -> bool:
                again = await source.next_batch(0.05)
                if again is not None:
                    values.extend(record.value for record in again.records)
                    await source.durable(again)
                progress = source._session.open.get(0) if source._session is not None else None
                return values[-10:] == some(10) and progress is not None and not progress.due and source.lag() == {0: 0}

            await until(caught_up, LIMIT_SECONDS)
        await publisher.stop()
        async with reading(address, topic) as source:
            assert await source.next_batch(2.5) is None


async def test_stop_with_the_broker_away_ends_in_time(behind: Behind) -> None:
    wire = Wire()
    async with behind(wire) as address:
        topic = await new_topic(address)
        publisher = EventPublisher(address, idempotent=False)
        await publisher.start()
        await publisher.publish([OutEvent(topic, b"k", [], b"v")])
        source = RecordSource(address, topic, "group", on_gap=Gaps(), session_timeout=SESSION_SECONDS)
        await source.start()
        await source.durable(await next_batch(source))
        wire.cut()
        started = time.monotonic()
        await source.stop(1.0)
        await publisher.stop()
        assert time.monotonic() - started < 5.0


async def test_a_publisher_that_waits_for_the_broker_stops_when_it_is_told_to(behind: Behind) -> None:
    wire = Wire()
    async with behind(wire) as address:
        topic = await new_topic(address)
        publisher = EventPublisher(address, idempotent=False)
        await publisher.start()
        wire.cut()
        waiting = asyncio.create_task(publisher.publish([OutEvent(topic, b"k", [], b"v")]))
        await until(lambda: publisher._limit is not None, LIMIT_SECONDS)
        started = time.monotonic()
        await publisher.stop()
        assert await waiting == [Failed("no_answer")]
        assert time.monotonic() - started < 10.0  # not the 30 s of its own limit


# ---------------------------------------------------------------------------------------------------------------- publishing


async def test_every_event_has_its_answer_and_keys_keep_their_order(address: BrokerAddress) -> None:
    topic = await new_topic(address, 4)
    publisher = EventPublisher(address, idempotent=False, largest=50_000)
    await publisher.start()
    events = [OutEvent(topic, b"key-%d" % (number % 7), [("n", b"1")], b"%d" % number) for number in range(3000)]
    events[100] = OutEvent(topic, b"key-1", [], b"x" * 60_000)
    events[200] = OutEvent("not a topic!", b"key-1", [], b"x")
    results = await publisher.publish(events)
    assert results[100] == RefusedForGood("too_large")
    assert results[200] == RefusedForGood("invalid_topic")
    assert sum(isinstance(result, Acknowledged) for result in results) == 2998
    assert results[0] == Acknowledged(partition_of(b"key-0", 4), 0)
    assert await publisher.publish([]) == []
    await publisher.stop()
    read: dict[bytes | None, list[int]] = {}
    places: dict[tuple[int, int], bytes | None] = {}
    async with reading(address, topic) as source:
        while sum(map(len, read.values())) < 2998:
            batch = await next_batch(source)
            for record in batch.records:
                read.setdefault(record.key, []).append(int(record.value or b""))
                places[batch.partition, record.offset] = record.value
    assert all(numbers == sorted(numbers) for numbers in read.values())
    for event, result in zip(events, results, strict=True):
        if isinstance(result, Acknowledged):
            assert places[result.partition, result.offset] == event.value


async def test_after_a_failure_the_rest_of_a_partition_waits_for_the_caller(behind: Behind) -> None:
    wire = Wire()
    async with behind(wire) as address:
        topic = await new_topic(address)
        publisher = EventPublisher(address, idempotent=False)
        await publisher.start()
        # Some requests' worth; the wire is cut when the first of them has been answered.
        events = [OutEvent(topic, b"k", [], b"%05d" % number + b"." * 20_000) for number in range(60)]
        await publisher.publish(events[:1])  # from here on only acknowledgements name the topic
        produced = itertools.count()

        def cut_after_one(data: bytes) -> bytes:
            if topic.encode() in data and next(produced) == 1:
                wire.cut()
            return data

        wire.falsify = cut_after_one
        results = await publisher.publish(events, limit_seconds=1.0)
        done = [isinstance(result, Acknowledged) for result in results]
        assert done == sorted(done, reverse=True)
        assert any(done)
        assert not all(done)
        wire.falsify = lambda data: data
        wire.mend()
        rest = [event for event, one in zip(events, done, strict=True) if not one]
        assert all(isinstance(result, Acknowledged) for result in await publisher.publish(rest))
        await publisher.stop()
        seen: list[int] = []
        async with reading(address, topic) as source:
            while 59 not in seen:
                seen += [int((record.value or b"")[:5]) for record in (await next_batch(source)).records]
        # At least once, and nothing for the last time before what came before it.
        last = {number: place for place, number in enumerate(seen)}
        assert sorted(last) == list(range(60))
        assert [last[number] for number in range(60)] == sorted(last.values())


async def test_nothing_of_a_record_is_logged(address: BrokerAddress, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        topic = await new_topic(address)
        publisher = EventPublisher(address, idempotent=False, largest=1000)
        await publisher.start()
        canary = [("canary", b"canary")]
        await publisher.publish(
            [OutEvent(topic, b"canary", canary, b"canary"), OutEvent(topic, b"canary", canary, b"canary" * 1000)]
        )
        await publisher.stop()
        async with reading(address, topic) as source:
            await source.durable(await next_batch(source))
    assert caplog.records
    assert "canary" not in caplog.text


async def test_topics_are_made_once_and_differences_told(address: BrokerAddress) -> None:
    topic = await new_topic(address, 3, retention_ms="1000", min_insync_replicas="2")
    facts = (await describe(address, [topic, "missing"]))[topic]
    assert (facts.partitions, facts.retention_ms, facts.min_insync_replicas) == (3, 1000, 2)
    assert "missing" not in await describe(address, ["missing"])
    same = TopicSpec(topic, 3, {"retention.ms": "1000"})
    assert [change.what for change in await apply(address, [same])] == ["unchanged"]
    [other] = await apply(address, [TopicSpec(topic, 4, {"retention.ms": "2000"})])
    assert other.what == "differs"
    assert "3 partitions" in other.detail
    assert "retention.ms=2000 (is 1000)" in other.detail


# ---------------------------------------------------------------------------------------------------------------- Apache Kafka


@pytest.fixture
def kafka(kafka_server: KafkaServer) -> BrokerAddress:
    return BrokerAddress(kafka_server.bootstrap_servers)


async def test_who_leaves_gives_its_partitions_away_at_once(kafka: BrokerAddress) -> None:
    topic = await new_topic(kafka)
    await fill(kafka, topic, some(10))
    async with reading(kafka, topic, session=30.0) as source:
        await source.durable(await next_batch(source))
    started = time.monotonic()
    await fill(kafka, topic, [b"new"])
    async with reading(kafka, topic, session=30.0) as source:
        assert (await next_batch(source)).first_offset == 10
    assert time.monotonic() - started < 5.0


async def test_readers_that_share_and_fail_lose_nothing(kafka: BrokerAddress) -> None:
    await readers_come_and_go(kafka, 3)


async def delete_before(address: BrokerAddress, topic: str, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address.servers)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=offset)})
    await admin.close()


async def test_what_retention_took_is_counted_and_told(kafka: BrokerAddress) -> None:
    topic, gaps = await new_topic(kafka), Gaps()
    await fill(kafka, topic, some(50))
    async with reading(kafka, topic, gaps=gaps) as source:
        batch = await next_batch(source, 10)
        await source.durable(batch)
    await delete_before(kafka, topic, 30)
    async with reading(kafka, topic, gaps=gaps) as source:
        batch = await next_batch(source)
        assert batch.first_offset == 30
        assert gaps == [Gap(topic, 0, 10, 30, "retention")]
        assert source.lost == 20
        await source.durable(batch)
    async with reading(kafka, topic, gaps=gaps) as source:
        assert await source.next_batch(2.0) is None


async def test_what_retention_took_before_the_first_record_was_read_is_counted_too(kafka: BrokerAddress) -> None:
    topic, gaps = await new_topic(kafka), Gaps()
    async with reading(kafka, topic) as source:
        await within_reading(source, lambda: source.partitions == [0])
    await fill(kafka, topic, some(20))
    await delete_before(kafka, topic, 5)
    async with reading(kafka, topic, gaps=gaps) as source:
        assert (await next_batch(source)).first_offset == 5
        assert source.lost == 5


async def test_what_the_topics_own_retention_took_is_counted_and_told(kafka: BrokerAddress) -> None:
    """As it happens: the reader stands still for longer than the topic keeps its records."""
    topic, gaps = await new_topic(kafka, retention_ms="1000", segment_ms="500"), Gaps()
    await fill(kafka, topic, some(20))
    async with reading(kafka, topic, gaps=gaps) as source:
        await source.durable(await next_batch(source, 5))
    admin = AIOKafkaConsumer(bootstrap_servers=kafka.servers)
    await admin.start()
    where = TopicPartition(topic, 0)
    kept = 20

    async def expired() -> bool:
        nonlocal kept  # a segment is closed when a record comes after its time, and a closed one is deleted
        if (await admin.beginning_offsets([where]))[where] >= 20:
            return True
        await fill(kafka, topic, [b"kept"])
        kept += 1
        return False

    await until(expired, LIMIT_SECONDS, every=0.25)
    begin = (await admin.beginning_offsets([where]))[where]
    await admin.stop()
    async with reading(kafka, topic, gaps=gaps) as source:
        await within_reading(source, lambda: source.lost > 0)
        assert gaps[0].first_offset == 5
        assert gaps[0].next_offset >= begin
        assert {gap.why for gap in gaps} == {"retention"}
        assert source.lost == sum(gap.next_offset - gap.first_offset for gap in gaps)


async def test_unread_records_of_half_the_retention_are_told_long_before_they_are_lost(kafka: BrokerAddress) -> None:
    topic = await new_topic(kafka, 2, retention_ms="86400000")
    now = time.time()
    producer = AIOKafkaProducer(bootstrap_servers=kafka.servers)
    await producer.start()
    for hours in (20, 18, 13, 11, 1):
        await producer.send_and_wait(topic, b"%d" % hours, partition=0, timestamp_ms=round((now - hours * 3600) * 1000))
    await producer.send_and_wait(topic, b"14", partition=1, timestamp_ms=round((now - 14 * 3600) * 1000))
    await producer.stop()
    registry = CollectorRegistry()
    async with reading(kafka, topic) as source:
        lag = Lag({topic: source}, kafka, Metrics(registry))
        await within_reading(source, lambda: source.partitions == [0, 1])

        async def told() -> list[float | None]:
            await lag.measure_overdue(now)
            name = "sms_gateway_consumer_overdue_records"
            return [registry.get_sample_value(name, {"topic": topic, "partition": one}) for one in ("0", "1")]

        assert await told() == [3, 1]
        while (batch := await next_batch(source, 2)).partition != 0:
            await source.durable(batch)  # the other partition's turn
        await source.durable(batch)
        assert (await told())[0] == 1
        await values_of(source, 3 if (await told())[1] == 0 else 4)
        assert await told() == [0, 0]


async def test_a_group_whose_offsets_are_lost_reads_from_the_beginning(kafka: BrokerAddress) -> None:
    """Not from the end, which would pass over what nobody has read; repeats are recognised by their message ids."""
    topic, gaps = await new_topic(kafka), Gaps()
    await fill(kafka, topic, some(20))
    async with reading(kafka, topic) as source:
        await source.durable(await next_batch(source))
    await fill(kafka, topic, some(5, b"unread"))
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers)
    await admin.start()

    async def forgotten() -> bool:
        answer = await admin._send_request(DeleteGroupsRequest([f"group-{topic}"]))
        # not while its last member is leaving
        return all(code == 0 for _, code in answer.results)  # type: ignore[attr-defined] # aiokafka types an answer by its base class

    await until(forgotten, LIMIT_SECONDS)
    await admin.close()
    async with reading(kafka, topic, gaps=gaps) as source:
        assert await values_of(source, 25) == [*some(20), *some(5, b"unread")]
        assert source.lost == 0
    assert gaps == []


async def test_a_topic_made_anew_is_read_from_its_beginning(kafka: BrokerAddress) -> None:
    topic, gaps = await new_topic(kafka), Gaps()
    await fill(kafka, topic, some(20))
    async with reading(kafka, topic, gaps=gaps) as source:
        await source.durable(await next_batch(source))
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers)
    await admin.start()
    await admin.delete_topics([topic])
    until = time.monotonic() + LIMIT_SECONDS
    while topic in await admin.list_topics():
        assert time.monotonic() < until
        await asyncio.sleep(0.1)
    await admin.close()
    await apply(kafka, [TopicSpec(topic, 1)])
    await fill(kafka, topic, some(3, b"new"))
    async with reading(kafka, topic, gaps=gaps) as source:
        assert await values_of(source, 3) == some(3, b"new")
        assert source.lost == 0
        assert all(gap.why == "rewound" for gap in gaps)


async def test_transactions_leave_no_gap_and_aborted_records_are_not_seen(kafka: BrokerAddress) -> None:
    topic, gaps = await new_topic(kafka), Gaps()
    producer = AIOKafkaProducer(bootstrap_servers=kafka.servers, transactional_id=topic)
    await producer.start()
    for turn in range(6):
        await producer.begin_transaction()
        for value in some(5, b"turn-%d" % turn):
            await producer.send_and_wait(topic, value, partition=0)
        await (producer.abort_transaction() if turn % 2 else producer.commit_transaction())
    await producer.stop()
    async with reading(kafka, topic, gaps=gaps) as source:
        values = await values_of(source, 15)
        assert values == [value for turn in (0, 2, 4) for value in some(5, b"turn-%d" % turn)]
        await within_reading(source, lambda: source.lag() == {0: 0})
        session = source._session
        assert session is not None
        await until(lambda: session.open[0].committed == 36, LIMIT_SECONDS)
    assert gaps == []


@pytest.mark.parametrize("idempotent", [False, True])
async def test_what_the_broker_refuses_is_found_among_its_neighbours(kafka: BrokerAddress, idempotent: bool) -> None:
    topic = await new_topic(kafka, max_message_bytes="20000")
    publisher = EventPublisher(kafka, idempotent=idempotent)
    await publisher.start()
    events = [OutEvent(topic, b"k", [], b"%03d" % number + b"." * 1000) for number in range(100)]
    events[37] = OutEvent(topic, b"k", [], b"." * 30_000)
    results = await publisher.publish(events)
    assert results[37] == RefusedForGood("too_large")
    assert sum(isinstance(result, Acknowledged) for result in results) == 99
    assert all(isinstance(result, Acknowledged) for result in await publisher.publish(events[:5]))
    await publisher.stop()
    async with reading(kafka, topic) as source:
        read = [int((value or b"")[:3]) for value in await values_of(source, 104)]
    assert read == [number for number in range(100) if number != 37] + list(range(5))


async def test_a_topic_that_is_not_there_fails_alone(kafka: BrokerAddress) -> None:
    topic = await new_topic(kafka)
    publisher = EventPublisher(kafka, idempotent=True)
    await publisher.start()
    results = await publisher.publish([OutEvent("is-not-there", b"k", [], b"v"), OutEvent(topic, b"k", [], b"v")])
    assert results == [Failed("no_topic"), Acknowledged(0, 0)]
    await publisher.stop()


async def test_what_is_set_on_a_topic_is_altered_and_the_rest_kept(kafka: BrokerAddress) -> None:
    topic = await new_topic(kafka, retention_ms="1000", max_message_bytes="5000")
    [change] = await apply(kafka, [TopicSpec(topic, 1, {"retention.ms": "2000"})])
    assert (change.what, change.detail) == ("altered", "retention.ms=2000 (is 1000)")
    facts = (await describe(kafka, [topic]))[topic]
    assert facts.retention_ms == 2000
    assert facts.config["max.message.bytes"] == "5000"
