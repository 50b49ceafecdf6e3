"""The relay on Apache Kafka: in transactions under one name, so that a holder that froze cannot publish old after new."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from gateway.bus.address import BrokerAddress
from gateway.bus.exclusive import ExclusivePublisher
from gateway.bus.topics import TopicSpec, apply
from gateway.domain.errors import BrokerUnavailable
from gateway.domain.publishing import Acknowledged, Failed, OutEvent, PublishResult, RefusedForGood
from gateway.flow.leading import Leading
from gateway.flow.relay import OutboxRow, Relay, Topics
from gateway.store.outbox import Outbox
from tests.integration.test_relay import emptied
from tests.integration.world import World, open_world
from tests.kafka.server import KafkaServer
from tests.support import until

LIMIT_SECONDS = 30.0


@pytest.fixture
def address(kafka_server: KafkaServer) -> BrokerAddress:
    return BrokerAddress(kafka_server.bootstrap_servers)


@pytest.fixture
async def topic(address: BrokerAddress, unique: str) -> str:
    await apply(address, [TopicSpec(f"{unique}.events", 1, {})])
    return f"{unique}.events"


@asynccontextmanager
async def publishing(address: BrokerAddress, name: str) -> AsyncIterator[ExclusivePublisher]:
    publisher = ExclusivePublisher(address, name)
    await publisher.start(LIMIT_SECONDS)
    try:
        yield publisher
    finally:
        await publisher.stop()


async def seen(address: BrokerAddress, topic: str, level: str = "read_committed") -> list[bytes]:
    """The values of a topic's one partition as a reader of this isolation level has them, once every transaction in it has ended."""
    return await read(address, topic, level, await end_of(address, topic, "read_uncommitted"))


async def seen_now(address: BrokerAddress, topic: str) -> list[bytes]:
    """The same, as far as a reader of what is committed comes at this moment."""
    return await read(address, topic, "read_committed", await end_of(address, topic, "read_committed"))


@asynccontextmanager
async def consumer_of(address: BrokerAddress, level: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(bootstrap_servers=address.servers, isolation_level=level, enable_auto_commit=False)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def end_of(address: BrokerAddress, topic: str, level: str) -> int:
    where = TopicPartition(topic, 0)
    async with consumer_of(address, level) as consumer:
        return int((await consumer.end_offsets([where]))[where])


async def read(address: BrokerAddress, topic: str, level: str, end: int) -> list[bytes]:
    where, values = TopicPartition(topic, 0), list[bytes]()
    async with consumer_of(address, level) as consumer, asyncio.timeout(LIMIT_SECONDS):
        consumer.assign([where])
        await consumer.seek_to_beginning(where)
        while await consumer.position(where) < end:
            values += [one.value or b"" for one in (await consumer.getmany(where, timeout_ms=200)).get(where, [])]
    return values


def events(topic: str, *values: bytes) -> list[OutEvent]:
    return [OutEvent(topic, b"k", [], value) for value in values]


# --------------------------------------------------------------------------------------------------------- the publisher


async def test_whoever_takes_over_shuts_out_the_one_before(address: BrokerAddress, topic: str) -> None:
    async with publishing(address, topic) as one, publishing(address, topic) as other:
        assert await one.publish(events(topic, b"early")) == [Failed("not_alone")]
        await one.take_over(LIMIT_SECONDS)
        assert await one.publish(events(topic, b"first")) == [Acknowledged(0, 0)]
        await other.take_over(LIMIT_SECONDS)  # until then it stood by, and did no harm by that
        assert isinstance((await other.publish(events(topic, b"second")))[0], Acknowledged)
        assert await one.publish(events(topic, b"stale")) == [Failed("fenced")]
        assert await one.publish(events(topic, b"stale")) == [Failed("not_alone")]
        await one.check()
        assert isinstance((await other.publish(events(topic, b"third")))[0], Acknowledged)
        await one.take_over(LIMIT_SECONDS)
        assert isinstance((await one.publish(events(topic, b"fourth")))[0], Acknowledged)
    assert await seen(address, topic) == [b"first", b"second", b"third", b"fourth"]


async def test_what_was_on_its_way_when_another_took_over_is_not_seen(address: BrokerAddress, topic: str) -> None:
    """The one before had sent its records, and not yet ended its transaction."""
    async with publishing(address, topic) as one, publishing(address, topic) as other:
        await one.take_over(LIMIT_SECONDS)
        producer = one._producer
        assert producer is not None
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"stale", partition=0)
        await other.take_over(LIMIT_SECONDS)
        assert isinstance((await other.publish(events(topic, b"new")))[0], Acknowledged)
        with pytest.raises(Exception, match="Fenced"):
            await producer.commit_transaction()
    assert await seen(address, topic) == [b"new"]
    assert b"stale" in await seen(address, topic, "read_uncommitted")


@pytest.mark.parametrize("count", [1, 40])
async def test_what_the_broker_refuses_is_told_and_the_rest_of_the_transaction_goes_out(
    address: BrokerAddress, unique: str, count: int
) -> None:
    await apply(address, [TopicSpec(unique, 1, {"max.message.bytes": "20000"})])
    values = [b"%03d" % number + b"." * 1000 for number in range(100)]
    too_large = set(range(30, 30 + count))
    sent = [b"." * 30_000 if number in too_large else value for number, value in enumerate(values)]
    async with publishing(address, unique) as publisher:
        await publisher.take_over(LIMIT_SECONDS)
        results = await publisher.publish(events(unique, *sent))
        assert {number for number, one in enumerate(results) if one == RefusedForGood("too_large")} == too_large
        assert sum(isinstance(one, Acknowledged) for one in results) == 100 - count
        assert publisher.alone
        assert all(isinstance(one, Acknowledged) for one in await publisher.publish(events(unique, *values[:5])))
    assert await seen(address, unique) == [value for number, value in enumerate(values) if number not in too_large] + values[:5]


async def test_a_batch_goes_out_whole_or_not_at_all(address: BrokerAddress, topic: str) -> None:
    """Here one partition refuses what is older than a millisecond, and then no more: all are told to come again, and nothing is seen."""
    picky, oldest = f"{topic}.picky", "message.timestamp.before.max.ms"
    await apply(address, [TopicSpec(picky, 1, {oldest: "0"})])
    async with publishing(address, topic) as publisher:
        batch = [*events(topic, b"goes"), *events(picky, b"waits")]
        await publisher.take_over(LIMIT_SECONDS)
        went = 0  # unless it arrives within that millisecond
        while (results := await publisher.publish(batch)) != [Failed("no_answer")] * 2:
            assert {type(one) for one in results} == {Acknowledged}
            went += 1
        await apply(address, [TopicSpec(picky, 1, {oldest: str(2**63 - 1)})])
        await publisher.take_over(LIMIT_SECONDS)
        assert await seen(address, topic) == [b"goes"] * went
        assert {type(one) for one in await publisher.publish(batch)} == {Acknowledged}
    assert await seen(address, topic) == [b"goes"] * (went + 1)
    assert await seen(address, picky) == [b"waits"] * (went + 1)


async def test_a_topic_that_is_not_there_keeps_no_other_waiting(address: BrokerAddress, topic: str) -> None:
    async with publishing(address, topic) as publisher:
        await publisher.take_over(LIMIT_SECONDS)
        missing, there = await publisher.publish([*events(f"{topic}.missing", b"v"), *events(topic, b"v")], 3.0)
        assert missing == Failed("no_topic")
        assert isinstance(there, Acknowledged)


async def test_a_broker_without_transactions_is_told(embedded_broker: str) -> None:
    publisher = ExclusivePublisher(BrokerAddress(embedded_broker), "name")
    await publisher.start()
    with pytest.raises(BrokerUnavailable, match="Kafka"):
        await publisher.take_over(1.0)
    assert await publisher.publish(events("topic", b"v")) == [Failed("not_alone")]
    await publisher.stop()


DIE_IN_A_TRANSACTION = """
import asyncio, sys
from gateway.bus.address import BrokerAddress
from gateway.bus.exclusive import ExclusivePublisher
async def main():
    publisher = ExclusivePublisher(BrokerAddress(sys.argv[1]), sys.argv[2])
    await publisher.start()
    await publisher.take_over(20)
    producer = publisher._producer
    await producer.begin_transaction()
    await producer.send_and_wait(sys.argv[2], b"unfinished", partition=0)
    print("sent", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_what_a_killed_holder_had_not_finished_is_not_seen_and_holds_up_nobody(address: BrokerAddress, topic: str) -> None:
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIE_IN_A_TRANSACTION, address.servers, topic, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    assert await asyncio.wait_for(holder.stdout.readline(), LIMIT_SECONDS) == b"sent\n"
    holder.send_signal(signal.SIGKILL)
    await holder.wait()
    # A transaction that nobody ends hides all that comes after it: of another producer too.
    plain = AIOKafkaProducer(bootstrap_servers=address.servers)
    await plain.start()
    await plain.send_and_wait(topic, b"behind it", partition=0)
    await plain.stop()
    assert await seen_now(address, topic) == []
    async with publishing(address, topic) as publisher:
        await publisher.take_over(LIMIT_SECONDS)
        assert isinstance((await publisher.publish(events(topic, b"next")))[0], Acknowledged)
    assert await seen(address, topic) == [b"behind it", b"next"]


# ------------------------------------------------------------------------------------------------------------- the relay

Moment = Literal["before_take_over", "before_confirm", "before_take", "before_publish", "before_remove"]
MOMENTS: tuple[Moment, ...] = ("before_take_over", "before_confirm", "before_take", "before_publish", "before_remove")


class Holder:
    """A relay that can be frozen at a moment: it stands still there, and its clock too, as in a machine that is suspended."""

    def __init__(self, world: World, address: BrokerAddress, topic: str, name: str, *, batch: int = 1000) -> None:
        self.frozen: asyncio.Event | None = None
        """Set once it stands still."""
        self.thaw = asyncio.Event()
        self.moved = 0.0
        self._freeze_at: Moment | None = None
        holder = self

        class Publisher(ExclusivePublisher):
            taken = 0

            async def take_over(self, limit_seconds: float) -> None:
                await holder._pass("before_take_over")
                await super().take_over(limit_seconds)
                self.taken += 1
                await holder._pass("before_confirm")

            async def publish(self, batch: Sequence[OutEvent], limit_seconds: float = 30.0) -> list[PublishResult]:
                await holder._pass("before_publish")
                results = await super().publish(batch, limit_seconds)
                await holder._pass("before_remove")
                return results

        class Taking(Outbox):
            async def take(self, most: int) -> list[OutboxRow]:
                await holder._pass("before_take")
                return await super().take(most)

        self.publisher = Publisher(address, topic)
        parts = world.parts
        leading = Leading(parts.control, "relay", name, now=lambda: self.moved)
        names = Topics(topic, topic, topic, topic, topic)
        self.relay = Relay(
            Taking(parts.database),
            self.publisher,
            leading,
            names,
            parts.vault,
            parts.hasher,
            parts.metrics,
            batch=batch,
            idle=0.005,
        )

    def freeze(self, moment: Moment) -> asyncio.Event:
        self._freeze_at, self.frozen = moment, asyncio.Event()
        self.thaw.clear()
        return self.frozen

    async def _pass(self, moment: Moment) -> None:
        if moment == self._freeze_at and self.frozen is not None:
            self._freeze_at = None
            self.frozen.set()
            await self.thaw.wait()


@asynccontextmanager
async def running(*holders: Holder) -> AsyncIterator[None]:
    tasks = []
    try:
        for holder in holders:
            await holder.publisher.start(LIMIT_SECONDS)
            tasks.append(asyncio.create_task(holder.relay.run()))
        yield
    finally:
        for holder in holders:
            holder.relay.stop()
            holder.thaw.set()
        await asyncio.wait_for(asyncio.gather(*tasks), LIMIT_SECONDS)
        for holder in holders:
            await holder.publisher.stop()


async def write(world: World, *values: bytes) -> None:
    """Consent events of one person, in this order."""
    for version, value in enumerate(values, start=1):
        await world.parts.database.execute(
            "insert into outbox (kind, tenant, uid, version, subject_id, rule, payload)"
            " values ('consent', 'clinic', '01890000-0000-7000-8000-000000000001', $1, '\\x01', 'tenant', $2)",
            version,
            value,
        )


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_holder_that_thaws_publishes_nothing_old(
    database_url: str, tmp_path: Path, address: BrokerAddress, topic: str, moment: Moment
) -> None:
    """The first holder freezes with an opt-in in its hands; the second publishes that and the opt-out; then the first thaws."""
    async with open_world(database_url, tmp_path) as world:
        first, second = (Holder(world, address, topic, name) for name in ("first", "second"))
        await write(world, b"in")
        frozen = first.freeze(moment)
        async with running(first):
            await asyncio.wait_for(frozen.wait(), LIMIT_SECONDS)
            async with running(second):
                await world.shift(7)
                second.moved += 7
                await write(world, b"out")
                await emptied(world, LIMIT_SECONDS)
                taken = second.publisher.taken
                first.thaw.set()
                await write(world, b"later")
                await emptied(world, LIMIT_SECONDS)
                if moment in ("before_take", "before_publish"):
                    async with asyncio.timeout(LIMIT_SECONDS):
                        # it learns it with what it publishes, and the second may be the quicker to take that
                        while first.publisher.alone:
                            await write(world, b"later")
                            await emptied(world, LIMIT_SECONDS)
                if moment != "before_take_over":  # there it cannot know yet, and takes the id once before it asks
                    assert second.publisher.taken == taken
        published = await seen(address, topic)
    # An event may come twice when its holder had no chance to say that it is out: never again after what is newer.
    first_later = published.index(b"later")
    assert published[:first_later] in ([b"in", b"out"], [b"in", b"in", b"out"])
    assert set(published[first_later:]) == {b"later"}


async def test_who_takes_over_while_the_other_has_not_removed_its_events_publishes_none_of_them_in_part(
    database_url: str, tmp_path: Path, address: BrokerAddress, topic: str
) -> None:
    """The id alone is not enough: one that thaws, takes the id and does not ask whose the name is would publish half a batch again."""
    async with open_world(database_url, tmp_path) as world:
        first, second = Holder(world, address, topic, "first", batch=4), Holder(world, address, topic, "second")
        values = [b"in", b"a", b"b", b"c", b"out"]
        await write(world, *values)
        stands = first.freeze("before_take_over")
        async with running(first):
            await asyncio.wait_for(stands.wait(), LIMIT_SECONDS)
            slow = second.freeze("before_remove")
            async with running(second):
                await world.shift(7)
                second.moved += 7
                await asyncio.wait_for(slow.wait(), LIMIT_SECONDS)
                again = first.freeze("before_publish")
                first.thaw.set()
                await until(lambda: first.publisher.taken == 1, LIMIT_SECONDS)
                waiting = asyncio.create_task(again.wait())
                await asyncio.wait([waiting], timeout=1.0)  # it must not come to that
                waiting.cancel()
                second.thaw.set()
                await emptied(world, LIMIT_SECONDS)
                first.thaw.set()
                await write(world, b"later")
                await emptied(world, LIMIT_SECONDS)
        assert await seen(address, topic) == [*values, b"later"]


async def test_no_event_is_lost_or_overtaken_when_transactions_commit_in_another_order_than_their_ids(
    database_url: str, tmp_path: Path, address: BrokerAddress, topic: str
) -> None:
    chance = random.Random(11)
    async with open_world(database_url, tmp_path) as world:
        holder = Holder(world, address, topic, "one", batch=20)

        async def session(name: int) -> None:
            connection = await asyncpg.connect(database_url)
            try:
                for number in range(40):
                    async with connection.transaction():
                        await connection.execute(
                            "insert into outbox (kind, tenant, uid, version, subject_id, rule, payload)"
                            " values ('consent', 'clinic', gen_random_uuid(), 1, $1, 'tenant', $2)",
                            b"%d" % name,
                            b"%d-%d" % (name, number),
                        )
                        await asyncio.sleep(chance.random() * 0.02)  # its id is given, and seen only later
            finally:
                await connection.close()

        async with running(holder):
            await asyncio.gather(*map(session, range(4)))
            await emptied(world, LIMIT_SECONDS)
        published = await seen(address, topic)
    for name in range(4):
        assert [one for one in published if one.startswith(b"%d-" % name)] == [b"%d-%d" % (name, number) for number in range(40)]
