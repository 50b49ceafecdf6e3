"""Limits of a sender and of an account hold over all workers together."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.domain.errors import StoreUnavailable
from gateway.domain.outcome import Accepted, Later
from gateway.domain.reasons import Reason
from gateway.domain.reports import Text
from gateway.flow.pacing import Pacing
from gateway.store.control import Control
from gateway.telemetry import Metrics
from tests.integration.hands import Hands
from tests.integration.world import Carrier, World, open_world
from tests.support import until


class Hurried:
    """A worker's pacing with a clock of the test's, and its requests."""

    def __init__(self, world: World, name: str, limit: int, now: Any) -> None:
        self.pacing = Pacing(Control(world.parts.database, name), {"main": limit}, 7.0, Metrics(CollectorRegistry()), now=now)
        self.begun: list[float] = []  # when each request that is under way began

    @property
    def under_way(self) -> int:
        return self.pacing.in_flight["main"]

    def begin(self, count: int, now: float) -> None:
        count = min(count, self.pacing.free("main"))
        if count:
            self.pacing.take("main", count)
            self.begun += [now] * count

    def end(self, count: int) -> None:
        for _ in range(min(count, len(self.begun))):
            self.begun.pop(0)
            self.pacing.release("main")


@pytest.mark.parametrize("seed", range(4))
async def test_workers_together_never_exceed_an_accounts_limit(database_url: str, tmp_path: Path, seed: int) -> None:
    """Workers come, renew, are cut off in the middle, begin and end requests while renewals are under way, and freeze."""
    chance = random.Random(seed)
    async with open_world(database_url, tmp_path, GATEWAY_DATABASE_POOL="12") as world:
        limit = chance.choice([3, 10, 17])
        moved = 0.0
        workers = [Hurried(world, f"w{n}", limit, lambda: moved) for n in range(chance.randrange(2, 6))]

        async def jostle() -> None:
            """Begin as much as may begin, all through the renewals."""
            for _ in range(40):
                for worker in workers:
                    worker.begin(chance.randrange(4), moved)
                assert sum(worker.under_way for worker in workers) <= limit
                if chance.random() < 0.3:
                    chance.choice(workers).end(chance.randrange(3))
                await asyncio.sleep(0)

        async def renew(worker: Hurried) -> None:
            renewal = asyncio.create_task(worker.pacing.renew())
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random() * 0.005)
                renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)

        for _ in range(25):
            present = [worker for worker in workers if chance.random() < 0.7]
            await asyncio.gather(jostle(), *(renew(worker) for worker in present))
            if chance.random() < 0.3:
                seconds = chance.choice([1.0, 5.0, 9.0, 16.0])
                moved += seconds
                await world.shift(seconds)
            for worker in workers:  # a request ends within its own limit
                worker.end(sum(1 for began in worker.begun if moved - began >= 7.0))
        assert sum(row["share"] for row in await world.rows("select share from shares where until > gateway_now()")) <= limit


async def test_a_renewal_that_takes_away_does_not_let_more_begin_meanwhile(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        reached, go = asyncio.Event(), asyncio.Event()

        class Slow(Control):
            async def share(self, account: str, limit: int, in_flight: int, seconds: float) -> int:
                found = await super().share(account, limit, in_flight, seconds)
                reached.set()
                await go.wait()  # its answer is on the way
                return found

        one = Pacing(Slow(world.parts.database, "one"), {"main": 10}, 7.0, Metrics(CollectorRegistry()))
        other = Hurried(world, "other", 10, asyncio.get_running_loop().time)
        go.set()
        await one.renew()
        assert one.free("main") == 10
        await other.pacing.renew()  # gets nothing yet
        go.clear()
        reached.clear()
        renewing = asyncio.create_task(one.renew())
        await reached.wait()
        await other.pacing.renew()  # is given what one has just lost
        assert one.free("main") + other.pacing.free("main") <= 10
        go.set()
        await renewing
        assert (one.free("main"), other.pacing.free("main")) == (5, 5)


async def test_the_share_of_a_worker_that_is_gone_passes_to_the_others(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        moved = 0.0
        gone, left = (Hurried(world, name, 9, lambda: moved) for name in ("gone", "left"))
        await gone.pacing.renew()
        await left.pacing.renew()
        assert (gone.pacing.free("main"), left.pacing.free("main")) == (9, 0)
        await gone.pacing.renew()
        await left.pacing.renew()
        assert (gone.pacing.free("main"), left.pacing.free("main")) == (5, 4)
        for seconds in (8.0, 8.0):
            moved += seconds
            await world.shift(seconds)
            await left.pacing.renew()
        assert left.pacing.free("main") == 9
        assert gone.pacing.free("main") == 0  # frozen meanwhile: it must not go on by what it remembers
        assert gone.pacing.room({}) == {}
        await left.pacing.give_back()
        assert left.pacing.free("main") == 0
        await gone.pacing.renew()
        assert gone.pacing.free("main") == 9


async def test_without_an_answer_the_room_closes_by_itself(database_url: str, tmp_path: Path) -> None:
    class Away(Control):
        async def share(self, account: str, limit: int, in_flight: int, seconds: float) -> int:
            raise StoreUnavailable("away")

    async with open_world(database_url, tmp_path) as world:
        pacing = Pacing(Control(world.parts.database, "w"), {"main": 4}, 7.0, Metrics(CollectorRegistry()))
        await pacing.renew()
        pacing._store = Away(world.parts.database, "w")
        with pytest.raises(StoreUnavailable):
            await pacing.renew()
        assert pacing.free("main") == 0


async def test_an_accounts_concurrency_is_never_exceeded_by_dispatch(database_url: str, tmp_path: Path) -> None:
    at_once = most = 0

    async def answer(_text: Text) -> Accepted:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return Accepted(f"SM{next(ids):032x}", 1)

    ids = itertools.count()
    more = {"GATEWAY_ACCOUNTS__MAIN__CONCURRENCY": "5"}
    async with (
        open_world(database_url, tmp_path, Carrier(answer), **more) as one,
        open_world(database_url, tmp_path, Carrier(answer), **more) as other,
    ):
        await one.intake().admit("sms.outbound.v1", 0, [one.record(to=f"+1202555{n:04d}") for n in range(100, 200)])
        async with one.sending(), other.sending():
            await until(lambda: one.rows("select 1 where not exists (select from queue)"), 30)
        assert most == 5


# -- rates -----------------------------------------------------------------------------------------------------------------------


async def spend(world: World, workers: list[Hands], seconds: float, step: float) -> list[tuple[float, int]]:
    """Let workers claim as they like while the store's clock moves; (moment, parts) of what each claim took, the first at 0."""
    spent: list[tuple[float, int]] = []
    began = await store_time(world)
    while await store_time(world) - began < seconds:
        for worker in workers:
            before = await store_time(world) - began
            claimed = await worker.claim()
            if claimed:
                rows = await world.rows("select sum(parts) as parts from queue where uid = any($1)", [one.uid for one in claimed])
                spent.append((before, rows[0]["parts"]))
                await worker.send(claimed)
        await world.shift(step)
    return spent


async def store_time(world: World) -> float:
    moment: datetime = await world.parts.ledger.now()
    return moment.timestamp()


def busiest(spent: list[tuple[float, int]], window: float) -> int:
    return max(sum(parts for moment, parts in spent if start <= moment < start + window) for start, _ in spent)


async def set_rate(world: World, per_second: float | None) -> Any:
    """Give every sender a rate, and routes that know of it."""
    return [type(route)(**{**_fields(route), "per_second": per_second}) for route in world.parts.routes]


def _fields(route: Any) -> dict[str, Any]:
    return {name: getattr(route, name) for name in route.__slots__}


@pytest.mark.parametrize("parts", [1, 3])
async def test_a_senders_rate_in_parts_holds_over_two_workers(database_url: str, tmp_path: Path, parts: int) -> None:
    async with open_world(database_url, tmp_path) as world:
        body = "x" * (150 * parts)
        records = [world.record(to=f"+1202555{n:04d}", body=body) for n in range(100, 200)]
        await world.intake().admit("sms.outbound.v1", 0, records)
        routes = await set_rate(world, 10.0)
        workers = [Hands(world, name, routes=routes) for name in ("one", "other")]
        spent = await spend(world, workers, 6.0, 0.1)
        total = sum(count for _, count in spent)
        # 10 a second, a quarter of a second's worth that was not used before, and one message more than fits
        assert busiest(spent, 2.0) <= 20 + 2.5 + parts + 1
        assert 50 <= total <= 10 * spent[-1][0] + 2.5 + parts + 1


async def test_an_accounts_rate_in_requests_holds_over_two_workers(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        for tenant, programme in (("clinic", "visits"), ("shop", "orders"), ("shop", "offers")):
            records = [
                world.record(to=f"+1202555{n:04d}", tenant=tenant, programme=programme, body="x" * 400) for n in range(100, 150)
            ]
            await world.intake().admit("sms.outbound.v1", 0, records)
        workers = [Hands(world, name, rates={"main": 8.0}) for name in ("one", "other")]
        spent = [(moment, parts // 3) for moment, parts in await spend(world, workers, 5.0, 0.1)]
        assert busiest(spent, 2.0) <= 16 + 2 + 1 + 1
        assert 34 <= sum(count for _, count in spent) <= 8 * spent[-1][0] + 2 + 1 + 1


async def test_an_accounts_rate_is_not_given_to_senders_that_have_nothing_to_send(database_url: str, tmp_path: Path) -> None:
    """Of many senders one has messages: it may use all that the account has."""
    async with open_world(database_url, tmp_path) as world:
        records = [world.record(to=f"+1202555{n:04d}") for n in range(100, 200)]
        await world.intake().admit("sms.outbound.v1", 0, records)
        known = next(route for route in world.parts.routes if route.programme == "visits")
        names = [f"+1415555{n:04d}" for n in range(60)]
        await world.parts.control.put_routes([("clinic", "visits", "twilio", "main", name, None) for name in names])
        rows = await world.rows("select route_id, sender from routes where sender = any($1)", names)
        idle = [type(known)(**{**_fields(known), "route_id": row["route_id"], "sender": row["sender"]}) for row in rows]
        worker = Hands(world, rates={"main": 20.0}, routes=[*idle, known])
        spent = await spend(world, [worker], 3.0, 0.1)
        assert sum(count for _, count in spent) >= 45


async def test_a_429_holds_the_sender_or_the_account_for_all_workers(database_url: str, tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(text: Text) -> Accepted | Later:
        asked.append(text.sender)
        if len(asked) == 1:
            return Later(Reason.RATE_LIMITED, "20429", wait=50.0, holds="account")
        return Accepted(f"SM{len(asked):032x}", 1)

    async with open_world(database_url, tmp_path, Carrier(answer)) as world:
        await world.publish(message_id="a")
        async with world.sending():
            await until(lambda: world.rows("select * from paces where hold_until > gateway_now()"))
        await world.publish(message_id="b", to="+12025550102", tenant="shop", programme="orders")
        assert await Hands(world, "another").claim() == []
        await world.shift(49)
        assert await Hands(world, "another").claim() == []
        await world.shift(3)
        assert len(await Hands(world, "another").claim()) == 2
        assert asked == ["+12125550120"]


async def test_a_broken_wish_holds_an_account_an_hour_at_most(database_url: str, tmp_path: Path) -> None:
    async def answer(_text: Text) -> Later:
        return Later(Reason.RATE_LIMITED, "20429", wait=9e11, holds="account")

    async with open_world(database_url, tmp_path, Carrier(answer)) as world:
        await world.publish(message_id="a")
        async with world.sending():
            await until(lambda: world.rows("select * from paces where hold_until > gateway_now()"))
        rows = await world.rows(
            "select extract(epoch from hold_until - gateway_now())::float8 as held from paces where hold_reason <> ''"
        )
        assert [row["held"] <= 3600 for row in rows] == [True]
        assert (await world.rows("select extract(epoch from due_at - gateway_now())::float8 as waits from queue"))[0][
            "waits"
        ] <= 3600


def test_slots_are_hoped_for_only_while_they_fall_free() -> None:
    """How many are marked ahead: what falls free in the time of a mark, a quarter of the share at most, none when requests hang."""
    moment = 100.0
    pacing = Pacing(None, {"main": 100}, 7.0, Metrics(CollectorRegistry()), now=lambda: moment)  # type: ignore[arg-type] # no store is asked
    pacing._share["main"] = 100
    assert pacing.soon("main") == 0
    for _ in range(2000):  # a request ends every two milliseconds
        moment += 0.002
        pacing.in_flight["main"] = 100
        pacing.release("main")
    assert 8 <= pacing.soon("main") <= 11
    for _ in range(2000):  # every tenth of a millisecond
        moment += 0.0001
        pacing.in_flight["main"] = 100
        pacing.release("main")
    assert pacing.soon("main") == 25
    moment += 1
    assert pacing.soon("main") == 0
