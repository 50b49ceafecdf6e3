"""Counts add up to the status events: whatever is late, told again, published twice, or killed between two steps."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.counts import PERIODS
from gateway.domain.events import MetricsEvent, StatusEvent
from gateway.domain.outcome import Accepted, Outcome, Refused, Unknown
from gateway.domain.publishing import Failed, OutEvent, RefusedForGood
from gateway.domain.reasons import Reason
from gateway.flow.counts import Counting
from gateway.flow.relay import OutboxRow, Relay
from gateway.store.counts import Counts
from gateway.store.outbox import Outbox
from tests.integration.hands import Hands, receipt_of, settle_by_hand
from tests.integration.test_relay import TOPICS, Recorder, identity, published
from tests.integration.world import World, open_world

ALL = ("reason", "provider", "category", "state")


def counting(world: World, smallest: int = 5) -> Counting:
    return Counting(Counts(world.parts.database), smallest=smallest)


async def tell(world: World, smallest: int = 5) -> None:
    """Tell all that is over."""
    while await counting(world, smallest).tell():
        pass


async def publish(world: World, recorder: Recorder) -> None:
    await published(world, recorder, batch=7)


def said(recorder: Recorder) -> list[StatusEvent]:
    """The status events, each once. What stands there twice by its id is the same event."""
    found: dict[str, OutEvent] = {}
    for event in recorder.of("status"):
        first = found.setdefault(identity(event), event)
        assert (first.value, first.headers, first.key) == (event.value, event.headers, event.key)
    return [StatusEvent.model_validate_json(event.value or b"") for event in found.values()]


def counts(recorder: Recorder) -> list[MetricsEvent]:
    found = {identity(event): event for event in recorder.of("metrics")}
    return [MetricsEvent.model_validate_json(event.value or b"") for event in found.values()]


def day_of(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def by_day(recorder: Recorder) -> tuple[Counter[Any], Counter[Any]]:
    """Status events, and what the counts say, by tenant and day."""
    events = Counter((event.tenant, day_of(event.occurred_at)) for event in said(recorder))
    told: Counter[Any] = Counter()
    for count in counts(recorder):
        told[count.tenant, day_of(count.start)] += count.count
    return events, told


class Traffic:
    """Messages of two tenants to some people, and what becomes of them, a step at a time."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.published: list[dict[str, Any]] = []
        self.hands = Hands(world, lease=10)

    async def step(self) -> None:
        await self.chance.choice([self.message, self.message, self.again, self.send, self.send, self.stop, self.later])()

    async def message(self) -> None:
        records = []
        for _ in range(self.chance.randint(1, 12)):
            tenant, programme = self.chance.choice([("clinic", "visits"), ("shop", "offers"), ("shop", "orders")])
            fields = {
                "message_id": f"n{len(self.published)}",
                "tenant": tenant,
                "programme": programme,
                "to": f"+1202555{self.chance.randint(100, 140):04d}",
            }
            self.published.append(fields)
            records.append(self.world.record(**fields))
        await self.world.intake().admit("sms.outbound.v1", 0, records)

    async def again(self) -> None:
        """A producer publishes some messages once more."""
        for fields in self.chance.sample(self.published, min(3, len(self.published))):
            await self.world.publish(**fields)

    async def send(self) -> None:
        for one in await self.hands.claim(room=self.chance.randint(1, 20)):
            if one.uid not in await self.hands.mark([one]):
                continue
            sid = self.world.carrier.new_id()
            outcomes: list[Outcome] = [Accepted(sid, 1), Accepted(sid, 1), Refused(Reason.NOT_TEXTABLE, "1"), Unknown("cut")]
            outcome = self.chance.choice(outcomes)
            await settle_by_hand(self.world, one, outcome)
            if self.chance.random() < 0.5 and not isinstance(outcome, Refused):
                await self.world.parts.receipts().receive(receipt_of(one, "delivered", sid))

    async def stop(self) -> None:
        await self.world.receive("STOP", sender=f"+1202555{self.chance.randint(100, 140):04d}")

    async def later(self) -> None:
        """Time goes by: a minute, an hour, some hours; and what became final by it is told."""
        await self.world.shift(self.chance.choice([20, 70, 3700, 5 * 3600]))
        await self.world.parts.sweep().once()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_counts_add_up_to_the_status_events(database_url: str, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    # events that the broker refuses stay in the outbox until an operator lets them go
    recorder = Recorder(lambda event: _trouble(event, chance))
    async with open_world(database_url, tmp_path) as world:
        traffic = Traffic(world, seed)
        for number in range(60):
            if number == 30:
                await world.shift(86_400)
            await traffic.step()
            if chance.random() < 0.4:
                await publish(world, recorder)  # by a process that begins with nothing and ends
            if chance.random() < 0.3:
                await counting(world).tell(most=chance.choice([1, 2, 100]))
        recorder.result = lambda _event: None
        await world.shift(2 * 86_400)
        await publish(world, recorder)
        await tell(world)
        late = await world.rows("update outbox set parked = null where parked is not null returning id")
        await publish(world, recorder)  # what was parked comes when its day has long been told
        await tell(world)
        await publish(world, recorder)

        events, told = by_day(recorder)
        assert told == events
        assert late
        assert len(events) > 2
        assert await world.rows("select * from counts") == []
        assert await world.rows("select * from outbox") == []
        assert len(recorder.of("status")) > len(said(recorder))  # some were told again


def _trouble(event: OutEvent, chance: random.Random) -> Failed | RefusedForGood | None:
    if event.topic != "status":
        return None
    if StatusEvent.model_validate_json(event.value or b"").message_id.endswith("3"):
        return RefusedForGood("too_large")
    return Failed("away") if chance.random() < 0.02 else None


async def test_nothing_small_is_told_as_it_is(database_url: str, tmp_path: Path) -> None:
    recorder = Recorder()
    async with open_world(database_url, tmp_path) as world:
        await world.intake().admit("sms.outbound.v1", 0, [world.record(to=f"+1202555{n:04d}") for n in range(100, 108)])
        hands = Hands(world)
        claimed = await hands.claim()
        await hands.send(claimed[:6])
        await hands.send(claimed[6:7], Refused(Reason.NOT_TEXTABLE, "1"))
        await hands.send(claimed[7:], Refused(Reason.REFUSED, "1"))
        await publish(world, recorder)
        await world.shift(80)
        await tell(world)
        await publish(world, recorder)
        told = Counter({(one.period, one.state, one.reason, one.merged): one.count for one in counts(recorder)})
        # by chance a minute may end between two of the steps above; then less is large enough in its minute
        assert set(told) <= {("minute", "accepted", "allowed", ()), ("minute", "sent", "accepted", ())}
        await world.shift(86_400 + 3600)
        await tell(world)
        await publish(world, recorder)
        for one in counts(recorder):
            assert one.state != "failed"
            assert one.count >= 5 or one.merged == ALL
        events, found = by_day(recorder)
        assert found == events
        assert sum(found.values()) == 16
        for event in recorder.of("metrics"):
            assert b"1202555" not in (event.value or b"") + (event.key or b"")
            assert b"patient" not in (event.value or b"")


async def test_every_count_is_told_where_none_is_too_small(database_url: str, tmp_path: Path) -> None:
    recorder = Recorder()
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        await world.publish(message_id="b", tenant="shop", programme="offers", category="marketing")  # no opt-in
        await publish(world, recorder)
        await world.shift(80)
        await tell(world, smallest=1)
        await publish(world, recorder)
        told = sorted((one.tenant, one.period, one.category, one.state, one.reason, one.count) for one in counts(recorder))
        assert told == [
            ("clinic", "minute", "service", "accepted", "allowed", 1),
            ("shop", "minute", "marketing", "blocked", "no_opt_in", 1),
        ]
        minutes = sorted(event.occurred_at.replace(second=0, microsecond=0) for event in said(recorder))
        assert sorted(one.start for one in counts(recorder)) == minutes


@pytest.mark.parametrize("committed", [False, True])
async def test_a_relay_that_is_killed_at_the_removal_counts_once(database_url: str, tmp_path: Path, committed: bool) -> None:
    class Dies(Outbox):
        async def remove(self, rows: Sequence[OutboxRow], name: str, holder: str) -> None:
            if committed:
                await super().remove(rows, name, holder)
            raise asyncio.CancelledError

    recorder = Recorder()
    async with open_world(database_url, tmp_path) as world:
        for n in range(7):
            await world.publish(message_id=f"m{n}")
        parts = world.parts
        dying = Relay(Dies(parts.database), recorder, parts.leading("relay"), TOPICS, parts.vault, parts.hasher, parts.metrics)
        await asyncio.gather(asyncio.create_task(dying.run()), return_exceptions=True)
        await publish(world, recorder)
        assert len(recorder.of("status")) == (7 if committed else 14)
        await world.shift(2 * 86_400)
        await tell(world)
        await publish(world, recorder)
        events, told = by_day(recorder)
        assert told == events


async def test_who_no_longer_holds_the_name_takes_nothing_away_and_counts_nothing(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        outbox = Outbox(world.parts.database)
        taken = await outbox.take(10)
        assert await world.parts.control.hold("relay", "next", 60)
        await outbox.remove(taken, "relay", "last")
        assert await world.rows("select id from outbox") == [{"id": one.id} for one in taken]
        assert await world.rows("select * from counts") == []
        for _ in range(2):  # an answer that was lost: the same is removed again
            await outbox.remove(taken, "relay", "next")
            assert await world.rows("select id from outbox") == []
            assert [row["count"] for row in await world.rows("select count from counts")] == [1]


async def test_two_that_tell_at_once_and_one_that_dies_tell_everything_once(database_url: str, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    recorder = Recorder()
    async with open_world(database_url, tmp_path) as world:
        for n in range(30):
            await world.publish(message_id=f"m{n}", to=f"+1202555{100 + n:04d}")
        await publish(world, recorder)
        await world.shift(2 * 86_400)

        def dies(*_: object) -> Any:
            raise Killed

        with suppress(Killed):
            await Counts(world.parts.database).close("minute", 15, 100, dies)
        await asyncio.gather(*(tell(world) for _ in range(4)))
        await publish(world, recorder)
        events, told = by_day(recorder)
        assert told == events


async def test_a_period_is_told_once_its_events_are_published(database_url: str, tmp_path: Path) -> None:
    """While the broker is away nothing is told of the time since then: what is published later would come in pieces."""
    recorder = Recorder()
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        await publish(world, recorder)
        await world.publish(message_id="b")
        await world.shift(90)
        await tell(world, smallest=1)
        assert len(await world.rows("select * from counts")) == 1
        await publish(world, recorder)
        await tell(world, smallest=1)
        assert await world.rows("select * from counts") == []


async def test_a_period_that_is_not_over_is_not_told(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        for period in PERIODS:
            await world.rows(
                "insert into counts select $1::text, date_trunc($1::text, gateway_now(), 'UTC'), 'shop', '', 'service', 'sent', 'accepted', 9",
                period,
            )
        await tell(world)
        assert {row["period"] for row in await world.rows("select period from counts")} == set(PERIODS)


async def test_what_is_told_does_not_hang_on_how_much_is_told_at_once(database_url: str, tmp_path: Path) -> None:
    """A day is whole only when its hours have been told, and they when their minutes have."""
    chance = random.Random(3)
    async with open_world(database_url, tmp_path) as world:
        start = (await world.parts.ledger.now() - timedelta(days=2)).replace(hour=9, minute=0, second=0, microsecond=0)
        rows = [
            (
                start + timedelta(minutes=n),
                chance.choice(["shop", "clinic"]),
                chance.choice(["sent", "blocked"]),
                chance.randint(1, 6),
            )
            for n in range(90)
        ]
        found = []
        for most in (1, 100):
            await world.rows(
                "insert into counts select 'minute', r.at, r.tenant, '', 'service', r.state, 'accepted', r.n"
                " from unnest($1::timestamptz[], $2::text[], $3::text[], $4::bigint[]) as r(at, tenant, state, n)",
                *map(list, zip(*rows, strict=True)),
            )
            while await counting(world).tell(most):
                pass
            told = await world.rows("delete from outbox returning payload")
            found.append(sorted(row["payload"] for row in told))
        assert found[0] == found[1]
        assert sum(MetricsEvent.model_validate_json(payload).count for payload in found[0]) == sum(row[3] for row in rows)
