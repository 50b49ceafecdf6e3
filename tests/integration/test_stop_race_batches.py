"""P3 with both providers and with batches: many people in one request, some of whom text STOP at every moment.

Nobody is texted once their STOP is in force, and nobody else's text is held up or spoiled by it. In the first test the moments are drawn,
as in ``test_stop_race.py``; in the others each moment is steered, under the gateway's own dispatch.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest

from gateway.domain.changes import settle
from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.decide import decide
from gateway.domain.outcome import Accepted, Later, Outcome, Refused, Unknown
from gateway.domain.personal import PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import Text
from gateway.flow.claims import Claimed, Marked
from gateway.flow.dispatch import Dispatch
from gateway.flow.hands import Hands
from gateway.flow.stop import OptOut
from gateway.store.consents import Consents
from gateway.store.dispatch import Claims
from tests.integration.test_stop_race import Paused, Turns
from tests.integration.world import Carrier, OpenGate, World, open_world
from tests.support import until

ROUNDS = int(os.environ.get("STOP_RACE_BATCH_ROUNDS", "60"))
PEOPLE = 12  # of a round, each with a message or two; a good third of them text STOP
MOST = 100  # messages in one request to the account for batches
POLICY = """
tenant: news
name: The News
languages: [en]
providers: [twilio, ringcentral]
region: US
opt_out: {scope: programme}
programmes:
  daily:
    categories: [service]
    help_contact: help@news.example
    senders: [{number: "+14155550130", account: main}, {number: "+13105550131", account: ring}]
  alerts:
    categories: [service]
    help_contact: help@news.example
    senders: [{number: "+13105550132", account: ring}]
"""
RING = {
    "GATEWAY_ACCOUNTS__RING__PROVIDER": "ringcentral",
    "GATEWAY_ACCOUNTS__RING__CLIENT_ID": "id",
    "GATEWAY_ACCOUNTS__RING__CLIENT_SECRET": "secret",
    "GATEWAY_ACCOUNTS__RING__JWT": "jwt",
    "GATEWAY_ACCOUNTS__RING__VERIFICATION_TOKEN": "v" * 16,
}
DOWN = Later(Reason.UNREACHABLE, "connect", holds="account")


@asynccontextmanager
async def news(database_url: str, folder: Path, **more: str) -> AsyncIterator[tuple[World, Carrier]]:
    """A gateway with an account of one text a request, ``main``, and one for batches, ``ring``, which comes with it."""
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / "news.yaml").write_text(POLICY)
    async with open_world(database_url, folder, None, **RING, **more) as world:
        ring = Carrier(name="ringcentral", account="ring", batch=MOST)
        world.parts.providers = {"main": world.carrier, "ring": ring}  # type: ignore[dict-item] # a provider is what answers like one
        yield world, ring


def key_of(world: World, number: str, programme: str = "daily") -> ConsentKey:
    return ConsentKey(world.parts.hasher.subject_id(PhoneNumber(number)), "news", Scope.PROGRAMME, programme)


# -- moments that are drawn ------------------------------------------------------------------------------------------------------


@dataclass
class Round:
    """What began, and from when on nothing may, by person."""

    seed: int
    people: dict[bytes, str]
    in_force: set[bytes] = field(default_factory=set)
    stopping: set[bytes] = field(default_factory=set)
    accepted: Counter[UUID] = field(default_factory=Counter)
    requests: list[tuple[str, int]] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def begin(self, account: str, together: Sequence[Marked]) -> None:
        self.requests.append((account, len(together)))
        for marked in together:
            if marked.claimed.subject_id in self.in_force:
                self.found.append(f"seed {self.seed}: attempt {marked.claimed.attempt} began after the STOP was in force")


class Worker:
    """Claims, marks, requests and settles, both accounts together; what goes out in one request, ``Hands`` says as in dispatch."""

    def __init__(self, world: World, database: Any, name: str, turns: Turns, race: Round) -> None:
        self._world, self._turns, self._race = world, turns, race
        versions = {policy.tenant: policy.version for policy in world.parts.policies}
        self._claims = Claims(database, name, world.parts.routes, versions, {}, lease=30, router=world.parts.router)

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            claimed = (await self._claims.claim({"main": 20, "ring": 20}, decide, 20)).claimed
            await self._turns.pause()
            marked = await self._claims.mark(claimed) if claimed else {}
            await self._turns.pause(longest=0.05)  # a process may sleep between its mark and its requests
            hands = Hands()
            for one in claimed:
                if one.uid in marked:
                    hands.marked.setdefault(one.account, deque()).append(Marked(one, 0.0, 0.0, marked[one.uid], 0.0))
            requests = []
            for account, waiting in hands.marked.items():
                while waiting:
                    requests.append(self._request(account, hands.next_request(account, MOST if account == "ring" else 1)))
            await asyncio.gather(*requests)
            if not claimed:
                await asyncio.sleep(0.001)

    async def _request(self, account: str, together: Sequence[Marked]) -> None:
        """One request, which may be refused as a whole, or of which single messages may be; each is settled by itself."""
        chance = self._turns.chance
        self._race.begin(account, together)
        await self._turns.pause(longest=0.02)
        whole = chance.random() < 0.3
        await asyncio.gather(*(self._settle(one.claimed, DOWN if whole else self._outcome(account)) for one in together))

    def _outcome(self, account: str) -> Outcome:
        if self._turns.chance.random() < 0.15:
            return Later(Reason.RATE_LIMITED, "one", holds="message")
        return Accepted(f"{account}-{self._world.carrier.new_id()}", 1)

    async def _settle(self, claimed: Claimed, outcome: Outcome) -> None:
        if isinstance(outcome, Accepted):
            self._race.accepted[claimed.uid] += 1
        instead = (claimed.instead.route_id, claimed.instead.sender) if claimed.instead is not None else None
        await self._turns.pause()

        def judge(held: Any, now: datetime) -> Any:
            changes = (
                settle(one.message, one.queued, claimed.attempt, outcome, now, self._world.parts.horizons, instead=instead)
                for one in held.values()
            )
            return [change for change in changes if change is not None]

        await self._world.parts.ledger.change([claimed.uid], judge)


async def _round(world: World, seed: int) -> Round:
    turns = Turns(random.Random(seed))
    numbers = [f"+1{300 + seed % 400}5550{100 + place}" for place in range(PEOPLE)]
    race = Round(seed, {key_of(world, number).subject_id: number for number in numbers})
    database: Any = Paused(world.parts.database, turns)
    consents = Consents(database, world.parts.routes, world.parts.hasher.person_key, "race")

    async def intake() -> None:
        records = [
            world.record(tenant="news", programme="daily", message_id=f"{seed}-{place}-{count}", to=number)
            for place, number in enumerate(numbers)
            for count in range(turns.chance.randrange(1, 3))
        ]
        middle = turns.chance.randrange(len(records))
        for some in (records[:middle], records[middle:]):
            if some:
                await world.intake().admit("sms.outbound.v1", 0, some)
            await turns.pause()

    async def stop(number: str) -> None:
        for _ in range(turns.chance.randrange(0, 60)):
            await turns.pause()
        key = key_of(world, number)
        race.stopping.add(key.subject_id)
        stop = world.parts.stop.__class__(consents, world.parts.policies.sender_map(), world.parts.metrics, wait=40)
        result = await stop.opt_out(OptOut(key, "api", None, actor="race"))
        assert result is not None
        assert result.in_force
        race.in_force.add(key.subject_id)

    over = asyncio.Event()

    async def play() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(intake())
            for number in numbers:
                if turns.chance.random() < 0.4:
                    group.create_task(stop(number))

        async def left() -> bool:
            return not await world.rows("select from queue limit 1")

        await until(left, 30, "nothing waits")
        over.set()

    workers = [Worker(world, database, f"w{seed}-{n}", turns, race) for n in range(2)]
    await asyncio.gather(play(), *(worker.run(over) for worker in workers))
    race.found += [f"seed {seed}: accepted {count} times" for count in race.accepted.values() if count > 1]
    for row in await world.rows("select uid, subject_id, state from messages where message_id like $1", f"{seed}-%"):
        if row["subject_id"] not in race.stopping and not (race.accepted[row["uid"]] == 1 and row["state"] == "sent"):
            race.found.append(f"seed {seed}: {row['state']}, of somebody who did not text STOP")
        if row["state"] == "blocked" and race.accepted[row["uid"]]:
            race.found.append(f"seed {seed}: blocked, and accepted")
    return race


async def test_no_message_of_a_batch_begins_once_its_persons_stop_is_in_force(database_url: str, tmp_path: Path) -> None:
    async with news(database_url, tmp_path, GATEWAY_DATABASE_POOL="30") as (world, _):
        races = [await _round(world, seed) for seed in range(ROUNDS)]
        assert [text for race in races for text in race.found] == []
        requests = [request for race in races for request in race.requests]
        # There was something to find: batches of many, requests by either account, and messages that STOP had to catch.
        assert sum(count > 2 for _, count in requests) > ROUNDS / 2
        assert {account for account, _ in requests} == {"main", "ring"}
        blocked = (await world.rows("select count(*) as n from messages where state = 'blocked'"))[0]["n"]
        assert blocked > ROUNDS / 2


# -- moments that are steered ----------------------------------------------------------------------------------------------------

Moment = Literal["before the claim", "between claim and mark", "between mark and request", "during the request"]
NUMBERS = tuple(f"+12025550{number}" for number in range(110, 118))
WHO_STOPS = NUMBERS[3]
OUTCOMES: dict[str, Outcome] = {
    "accepted": Accepted("a2p:one-batch"),
    "unknown": Unknown("read_timeout"),
    "refused for now": Later(Reason.RATE_LIMITED, "CMN-301", wait=0.0, holds="message"),
    "refused for good": Refused(Reason.NOT_TEXTABLE, "SMS-RC-410"),
}


class Halt:
    """Holds up what comes to it, until it is let go."""

    def __init__(self) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def here(self) -> None:
        self.reached.set()
        await asyncio.wait_for(self.go.wait(), 20)


class Stopped:
    """Claims that halt on one side of the mark, the first time."""

    def __init__(self, inner: Claims, before: Halt, after: Halt) -> None:
        self._inner, self._before, self._after = inner, before, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def mark(self, claimed: Sequence[Claimed]) -> dict[UUID, datetime]:
        await self._before.here()
        marked = await self._inner.mark(claimed)
        await self._after.here()
        return marked


async def publish_to_all(world: World) -> None:
    records = [world.record(tenant="news", programme="alerts", message_id=f"m-{to}", to=to) for to in NUMBERS]
    await world.intake().admit("sms.outbound.v1", 0, records)


async def text_stop(world: World, number: str) -> float:
    """What a STOP does; the event loop's time at which it was in force."""
    result = await world.parts.stop.opt_out(OptOut(key_of(world, number, "alerts"), "api", None, actor="race"))
    assert result is not None
    assert result.in_force
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    "moment, outcome",
    [
        ("before the claim", "accepted"),
        ("between claim and mark", "accepted"),
        *(("between mark and request", outcome) for outcome in OUTCOMES),
        *(("during the request", outcome) for outcome in OUTCOMES),
    ],
)
async def test_a_stop_at_every_moment_of_a_batch(database_url: str, tmp_path: Path, moment: Moment, outcome: str) -> None:
    """The others' texts leave together, whatever the one does; and they are settled as the provider answers, each by itself."""
    async with news(database_url, tmp_path) as (world, ring):
        before, after, during = Halt(), Halt(), Halt()
        first = {"seen": False}

        async def answer(text: Text) -> Outcome:
            await during.here()
            if text.to.reveal() == WHO_STOPS and not first["seen"]:
                first["seen"] = True
                return OUTCOMES[outcome]
            return Accepted("a2p:one-batch")

        ring.answer = answer
        await publish_to_all(world)
        dispatch: Dispatch = world.parts.dispatch(OpenGate())
        dispatch._claims = Stopped(dispatch._claims, before, after)  # type: ignore[arg-type] # halts at the mark
        halts = {"between claim and mark": before, "between mark and request": after, "during the request": during}
        for name, halt in halts.items():
            if name != moment:
                halt.go.set()
        if moment == "before the claim":
            await text_stop(world, WHO_STOPS)
        async with world.sending(dispatch):
            if moment != "before the claim":
                await asyncio.wait_for(halts[moment].reached.wait(), 20)
                stopping = asyncio.create_task(text_stop(world, WHO_STOPS))
                if moment == "between claim and mark":
                    await asyncio.wait_for(stopping, 20)  # nothing is marked: it waits for none of the others
                else:
                    await until_written(world)
                    # Somebody with nothing under way does not wait for this batch.
                    await asyncio.wait_for(text_stop(world, "+12025550199"), 20)
                    assert not stopping.done(), "in force although the request may still be on its way"
                halts[moment].go.set()
                await asyncio.wait_for(stopping, 20)
            sent_at_stop = len([text for text in ring.sent if text.to.reveal() == WHO_STOPS])

            async def all_told() -> bool:
                states = await world.states()
                others = {states[f"m-{to}"] for to in NUMBERS if to != WHO_STOPS}
                return others == {"sent"} and states[f"m-{WHO_STOPS}"] not in ("accepted", "sending", "deferred")

            await until(all_told, 20, "everybody's text is settled")
        texted = moment in ("between mark and request", "during the request")
        assert [{text.to.reveal() for text in request} for request in ring.requests] == [
            set(NUMBERS) if texted else set(NUMBERS) - {WHO_STOPS}
        ], "one request, without who was stopped before it"
        assert len([text for text in ring.sent if text.to.reveal() == WHO_STOPS]) == sent_at_stop == texted
        expected = {"accepted": "sent", "unknown": "unknown", "refused for now": "blocked", "refused for good": "failed"}
        assert (await world.states())[f"m-{WHO_STOPS}"] == (expected[outcome] if texted else "blocked")
        assert world.parts.registry.get_sample_value("sms_gateway_sends_after_stop_total") == 0


async def until_written(world: World) -> None:
    """The STOP is written, and waits for what is marked."""

    async def written() -> bool:
        return bool(await world.rows("select from consents where status = 'out' and in_force_at is null"))

    await until(written, 20, "the STOP is written")
