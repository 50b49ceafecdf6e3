"""P3 while the key that people are hashed with is exchanged, twice, under everything that goes on: in random interleavings.

People are texted, text STOP and START, all by processes of which some learn of a version late, while versions are added, copied to,
used and settled. Once a STOP is in force no request for its person begins, whichever id the message bears; and a START undoes it under
all of them. A test of the test takes each safeguard out and must see that break.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from gateway.domain.changes import settle
from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.decide import decide
from gateway.domain.outcome import Accepted
from gateway.flow.claims import Claimed
from gateway.flow.conversation import OptIn
from gateway.flow.stop import OptOut
from gateway.store.dispatch import Claims
from gateway.store.subject_keys import SubjectKeyTable
from tests.integration.exchange import Exchanging, Process
from tests.integration.test_stop_race import Paused, Turns
from tests.integration.world import World, open_world

SEEDS = int(os.environ.get("SUBJECT_KEY_SEEDS", "3"))
PEOPLE = 24


@dataclass
class Person:
    number: str
    quiet: bool  # says one word before the key is ever exchanged, and nothing after
    stopped: bool = False
    begun: int = 0
    under_way: int = 0


@dataclass
class Scene:
    """Everybody, and what went wrong."""

    world: World
    turns: Turns
    people: dict[str, Person]
    processes: list[Process]
    listeners: list[Process]  # which take nothing in, and so learn of a version by what people say alone
    phase: int = -1
    faults: list[str] = field(default_factory=list)
    count: int = 0

    def any_process(self, *, listens: bool = False) -> Process:
        return self.turns.chance.choice([*self.processes, *self.listeners] if listens else self.processes)


async def _person(scene: Scene, person: Person) -> None:
    """What somebody says in one phase, one thing after another."""
    chance = scene.turns.chance
    if person.quiet and scene.phase > 0:
        return
    for _ in range(chance.randrange(3)):
        for _ in range(chance.randrange(20)):
            await scene.turns.pause()
        process = scene.any_process(listens=True)
        key = ConsentKey(process.first(person.number), "clinic", Scope.TENANT)
        if person.stopped and chance.random() < 0.7:
            person.stopped = False  # from here on requests may begin again
            said = OptIn(key, "api", await process.consents.now(), actor="race")
            if await process.consents.opt_in(said) != "granted":
                scene.faults.append("a START was not heeded")
        elif person.stopped or chance.random() < 0.5:
            result = await process.stop.opt_out(OptOut(key, "api", None, actor="race"))
            assert result is not None
            assert result.in_force
            person.stopped = True


async def _texts(scene: Scene, person: Person) -> None:
    for _ in range(scene.turns.chance.randrange(6)):
        await scene.turns.pause(0.02)
        scene.count += 1
        blind = scene.turns.chance.random() < 0.5
        await scene.any_process().take_in(blind=blind, message_id=f"t{scene.count}", to=person.number)


async def _worker(scene: Scene, name: str, over: asyncio.Event) -> None:
    process = Process(scene.world, name, Paused(scene.world.parts.database, scene.turns))
    parts = scene.world.parts
    versions = {policy.tenant: policy.version for policy in parts.policies}
    claims = Claims(process.database, name, parts.routes, versions, {}, 30, router=parts.router, people=process.people)

    async def carry(one: Claimed) -> None:
        await scene.turns.pause()
        if not await claims.mark([one]):
            return
        await scene.turns.pause(0.02)
        person = scene.people[parts.vault.open_number(one.tenant, one.uid, one.to_sealed).reveal()]
        if person.stopped:
            scene.faults.append("a request began after the STOP was in force")
        if person.under_way:
            scene.faults.append("two messages of a person were under way at once")
        person.begun += 1
        person.under_way += 1
        await asyncio.sleep(scene.turns.chance.random() * 0.04)
        person.under_way -= 1

        def judge(held: Any, now: datetime) -> Any:
            outcome = Accepted(scene.world.carrier.new_id(), 1)
            changes = (settle(h.message, h.queued, one.attempt, outcome, now, parts.horizons) for h in held.values())
            return [change for change in changes if change is not None]

        await parts.ledger.change([one.uid], judge)

    idle = 0
    while not over.is_set() or idle < 3:
        claimed = (await claims.claim({"main": 4}, decide, 4)).claimed
        idle = 0 if claimed else idle + 1
        await asyncio.gather(*(carry(one) for one in claimed))
        if not claimed:
            await asyncio.sleep(0.002)


async def _phase(scene: Scene, step: Any = None) -> None:
    """Everybody does something while the exchange goes a step on; until what was taken in is sent or blocked."""

    async def goes_on() -> None:
        for _ in range(scene.turns.chance.randrange(30)):
            await scene.turns.pause()
        if step is not None:
            await step()

    over = asyncio.Event()
    scene.phase += 1

    async def play() -> None:
        people = scene.people.values()
        await asyncio.gather(goes_on(), *(_person(scene, one) for one in people), *(_texts(scene, one) for one in people))
        over.set()

    await asyncio.gather(play(), *(_worker(scene, f"w{n}", over) for n in range(2)))


async def _last_words(scene: Scene) -> None:
    """At the end each person's last word holds, whichever process takes in."""
    for person in scene.people.values():
        for place, process in enumerate(scene.processes):
            name = f"last-{person.number}-{place}"
            await process.take_in(message_id=name, to=person.number)
            state = (await scene.world.states())[name]
            if state != ("blocked" if person.stopped else "accepted"):
                scene.faults.append(f"the last word was {'STOP' if person.stopped else 'no STOP'}, and the message is {state}")


async def _exchange_under_fire(world: World, seed: int) -> Scene:
    turns = Turns(random.Random(seed))
    people = {one.number: one for one in (Person(f"+1202555{200 + n:04d}", quiet=n % 4 == 0) for n in range(PEOPLE))}
    paused = Paused(world.parts.database, turns)
    processes = [Process(world, "quick"), *(Process(world, f"p{n}", paused) for n in range(3))]
    listeners = [Process(world, "quick listener"), Process(world, "listener", paused)]
    scene = Scene(world, turns, people, processes, listeners)
    operator = Exchanging(world)
    await _phase(scene)
    for version in (2, 3):

        async def add(version: int = version) -> None:
            await operator.add(version)
            await operator.copy(version)

        async def use(version: int = version) -> None:
            await operator.use(version)

        await _phase(scene, add)
        await operator.wait()
        await _phase(scene, use)
        await operator.wait()
        await _phase(scene, operator.sweep.move)
        for _ in range(3):
            await operator.sweep.move()
        assert operator.process.people.keys.settled
        assert not await world.rows("select uid from queue where elder is not null")
        await operator.wait()
    await _last_words(scene)
    return scene


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_no_request_begins_after_a_stop_whatever_is_exchanged(database_url: str, tmp_path: Path, seed: int) -> None:
    async with open_world(database_url, tmp_path, GATEWAY_DATABASE_POOL="40") as world:
        scene = await _exchange_under_fire(world, seed)
        assert scene.faults == []
        # There was something to find: messages under every version went out, and were stopped.
        blocked = (await world.rows("select count(*) as n from messages where state = 'blocked'"))[0]["n"]
        assert sum(person.begun for person in scene.people.values()) > PEOPLE
        assert blocked > PEOPLE / 2
        versions = await world.rows("select key, count(*) as n from consents group by key order by key")
        assert [row["key"] for row in versions] == [1, 2, 3]
        assert len({row["n"] for row in versions}) == 1


@asynccontextmanager
async def _without(safeguard: str) -> AsyncIterator[None]:
    """Take one safeguard out of the code."""
    match safeguard:
        case "a word is written under all versions":
            with patch("gateway.store.consents.hold_keys", _nothing):
                yield
        case "what was said before is copied":
            with patch.object(SubjectKeyTable, "copy", _all_copied), patch.object(SubjectKeyTable, "copied", _note_copied):
                yield
        case _:
            raise AssertionError(f"no such safeguard: {safeguard}")


async def _nothing(*_: object) -> None:
    return None


async def _all_copied(*_: object) -> bool:
    return True


async def _note_copied(self: SubjectKeyTable, version: int) -> None:
    await self._database.execute("update subject_keys set copied_at = now() where version = $1", version)


@pytest.mark.slow
@pytest.mark.parametrize("safeguard", ["a word is written under all versions", "what was said before is copied"])
async def test_the_race_sees_a_safeguard_taken_out(database_url: str, tmp_path: Path, safeguard: str) -> None:
    async with open_world(database_url, tmp_path, GATEWAY_DATABASE_POOL="40") as world, _without(safeguard):
        scene = await _exchange_under_fire(world, 1)
        assert scene.faults != []
