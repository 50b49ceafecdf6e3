"""Whatever is done to the audit afterwards is found at its place: in PostgreSQL, in the topic, in a file, and by messages' counters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.app.audit import verify_audit
from gateway.bus.address import BrokerAddress
from gateway.bus.producer import EventPublisher
from gateway.bus.topics import TopicSpec, apply
from gateway.domain.chain import AuditRecord, Chained, chained, decode, encode
from gateway.domain.publishing import Acknowledged, OutEvent
from gateway.flow.audit import Report
from gateway.store.audit import AuditReader
from tests.integration.audited import chain_of, happenings, verify
from tests.integration.test_relay import Recorder
from tests.integration.world import World, open_world

AT = "tenant = 'clinic' and sequence = 5"
OTHER = {
    "at": "at + interval '1 microsecond'", "number": "number + 1", "step": "step || 'x'", "state": "coalesce(state, '') || 'x'",
    "reason": "coalesce(reason, '') || 'x'", "rule": "coalesce(rule, '') || 'x'", "policy": "coalesce(policy, '') || 'x'",
    "uid": "gen_random_uuid()", "attempt": "coalesce(attempt, 0) + 1", "provider": "coalesce(provider, '') || 'x'",
    "account": "coalesce(account, '') || 'x'", "code": "coalesce(code, '') || 'x'", "evidence": "coalesce(evidence, '') || 'x'",
    "actor": "actor || 'x'", "person": "coalesce(person, '') || 'a'", "chained_at": "chained_at + interval '1 microsecond'",
    "previous": "sha256(previous)", "hash": "sha256(hash)",
}  # fmt: skip
TWICE = """insert into audit_chain select (jsonb_populate_record(c, '{"reason": "x"}')).* from audit_chain c where tenant = 'clinic' and sequence = 5"""

Found = set[tuple[str, str, int | None, int | None]]


def found(report: Report) -> Found:
    """What was found, where (in PostgreSQL or in the topic), and at which records; the counters apart."""
    return {(one.what, one.place.partition(",")[0], one.sequence, one.last) for one in report.findings if one.what != "counter"}


@asynccontextmanager
async def audited(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[World, list[OutEvent]]]:
    """A world whose audit is chained and published; the events of the topic."""
    async with open_world(database_url, tmp_path) as world:
        await happenings(world)
        await happenings(world, "second")
        recorder = Recorder()
        await chain_of(world, recorder).once()
        heads = {row["tenant"]: row["sequence"] for row in await world.rows("select * from audit_heads")}
        assert heads["clinic"] == CLINIC
        yield world, recorder.events


CLINIC = 26  # records of the clinic's chain


async def test_everything_that_can_be_done_in_postgresql_is_found_there(database_url: str, tmp_path: Path) -> None:
    changes: list[tuple[str, str, Found]] = [
        (f"{column} is changed", f"update audit_chain set {column} = {value} where {AT}", {("changed", "PostgreSQL", 5, 5)})
        for column, value in OTHER.items()
    ]
    changes += [
        (
            "the tenant is",
            f"update audit_chain set tenant = 'shop' where {AT}",
            {("missing", "PostgreSQL", 5, 5), ("changed", "PostgreSQL", 5, 5)},
        ),
        (
            "the sequence is",
            f"update audit_chain set sequence = 500 where {AT}",
            {("missing", "PostgreSQL", 5, 5), ("beyond", "PostgreSQL", 500, 500)},
        ),
        (
            "two are swapped",
            "update audit_chain set sequence = 12 - sequence where tenant = 'clinic' and sequence in (5, 7)",
            {("changed", "PostgreSQL", 5, 5), ("changed", "PostgreSQL", 7, 7)},
        ),
        ("one is removed", f"delete from audit_chain where {AT}", {("missing", "PostgreSQL", 5, 5)}),
        (
            "the beginning is removed",
            "delete from audit_chain where tenant = 'clinic' and sequence < 4",
            {("missing", "PostgreSQL", 1, 3)},
        ),
        (
            "the tail is cut",
            f"delete from audit_chain where tenant = 'clinic' and sequence > {CLINIC - 2}",
            {("cut", "PostgreSQL", CLINIC - 1, CLINIC)},
        ),
        ("all is removed", "delete from audit_chain where tenant = 'clinic'", {("cut", "PostgreSQL", 1, CLINIC)}),
        ("one is put in", TWICE, {("changed", "PostgreSQL", 5, 5)}),
        (
            "the same one is put in",
            f"insert into audit_chain select * from audit_chain where {AT}",
            {("twice", "PostgreSQL", 5, 5)},
        ),
        (
            "one is put on its end",
            (
                "insert into audit_chain select (jsonb_populate_record(c, jsonb_build_object('sequence', sequence + 1))).*"
                f" from audit_chain c where tenant = 'clinic' and sequence = {CLINIC}"
            ),
            {("beyond", "PostgreSQL", CLINIC + 1, CLINIC + 1)},
        ),
        (
            "the head is set back",
            "update audit_heads set sequence = 5 where tenant = 'clinic'",
            {("head", "PostgreSQL", 5, 5), ("beyond", "PostgreSQL", 6, CLINIC)},
        ),
        (
            "the head's hash is changed",
            "update audit_heads set hash = sha256(hash) where tenant = 'clinic'",
            {("head", "PostgreSQL", CLINIC, CLINIC)},
        ),
        ("the head is removed", "delete from audit_heads where tenant = 'clinic'", {("beyond", "PostgreSQL", 1, CLINIC)}),
        (
            "an anchor does not fit",
            "insert into audit_anchors values ('clinic', 5, sha256(''), now(), 'test')",
            {("anchor", "PostgreSQL", 5, 5)},
        ),
    ]
    async with audited(database_url, tmp_path) as (world, _events):
        database = world.parts.database
        assert found(await verify(world, topic=False)) == set()
        await database.execute("create table kept as select * from audit_chain")
        await database.execute("create table kept_heads as select * from audit_heads")
        for name, statement, expected in changes:
            assert await database.execute(statement) not in ("UPDATE 0", "DELETE 0", "INSERT 0 0"), name
            assert found(await verify(world, topic=False)) == expected, name
            for restore in (
                "truncate audit_chain, audit_heads, audit_anchors",
                "insert into audit_chain select * from kept",
                "insert into audit_heads select * from kept_heads",
            ):
                await database.execute(restore)
        assert (await verify(world, topic=False)).whole


async def test_two_of_one_sequence_are_read_together_wherever_a_batch_ends(database_url: str, tmp_path: Path) -> None:
    async with audited(database_url, tmp_path) as (world, _events):
        await world.parts.database.execute(f"insert into audit_chain select * from audit_chain where {AT}")
        read = await AuditReader(world.parts.database).records("clinic", 0, CLINIC, 5)
        assert [link.sequence for link in read] == [1, 2, 3, 4, 5, 5]


async def test_a_message_that_lacks_its_last_record_is_found_by_its_own_counter(database_url: str, tmp_path: Path) -> None:
    """The last record of the chain is taken out, and the head set back to fit: the chain itself is whole."""
    async with audited(database_url, tmp_path) as (world, _events):
        database = world.parts.database
        await happenings(world, "third")
        await chain_of(world, Recorder()).once()
        last = (
            await world.rows(
                "select * from audit_chain where uid is not null and number > 1 order by chained_at desc, sequence desc limit 1"
            )
        )[0]
        await database.execute("delete from audit_chain where tenant = $1 and sequence >= $2", last["tenant"], last["sequence"])
        await database.execute(
            "update audit_heads set sequence = $2 - 1, published = $2 - 1, hash = $3 where tenant = $1",
            last["tenant"],
            last["sequence"],
            last["previous"],
        )
        report = await verify(world, topic=False)
        assert found(report) == set()
        mine = [one for one in report.findings if one.uid == last["uid"]]
        assert [str(one) for one in mine] == [
            (
                f"{last['tenant']} message {last['uid']} in PostgreSQL: the message's own counter does not add up"
                f" (number {last['number']} of {last['number']} is missing)"
            )
        ]


async def test_what_waits_to_be_chained_counts_and_what_is_put_among_it_shows(database_url: str, tmp_path: Path) -> None:
    async with audited(database_url, tmp_path) as (world, _events):
        await happenings(world, "third")
        report = await verify(world, topic=False)
        assert report.whole, report.findings
        assert report.tenants["clinic"].unchained == CLINIC // 2
        assert report.messages >= 12
        await world.parts.database.execute(
            "insert into audit_unchained (at, tenant, uid, number, step, actor)"
            " select now(), tenant, uid, steps + 1, 'delivered', 'somebody' from messages where message_id = 'm-0'"
        )
        report = await verify(world, topic=False)
        assert [one.detail.partition(" is ")[2] for one in report.findings] == ["one too many"]


async def test_it_begins_at_the_anchor_that_retention_leaves(database_url: str, tmp_path: Path) -> None:
    async with audited(database_url, tmp_path) as (world, _events):
        database = world.parts.database
        await database.execute(
            "insert into audit_anchors select tenant, sequence, hash, now(), 'retention' from audit_chain where tenant = 'clinic' and sequence in (3, 6)"
        )
        assert (await verify(world, topic=False)).whole  # nothing is gone yet
        await database.execute("delete from audit_chain where tenant = 'clinic' and sequence <= 6")
        report = await verify(world, topic=False)
        assert report.whole, report.findings
        assert (report.tenants["clinic"].first, report.tenants["clinic"].records) == (6, CLINIC - 6)
        await database.execute("delete from audit_chain where tenant = 'clinic' and sequence = 7")
        assert found(await verify(world, topic=False)) == {("missing", "PostgreSQL", 7, 7)}


def links_of(events: Sequence[OutEvent], tenant: str) -> list[Chained]:
    return [link for link in (decode(event.value or b"") for event in events) if link.record.tenant == tenant]


def forged(links: Sequence[Chained], place: int) -> Chained:
    """Another record in that place, with the hash that it must have."""
    record = links[place].record._replace(reason="forged")
    return next(chained(links[place - 1].anchor, [record], links[place].chained_at))


def spoilt(field: str) -> Callable[[list[Chained]], list[Chained]]:
    def spoil(links: list[Chained]) -> list[Chained]:
        other: dict[str, Any] = {"uid": None, "at": links[5].record.at.replace(year=2000), "attempt": 99, "number": 99}
        value = other.get(field, "x")
        links[4] = links[4]._replace(record=links[4].record._replace(**{field: value}))
        return links

    return spoil


Case = tuple[str, Callable[[list[Chained]], list[Chained]], Found]
FIELDS: list[Case] = [
    (f"{field} is changed", spoilt(field), {("changed", "the topic", 5, 5)}) for field in AuditRecord._fields if field != "tenant"
]
TOPIC: list[Case] = [
    ("nothing", lambda links: links, set()),
    ("equal repeats", lambda links: [*links[:6], *links[2:6], *links[6:], links[-1]], set()),
    ("it begins later", lambda links: links[3:], set()),
    *FIELDS,
    ("two are swapped", lambda links: [*links[:4], links[5], links[4], *links[6:]], {("disordered", "the topic", 5, 5)}),
    ("one is removed", lambda links: [*links[:4], *links[5:]], {("missing", "the topic", 5, 5)}),
    ("the tail is cut", lambda links: links[:-2], {("cut", "the topic", CLINIC - 1, CLINIC)}),
    ("all is removed", lambda _links: [], {("cut", "the topic", CLINIC, CLINIC)}),
    ("one is replaced, hash and all", lambda links: [*links[:4], forged(links, 4), *links[5:]], {("differs", "the topic", 5, 5)}),
    ("an unequal repeat", lambda links: [*links[:8], forged(links, 4), *links[8:]], {("twice", "the topic", 5, 5)}),
    (
        "one is put on its end",
        lambda links: [*links, *chained(links[-1].anchor, [links[0].record], links[-1].chained_at)],
        {("cut", "PostgreSQL", CLINIC + 1, CLINIC + 1)},
    ),
]


async def test_everything_that_can_be_done_in_the_topic_is_found_there(
    database_url: str, tmp_path: Path, broker: str, unique: str
) -> None:
    address = BrokerAddress(broker)
    publisher = EventPublisher(address, idempotent=False)
    await publisher.start()
    try:
        async with audited(database_url, tmp_path) as (world, events):
            others = [event for event in events if event.key != b"clinic"]
            topics = [f"{unique}.{number}" for number in range(len(TOPIC))]
            await apply(address, [TopicSpec(topic, 2, {}) for topic in topics])
            for topic, (name, spoil, expected) in zip(topics, TOPIC, strict=True):
                links = spoil(links_of(events, "clinic"))
                batch = [
                    OutEvent(topic, event.key, event.headers, event.value)
                    for event in [*others, *(OutEvent(topic, b"clinic", [], encode(link)) for link in links)]
                ]
                results = await publisher.publish(batch)
                assert all(isinstance(result, Acknowledged) for result in results)
                report = await verify_audit(world.parts.database, address, topic, stored=False)
                assert found(report) == expected, name
                repeats = 5 if name == "equal repeats" else 0
                assert report.tenants["clinic"].topic_repeats == repeats
    finally:
        await publisher.stop()


async def test_a_tail_cut_from_postgresql_shows_in_the_topic(database_url: str, tmp_path: Path, broker: str, unique: str) -> None:
    """With the head set back to fit, PostgreSQL alone looks whole."""
    address = BrokerAddress(broker)
    publisher = EventPublisher(address, idempotent=False)
    await publisher.start()
    try:
        async with audited(database_url, tmp_path) as (world, events):
            await apply(address, [TopicSpec(unique, 2, {})])
            await publisher.publish([OutEvent(unique, event.key, event.headers, event.value) for event in events])
            await publisher.publish([OutEvent(unique, b"clinic", [], b"{nothing")])
            last = links_of(events, "clinic")[-3]
            await world.parts.database.execute(f"delete from audit_chain where tenant = 'clinic' and sequence > {last.sequence}")
            await world.parts.database.execute(
                "update audit_heads set sequence = $1, published = $1, hash = $2 where tenant = 'clinic'",
                last.sequence,
                last.hash,
            )
            assert found(await verify(world, topic=False)) == set()
            report = await verify_audit(world.parts.database, address, unique)
            assert found(report) == {("cut", "PostgreSQL", CLINIC - 1, CLINIC), ("unreadable", "the topic", None, None)}
    finally:
        await publisher.stop()


async def test_a_topic_that_has_forgotten_is_not_taken_for_cut(
    database_url: str, tmp_path: Path, broker: str, unique: str
) -> None:
    async with audited(database_url, tmp_path) as (world, _events):
        await apply(BrokerAddress(broker), [TopicSpec(unique, 1, {"cleanup.policy": "delete", "retention.ms": "3600000"})])
        report = await verify_audit(world.parts.database, BrokerAddress(broker), unique)
        assert {one.what for one in report.findings} == {"cut"}
        await world.shift(3700)
        report = await verify_audit(world.parts.database, BrokerAddress(broker), unique)
        assert report.whole, report.findings
