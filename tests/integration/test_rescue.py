"""Rescue: lost claims, what has expired, and news that no longer comes; and receipts in every order."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from gateway.domain.outcome import Accepted, Later, Unknown
from gateway.domain.reasons import Reason
from gateway.domain.reports import Receipt
from gateway.flow.rescue import Rescue
from tests.integration.hands import Hands, receipt_of, settle_by_hand, told
from tests.integration.world import World, open_world

SID, OTHER = "SM" + "1" * 32, "SM" + "2" * 32


def rescue_of(world: World) -> Rescue:
    return Rescue(world.parts.watch, world.parts.ledger, world.parts.metrics, world.parts.horizons)


def counted(world: World, name: str) -> float:
    return sum(
        sample.value
        for metric in world.parts.registry.collect()
        for sample in metric.samples
        if sample.name == f"sms_gateway_{name}"
    )


async def test_a_lost_claim_waits_again_and_a_lost_mark_is_unknown(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="claimed")
        await world.publish(message_id="marked", to="+12025550102")
        hands = Hands(world)
        claimed = await hands.claim()
        by_name = dict(zip(await hands.ids(claimed), claimed, strict=True))
        await hands.mark([by_name["marked"]])
        rescue = rescue_of(world)
        await world.shift(9)
        assert await rescue.claims() == 0
        await world.shift(2)
        assert await rescue.claims() == 2
        assert await rescue.claims() == 0
        assert await world.states() == {"claimed": "accepted", "marked": "unknown"}
        assert await hands.mark([by_name["claimed"]]) == []  # the old holder wakes up
        again = await hands.claim()
        assert [one.attempt for one in again] == [2]
        assert await hands.ids(again) == ["claimed"]
        assert counted(world, "unknown_outcomes_total") == 1
        assert counted(world, "claims_rescued_total") == 2


async def test_a_mark_speaks_of_its_own_attempt_and_worker(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        first = await hands.claim()
        await world.shift(11)
        assert await hands.mark(first) == []  # its lease is over, though nobody has rescued it yet
        await rescue_of(world).claims()
        second = await hands.claim()  # the same worker
        assert [one.attempt for one in second] == [2]
        assert await hands.mark(first) == []
        assert await Hands(world, "another").mark(second) == []
        assert len(await hands.mark(second)) == 1
        assert await hands.mark(second) == []  # once


async def test_a_late_answer_after_a_rescue(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        claimed = (await hands.claim())[0]
        await hands.mark([claimed])
        await world.shift(11)
        await rescue_of(world).claims()
        # refused for sure, but too late to know that nobody else gave it up: it stays unknown, and is never repeated
        assert await settle_by_hand(world, claimed, Later(Reason.RATE_LIMITED, "20429")) is None
        assert await settle_by_hand(world, claimed, Unknown("timeout")) is None
        assert await hands.claim() == []
        change = await settle_by_hand(world, claimed, Accepted(SID, 1))
        assert change is not None
        assert await settle_by_hand(world, claimed, Accepted(SID, 1)) is None
        assert await told(world, "a") == [("accepted", 1, False, False), ("unknown", 2, False, False), ("sent", 3, False, False)]
        assert counted(world, "duplicate_sends_total") == 0


async def test_evidence_after_the_end_is_one_correction(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        claimed = await hands.claim()
        await hands.send(claimed, Unknown("timeout"))
        await world.shift(3599)
        assert await rescue_of(world).without_news() == 0
        await world.shift(2)
        assert await rescue_of(world).without_news() == 1
        assert await rescue_of(world).without_news() == 0
        receipts = world.parts.receipts()
        assert await receipts.receive(receipt_of(claimed[0], "delivered", SID)) == "changed"
        assert await receipts.receive(receipt_of(claimed[0], "undelivered", SID)) == "repeated"
        assert await told(world, "a") == [
            ("accepted", 1, False, False), ("unknown", 2, False, False), ("unknown", 3, True, False), ("delivered", 4, True, True),
        ]  # fmt: skip
        assert [row["uid"] for row in await world.rows("select distinct uid from outbox")] == [claimed[0].uid]


async def test_sent_is_final_after_three_days_without_a_report(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        claimed = await hands.claim()
        await hands.send(claimed, Accepted(SID, 1))
        await world.shift(72 * 3600 - 60)
        assert await rescue_of(world).without_news() == 0
        await world.shift(120)
        assert await rescue_of(world).without_news() == 1
        assert (await told(world, "a"))[-1] == ("sent", 3, True, False)
        assert await world.parts.receipts().receive(receipt_of(claimed[0], "delivered", SID)) == "repeated"


async def test_what_nobody_may_send_any_more_expires(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        soon = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
        await world.publish(message_id="waiting", expires_at=soon)
        await world.publish(message_id="claimed", to="+12025550102", expires_at=soon)
        await world.publish(message_id="marked", to="+12025550103", expires_at=soon)
        await world.publish(message_id="later", to="+12025550104")
        hands = Hands(world, lease=30)
        claimed = {name: one for one in await hands.claim() for name in await hands.ids([one]) if name in {"claimed", "marked"}}
        await world.parts.database.execute(
            "update queue set state = 'waiting' where uid <> all($1)", [one.uid for one in claimed.values()]
        )
        await world.shift(50)
        assert await rescue_of(world).expired() == 0
        await world.parts.database.execute(
            "update queue set lease_until = lease_until + interval '1 hour' where state = 'claimed'"
        )
        await hands.mark([claimed["marked"]])
        await world.shift(11)
        assert await hands.mark([claimed["claimed"]]) == []  # no request begins from its expires_at on
        assert await rescue_of(world).expired() == 1
        assert await world.states() == {"waiting": "expired", "claimed": "sending", "marked": "sending", "later": "accepted"}
        await world.shift(3600)
        assert await rescue_of(world).claims() == 2
        await rescue_of(world).expired()
        assert await world.states() == {"waiting": "expired", "claimed": "expired", "marked": "unknown", "later": "accepted"}


async def test_two_sweeps_at_once_change_each_message_once(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path, GATEWAY_DATABASE_POOL="12") as world:
        await world.intake().admit(
            "sms.outbound.v1", 0, [world.record(message_id=f"m{n}", to=f"+1202555{n:04d}") for n in range(100, 140)]
        )
        hands = Hands(world)
        claimed = await hands.claim()
        await hands.mark(claimed[::2])
        await world.shift(11)
        rescues = [rescue_of(world) for _ in range(4)]
        assert sum(await asyncio.gather(*(one.claims() for one in rescues))) == 40
        numbers = await world.rows("select uid, number from audit where uid is not null group by uid, number having count(*) > 1")
        assert numbers == []


# -- receipts --------------------------------------------------------------------------------------------------------------------


async def test_a_receipt_may_come_before_the_answer(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        claimed = (await hands.claim())[0]
        await hands.mark([claimed])
        receipts = world.parts.receipts()
        assert await receipts.receive(receipt_of(claimed, None, SID)) == "changed"
        assert await receipts.receive(receipt_of(claimed, "delivered", SID)) == "changed"
        assert await settle_by_hand(world, claimed, Accepted(SID, 1)) is None
        assert await told(world, "a") == [("accepted", 1, False, False), ("sent", 2, False, False), ("delivered", 3, True, False)]
        assert counted(world, "duplicate_sends_total") == 0


async def test_a_receipt_for_an_attempt_that_was_put_back_ends_the_waiting(database_url: str, tmp_path: Path) -> None:
    """The provider said 429 and took it all the same: it is not sent again."""
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        claimed = (await hands.claim())[0]
        await hands.mark([claimed])
        await settle_by_hand(world, claimed, Later(Reason.RATE_LIMITED, "20429"), wait=0.0)
        assert await world.parts.receipts().receive(receipt_of(claimed, "sent", SID)) == "changed"
        assert await world.states() == {"a": "sent"}
        assert await hands.claim() == []


async def test_a_receipt_for_an_old_attempt_of_a_claimed_message_wins(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        first = (await hands.claim())[0]
        await hands.mark([first])
        await settle_by_hand(world, first, Later(Reason.RATE_LIMITED, "20429"), wait=0.0)
        second = (await hands.claim())[0]
        assert second.attempt == 2
        assert await world.parts.receipts().receive(receipt_of(first, "delivered", SID)) == "changed"
        assert await hands.mark([second]) == []
        rows = await world.rows("select attempt, provider_message_id from messages")
        assert rows == [{"attempt": 1, "provider_message_id": SID}]


async def test_a_second_acceptance_is_counted_and_changes_nothing(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        claimed = await hands.claim()
        await hands.send(claimed, Accepted(SID, 1))
        assert await world.parts.receipts().receive(receipt_of(claimed[0], "delivered", OTHER)) == "changed"
        assert counted(world, "duplicate_sends_total") == 1
        assert await world.parts.receipts().receive(receipt_of(claimed[0], "delivered", SID)) == "changed"
        assert (await told(world, "a"))[-1] == ("delivered", 3, True, False)
        steps = await world.rows("select number, step, code from audit where uid is not null order by number")
        assert [(row["number"], row["step"]) for row in steps] == [
            (1, "decided"), (2, "claimed"), (3, "sent"), (4, "contradicted"), (5, "delivered"),
        ]  # fmt: skip
        assert steps[3]["code"] == OTHER


async def test_receipts_of_another_account_or_of_no_message_are_recognised(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        claimed = (await hands.claim())[0]
        receipts = world.parts.receipts()
        assert await receipts.receive(receipt_of(claimed, "delivered", SID, account="other")) == "foreign_account"
        assert await receipts.receive(receipt_of(claimed, "delivered", SID, attempt=0)) == "foreign_account"
        for uid in (uuid4(), UUID(int=claimed.uid.int ^ 1)):
            assert await receipts.receive(Receipt("main", uid, 1, SID, "delivered", None)) == "unknown_message"
        assert await world.states() == {"a": "sending"}
        await hands.send([claimed], Accepted(SID, 1))
        assert await receipts.receive(receipt_of(claimed, "delivered", SID, account="other")) == "foreign_account"


async def test_an_acceptance_of_what_was_refused_and_then_stopped_is_counted(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        claimed = await hands.claim()
        await hands.send(claimed, Later(Reason.RATE_LIMITED, "http_429"))
        assert await world.receive("STOP") == "stop"
        assert await world.rows("select account from messages where message_id = 'a'") == [{"account": None}]
        receipts = world.parts.receipts()
        assert await receipts.receive(receipt_of(claimed[0], "delivered", SID)) == "changed"
        assert counted(world, "duplicate_sends_total") == 1
        assert (await world.states())["a"] == "blocked"


@pytest.mark.parametrize("seed", range(3))
async def test_receipts_repeated_shuffled_and_in_one_batch_end_the_same(database_url: str, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with open_world(database_url, tmp_path, GATEWAY_DATABASE_POOL="12") as world:
        await world.intake().admit(
            "sms.outbound.v1", 0, [world.record(message_id=f"m{n}", to=f"+1202555{n:04d}") for n in range(100, 120)]
        )
        hands = Hands(world)
        claimed = await hands.claim()
        await hands.mark(claimed)
        arriving = [
            receipt_of(one, state, f"SM{one.uid.hex}") for one in claimed for state in (None, "sent", "delivered") for _ in range(chance.randrange(1, 4))
        ]  # fmt: skip
        chance.shuffle(arriving)
        webs = [world.parts.receipts() for _ in range(3)]

        async def settle_all() -> None:
            for one in chance.sample(claimed, len(claimed)):
                await settle_by_hand(world, one, Accepted(f"SM{one.uid.hex}", 1))

        fates, _ = await asyncio.gather(asyncio.gather(*(chance.choice(webs).receive(one) for one in arriving)), settle_all())
        assert set(fates) <= {"changed", "repeated"}
        assert set((await world.states()).values()) == {"delivered"}
        assert counted(world, "duplicate_sends_total") == 0
        for name in await world.states():
            news = await told(world, name)
            assert [version for _, version, _, _ in news] == list(range(1, len(news) + 1))
            assert [final for _, _, final, _ in news] == [False] * (len(news) - 1) + [True]
