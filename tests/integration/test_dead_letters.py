"""Dead letters: who may see what is in them, and what becomes of those that are put back; on a real PostgreSQL and a broker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.bus.address import BrokerAddress
from gateway.bus.consumer import RecordSource
from gateway.bus.producer import EventPublisher
from gateway.bus.records import Gap, Record
from gateway.bus.topics import TopicSpec, apply
from gateway.crypto.bearer import new_token
from gateway.domain.errors import CannotOpen, KeyMissing, NoRight, NotFound, StoreRefused
from gateway.domain.ids import new_uid, uid_time
from gateway.domain.kept_records import KeptRecord, pack, unpack
from gateway.domain.publishing import Acknowledged, Failed, OutEvent, PublishResult
from gateway.flow.letters import LetterFilter
from gateway.flow.records import REPLAY_HEADER
from gateway.flow.replaying import Replaying
from gateway.store.letters import DeadLetters
from tests.integration.world import POLICIES, World, open_world, raw_record
from tests.support import until

TOPIC = "sms.outbound.v1"
BAD = b'{"message_id": "bad", "secret": "what nobody may see"}'


async def buried(world: World, *records: Record) -> list[UUID]:
    """The dead letters that records become, in order."""
    await world.intake().admit(TOPIC, 0, records)
    rows = await world.rows(
        "select uid from dead_letters where record_offset = any($1) order by uid", [r.offset for r in records]
    )
    assert len(rows) == len(records)
    return [row["uid"] for row in rows]


async def token(world: World, name: str, tenants: Sequence[str] | None, *rights: str) -> bytes:
    _, digest = new_token()
    assert await world.parts.control.create_token(digest, name, tenants, "test", rights)
    return digest


async def audit(world: World, uid: UUID) -> list[tuple[str, str | None, str]]:
    steps = await world.rows("select step, reason, actor from audit where uid = $1 order by id", uid)
    return [(row["step"], row["reason"], row["actor"]) for row in steps][1:]  # the first is its burial


class TestReading:
    async def test_only_who_has_the_right_sees_what_is_in_one_and_both_are_written_down(
        self, database_url: str, tmp_path: Path
    ) -> None:
        async with open_world(database_url, tmp_path) as world:
            await world.publish(message_id="a")
            other = world.record(message_id="a", body="Another text.")
            (uid,) = await buried(world, other)  # id_reused: of the tenant clinic
            letters = world.parts.letters()
            refused = {
                "no_token": None,
                "unknown_token": b"x" * 32,
                "no_right": await token(world, "api-only", ["clinic"], "api"),
                "other_tenant": await token(world, "shops", ["shop"], "read-payloads"),
            }
            for digest in refused.values():
                with pytest.raises(NoRight, match=str(uid)):
                    await letters.read(uid, digest, "cli:jane")
            revoked = await token(world, "gone", None, "read-payloads")
            await world.parts.control.revoke_token("gone", "test")
            with pytest.raises(NoRight, match="revoked"):
                await letters.read(uid, revoked, "cli:jane")
            let_in = await token(world, "reader", ["shop", "clinic"], "read-payloads")
            record = await letters.read(uid, let_in, "cli:jane")
            assert (record.key, record.value, record.headers) == (other.key, other.value, other.headers)
            assert record.timestamp_ms == other.timestamp_ms
            assert await audit(world, uid) == [
                ("payload_refused", "no_token", "cli:jane"),
                ("payload_refused", "unknown_token", "cli:jane"),
                ("payload_refused", "no_right", "token:api-only cli:jane"),
                ("payload_refused", "other_tenant", "token:shops cli:jane"),
                ("payload_refused", "revoked", "token:gone cli:jane"),
                ("payload_read", None, "token:reader cli:jane"),
            ]

    async def test_nothing_is_opened_when_the_audit_cannot_be_written(self, database_url: str, tmp_path: Path) -> None:
        async with open_world(database_url, tmp_path) as world:
            (uid,) = await buried(world, raw_record(1, BAD))
            digest = await token(world, "reader", None, "read-payloads")
            await world.parts.database.execute(
                "alter table audit_unchained add constraint full_disk check (step <> 'payload_read')"
            )
            with pytest.raises(StoreRefused):
                await world.parts.letters().read(uid, digest, "cli:jane")

    async def test_what_belongs_to_no_tenant_needs_a_token_for_all(self, database_url: str, tmp_path: Path) -> None:
        async with open_world(database_url, tmp_path) as world:
            (uid,) = await buried(world, raw_record(1, BAD))
            one = await token(world, "one", ["clinic", "shop"], "read-payloads")
            everybody = await token(world, "everybody", None, "read-payloads")
            with pytest.raises(NoRight, match="belongs to no tenant"):
                await world.parts.letters().read(uid, one, "cli:jane")
            assert (await world.parts.letters().read(uid, everybody, "cli:jane")).value == BAD

    async def test_a_token_for_reading_is_none_of_the_api(self, database_url: str, tmp_path: Path) -> None:
        async with open_world(database_url, tmp_path) as world:
            assert await world.parts.control.find(await token(world, "reader", None, "read-payloads")) is None
            assert await world.parts.control.find(await token(world, "backend", None, "api")) is not None

    async def test_what_is_not_there_any_more_is_said(self, database_url: str, tmp_path: Path) -> None:
        async with open_world(database_url, tmp_path) as world:
            large, gone, moved = await buried(world, raw_record(1, b"x" * 262_145), raw_record(2, BAD), raw_record(3, BAD + b" "))
            letters, everybody = world.parts.letters(), await token(world, "everybody", None, "read-payloads")
            with pytest.raises(NotFound, match="too large to keep"):
                await letters.read(large, everybody, "cli:jane")
            await world.parts.database.execute(
                "update dead_letters set sealed = (select sealed from dead_letters where uid = $1) where uid = $2", gone, moved
            )
            with pytest.raises(CannotOpen):
                await letters.read(moved, everybody, "cli:jane")
            world.parts.ring.destroy("_system", "dead_letters", uid_time(gone).date())
        async with open_world(database_url, tmp_path) as world:
            with pytest.raises(KeyMissing):
                await world.parts.letters().read(gone, everybody, "cli:jane")
            with pytest.raises(NotFound):
                await world.parts.letters().read(new_uid(datetime.now(UTC)), everybody, "cli:jane")

    async def test_pages_and_filters(self, database_url: str, tmp_path: Path) -> None:
        async with open_world(database_url, tmp_path) as world:
            await world.publish(message_id="a")
            (reused,) = await buried(world, world.record(message_id="a", body="Other."))
            uids = [reused]
            for place in range(7):
                uids += await buried(world, raw_record(100 + place, BAD + b" " * place))
            letters = world.parts.letters()
            seen: list[UUID] = []
            before = None
            while True:
                rows, before = await letters.page(LetterFilter(), before, 3)
                seen += [row["uid"] for row in rows]
                if before is None:
                    break
            assert seen == uids[::-1]

            async def found(**wanted: Any) -> set[UUID]:
                return {row["uid"] for row in (await letters.page(LetterFilter(**wanted), None, 100))[0]}

            assert await found(tenant="clinic") == {reused} == await found(reasons=["id_reused", "nul"])
            assert await found(tenant="_system") == set(uids[1:]) == await found(reasons=["wrong_schema"])
            now = await world.parts.ledger.now()
            assert await found(since=now) == set() == await found(until=now - timedelta(hours=1))
            assert await found(since=now - timedelta(hours=1), until=now) == set(uids)
            assert await found(replayed=True) == set()
            assert await found(replayed=False) == set(uids)


class Kafka:
    """A topic on a broker, what was put on it, and a publisher that may be told to fail."""

    def __init__(self, broker: str, topic: str) -> None:
        self.topic = topic
        self._address = BrokerAddress(broker)
        self._publisher = EventPublisher(self._address, idempotent=False)
        self.result: PublishResult | None = None

    async def publish(self, batch: Sequence[OutEvent], limit_seconds: float = 30.0) -> Sequence[PublishResult]:
        if self.result is not None:
            return [self.result] * len(batch)
        return await self._publisher.publish(batch, limit_seconds)

    async def records(self, count: int) -> list[Record]:
        async def on_gap(_gap: Gap) -> None:
            raise AssertionError("nothing is missing")

        source = RecordSource(self._address, self.topic, f"{self.topic}-readers", on_gap=on_gap, session_timeout=2)
        await source.start()
        found: list[Record] = []
        try:
            while len(found) < count:
                batch = await until(lambda: source.next_batch(1.0), 30)
                assert batch is not None
                found += batch.records
                await source.durable(batch)
        finally:
            await source.stop()
        return found

    async def start(self) -> None:
        await apply(self._address, [TopicSpec(self.topic, 1, {})])
        await self._publisher.start()

    async def stop(self) -> None:
        await self._publisher.stop()


@asynccontextmanager
async def kafka_of(broker: str, topic: str) -> AsyncIterator[Kafka]:
    kafka = Kafka(broker, topic)
    await kafka.start()
    try:
        yield kafka
    finally:
        await kafka.stop()


def replaying(world: World, kafka: Kafka) -> Replaying:
    parts = world.parts
    return Replaying(
        DeadLetters(parts.database), kafka, parts.vault, parts.replay_marks, topics=[kafka.topic], window=timedelta(days=35)
    )


async def bury_at(world: World, kafka: Kafka, *records: Record) -> list[UUID]:
    await world.intake().admit(kafka.topic, 0, records)
    return [row["uid"] for row in await world.rows("select uid from dead_letters where replay_of is null order by uid")]


async def put_back(world: World, kafka: Kafka, *uids: UUID, again: bool = False, later: float = 0.0) -> dict[UUID, str | None]:
    now = await world.parts.ledger.now() + timedelta(seconds=later)
    results = await replaying(world, kafka).replay(uids, "cli:jane", now, again=again)
    return {one.uid: one.why for one in results}


class TestReplay:
    async def test_the_records_own_bytes_come_again_and_a_second_failure_names_the_first(
        self, database_url: str, tmp_path: Path, broker: str, unique: str
    ) -> None:
        async with open_world(database_url, tmp_path) as world, kafka_of(broker, unique) as kafka:
            odd: list[tuple[str, bytes]] = [("ce_specversion", b"0.3"), ("x", b"\xff\0"), ("x", b"")]
            now = int(datetime.now(UTC).timestamp() * 1000)
            records = [Record(5, b"key", BAD, raw_record(0, b"").headers, now - 5000), Record(6, None, None, odd, now)]
            first, second = await bury_at(world, kafka, *records)
            assert await put_back(world, kafka, second, first) == {first: None, second: None}
            again = await kafka.records(2)
            for came, sent in zip(again, records, strict=True):  # oldest first
                assert (came.key, came.value) == (sent.key, sent.value)
                assert list(came.headers)[:-1] == list(sent.headers)
                assert came.headers[-1][0] == REPLAY_HEADER
            await world.intake().admit(kafka.topic, 0, again)
            rows = await world.rows("select uid, replay_of, reason from dead_letters where replay_of is not null order by uid")
            assert [(row["replay_of"], row["reason"]) for row in rows] == [(first, "wrong_schema"), (second, "bad_cloudevent")]
            events = [json.loads(row["payload"]) for row in await world.rows("select payload from outbox order by id")]
            assert [event["replay_of"] for event in events] == [None, None, str(first), str(second)]

            # put back once more, the newer one still names the first, and its age is the first one's
            newer = rows[0]["uid"]
            assert await put_back(world, kafka, newer) == {newer: None}
            (third,) = await kafka.records(1)
            assert [name for name, _ in third.headers].count(REPLAY_HEADER) == 1
            await world.intake().admit(kafka.topic, 0, [third])
            assert len(await world.rows("select from dead_letters where replay_of = $1", first)) == 2
            mark = dict(again[0].headers)[REPLAY_HEADER].decode()
            sha256 = (await world.rows("select sha256 from dead_letters where uid = $1", first))[0]["sha256"]
            assert world.parts.replay_marks.read(mark, sha256) == (first, now - 5000)

    async def test_who_put_what_back_is_marked_and_twice_must_be_wanted(
        self, database_url: str, tmp_path: Path, broker: str, unique: str
    ) -> None:
        async with open_world(database_url, tmp_path) as world, kafka_of(broker, unique) as kafka:
            (uid,) = await bury_at(world, kafka, raw_record(1, BAD))
            assert await put_back(world, kafka, uid) == {uid: None}
            refused = await put_back(world, kafka, uid)
            assert "--again" in (refused[uid] or "")
            assert await put_back(world, kafka, uid, again=True) == {uid: None}
            facts = await world.parts.letters().facts(uid)
            assert (facts["replays"], facts["replayed_by"]) == (2, "cli:jane")
            assert [step for step, _, _ in await audit(world, uid)] == ["replay_begun", "replayed", "replay_begun", "replayed"]
            assert len(await kafka.records(2)) == 2

    async def test_what_kafka_did_not_take_is_not_marked(
        self, database_url: str, tmp_path: Path, broker: str, unique: str
    ) -> None:
        async with open_world(database_url, tmp_path) as world, kafka_of(broker, unique) as kafka:
            (uid,) = await bury_at(world, kafka, raw_record(1, BAD))
            kafka.result = Failed("no_answer")
            assert await put_back(world, kafka, uid) == {uid: "Kafka has not taken it: no_answer"}
            assert (await world.parts.letters().facts(uid))["replays"] == 0
            assert await audit(world, uid) == [("replay_begun", None, "cli:jane")]
            kafka.result = None
            assert await put_back(world, kafka, uid) == {uid: None}

    async def test_what_cannot_be_put_back_is_said_and_the_others_go(
        self, database_url: str, tmp_path: Path, broker: str, unique: str
    ) -> None:
        async with open_world(database_url, tmp_path) as world, kafka_of(broker, unique) as kafka:
            kafka.result = Acknowledged(0, 0)
            large, moved, good = await bury_at(
                world, kafka, raw_record(1, b"x" * 262_145), raw_record(2, BAD), raw_record(3, BAD + b" ")
            )
            heavy = raw_record(4, BAD, [*raw_record(0, b"").headers, ("x", b"y" * 70_000)])
            (*_, heavy_uid) = await bury_at(world, kafka, heavy)
            (elsewhere,) = await buried(world, raw_record(9, BAD))
            await world.parts.database.execute(
                "update dead_letters set sealed = (select sealed from dead_letters where uid = $1) where uid = $2", good, moved
            )
            absent = new_uid(datetime.now(UTC))
            told = await put_back(world, kafka, large, moved, good, heavy_uid, elsewhere, absent)
            assert told[good] is None
            assert "too large to keep" in (told[large] or "")
            assert "too large to keep" in (told[heavy_uid] or "")
            assert "cannot be opened" in (told[moved] or "")
            assert f"the topic {TOPIC}, which is not read" in (told[elsewhere] or "")
            assert "no such" in (told[absent] or "")
            assert [row["uid"] for row in await world.rows("select uid from dead_letters where replays > 0")] == [good]
            world.parts.ring.destroy("_system", "dead_letters", uid_time(moved).date())
        async with open_world(database_url, tmp_path) as world, kafka_of(broker, unique) as kafka:
            assert "key is gone" in ((await put_back(world, kafka, moved))[moved] or "")

    async def test_a_replay_after_ids_are_forgotten_sends_nothing(
        self, database_url: str, tmp_path: Path, broker: str, unique: str
    ) -> None:
        """A message id that was accepted meanwhile, and is forgotten by now: the record that is put back must not be sent again."""
        async with open_world(database_url, tmp_path) as world, kafka_of(broker, unique) as kafka:
            first = world.record(message_id="a", tenant="nobody")
            (uid,) = await bury_at(world, kafka, first)
            day = 86_400.0
            told = await put_back(world, kafka, uid, later=36 * day)
            assert "older than message ids are remembered" in (told[uid] or "")
            assert await put_back(world, kafka, uid, later=34 * day) == {uid: None}
            (record,) = await kafka.records(1)
        (tmp_path / "policies" / "nobody.yaml").write_text(
            POLICIES["clinic"].replace("tenant: clinic", "tenant: nobody").replace("+12125550120", "+12125550129")
        )
        async with open_world(database_url, tmp_path) as world:
            await world.shift(36 * day)  # it was read late
            await world.parts.watch.ensure_days()
            await world.intake().admit(unique, 0, [record._replace(timestamp_ms=record.timestamp_ms + int(36 * day * 1000))])
            assert await world.states() == {"a": "expired"}

    async def test_a_letter_of_the_older_form_is_read_and_put_back(
        self, database_url: str, tmp_path: Path, broker: str, unique: str
    ) -> None:
        async with open_world(database_url, tmp_path) as world, kafka_of(broker, unique) as kafka:
            good = world.record(message_id="a").value or b""
            whole = json.dumps(
                {"specversion": "1.0", "id": "e", "source": "s", "type": "sms.outbound.message.v1", "data": json.loads(good)}
            ).encode()
            (binary, structured) = await bury_at(
                world, kafka, raw_record(1, good + b" ", [("ce_id", b"x")]), raw_record(2, whole, [("ce_id", b"x")])
            )
            for uid, value in ((binary, good + b" "), (structured, whole)):
                sealed = world.parts.vault.seal_payload("_system", "dead_letters", uid, value)
                await world.parts.database.execute("update dead_letters set form = 1, sealed = $2 where uid = $1", uid, sealed)
            everybody = await token(world, "everybody", None, "read-payloads")
            assert (await world.parts.letters().read(binary, everybody, "cli:jane")).value == good + b" "
            assert await put_back(world, kafka, binary, structured) == {binary: None, structured: None}
            await world.intake().admit(kafka.topic, 0, await kafka.records(2))
            assert await world.states() == {"a": "accepted"}
            counted = await world.rows("select from dead_letters where replay_of is not null")
            assert counted == []  # the second was the same message

    async def test_a_header_that_somebody_made_up_names_no_letter(self, database_url: str, tmp_path: Path) -> None:
        async with open_world(database_url, tmp_path) as world:
            first, _ = await buried(world, raw_record(1, BAD), raw_record(2, BAD + b" "))
            marks = world.parts.replay_marks
            sha256 = (await world.rows("select sha256 from dead_letters where uid = $1", first))[0]["sha256"]
            right = marks.make(first, 1_790_000_000_000, sha256)
            assert marks.read(right, sha256) == (first, 1_790_000_000_000)
            made_up = [b"", b"\xff", b"x" * 48, str(first).encode(), right[:-1].encode(), right.encode()]
            for offset, header in enumerate(made_up, start=10):
                value = BAD + b"\n" * offset  # the right one, but of another value
                record = raw_record(offset, value, [*raw_record(0, b"").headers, (REPLAY_HEADER, header)])
                (uid,) = await buried(world, record)
                assert (await world.parts.letters().facts(uid))["replay_of"] is None


def test_a_record_is_kept_as_it_is() -> None:
    at = datetime.now(UTC)
    uid = new_uid(at)
    for record in (
        KeptRecord(None, None, [], -1),
        KeptRecord(b"", b"", [("", b""), ("a", None)], 0),
        KeptRecord(b"\0\xff", b"\0\xff" * 1000, [("é", b"\xff"), ("é", b"")], 1_790_000_000_000),
    ):
        assert unpack(2, pack(record), uid, at) == record
    for form, plain in ((3, b""), (2, b""), (2, b"\0\0\0\x02{}"), (2, b"\0\0\0\xff{}")):
        with pytest.raises((ValueError, KeyError)):
            unpack(form, plain, uid, at)
