"""P3 on a real PostgreSQL: once a STOP is in force no request for its person begins, in thousands of random interleavings.

Every interleaving runs the gateway's own statements: intake, two workers that claim, mark, request and settle, refusals that put a
message back, rescue, a STOP and sometimes a START. What is random is who goes when: between any two statements each actor waits for
its turn, and turns are drawn from a seed. A test of the test takes each safeguard out and must see the invariant break.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest

from gateway.domain.changes import settle
from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.decide import decide
from gateway.domain.outcome import Accepted, Later, Outcome
from gateway.domain.reasons import Reason
from gateway.flow.claims import Claimed
from gateway.flow.conversation import OptIn
from gateway.flow.stop import OptOut
from gateway.store.consents import Consents
from gateway.store.database import Database
from gateway.store.dispatch import Claims
from gateway.store.statements import statements
from tests.integration.world import World, open_world

ROUNDS = int(os.environ.get("STOP_RACE_ROUNDS", "2000"))
AT_ONCE = 8  # people who race at the same time, each on sessions of their own: real concurrency beside the drawn turns


@dataclass
class Race:
    """One person, what began and when, and from when on nothing may."""

    number: str
    subject_id: bytes
    begun: list[tuple[UUID, int]] = field(default_factory=list)
    in_force: bool = False
    restarted: bool = False
    violations: list[str] = field(default_factory=list)
    accepted: dict[UUID, int] = field(default_factory=dict)

    def begin(self, claimed: Claimed) -> None:
        if self.in_force and not self.restarted:
            self.violations.append(f"attempt {claimed.attempt} began after the STOP was in force")
        self.begun.append((claimed.uid, claimed.attempt))


class Turns:
    """Draws who goes next. ``pause`` gives up the turn for a random, short while: none, one, or several rounds of the event loop."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    async def pause(self, longest: float = 0.004) -> None:
        kind = self.chance.random()
        if kind < 0.3:
            return
        if kind < 0.8:
            for _ in range(self.chance.randrange(1, 6)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(self.chance.random() * longest)


class Paused(Database):
    """The database, with a pause between any two statements of a transaction as well as between transactions."""

    def __init__(self, inner: Database, turns: Turns) -> None:
        self._inner = inner
        self._turns = turns
        self.expected = inner.expected

    async def transact(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        async def paused(session: Any) -> Any:
            return await work(_PausedSession(session, self._turns))

        await self._turns.pause()
        return await self._inner.transact(paused)

    async def read(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        await self._turns.pause()
        return await self._inner.read(work)

    async def fetch(self, statement: str, *arguments: object) -> Any:
        await self._turns.pause()
        return await self._inner.fetch(statement, *arguments)

    async def execute(self, statement: str, *arguments: object) -> str:
        await self._turns.pause()
        return await self._inner.execute(statement, *arguments)


class _PausedSession:
    def __init__(self, session: Any, turns: Turns) -> None:
        self._session = session
        self._turns = turns

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._session, name)

        async def call(*arguments: object) -> Any:
            await self._turns.pause()
            return await method(*arguments)

        return call


class Worker:
    """Claims, marks, requests and settles messages of one person, by the statements of the store and the pure functions."""

    def __init__(self, world: World, database: Any, name: str, turns: Turns) -> None:
        self._world = world
        self._turns = turns
        versions = {policy.tenant: policy.version for policy in world.parts.policies}
        self._claims = Claims(database, name, world.parts.routes, versions, {}, lease=30, router=world.parts.router)

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            claimed = (await self._claims.claim({"main": 3}, decide, 3)).claimed
            for one in claimed:
                await self._carry(one)
            if not claimed:
                await asyncio.sleep(0.001)

    async def _carry(self, claimed: Claimed) -> None:
        await self._turns.pause()
        if not await self._claims.mark([claimed]):
            return
        await self._turns.pause(longest=0.1)  # a process may sleep between its mark and its request
        race = RACES[claimed.subject_id]
        race.begin(claimed)
        await self._turns.pause()
        refused = self._turns.chance.random() < 0.4
        outcome: Outcome = Later(Reason.RATE_LIMITED, "20429") if refused else Accepted(self._world.carrier.new_id(), 1)
        if not refused:
            race.accepted[claimed.uid] = race.accepted.get(claimed.uid, 0) + 1

        def judge(held: Any, now: datetime) -> Any:
            changes = (
                settle(one.message, one.queued, claimed.attempt, outcome, now, self._world.parts.horizons)
                for one in held.values()
            )
            return [change for change in changes if change is not None]

        await self._world.parts.ledger.change([claimed.uid], judge)


RACES: dict[bytes, Race] = {}


async def _race(world: World, seed: int) -> Race:
    turns = Turns(random.Random(seed))
    number = f"+1{200 + seed % 700}5550{100 + seed // 700 % 100:03d}"
    subject_id = world.parts.hasher.subject_id(_phone(number))
    race = RACES[subject_id] = Race(number, subject_id)
    database: Any = Paused(world.parts.database, turns)
    # A STOP that hurries, and one that others overtake at every step.
    consents = Consents(
        database if turns.chance.random() < 0.5 else world.parts.database,
        world.parts.routes,
        world.parts.hasher.person_key,
        "race",
    )
    key = ConsentKey(subject_id, "clinic", Scope.TENANT)

    async def intake() -> None:
        intake = world.intake()
        intake._admission._database = database  # type: ignore[attr-defined] # pauses between its statements too
        for count in range(turns.chance.randrange(1, 4)):
            await intake.admit("sms.outbound.v1", 0, [world.record(message_id=f"{seed}-{count}", to=number)])

    async def stop() -> None:
        for _ in range(turns.chance.randrange(0, 40)):
            await turns.pause()
        stop = world.parts.stop.__class__(consents, world.parts.policies.sender_map(), world.parts.metrics, wait=40)
        result = await stop.opt_out(OptOut(key, "api", None, actor="race"))
        assert result is not None
        assert result.in_force
        race.in_force = True
        if turns.chance.random() < 0.2:
            await turns.pause()
            race.restarted = True  # from here on requests may begin again
            await consents.opt_in(OptIn(key, "api", datetime.now(UTC), actor="race"))
        elif turns.chance.random() < 0.5:
            # a START that is older than the STOP, such as a provider's late repeat, changes nothing
            await consents.opt_in(OptIn(key, "api", datetime(2020, 1, 1, tzinfo=UTC), actor="race"))

    over = asyncio.Event()

    async def play() -> None:
        await asyncio.gather(intake(), stop())
        over.set()

    workers = [Worker(world, database, f"w{seed}-{n}", turns) for n in range(2)]
    await asyncio.gather(play(), *(worker.run(over) for worker in workers))
    return race


def _phone(number: str) -> Any:
    from gateway.domain.personal import PhoneNumber

    return PhoneNumber(number)


async def _rounds(world: World, seeds: range) -> list[str]:
    violations: list[str] = []
    for start in range(seeds.start, seeds.stop, AT_ONCE):
        races = await asyncio.gather(*(_race(world, seed) for seed in range(start, min(start + AT_ONCE, seeds.stop))))
        # What a worker of another race claimed may still be under way: let the last ones end before the account.
        for race in races:
            violations += [f"seed {start}: {text}" for text in race.violations]
            violations += [f"seed {start}: accepted {count} times" for count in race.accepted.values() if count > 1]
    return violations


async def test_no_request_begins_once_a_stop_is_in_force(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path, GATEWAY_DATABASE_POOL="60") as world:
        assert await _rounds(world, range(ROUNDS)) == []
        begun = sum(len(race.begun) for race in RACES.values())
        blocked = (await world.rows("select count(*) as n from messages where state = 'blocked'"))[0]["n"]
        # The test must have had something to find: requests before, and messages that STOP had to catch.
        assert begun > ROUNDS / 4
        assert blocked > ROUNDS / 4


@asynccontextmanager
async def _without(safeguard: str) -> AsyncIterator[None]:
    """Take one safeguard out of the code."""
    match safeguard:
        case "claim reads consent":
            with patch("gateway.store.dispatch.consents_of", _nothing):
                yield
        case "stop blocks what waits":
            with patch.object(Consents, "block", _no_changes):
                yield
        case "only what is marked is sent":
            with patch.object(Claims, "mark", _all_marked):
                yield
        case "stop waits for what is marked":
            consents = dict(statements("consents"))
            consents["under_way"] = "select count(*) from queue where false and subject_id = $1 and tenant = $2 and $3 = $4"
            with patch("gateway.store.consents.statements", lambda name: consents if name == "consents" else statements(name)):
                yield
        case _:
            raise AssertionError(f"no such safeguard: {safeguard}")


async def _nothing(_session: object, _subjects: object) -> dict[bytes, Any]:
    return {}


async def _all_marked(_self: object, claimed: list[Claimed]) -> dict[UUID, datetime]:
    return {one.uid: datetime.now(UTC) for one in claimed}


async def _no_changes(_self: object, _key: object) -> list[Any]:
    return []


@pytest.mark.parametrize(
    "safeguard", ["claim reads consent", "stop blocks what waits", "stop waits for what is marked", "only what is marked is sent"]
)
async def test_the_race_sees_a_safeguard_taken_out(database_url: str, tmp_path: Path, safeguard: str) -> None:
    async with open_world(database_url, tmp_path, GATEWAY_DATABASE_POOL="60") as world, _without(safeguard):
        for start in range(100_000, 100_000 + 800, 80):
            if await _rounds(world, range(start, start + 80)):
                return
        pytest.fail(f"800 races saw nothing although taken out: {safeguard}")
