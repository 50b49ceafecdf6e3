"""Intake: every record becomes a message, the first one's fate again, or a dead letter, and none hurts its neighbours."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.bus.records import Batch, Record
from gateway.domain.errors import StoreUnavailable
from gateway.domain.kept_records import KeptRecord
from gateway.domain.personal import PhoneNumber
from gateway.flow.accept import Accepter
from gateway.flow.burial import open_letter
from gateway.flow.intake import Admitted, Intake
from gateway.flow.level import Level
from gateway.store.intake import Admission
from gateway.store.letters import DeadLetters
from tests.integration.hands import Hands, told
from tests.integration.world import World, open_world, raw_record
from tests.support import until

TOPIC = "sms.outbound.v1"
DAY = 86_400.0


async def admit(world: World, *records: Record, partition: int = 0, allow_list: Any = None) -> int:
    return await world.intake(allow_list).admit(TOPIC, partition, list(records))


async def dead(world: World) -> dict[int, str]:
    return {row["record_offset"]: row["reason"] for row in await world.rows("select record_offset, reason from dead_letters")}


async def kept(world: World, uid: UUID) -> KeptRecord:
    (letter,) = await DeadLetters(world.parts.database).sealed([uid])
    return open_letter(world.parts.vault, letter)


def event_of(world: World, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.record(**fields).value or b"")
    return found


HEADERS = [
    ("ce_specversion", b"1.0"), ("ce_id", b"e1"), ("ce_source", b"test"), ("ce_type", b"sms.outbound.message.v1"),
    ("content-type", b"application/json"),
]  # fmt: skip


async def test_each_kind_of_poison_lies_apart_from_its_neighbours(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        good = event_of(world)
        bare = json.dumps({**good, "message_id": "bare"}).encode()
        poison: list[tuple[str, bytes | None, Any]] = [
            ("not_json", b"{", None),
            ("not_json", bare.replace(b'"tenant":', b'"tenant": "shop", "tenant":'), None),
            ("wrong_schema", json.dumps({**good, "category": "spam"}).encode(), None),
            ("wrong_schema", json.dumps({**good, "message_id": "x" * 9000}).encode(), None),
            ("wrong_schema", json.dumps({**good, "not_before": "9999-12-31T23:59:59Z"}).encode(), None),
            ("wrong_schema", b"[]", None),
            ("too_large", b'{"body": "' + b"x" * 262_144 + b'"}', None),
            ("not_utf8", bare.replace(b"bare", b"b\xff"), None),
            ("not_utf8", bare.replace(b"bare", b"b\\ud800"), None),
            ("nul", bare.replace(b"bare", b"b\0"), None),
            ("nul", bare.replace(b"bare", b"b\\u0000"), None),
            ("unknown_tenant", json.dumps({**good, "tenant": "nobody"}).encode(), None),
            ("unknown_type", bare, [*HEADERS[:3], ("ce_type", b"sms.other.v1"), HEADERS[4]]),
            ("bad_cloudevent", bare, []),
            ("bad_cloudevent", bare, [("ce_specversion", b"0.3"), *HEADERS[1:]]),
            ("bad_cloudevent", None, None),
        ]
        records = []
        for offset, (_, value, headers) in enumerate(poison):
            records += [raw_record(offset, value, headers), world.record(message_id=f"good-{offset}")]
        assert await admit(world, *records, partition=3) == len(poison)

        assert await dead(world) == {offset: reason for offset, (reason, _, _) in enumerate(poison)}
        assert set(await world.states()) == {f"good-{offset}" for offset in range(len(poison))}
        assert set((await world.states()).values()) == {"accepted"}

        rows = await world.rows("select * from dead_letters order by record_offset")
        for row, (_, value, _) in zip(rows, poison, strict=True):
            payload = value or b""
            assert (row["topic"], row["partition"], row["length"]) == (TOPIC, 3, len(payload))
            assert row["sha256"] == hashlib.sha256(payload).digest()
            if len(payload) > 262_144:
                assert row["sealed"] is None
            else:
                assert (await kept(world, row["uid"])).value == value
        events = [
            json.loads(row["payload"])
            for row in await world.rows("select payload from outbox where kind = 'dead_letter' order by id")
        ]
        assert len(events) == len(poison)
        for event in events:
            payload = poison[event["offset"]][1] or b""
            assert (event["topic"], event["partition"], event["sha256"]) == (TOPIC, 3, hashlib.sha256(payload).hexdigest())
            sealed = event["sealed"] and base64.b64decode(event["sealed"])
            assert sealed == next(row["sealed"] for row in rows if row["record_offset"] == event["offset"])
        audited = await world.rows("select reason from audit where step = 'dead_lettered'")
        assert sorted(row["reason"] for row in audited) == sorted(reason for reason, _, _ in poison)


async def test_a_dead_letter_of_a_known_tenant_is_sealed_with_its_key(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await admit(world, world.record(message_id="a"))
        other = world.record(message_id="a", body="Another text.")
        assert await admit(world, other) == 0
        row = (await world.rows("select * from dead_letters"))[0]
        assert (row["reason"], row["tenant"], row["record_offset"]) == ("id_reused", "clinic", other.offset)
        assert row["form"] == 2
        record = await kept(world, row["uid"])
        assert (record.key, record.value, record.headers) == (other.key, other.value, other.headers)
        assert await told(world, "a") == [("accepted", 1, False, False)]
        assert len(await world.rows("select * from messages")) == 1


async def test_the_same_id_in_one_batch_is_one_message(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        same = [world.record(message_id="a") for _ in range(4)]
        assert await admit(world, *same, world.record(message_id="b")) == 2
        assert await world.states() == {"a": "accepted", "b": "accepted"}
        assert len(await world.rows("select * from queue")) == 2
        counted = {
            sample.labels["result"]: sample.value
            for metric in world.parts.registry.collect()
            for sample in metric.samples
            if sample.name == "sms_gateway_intake_records_total"
        }
        assert counted == {"accepted": 2, "duplicate": 3, "dead_letter": 0}
        assert set(await told(world, "a")) == {("accepted", 1, False, False)}


@pytest.mark.parametrize("later", [0.0, 3600.0, DAY, 5 * DAY])
async def test_the_same_id_later_is_answered_with_the_first_ones_fate(database_url: str, tmp_path: Path, later: float) -> None:
    async with open_world(database_url, tmp_path) as world:
        await admit(world, world.record(message_id="a"))
        hands = Hands(world)
        await hands.send(await hands.claim())
        await world.shift(later)
        assert await admit(world, world.record(message_id="a"), partition=5) == 0
        # the same event again, by its id and version
        assert await told(world, "a") == [("accepted", 1, False, False), ("sent", 2, False, False), ("sent", 2, False, False)]
        assert await hands.claim() == []
        assert len(await world.rows("select * from messages")) == 1
        uids = {row["uid"] for row in await world.rows("select uid from outbox")}
        assert len(uids) == 1


async def test_the_same_ids_at_many_workers_at_once_are_messages_once(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path, GATEWAY_DATABASE_POOL="20") as world:
        batches = [[world.record(message_id=f"m{n}") for n in range(start, start + 30)] for start in (0, 5, 10, 0, 15, 5)]
        for batch in batches[::2]:
            batch.reverse()
        admitted = await asyncio.gather(*(admit(world, *batch, partition=place) for place, batch in enumerate(batches)))
        assert sum(admitted) == 45
        assert len(await world.rows("select * from messages")) == 45
        assert await dead(world) == {}
        repeats = await world.rows("select count(*) as n, count(distinct uid) as distinct from outbox where kind = 'status'")
        assert repeats[0]["n"] >= repeats[0]["distinct"] == 45


async def test_a_batch_read_again_after_a_crash_leaves_nothing_twice(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await admit(world, world.record(message_id="before"))
        batch = [
            world.record(message_id="a"),
            raw_record(900, b"{"),
            world.record(message_id="before", body="Something else."),
            world.record(message_id="b"),
        ]
        assert await admit(world, *batch) == 2
        assert await admit(world, *batch) == 0  # its offset had not been committed
        assert len(await world.rows("select * from messages")) == 3
        assert sorted((await dead(world)).values()) == ["id_reused", "not_json"]
        assert len(await world.rows("select * from outbox where kind = 'dead_letter'")) == 2
        assert len(await world.rows("select * from audit where step = 'dead_lettered'")) == 2
        assert set(await told(world, "a")) == {("accepted", 1, False, False)}


async def test_a_crash_between_the_two_halves_of_a_batch_loses_no_dead_letter(database_url: str, tmp_path: Path) -> None:
    """A reused id is known only once the batch is in: the process may die before its dead letter is."""

    class Dies(Admission):
        async def admit(self, messages: Any, dead_letters: Any) -> Admitted:
            if not messages:
                raise asyncio.CancelledError
            return await super().admit(messages, dead_letters)

    async with open_world(database_url, tmp_path) as world:
        await admit(world, world.record(message_id="a"))
        batch = [world.record(message_id="a", body="Something else."), world.record(message_id="b")]
        dying = Dies(world.parts.database, world.parts.hasher.person_key, "dies")
        with pytest.raises(asyncio.CancelledError):
            await Intake(None, dying, world.accepter(), world.level(), world.parts.metrics).admit(TOPIC, 0, batch)  # type: ignore[arg-type] # no source: records are handed over
        assert await dead(world) == {}
        await admit(world, *batch)
        assert list((await dead(world)).values()) == ["id_reused"]
        assert set(await world.states()) == {"a", "b"}


async def test_offsets_that_begin_anew_hide_no_dead_letter(database_url: str, tmp_path: Path) -> None:
    """A topic that is made anew begins at offset 0, the embedded broker's after each start."""
    async with open_world(database_url, tmp_path) as world:
        await admit(world, raw_record(0, b"{"))
        await admit(world, raw_record(0, b"[1"))
        assert len(await world.rows("select * from dead_letters")) == 2
        assert len(await world.rows("select * from outbox where kind = 'dead_letter'")) == 2


@pytest.mark.parametrize("why", ["check", "client"])
async def test_what_only_postgresql_refuses_is_found_by_halving(database_url: str, tmp_path: Path, why: str) -> None:
    async with open_world(database_url, tmp_path) as world:
        if why == "check":  # a constraint that validation does not know of
            await world.parts.database.execute("alter table messages add constraint odd check (trace is null)")
            bad = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        else:  # more parts than the column holds; validation keeps texts short, a policy's template might not
            await world.parts.database.execute("alter table queue add constraint odd check (programme <> 'visits' or parts < 5)")
            bad = {"body": "x" * 1600}
        records = [world.record(message_id=f"m{n}", **(bad if n in {3, 7, 8} else {})) for n in range(11)]
        assert await admit(world, *records) == 8
        assert await dead(world) == {records[n].offset: "wrong_schema" for n in (3, 7, 8)}
        assert set(await world.states()) == {f"m{n}" for n in range(11) if n not in {3, 7, 8}}


async def test_a_missing_partition_dead_letters_nothing(database_url: str, tmp_path: Path) -> None:
    from gateway.domain.errors import StoreUnavailable

    async with open_world(database_url, tmp_path) as world:
        day = (await world.rows("select to_char(gateway_now() at time zone 'UTC', 'YYYYMMDD') as day"))[0]["day"]
        await world.parts.database.execute(f"drop table bodies_{day}")
        with pytest.raises(StoreUnavailable):
            await admit(world, world.record(message_id="a"), raw_record(70, b"{"))
        assert await dead(world) == {}
        await world.parts.watch.ensure_days()
        assert await admit(world, world.record(message_id="a")) == 1


async def test_a_record_older_than_the_window_is_too_late(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        fresh, old = world.record(message_id="fresh"), world.record(message_id="old")
        now = datetime.now(UTC)
        records = [
            Record(fresh.offset, b"k", fresh.value, HEADERS, int((now - timedelta(days=34)).timestamp() * 1000)),
            Record(old.offset, b"k", old.value, HEADERS, int((now - timedelta(days=35, minutes=1)).timestamp() * 1000)),
        ]
        await admit(world, *records)
        assert await world.states() == {"fresh": "accepted", "old": "expired"}
        assert await told(world, "old") == [("expired", 1, True, False)]
        assert len(await world.rows("select * from queue")) == 1


async def test_a_message_does_not_outlive_its_content(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        now = datetime.now(UTC)
        await admit(
            world,
            world.record(message_id="long", expires_at=(now + timedelta(days=90)).isoformat()),
            world.record(message_id="short", expires_at=(now + timedelta(hours=1)).isoformat()),
            world.record(message_id="none"),
            world.record(message_id="beyond", not_before=(now + timedelta(days=31)).isoformat()),
            world.record(
                message_id="never",
                not_before=(now + timedelta(hours=2)).isoformat(),
                expires_at=(now + timedelta(hours=1)).isoformat(),
            ),
            world.record(message_id="over", expires_at=(now - timedelta(seconds=1)).isoformat()),
        )
        rows = {row["message_id"]: row for row in await world.rows("select *, gateway_now() as now from messages")}
        assert abs(rows["long"]["expires_at"] - rows["long"]["now"] - timedelta(days=30)) < timedelta(minutes=1)
        assert rows["none"]["expires_at"] == rows["long"]["expires_at"]
        assert abs(rows["short"]["expires_at"] - now - timedelta(hours=1)) < timedelta(seconds=1)
        assert {name: row["state"] for name, row in rows.items()} == {
            "long": "accepted", "short": "accepted", "none": "accepted", "beyond": "expired", "never": "expired", "over": "expired",
        }  # fmt: skip
        assert rows["beyond"]["rule"] == "time.not_before_after_expiry"


async def test_not_before_defers_until_it_is_due(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await admit(world, world.record(message_id="a", not_before=(datetime.now(UTC) + timedelta(hours=2)).isoformat()))
        assert await told(world, "a") == [("deferred", 1, False, False)]
        hands = Hands(world)
        await world.shift(7100)
        assert await hands.claim() == []
        await world.shift(200)
        await hands.send(await hands.claim())
        assert await told(world, "a") == [("deferred", 1, False, False), ("sent", 2, False, False)]


async def test_only_numbers_on_the_allow_list_are_texted(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        allowed = {world.parts.hasher.subject_id(PhoneNumber("+12025550101"))}
        await admit(world, world.record(message_id="a"), world.record(message_id="b", to="+12025550102"), allow_list=allowed)
        assert await world.states() == {"a": "accepted", "b": "blocked"}
        rows = await world.rows("select reason, rule from messages where message_id = 'b'")
        assert rows == [{"reason": "not_on_allow_list", "rule": "staging.allow_list"}]
        await admit(world, world.record(message_id="c"), allow_list=set())
        assert (await world.states())["c"] == "blocked"


def offer(**fields: Any) -> dict[str, Any]:
    return {"tenant": "shop", "programme": "offers", "category": "marketing", **fields}


def proof(at: datetime) -> dict[str, Any]:
    return {"medium": "web", "at": at.isoformat(), "ip": "203.0.113.9", "wording": "Yes, text me offers."}


async def test_marketing_needs_an_opt_in_and_the_event_may_bring_its_proof(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        now = datetime.now(UTC)
        await admit(world, world.record(message_id="without", **offer()))
        await admit(world, world.record(message_id="future", **offer(opt_in_proof=proof(now + timedelta(hours=1)))))
        await admit(world, world.record(message_id="with", **offer(opt_in_proof=proof(now - timedelta(hours=1)))))
        await admit(world, world.record(message_id="after", **offer()))
        assert await world.states() == {"without": "blocked", "future": "blocked", "with": "accepted", "after": "accepted"}
        row = (await world.rows("select * from consents"))[0]
        assert (row["status"], row["source"], row["scope"], row["name"]) == ("in", "event", "programme", "offers")
        opened = json.loads(world.parts.vault.open_payload("shop", "consent", row["proof_uid"], row["proof_sealed"]))
        assert (opened["ip"], opened["wording"]) == ("203.0.113.9", "Yes, text me offers.")
        assert len(await world.rows("select * from outbox where kind = 'consent'")) == 1


async def test_a_proof_from_before_the_opt_out_undoes_nothing(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        assert await world.receive("STOP", to="+14155550110") == "stop"
        for place, at in enumerate((datetime(2024, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(seconds=-1))):
            await admit(world, world.record(message_id=f"m{place}", **offer(opt_in_proof=proof(at))))
        assert set((await world.states()).values()) == {"blocked"}
        assert [row["status"] for row in await world.rows("select status from consents")] == ["out"]


async def test_a_stop_between_reading_consent_and_the_insert_is_seen_by_the_claim(database_url: str, tmp_path: Path) -> None:
    """Intake decides on what it read before; the claim reads again."""

    class Slow(Admission):
        async def admit(self, messages: Any, dead_letters: Any) -> Admitted:
            assert await world.receive("STOP", to="+14155550110") == "stop"
            return await super().admit(messages, dead_letters)

    async with open_world(database_url, tmp_path) as world:
        slow = Slow(world.parts.database, world.parts.hasher.person_key, "slow")
        intake: Intake[Any] = Intake(None, slow, world.accepter(), world.level(), world.parts.metrics)  # type: ignore[arg-type] # no source: records are handed over
        record = world.record(message_id="a", **offer(opt_in_proof=proof(datetime.now(UTC) - timedelta(hours=1))))
        await intake.admit(TOPIC, 0, [record])
        assert await world.states() == {"a": "accepted"}
        assert [row["status"] for row in await world.rows("select status from consents")] == ["out"]
        assert [one.category for one in await Hands(world).claim()] == ["service"]  # the confirmation alone
        assert (await world.states())["a"] == "blocked"


async def test_a_bad_number_and_a_wrong_way_are_blocked_with_their_reasons(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        cases = {
            "bad_number": {"to": "12"},
            "unknown_programme": {"programme": "nothing"},
            "category_not_allowed": {"category": "security"},
            "sender_not_allowed": {"sender": "+14155550199"},
        }
        for why, fields in cases.items():
            await admit(world, world.record(message_id=why, **fields))
        empty = world.record(message_id="empty", to="")
        await admit(world, empty)
        rows = {row["message_id"]: row for row in await world.rows("select message_id, state, reason, final from messages")}
        for why in cases:
            assert (rows[why]["state"], rows[why]["reason"], rows[why]["final"]) == ("blocked", why, True)
        assert rows["empty"]["reason"] == "bad_number"
        assert await world.rows("select * from queue") == []
        nobody = await world.rows(
            "select * from messages where reason = 'bad_number' and (subject_id is not null or to_sealed is not null)"
        )
        assert nobody == []


async def test_one_person_however_the_number_is_written(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        for place, written in enumerate(["+12025550101", "(202) 555-0101", "202-555-0101", "+1 202 555 0101"]):
            await admit(world, world.record(message_id=f"m{place}", to=written))
        assert len(await world.rows("select distinct subject_id from messages where subject_id is not null")) == 1


def batch_of(*records: Record) -> Batch:
    return Batch(TOPIC, 0, records, records[0].offset, records[-1].offset + 1, 0, 0)


class Scripted:
    """A source of batches that a test fills."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[Batch] = asyncio.Queue()
        self.durable_batches: list[Batch] = []
        self.returned: list[Batch] = []
        self.paused = False

    async def next_batch(self, limit_seconds: float, max_records: int = 500) -> Batch | None:
        await asyncio.sleep(0.01)
        if self.paused or self.batches.empty():
            return None
        return self.batches.get_nowait()

    async def durable(self, batch: Batch) -> None:
        self.durable_batches.append(batch)

    async def back_to(self, batch: Batch) -> None:
        self.returned.append(batch)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


async def test_intake_stops_reading_at_the_high_mark_and_goes_on_below_the_low_one(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        source = Scripted()
        accepter: Accepter = world.accepter()
        intake = Intake(source, world.admission(), accepter, world.level(high=5, low=2), world.parts.metrics)
        running = asyncio.create_task(intake.run())

        def batch(count: int) -> Batch:
            return batch_of(*(world.record(to=f"+1202555{n:04d}"[:12]) for n in range(100, 100 + count)))

        source.batches.put_nowait(batch(6))
        await until(lambda: source.paused)
        source.batches.put_nowait(batch(1))
        hands = Hands(world)
        await hands.send(await hands.claim(room=3))
        assert len(source.durable_batches) == 1  # paused all the while
        await hands.send(await hands.claim(room=3))
        await until(lambda: len(source.durable_batches) == 2)
        await until(lambda: not source.paused)
        intake.stop()
        await asyncio.wait_for(running, 5)


async def test_what_several_partitions_hold_is_taken_in_one_transaction_or_given_back_whole(
    database_url: str, tmp_path: Path
) -> None:
    async with open_world(database_url, tmp_path) as world:

        class Refusing(Admission):
            away = True

            async def admit(self, messages: Any, dead_letters: Any) -> Admitted:
                if self.away:
                    self.away = False
                    raise StoreUnavailable("away")
                return await super().admit(messages, dead_letters)

        admission = Refusing(world.parts.database, world.parts.hasher.person_key, "test")
        source = Scripted()
        intake = Intake(source, admission, world.accepter(), world.level(), world.parts.metrics, batch=7)
        batches = [
            Batch(
                TOPIC,
                partition,
                [world.record(message_id=f"{partition}-{n}", to=f"+1202555010{n}") for n in range(3)],
                0,
                3,
                0,
                0,
            )
            for partition in range(4)
        ]
        poison = replace(batches[1], records=[raw_record(7, b"{nothing")], partition=9)
        for batch in (batches[0], poison, *batches[1:]):
            source.batches.put_nowait(batch)
        running = asyncio.create_task(intake.run())
        await until(lambda: len(source.returned) == 3)
        for batch in source.returned:
            source.batches.put_nowait(batch)
        await until(lambda: len(source.durable_batches) == 5)
        intake.stop()
        await asyncio.wait_for(running, 5)
        rows = await world.rows("select message_id, xmin::text as transaction from messages")
        assert len(rows) == 12
        assert len({row["transaction"] for row in rows}) == 2  # seven records fill one; what is read stays whole
        assert await world.rows("select partition, record_offset from dead_letters") == [{"partition": 9, "record_offset": 7}]


async def test_readers_of_several_topics_rest_and_go_on_together_and_ask_once(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        asked, emptier = 0, asyncio.Event()

        class Counting(Admission):
            async def waiting(self, most: int) -> int:
                nonlocal asked
                asked += 1
                if asked == 1:
                    return most
                await emptier.wait()
                return 0

        level = Level(Counting(world.parts.database, world.parts.hasher.person_key, "counting"), world.parts.metrics)
        sources = [Scripted() for _ in range(3)]
        intakes = [Intake(one, world.admission(), world.accepter(), level, world.parts.metrics) for one in sources]
        running = [asyncio.create_task(intake.run()) for intake in intakes]
        await until(lambda: all(source.paused for source in sources))
        assert asked < len(sources)  # once, or a second later once more
        emptier.set()
        await until(lambda: not any(source.paused for source in sources))
        for intake in intakes:
            intake.stop()
        await asyncio.wait_for(asyncio.gather(*running), 5)


async def test_what_is_paused_is_told_so_and_waits(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.parts.control.pause("programme", "clinic", "visits", "test", "")
        source = Scripted()
        intake = Intake(source, world.admission(), world.accepter(), world.level(), world.parts.metrics)
        source.batches.put_nowait(batch_of(world.record(message_id="held")))
        running = asyncio.create_task(intake.run())
        await until(lambda: source.durable_batches)
        intake.stop()
        await asyncio.wait_for(running, 5)
        assert await world.rows("select state, reason, rule from messages") == [
            {"state": "accepted", "reason": "paused", "rule": "operator.paused"}
        ]
        assert await Hands(world).claim() == []
        await world.parts.control.resume("programme", "clinic", "visits", "test")
        assert len(await Hands(world).claim()) == 1


async def test_a_batch_that_could_not_be_stored_is_read_again(database_url: str, tmp_path: Path) -> None:
    from gateway.domain.errors import StoreUnavailable

    class Away(Admission):
        async def consents_of(self, subject_ids: Any) -> Any:
            raise StoreUnavailable("away")

    async with open_world(database_url, tmp_path) as world:
        source = Scripted()
        away = Away(world.parts.database, world.parts.hasher.person_key, "away")
        intake = Intake(source, away, world.accepter(), world.level(), world.parts.metrics)
        running = asyncio.create_task(intake.run())
        source.batches.put_nowait(batch_of(world.record(message_id="a"), raw_record(1, b"{")))
        await until(lambda: source.returned)
        intake.stop()
        await asyncio.wait_for(running, 5)
        assert source.durable_batches == []
        assert await world.states() == {}
        assert await dead(world) == {}
