"""Lanes: one message of a person and sender under way at most, and the order in which messages were accepted."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.outcome import Accepted, Later, Unknown
from gateway.domain.reasons import Reason
from gateway.domain.reports import Text
from gateway.store.statements import statements
from tests.integration.hands import Hands, settle_by_hand
from tests.integration.world import POLICIES, Carrier, World, open_world
from tests.support import until

LATER = Later(Reason.RATE_LIMITED, "20429")


def number(n: int) -> str:
    return f"+1202555{100 + n:04d}"


async def publish(world: World, *names: str, **fields: Any) -> None:
    await world.intake().admit("sms.outbound.v1", 0, [world.record(message_id=name, **fields) for name in names])


async def test_a_persons_messages_leave_one_by_one_in_the_order_of_acceptance(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await publish(world, "a", "b", "c")
        await publish(world, "x", "y", to=number(2))
        hands = Hands(world)
        for expected in (["a", "x"], ["b", "y"], ["c"], []):
            claimed = await hands.claim()
            assert sorted(await hands.ids(claimed)) == expected
            assert await hands.claim() == []  # while these are under way, nothing more of these people
            await hands.send(claimed)


async def test_two_workers_never_hold_one_person_at_once(database_url: str, tmp_path: Path) -> None:
    """Two dispatches on one database, a person with messages of two categories and one sender, hundreds of claims at once."""
    under_way: Counter[tuple[str, str]] = Counter()
    most: Counter[str] = Counter()
    order: dict[tuple[str, str], list[str]] = {}

    async def answer(text: Text) -> Accepted | Later:
        person = (text.to.reveal(), text.sender)
        under_way[person] += 1
        most[text.sender] = max(most[text.sender], under_way[person])
        await asyncio.sleep(random.random() * 0.004)
        under_way[person] -= 1
        order.setdefault(person, []).append(text.body.reveal())
        return Accepted(f"SM{text.uid.hex}", 1)

    more = {"GATEWAY_DATABASE_POOL": "12"}
    async with (
        open_world(database_url, tmp_path, Carrier(answer), **more) as one,
        open_world(database_url, tmp_path, Carrier(answer), **more) as other,
    ):
        people, each = 12, 8
        records = [
            one.record(
                message_id=f"{person}-{place}-{category}",
                to=number(person),
                body=f"{category} {place}",
                category=category,
                tenant="shop",
                programme="orders",
            )
            for place in range(each)
            for person in range(people)
            for category in ("service", "security")
        ]
        async with one.sending(), other.sending():
            await until(lambda: one.rows("select from shares where share > 0 having count(*) = 2"))
            await one.intake().admit("sms.outbound.v1", 0, records)
            await until(lambda: one.rows("select 1 where not exists (select from queue)"), 30)
        assert one.carrier.sent
        assert other.carrier.sent
        assert len(one.carrier.sent) + len(other.carrier.sent) == len(records)
        assert set(most.values()) == {1}
        for sent in order.values():
            for category in ("service", "security"):
                places = [int(body.split()[1]) for body in sent if body.startswith(category)]
                assert places == list(range(each))


async def test_claims_at_the_same_moment_share_nobody(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path, GATEWAY_DATABASE_POOL="20") as world:
        for person in range(20):
            for category in ("service", "security"):
                await publish(
                    world, f"{person}-{category}", to=number(person), category=category, tenant="shop", programme="orders"
                )
        workers = [Hands(world, f"w{n}") for n in range(8)]
        taken = [one for claimed in await asyncio.gather(*(worker.claim() for worker in workers)) for one in claimed]
        assert len({one.uid for one in taken}) == len(taken)
        assert max(Counter(one.subject_id for one in taken).values()) == 1
        again = [one for claimed in await asyncio.gather(*(worker.claim() for worker in workers)) for one in claimed]
        assert max(Counter(one.subject_id for one in [*taken, *again]).values()) == 1
        assert {one.subject_id for one in [*taken, *again]} == {
            row["subject_id"] for row in await world.rows("select distinct subject_id from queue")
        }


class HeldUp:
    """A database whose claims wait, once they have their locks, until a test lets them go on."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.expected = inner.expected
        self.locked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def fetch(self, statement: str, *arguments: object) -> Any:
        return await self._inner.fetch(statement, *arguments)

    async def transact(self, work: Any) -> Any:
        outer = self

        class Session:
            def __init__(self, session: Any) -> None:
                self._session = session

            def __getattr__(self, name: str) -> Any:
                return getattr(self._session, name)

            async def fetch(self, statement: str, *arguments: object) -> Any:
                rows = await self._session.fetch(statement, *arguments)
                if statement == statements("dispatch")["lock_candidates"]:
                    outer.locked.set()
                    await outer.go_on.wait()
                return rows

        return await self._inner.transact(lambda session: work(Session(session)))


async def test_a_claim_that_is_being_committed_has_its_person_to_itself(database_url: str, tmp_path: Path) -> None:
    """Two heads of two lanes of one person, at two workers at the same moment: no lock of rows keeps them apart."""
    async with open_world(database_url, tmp_path) as world:
        for category in ("service", "security"):
            await publish(world, category, category=category, tenant="shop", programme="orders")
        slow, quick = Hands(world, "slow"), Hands(world, "quick")
        held_up = HeldUp(world.parts.database)
        slow.claims._database = held_up  # type: ignore[assignment] # the same, held up between two statements
        claiming = asyncio.create_task(slow.claim(room=1))
        await asyncio.wait_for(held_up.locked.wait(), 10)
        assert await quick.claim() == []
        held_up.go_on.set()
        claimed = await claiming
        assert len(claimed) == 1
        assert await quick.claim() == []
        await slow.send(claimed)
        assert len(await quick.claim()) == 1


async def test_what_is_deferred_or_unknown_holds_nobody_up(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await publish(world, "deferred", not_before=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
        await publish(world, "unknown", "next")
        hands = Hands(world)
        claimed = await hands.claim()
        assert await hands.ids(claimed) == ["unknown"]
        await hands.send(claimed, Unknown("timeout"))
        claimed = await hands.claim()
        assert await hands.ids(claimed) == ["next"]
        await hands.send(claimed)
        await publish(world, "newest")
        await world.shift(3700)
        # due again, the deferred one goes first: it was accepted first
        claimed = await hands.claim()
        assert await hands.ids(claimed) == ["deferred"]
        await hands.send(claimed)
        assert await hands.ids(await hands.claim()) == ["newest"]


@pytest.mark.parametrize("wait", [20.0, 600.0])
async def test_one_that_backs_off_holds_its_lane_a_minute_at_most(database_url: str, tmp_path: Path, wait: float) -> None:
    async with open_world(database_url, tmp_path) as world:
        await publish(world, "first", "second")
        await publish(world, "elsewhere", to=number(9))
        hands = Hands(world)
        claimed = await hands.claim()
        assert sorted(await hands.ids(claimed)) == ["elsewhere", "first"]
        await hands.mark(claimed)
        for one in claimed:
            await settle_by_hand(world, one, LATER if (await hands.ids([one])) == ["first"] else Accepted("SM1", 1), wait=wait)
        assert await hands.claim() == []
        await world.shift(min(wait, 60) - 2)
        assert await hands.claim() == []
        await world.shift(3)
        assert await hands.ids(await hands.claim()) == (["first"] if wait < 60 else ["second"])


async def test_other_tenants_and_people_are_not_held_up(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await publish(world, "clinic-1", "clinic-2")
        await publish(world, "shop-1", "shop-2", tenant="shop", programme="orders")
        await publish(world, "shop-security", tenant="shop", programme="orders", category="security")
        await publish(world, "offers-1", tenant="shop", programme="offers")  # the lane of shop's service, another sender
        hands = Hands(world)
        assert sorted(await hands.ids(await hands.claim())) in (["clinic-1", "shop-1"], ["clinic-1", "shop-security"])
        assert await hands.claim() == []


async def test_a_paused_programme_does_not_hold_up_its_neighbours(database_url: str, tmp_path: Path) -> None:
    """What waits for an operator is like what is deferred: the person's other programmes go on."""
    async with open_world(database_url, tmp_path) as world:
        await publish(world, "paused", tenant="shop", programme="offers")
        await publish(world, "other", tenant="shop", programme="orders")
        await world.parts.control.pause("programme", "shop", "offers", "test", "")
        hands = Hands(world)
        claimed = await hands.claim()
        assert await hands.ids(claimed) == ["other"]
        await hands.send(claimed)
        await world.parts.control.resume("programme", "shop", "offers", "test")
        assert await hands.ids(await hands.claim()) == ["paused"]


async def test_a_sender_that_the_policy_has_no_more_does_not_hold_up_the_others(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await publish(world, "stuck", tenant="shop", programme="offers")
        await publish(world, "other", tenant="shop", programme="orders")
        kept = [route for route in world.parts.routes if route.programme != "offers"]
        hands = Hands(world, routes=kept)
        assert await hands.ids(await hands.claim()) == ["other"]


@pytest.mark.parametrize("limits", [(3, 100), (100, 3), (7, 7)])
async def test_a_claim_takes_no_more_than_it_was_given_room_for(
    database_url: str, tmp_path: Path, limits: tuple[int, int]
) -> None:
    async with open_world(database_url, tmp_path) as world:
        assert len(world.parts.routes) > 2  # several routes, each of which has more than the room
        for programme, tenant in (("visits", "clinic"), ("orders", "shop"), ("offers", "shop")):
            records = [world.record(tenant=tenant, programme=programme, to=number(n)) for n in range(90)]
            await world.intake().admit("sms.outbound.v1", 0, records)
        await world.parts.database.execute("analyze")
        room, most = limits
        claimed = await Hands(world).claim(room=room, most=most)
        assert len(claimed) == min(limits)
        rows = await world.rows("select count(*) as n from queue where state = 'claimed'")
        assert rows[0]["n"] == min(limits)


async def test_the_policies_of_the_world_share_no_sender() -> None:
    """What the tests above take for granted."""
    senders = [line.split('"')[1] for policy in POLICIES.values() for line in policy.splitlines() if "number" in line]
    assert len(set(senders)) == len(senders)
