"""The relay: every event of the outbox goes out, a person's in order, whoever holds the name."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.bus.address import BrokerAddress
from gateway.bus.consumer import RecordSource
from gateway.bus.producer import EventPublisher
from gateway.bus.topics import TopicSpec, apply
from gateway.domain.events import ConsentEvent, DeadLetterEvent, InboundEvent, StatusEvent
from gateway.domain.outcome import Accepted, Unknown
from gateway.domain.publishing import Acknowledged, Failed, OutEvent, PublishResult, RefusedForGood
from gateway.flow.leading import Leading
from gateway.flow.relay import OutboxRow, Relay, Topics
from gateway.store.outbox import Outbox
from tests.integration.hands import Hands, receipt_of
from tests.integration.world import World, open_world, raw_record, running
from tests.support import until

TOPICS = Topics("status", "inbound", "consent", "dlq", "metrics")
SID = "SM" + "1" * 32


class Recorder:
    """A topic that takes everything, or does what a test says with one event."""

    def __init__(self, result: Callable[[OutEvent], PublishResult | None] = lambda _event: None) -> None:
        self.events: list[OutEvent] = []
        self.calls: list[list[OutEvent]] = []
        self.limits: list[float] = []
        self.result = result
        self.gate = asyncio.Event()
        self.gate.set()
        self.alone = True

    async def take_over(self, limit_seconds: float) -> None:
        self.alone = True

    async def publish(self, batch: Sequence[OutEvent], limit_seconds: float) -> list[PublishResult]:
        self.calls.append(list(batch))
        self.limits.append(limit_seconds)
        await self.gate.wait()
        results: list[PublishResult] = []
        failed: set[bytes | None] = set()
        for event in batch:
            result = Failed("before") if event.key in failed else self.result(event) or Acknowledged(0, len(self.events))
            if isinstance(result, Failed):
                failed.add(event.key)  # as the port says: of its key none after it
            elif isinstance(result, Acknowledged):
                self.events.append(event)
            results.append(result)
        return results

    def of(self, topic: str) -> list[OutEvent]:
        return [event for event in self.events if event.topic == topic]


def relay_of(world: World, publisher: Any, **more: Any) -> Relay:
    parts = world.parts
    leading = more.pop("leading", None) or parts.leading("relay")
    return Relay(Outbox(parts.database), publisher, leading, TOPICS, parts.vault, parts.hasher, parts.metrics, idle=0.005, **more)


async def emptied(world: World, limit: float = 10.0) -> None:
    await until(lambda: world.rows("select 1 where not exists (select from outbox where parked is null)"), limit, "outbox empty")


def identity(event: OutEvent) -> str:
    return dict(event.headers)["ce_id"].decode()


def status(event: OutEvent) -> StatusEvent:
    return StatusEvent.model_validate_json(event.value or b"")


async def test_a_producers_name_of_a_person_is_sealed_until_it_goes_out_and_ends_with_its_key(
    database_url: str, tmp_path: Path
) -> None:
    """One from before they were sealed goes out as it stands; one whose key is gone stays away, and its event goes out."""
    async with open_world(database_url, tmp_path) as world:
        for name, recipient in (
            ("sealed", "patient-1"),
            ("older", "patient-2"),
            ("over", "patient-3"),
            ("text", "patient-4"),
            ("none", None),
        ):
            await world.publish(message_id=name, recipient_ref=recipient)
        assert not await world.rows(
            "select 1 from messages where recipient_ref is not null or recipient_sealed like '%patient%'::bytea"
        )
        await world.rows(
            "update messages m set recipient_ref = case message_id when 'older' then 'patient-2' end,"
            " recipient_sealed = case message_id when 'text' then (select sealed from bodies b where b.uid = m.uid)"
            "   when 'over' then (select sealed from bodies b where b.uid <> m.uid limit 1) end where message_id in ('older', 'over', 'text')"
        )
        recorder = Recorder()
        async with running(relay_of(world, recorder)):
            await emptied(world)
        said = {one.message_id: one.recipient_ref for one in map(status, recorder.of("status"))}
        assert said == {"sealed": "patient-1", "older": "patient-2", "over": None, "text": None, "none": None}
        assert (await world.parts.operate.find("clinic", "sealed") or {})["recipient_ref"] == "patient-1"
        assert "recipient_ref" not in (await world.parts.operate.find("clinic", "over") or {})


async def test_every_kind_of_event_goes_to_its_topic_and_only_there_in_the_clear(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await world.publish(message_id="a", recipient_ref="patient-1", traceparent=trace)
        await world.intake().admit("sms.outbound.v1", 2, [raw_record(41, b"{nothing")])
        hands = Hands(world)
        claimed = await hands.claim()
        await hands.send(claimed, Accepted(SID, 1))
        await world.parts.receipts().receive(receipt_of(claimed[0], "delivered", SID))
        assert await world.receive("Can I come at ten instead?") == "other"
        assert await world.receive("STOP") == "stop"
        recorder = Recorder()
        async with running(relay_of(world, recorder)):
            await emptied(world)

        said = [status(event) for event in recorder.of("status")]
        assert [(one.state, one.version, one.final) for one in said] == [
            ("accepted", 1, False),
            ("sent", 2, False),
            ("delivered", 3, True),
        ]
        assert {(one.message_id, one.recipient_ref, one.tenant, one.programme) for one in said} == {
            ("a", "patient-1", "clinic", "visits")
        }
        assert said[2].provider == "twilio"
        assert all(dict(event.headers)["ce_traceparent"].decode() == trace for event in recorder.of("status"))
        (heard,) = recorder.of("inbound")
        text = InboundEvent.model_validate_json(heard.value or b"")
        assert (text.number.reveal(), text.body.reveal()) == ("+12025550101", "Can I come at ten instead?")
        (consent,) = recorder.of("consent")
        opted_out = ConsentEvent.model_validate_json(consent.value or b"")
        assert (opted_out.status, opted_out.scope, opted_out.recipient_ref) == ("out", "tenant", "patient-1")
        (letter,) = recorder.of("dlq")
        assert DeadLetterEvent.model_validate_json(letter.value or b"").offset == 41

        # one person's events have one key, on whichever topic; it is no number
        keys = {event.key for event in [*recorder.of("status"), heard]}
        assert len(keys) == 1
        assert letter.key not in keys
        for event in recorder.events:
            assert event.key is not None
            assert b"2025550101" not in event.key
            if event.topic != "inbound":
                assert b"2025550101" not in (event.value or b"")
                assert b"at ten" not in (event.value or b"")
        assert len({identity(event) for event in recorder.events}) == len(recorder.events)


async def test_what_commits_late_with_a_lower_id_is_not_lost(database_url: str, tmp_path: Path) -> None:
    """Ids are given when rows are inserted and seen when they commit: a cursor would pass over the slow ones."""
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        recorder = Recorder()
        slow = await asyncpg.connect(database_url)
        try:
            transaction = slow.transaction()
            await transaction.start()
            late = await slow.fetchrow(
                "insert into outbox (kind, tenant, uid, version, state, reason, final, correction)"
                " select 'status', tenant, uid, 9, 'sent', 'accepted', false, false from messages returning id"
            )
            assert late is not None
            await world.publish(message_id="b", to="+12025550102")
            after = (await world.rows("select max(id) as id from outbox"))[0]["id"]
            assert after > late["id"]
            async with running(relay_of(world, recorder)):
                await emptied(world)
                assert len(recorder.events) == 2
                await transaction.commit()
                await until(lambda: len(recorder.events) == 3)
            assert status(recorder.events[-1]).version == 9
        finally:
            await slow.close()


async def test_what_is_not_acknowledged_goes_out_again_in_order(database_url: str, tmp_path: Path) -> None:
    chance = random.Random(5)
    async with open_world(database_url, tmp_path) as world:
        people = [f"+1202555{n:04d}" for n in range(100, 106)]
        await world.intake().admit("sms.outbound.v1", 0, [world.record(message_id=f"m{n}", to=to) for n, to in enumerate(people)])
        hands = Hands(world)
        claimed = await hands.claim()
        await hands.send(claimed)
        receipts = world.parts.receipts()
        for one in claimed:
            row = (await world.rows("select provider_message_id from messages where uid = $1", one.uid))[0]
            await receipts.receive(receipt_of(one, "delivered", row["provider_message_id"]))
        recorder = Recorder(lambda _event: Failed("away") if chance.random() < 0.3 else None)
        async with running(relay_of(world, recorder, batch=5)):
            await emptied(world)
        seen: dict[str, list[int]] = {}
        for event in recorder.events:
            seen.setdefault(identity(event).split(":", maxsplit=1)[0], []).append(status(event).version)
        assert sorted(seen.values()) == [[1, 2, 3]] * 6


async def test_what_the_broker_never_takes_is_put_aside_and_holds_nothing_up(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        for n in range(6):
            await world.publish(message_id=f"m{n}", to=f"+1202555{100 + n:04d}")
        recorder = Recorder(lambda event: RefusedForGood("too_large") if status(event).message_id == "m2" else None)
        async with running(relay_of(world, recorder)):
            await emptied(world)
        assert sorted(status(event).message_id for event in recorder.events) == ["m0", "m1", "m3", "m4", "m5"]
        assert [row["parked"] for row in await world.rows("select parked from outbox")] == ["too_large"]
        await world.parts.watch.measure(world.parts.metrics)
        assert world.parts.registry.get_sample_value("sms_gateway_outbox_parked_events") == 1


async def test_what_cannot_be_unsealed_holds_nothing_up(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        assert await world.receive("Hello?") == "other"
        await world.parts.database.execute("update outbox set payload = '\\x00' where kind = 'inbound'")
        await world.publish(message_id="b")
        recorder = Recorder()
        async with running(relay_of(world, recorder)):
            await emptied(world)
        assert [status(event).message_id for event in recorder.events] == ["a", "b"]
        assert [row["parked"] for row in await world.rows("select parked from outbox")] == ["unreadable"]


async def test_another_holder_takes_over_and_the_old_one_publishes_no_more(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        moved = 0.0

        def now() -> float:
            return asyncio.get_running_loop().time() + moved

        first, second = Recorder(), Recorder()

        def relay(name: str) -> Relay:
            recorder = first if name == "one" else second
            return relay_of(world, recorder, leading=Leading(world.parts.control, "relay", name, now=now))

        async with running(relay("one")):
            await world.publish(message_id="a")
            await until(lambda: first.events)
            async with running(relay("other")):
                await world.publish(message_id="b")
                await until(lambda: len(first.events) == 2)
                assert second.events == []
        # one has left without giving its name back, as a process that is killed does
        async with running(relay("other")):
            await world.publish(message_id="c")
            moved += 7
            await world.shift(7)
            await until(lambda: second.events)
            async with running(relay("one")):
                await world.publish(message_id="d")
                await until(lambda: len(second.events) == 2)
        assert [status(event).message_id for event in first.events + second.events] == ["a", "b", "c", "d"]


async def test_a_publish_ends_while_the_name_is_still_held(database_url: str, tmp_path: Path) -> None:
    """What is on its way longer could overtake what the next holder publishes, and compaction would keep the older."""
    async with open_world(database_url, tmp_path) as world:
        recorder = Recorder()
        leading = world.parts.leading("relay")
        async with running(relay_of(world, recorder, leading=leading)):
            for n in range(5):
                await world.publish(message_id=f"m{n}")
                await until(lambda: len(recorder.events) == n + 1)  # noqa: B023 -- awaited at once
        row = (await world.rows("select extract(epoch from until - gateway_now())::float8 as left from leaders"))[0]
        assert row["left"] > leading.left
        assert all(0 < limit <= 3.0 for limit in recorder.limits)


async def test_a_crash_between_the_acknowledgement_and_the_removal_tells_it_twice_with_one_id(
    database_url: str, tmp_path: Path
) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")

        class Dies(Outbox):
            async def remove(self, rows: Sequence[OutboxRow], name: str, holder: str) -> None:
                raise asyncio.CancelledError

        recorder = Recorder()
        parts = world.parts
        dying = Relay(Dies(parts.database), recorder, parts.leading("relay"), TOPICS, parts.vault, parts.hasher, parts.metrics)
        await asyncio.gather(asyncio.create_task(dying.run()), return_exceptions=True)
        async with running(relay_of(world, recorder)):
            await emptied(world)
        assert [identity(event) for event in recorder.events] == [identity(recorder.events[0])] * 2


async def published(world: World, recorder: Recorder, **more: Any) -> None:
    """Publish all that is there, by a relay that has just been started."""
    async with running(relay_of(world, recorder, **more)):
        await emptied(world)


async def _corrected(world: World, hands: Hands) -> None:
    """A message whose outcome was unknown for good, and was delivered after all."""
    (claimed,) = await hands.claim()
    await hands.send([claimed], Unknown("cut"))
    await world.shift(3700)
    await world.parts.sweep().once()
    await world.parts.receipts().receive(receipt_of(claimed, "delivered", "SM" + "1" * 32))


async def _sent(world: World, hands: Hands) -> None:
    await hands.send(await hands.claim())


@pytest.mark.parametrize("then", [_sent, _corrected])
async def test_an_event_that_is_told_again_is_the_same_event(
    database_url: str, tmp_path: Path, then: Callable[[World, Hands], Any]
) -> None:
    recorder = Recorder()
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        await then(world, Hands(world))
        await published(world, recorder)
        first = recorder.events[-1]
        await world.shift(3600)
        await world.publish(message_id="a")
        await published(world, recorder)
        again = recorder.events[-1]
        assert again is not first
        assert again == first
        assert b'"correction":true' in (again.value or b"") or then is _sent


async def test_events_arrive_on_a_broker_keyed_and_in_order(database_url: str, tmp_path: Path, broker: str, unique: str) -> None:
    address = BrokerAddress(broker)
    names = Topics(*(f"{unique}.{name}" for name in ("status", "inbound", "consent", "dlq", "metrics")))
    await apply(address, [TopicSpec(name, 3, {}) for name in (names.status, names.inbound, names.consent, names.dead_letters)])
    publisher = EventPublisher(address, idempotent=False)
    await publisher.start()

    async def on_gap(_gap: object) -> None:
        raise AssertionError

    source = RecordSource(address, names.status, f"{unique}-group", on_gap=on_gap, session_timeout=1.0)
    await source.start()
    try:
        async with open_world(database_url, tmp_path) as world:
            people = [f"+1202555{n:04d}" for n in range(100, 110)]
            await world.intake().admit(
                "sms.outbound.v1", 0, [world.record(message_id=f"m{n}", to=to) for n, to in enumerate(people)]
            )
            hands = Hands(world)
            claimed = await hands.claim()
            await hands.send(claimed)
            relay = relay_of(world, publisher)
            relay._topics = names
            async with running(relay):
                await emptied(world)
                records: dict[int, list[Any]] = {}
                count = 0
                async with asyncio.timeout(20):
                    while count < 20:
                        batch = await source.next_batch(1.0)
                        if batch is not None:
                            records.setdefault(batch.partition, []).extend(batch.records)
                            count += len(batch.records)
                            await source.durable(batch)
        assert count == 20
        assert len(records) > 1
        partitions: dict[bytes, set[int]] = {}
        versions: dict[str, list[int]] = {}
        for partition, found in records.items():
            for record in found:
                headers = dict(record.headers)
                assert headers["ce_specversion"] == b"1.0"
                assert headers["ce_type"] == b"sms.status.changed.v1"
                assert headers["ce_source"] == b"sms-gateway"
                event = StatusEvent.model_validate_json(record.value)
                assert headers["ce_id"].endswith(f":{event.version}".encode())
                partitions.setdefault(record.key, set()).add(partition)
                versions.setdefault(event.message_id, []).append(event.version)
                assert (event.state, event.final) == (("accepted", False) if event.version == 1 else ("sent", False))
        assert all(len(found) == 1 for found in partitions.values())
        assert len(partitions) == 10
        assert set(map(tuple, versions.values())) == {(1, 2)}
    finally:
        await source.stop()
        await publisher.stop()
