"""One run from its start to its account: publish, text and hurt as the schedule says, wait until nothing is left, draw up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.account import Account
from tests.chaos.faults import Fault
from tests.chaos.hurting import Hurting, Outcome
from tests.chaos.ledgers import draw_up_all
from tests.chaos.operator import Operator
from tests.chaos.schedule import Schedule
from tests.chaos.traffic import People, Producer, TopicReader
from tests.chaos.witnessed import Witnessed
from tests.chaos.world import ACCOUNTS, World, open_world

__all__ = ["Played", "Progress", "play"]

#: Quiet seconds from the end of the load until every event is settled: what is unknown is so for 15, and is tried again for some.
_SETTLE_SECONDS: Final = 40.0
#: And from then until nothing is left to do and all is read: news that is overdue, the last of the outbox.
_REST_SECONDS: Final = 15.0
#: And until every account was told of every opt-out: one that does not answer is asked ever more seldom.
_TOLD_SECONDS: Final = 60.0


@dataclass(slots=True)
class Progress:
    """How far a run is, for whoever shows it; ``say`` is called with a line about what has happened."""

    say: Callable[[str], None]
    phase: str = "starting"
    published: int = 0
    faults: int = 0


@dataclass(frozen=True, slots=True)
class Played:
    """A run that is over. ``seconds`` is how long it took, with its start and its end."""

    seed: int
    seconds: float
    outcomes: dict[Fault, Outcome]
    account: Account

    @property
    def played(self) -> int:
        """How many faults there were."""
        return sum(outcome.played for outcome in self.outcomes.values())

    @property
    def not_played(self) -> dict[str, str]:
        """The kinds of faults that could not be played here, and why."""
        return {fault.kind: outcome.seen for fault, outcome in self.outcomes.items() if not outcome.played}


async def play(schedule: Schedule, folder: Path, progress: Progress) -> Played:
    """Play a schedule; ``folder`` takes keys, policies and logs."""
    began = time.monotonic()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # our own clients are hurt too, and go on
    witnessed = Witnessed()
    async with open_world(folder, schedule.seed) as world:
        progress.say(f"everything is up after {time.monotonic() - began:.0f} s; the broker: {world.broker.name}")
        outcomes, unsettled = await _load(world, schedule, witnessed, progress)
        progress.phase = "drawing up the account"
        account = await draw_up_all(world, witnessed, outcomes)
        account.violations["not settled in time"] = unsettled
    return Played(schedule.seed, time.monotonic() - began, outcomes, account)


async def _load(
    world: World, schedule: Schedule, witnessed: Witnessed, progress: Progress
) -> tuple[dict[Fault, Outcome], list[str]]:
    """Publish, text and hurt, then wait until nothing is left to do: what came of each fault, and what was waited for in vain."""
    reader = TopicReader(world.broker.direct, witnessed, spool=world.broker.durable)
    producer = Producer(world.broker.direct, schedule, witnessed)
    people = People(world.carrier, schedule, witnessed, ACCOUNTS)
    hurting = Hurting(world, Operator(world.environment, witnessed, world.calm), witnessed, people)
    reading = asyncio.create_task(reader.run())

    async def settled() -> bool:
        if reading.done():
            reading.result()  # a reader that has failed has read nothing
        return not any(witnessed.unsettled())

    showing = asyncio.create_task(_count(witnessed, progress))
    try:
        progress.phase = "under fire"
        began = time.monotonic()
        async with asyncio.TaskGroup() as load:
            load.create_task(producer.run(began))
            load.create_task(people.run(began))
            outcomes = await _hurt(hurting, schedule, began, progress)
            producer.enough.set()
            progress.say(f"the last fault is over {time.monotonic() - began:.0f} s after the first message")
        over = time.monotonic()
        progress.phase = "settling"
        unsettled: list[str] = []
        for done, seconds, what, kind in (
            (settled, _SETTLE_SECONDS, "every event is settled", "settled"),
            (world.settled, _REST_SECONDS, "nothing is left to do", "nothing left to do"),
            (world.told, _TOLD_SECONDS, "every account is told of every opt-out", "opt-outs told"),
            (reader.at_the_end, _REST_SECONDS, "the topics are read", "topics read"),
        ):
            try:
                await world.calm.until(done, seconds, what, kind=kind)
            except AssertionError as limit:  # the account says what is missing as well, where it can
                unsettled.append(str(limit))
                progress.say(unsettled[-1])
        if not unsettled:
            progress.say(f"all is settled {time.monotonic() - over:.0f} s after the last message")
        if reading.done():
            reading.result()
        return outcomes, unsettled
    finally:
        for task in (reading, showing):
            task.cancel()
        await asyncio.gather(reading, showing, return_exceptions=True)


async def _count(witnessed: Witnessed, progress: Progress) -> None:
    while True:
        progress.published = len(witnessed.published)
        await asyncio.sleep(0.5)


async def _hurt(hurting: Hurting, schedule: Schedule, began: float, progress: Progress) -> dict[Fault, Outcome]:
    """Each fault at its time; one to a process that is not up yet waits for it, and the load goes on meanwhile."""
    outcomes: dict[Fault, Outcome] = {}

    async def one(fault: Fault, others: Collection[asyncio.Task[None]] = ()) -> None:
        await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
        if others:
            await asyncio.wait(others)
        outcome = await hurting.hurt(fault)
        outcomes[fault] = outcome
        progress.faults += outcome.played
        progress.say(f"{fault.number:>3}  {fault.at:6.1f} s  {fault.kind:<15}  {fault.target:<15}  {outcome.seen}")

    async with asyncio.TaskGroup() as faults:
        others = [faults.create_task(one(fault)) for fault in schedule.faults[:-1]]
        faults.create_task(one(schedule.faults[-1], others))  # what it makes the web look for, no other fault may cause later
    return dict(sorted(outcomes.items(), key=lambda item: item[0].number))
