"""Whole processes on Apache Kafka: a relay that freezes beyond its time, and an input topic whose retention took what nobody had read."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from gateway.bus.address import BrokerAddress
from gateway.bus.topics import TopicSpec, apply
from tests.chaos.proxy import Line, Weather
from tests.integration.processes import LIMIT_SECONDS, environment_on, running_process
from tests.integration.test_fencing import seen, write
from tests.integration.test_relay import emptied
from tests.integration.world import World, open_world
from tests.kafka.server import KafkaServer
from tests.support import until

#: The fuse would end a process that is frozen for so long. It is what fails here: on a system without it, or in a machine that is
#: suspended with all its timers, nobody ends the process.
WITHOUT_FUSE = "from gateway.flow.fuse import Fuse\nFuse.start = lambda self: None"


class Holding(Line):
    """A line that lets nothing more through to the server once a client has sent ``pattern``; that is held too."""

    def __init__(self, port: int, pattern: bytes) -> None:
        super().__init__("broker", port=port)
        self.reached = asyncio.Event()
        self._pattern = pattern
        self._stack = AsyncExitStack()

    def sprung(self, data: bytes) -> None:
        if self._pattern in data and not self.reached.is_set():
            self._stack.enter_context(self.weather(Weather(held=frozenset({"there"}))))
            self.reached.set()

    async def let_go(self) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def holding(kafka: KafkaServer, pattern: bytes) -> AsyncIterator[Holding]:
    port, advertised = kafka.wired
    line = Holding(port, pattern)
    await line.open(advertised)
    try:
        yield line
    finally:
        line.close()


async def leader(world: World) -> int:
    rows = await world.rows(
        "select split_part(holder, ':', 2)::int as pid from leaders where name = 'relay' and until > gateway_now()"
    )
    return int(rows[0]["pid"]) if rows else 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
async def test_a_relay_that_was_frozen_while_another_took_over_publishes_nothing_old_after_something_new(
    database_url: str, tmp_path: Path, kafka_server: KafkaServer, unique: str
) -> None:
    """An opt-in was on its way to the broker when the process froze, and comes there when the other has told of the opt-out."""
    async with holding(kafka_server, b"an opt-in") as line:
        environment = await environment_on(database_url, tmp_path, kafka_server.bootstrap_servers, unique)
        behind_line = {**environment, "GATEWAY_KAFKA__SERVERS": f"127.0.0.1:{line.port}"}
        async with open_world(database_url, tmp_path, None, **environment) as world:
            address = BrokerAddress(kafka_server.bootstrap_servers)
            topic = world.parts.settings.kafka.topics.consent
            async with running_process(behind_line, "relay", before=WITHOUT_FUSE) as first:
                await until(lambda: leader(world), LIMIT_SECONDS)
                await write(world, b"an opt-in")
                await asyncio.wait_for(line.reached.wait(), LIMIT_SECONDS)
                first.send(signal.SIGSTOP)
                async with running_process(environment, "relay") as second:
                    await write(world, b"the opt-out")
                    await emptied(world, LIMIT_SECONDS)
                    assert await leader(world) == second.process.pid
                    assert await seen(address, topic) == [b"an opt-in", b"the opt-out"]
                    await line.let_go()
                    first.send(signal.SIGCONT)
                    await write(world, b"later")
                    await emptied(world, LIMIT_SECONDS)
                    assert await leader(world) == second.process.pid
                    await second.stop()
                await write(world, b"by the first again")
                await emptied(world, LIMIT_SECONDS)
                assert await leader(world) == first.process.pid
            assert await seen(address, topic) == [b"an opt-in", b"the opt-out", b"later", b"by the first again"]


async def test_records_that_retention_took_before_they_were_read_are_in_the_audit_the_metric_and_the_log(
    database_url: str, tmp_path: Path, kafka_server: KafkaServer, unique: str
) -> None:
    """The worker stands still for longer than its topic keeps its records; then it goes on with what is left."""
    servers = kafka_server.bootstrap_servers
    environment = await environment_on(database_url, tmp_path, servers, unique)
    topic = environment["GATEWAY_KAFKA__TOPICS__OUTBOUND"]
    where = TopicPartition(topic, 0)
    async with (
        open_world(database_url, tmp_path, None, **environment) as world,
        AIOKafkaProducer(bootstrap_servers=servers) as producer,
    ):

        async def publish(count: int) -> None:
            for _ in range(count):
                await producer.send_and_wait(topic, b"no event", partition=0)

        async def taken() -> list[int]:
            rows = await world.rows("select record_offset from dead_letters order by record_offset")
            return [row["record_offset"] for row in rows]

        async with running_process(environment, "worker") as worker:
            await publish(3)
            await until(lambda: told(taken, 3), LIMIT_SECONDS)
            assert await worker.metric("sms_gateway_consumer_lost_records_total") == 0
            await worker.stop()
        await publish(5)
        await apply(BrokerAddress(servers), [TopicSpec(topic, 1, {"retention.ms": "1000", "segment.ms": "500"})])
        await expired(servers, where, publish, 8)
        await apply(BrokerAddress(servers), [TopicSpec(topic, 1, {"retention.ms": "86400000", "segment.ms": "86400000"})])
        await publish(1)
        async with running_process(environment, "worker") as worker:
            await until(lambda: told(taken, 4), LIMIT_SECONDS)
            *_, kept = (await taken())[:4]
            assert kept >= 8
            [row] = await world.rows("select evidence from audit where step = 'records_not_read'")
            assert row["evidence"] == f"retention: {topic}/0 3 to {kept - 1}"
            assert await worker.metric("sms_gateway_consumer_lost_records_total") == kept - 3
            entry = await worker.said("records were not read")
            assert (entry["level"], entry["why"], entry["partition"], entry["first"], entry["count"]) == (
                "error",
                "retention",
                0,
                3,
                kept - 3,
            )


Publish = Callable[[int], Awaitable[None]]


async def told(taken: Callable[[], Awaitable[list[int]]], count: int) -> bool:
    return len(await taken()) >= count


async def expired(servers: str, where: TopicPartition, publish: Publish, least: int) -> int:
    """The first offset that is left once so many are gone. A segment is closed when a record comes after its time, and then deleted."""
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:

        async def gone() -> int:
            begin: int = (await consumer.beginning_offsets([where]))[where]
            if begin >= least:
                return begin
            await publish(1)
            return 0

        return await until(gone, LIMIT_SECONDS, every=0.25)
