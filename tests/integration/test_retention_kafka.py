"""Topics against policies: what Kafka ends and when, what is found that it did not end, and what refuses a start."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from structlog.testing import capture_logs

from gateway.app.kafka import topics_wanted
from gateway.app.places import kafka_place
from gateway.app.preflight import NotReady, check_servers
from gateway.bus.address import BrokerAddress
from gateway.bus.keeping import broker_times
from gateway.bus.retention import KafkaRetention
from gateway.bus.topics import TopicSpec, apply
from gateway.domain.policy_files import load_policies
from gateway.domain.retention import Duration, Span
from gateway.domain.topic_limits import TopicLimit
from gateway.flow.retention import Found
from gateway.settings import load
from tests.integration.processes import environment_on
from tests.integration.world import POLICIES, open_world
from tests.kafka.server import KafkaServer
from tests.support import until

DAY_MS = 24 * 3600 * 1000
DAY = timedelta(days=1)
LIMIT_SECONDS = 60.0


def limit(topic: str, days: int = 14) -> TopicLimit:
    return TopicLimit(topic, "shop", "content", Duration((Span(days, "d"),)), days * DAY)


def moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def now_ms() -> int:
    return round(time.time() * 1000)


@asynccontextmanager
async def producing(servers: str) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        yield producer


async def put(servers: str, topic: str, *records: tuple[int, int, bytes, bytes | None]) -> None:
    """Records by partition, timestamp, key and value."""
    async with producing(servers) as producer:
        for partition, at, key, value in records:
            await producer.send_and_wait(topic, value, key, partition, at)


async def first(servers: str, topic: str, partition: int) -> int:
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        where = TopicPartition(topic, partition)
        return int((await consumer.beginning_offsets([where]))[where])


async def test_records_of_both_sides_of_the_horizon(kafka_server: KafkaServer, unique: str) -> None:
    """Kept for seven days in segments of one, where the policy gives fourteen: one that is a minute too old goes, one that is not stays."""
    servers = kafka_server.bootstrap_servers
    address = BrokerAddress(servers)
    config = {"retention.ms": str(7 * DAY_MS), "segment.ms": str(DAY_MS), "message.timestamp.after.max.ms": "3600000"}
    await apply(address, [TopicSpec(unique, 2, config)])
    kept, gone = now_ms() - 7 * DAY_MS + 600_000, now_ms() - 7 * DAY_MS - 60_000
    await put(servers, unique, (0, kept, b"k", b"young enough"), (1, gone, b"k", b"too old"))
    await until(lambda: at_least(servers, unique, 1, 1), LIMIT_SECONDS)
    assert await first(servers, unique, 0) == 0
    place = KafkaRetention(address, [limit(unique)])
    [planned] = await place.plan(moment(now_ms()))
    # 500 ms between two looks, 60 s until the file goes: the server's settings, and Kafka's default for a topic
    assert (await broker_times(address)).check_ms == 500
    assert planned.due_at is not None
    assert timedelta() < planned.due_at - (moment(kept) + 8 * DAY + timedelta(hours=1)) <= timedelta(seconds=61)
    assert (planned.place, planned.tenant, planned.data_class) == (f"kafka {unique}", "shop", "content")
    assert await place.run(moment(now_ms()), 10) == 0
    for now, well in ((moment(now_ms()), True), (moment(kept + 14 * DAY_MS - 1), True), (moment(kept + 14 * DAY_MS), False)):
        [found] = await place.verify(now)
        assert (found.oldest, found.well, found.why) == (moment(kept), well, "" if well else "a record is too old")
        assert found.not_before is not None
        assert abs(found.not_before - (now - 14 * DAY)) <= timedelta(seconds=1)


async def at_least(servers: str, topic: str, partition: int, offset: int) -> bool:
    return await first(servers, topic, partition) >= offset


async def test_a_topic_that_was_altered_by_hand_is_found_by_its_setting_and_by_its_records(
    kafka_server: KafkaServer, unique: str
) -> None:
    servers = kafka_server.bootstrap_servers
    address, place = BrokerAddress(servers), KafkaRetention(BrokerAddress(servers), [limit(unique), limit("is.not.there")])
    good = TopicSpec(unique, 1, {"retention.ms": str(7 * DAY_MS), "segment.ms": str(DAY_MS)})
    await apply(address, [good])
    [found] = await place.verify(moment(now_ms()))
    assert (found.well, found.oldest, found.why) == (True, None, "")
    assert await place.plan(moment(now_ms())) == []
    await apply(address, [TopicSpec(unique, 1, {"retention.ms": str(30 * DAY_MS), "segment.ms": str(DAY_MS)})])
    [found] = await place.verify(moment(now_ms()))
    assert not found.well
    assert "retention.ms 2592000000" in found.why
    await put(servers, unique, (0, now_ms() - 15 * DAY_MS, b"k", b"hidden from what ends it"))
    [found] = await place.verify(moment(now_ms()))
    assert found.why.startswith("a record is too old; the topic keeps records up to ")
    await apply(address, [good])
    [found] = await until(lambda: well(place), LIMIT_SECONDS, every=0.25)
    assert (found.oldest, found.why) == (None, "")


async def well(place: KafkaRetention) -> list[Found]:
    found = list(await place.verify(moment(now_ms())))
    return found if all(one.well for one in found) else []


async def test_what_was_replaced_or_removed_in_a_compacted_topic_is_found_until_kafka_has_ended_it(
    kafka_server: KafkaServer, unique: str
) -> None:
    servers = kafka_server.bootstrap_servers
    address, place = BrokerAddress(servers), KafkaRetention(BrokerAddress(servers), [limit(unique)])
    lazy = {"cleanup.policy": "compact", "max.compaction.lag.ms": str(30 * DAY_MS), "min.cleanable.dirty.ratio": "1"}
    await apply(address, [TopicSpec(unique, 1, lazy)])
    replaced, removed = now_ms() - 16 * DAY_MS, now_ms() - 15 * DAY_MS
    await put(
        servers,
        unique,
        (0, replaced - DAY_MS, b"a", b"in"),
        (0, replaced - DAY_MS, b"c", b"out, and kept: it is the last word"),
        (0, replaced, b"a", b"out"),
        (0, removed - 1, b"b", b"in"),
        (0, removed, b"b", None),
    )
    [found] = await place.verify(moment(now_ms()))
    assert (found.oldest, found.well) == (moment(replaced), False)
    assert "a value that was replaced or removed is still there; the topic keeps records up to " in found.why
    assert (await place.verify(moment(replaced + 14 * DAY_MS - 1)))[0].why.startswith("the topic keeps")
    quick = {"max.compaction.lag.ms": "500", "segment.ms": "500", "delete.retention.ms": "500", "min.cleanable.dirty.ratio": "0"}
    await apply(address, [TopicSpec(unique, 1, {"cleanup.policy": "compact", **quick})])

    async def compacted() -> list[Found]:
        await put(servers, unique, (0, now_ms(), b"d", b"what comes later closes a segment"))
        return await well(place)

    [found] = await until(compacted, LIMIT_SECONDS, every=0.25)
    assert found.why == ""
    async with AIOKafkaConsumer(unique, bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        record = await consumer.getone()
        assert record.key == b"c"


async def test_a_start_is_refused_when_a_topic_keeps_longer_than_a_policy_allows(
    database_url: str, tmp_path: Path, kafka_server: KafkaServer, unique: str
) -> None:
    address = BrokerAddress(kafka_server.bootstrap_servers)
    shop = tmp_path / "policies" / "shop.yaml"
    shop.parent.mkdir()
    shop.write_text(POLICIES["shop"] + "retention:\n  content: 6d\n  events: 2mo\n")
    settings = load(await environment_on(database_url, tmp_path, kafka_server.bootstrap_servers, unique))
    wanted = {spec.name: spec for spec in topics_wanted(settings, load_policies(settings.policies_directory))}
    topics = settings.kafka.topics
    await check_servers(settings, "worker")
    for topic, name, value, said in (
        (topics.outbound, "retention.ms", 6 * DAY_MS, rf"{topics.outbound} keeps records up to .* \(retention.ms 518400000, .*shop.yaml:18 allows \(retention.content, 6d\)"),
        (topics.inbound, "segment.ms", 3 * DAY_MS, rf"{topics.inbound} .*segment.ms 259200000, .*shop.yaml:18"),
        (topics.audit, "retention.ms", -1, rf"{topics.audit} keeps records for ever \(retention.ms\), .*shop.yaml:19 allows \(retention.events, 2mo\)"),
        (topics.dead_letter, "message.timestamp.after.max.ms", 2**63 - 1, rf"{topics.dead_letter} keeps records for ever \(message.timestamp.after.max.ms\), .*shop.yaml:18"),
        (topics.consent, "max.compaction.lag.ms", 2**63 - 1, rf"{topics.consent} keeps records for ever \(max.compaction.lag.ms\), .*shop.yaml:19"),
    ):  # fmt: skip
        by_hand = TopicSpec(topic, 1, {**wanted[topic].config, name: str(value)})
        await apply(address, [by_hand])
        with pytest.raises(NotReady, match=said):
            await check_servers(settings, "worker")
        assert [change.what for change in await apply(address, [wanted[topic]])] in (["altered"], ["differs"])
        await check_servers(settings, "relay")
    shop.write_text(POLICIES["shop"] + "retention:\n  content: 5d\n")  # what was set for six days is too long for five
    with pytest.raises(NotReady, match=r"shop\.yaml:18 allows \(retention.content, 5d\): run `gateway topics apply`"):
        await check_servers(settings, "worker")


async def test_the_embedded_broker_ends_nothing_and_is_not_well_only_where_a_record_is_too_old(
    database_url: str, tmp_path: Path, embedded_broker: str, unique: str
) -> None:
    environment = await environment_on(database_url, tmp_path, embedded_broker, unique)
    at = now_ms()
    async with open_world(database_url, tmp_path, None, **environment) as world:
        topics = world.parts.settings.kafka.topics
        await put(embedded_broker, topics.outbound, (0, at, b"k", b"an event"))
        place = kafka_place(world.parts)
        [planned] = await place.plan(moment(at))
        assert (planned.place, planned.due_at) == (f"kafka {topics.outbound}", None)
        assert "ends no record" in planned.how
        with capture_logs() as logs:
            assert [await place.run(moment(at), 10), await place.run(moment(at), 10)] == [0, 0]
        assert [entry["event"] for entry in logs] == [planned.how]
        for now, too_old in ((moment(at), False), (moment(at + 30 * DAY_MS - 1), False), (moment(at + 30 * DAY_MS), True)):
            found = {one.place.removeprefix("kafka "): one for one in await place.verify(now)}
            assert found.keys() == {
                topics.outbound, topics.inbound, topics.status, topics.consent, topics.audit, topics.dead_letter,
            }  # fmt: skip
            assert {topic for topic, one in found.items() if not one.well} == ({topics.outbound} if too_old else set())
            assert all("ends no record" in one.why for one in found.values())
            assert (found[topics.outbound].oldest, found[topics.inbound].oldest) == (moment(at), None)
