"""The gateway's processes under load, killed and frozen for real; docs/killed.md says what this shows."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.account import Account, Witnessed, draw_up
from tests.chaos.schedule import MESSAGES, Fault, Schedule
from tests.chaos.traffic import People, Producer, TopicReader
from tests.chaos.world import ACCOUNTS, LEASE, WOKE, World, open_world
from tests.support import until

SETTLE_SECONDS = 150.0  # a limit for a machine that is busy: 20 to 30 are usual


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the timer that the fuse is made of")
async def test_every_event_is_accounted_for_whatever_is_killed(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = Schedule(seed)
    witnessed = Witnessed()
    with capsys.disabled():
        print(
            f"\nseed {seed}: {len(schedule.faults)} faults, at least {MESSAGES} messages, {len(schedule.texts)} texts from people"
        )
        began = time.monotonic()
        async with open_world(tmp_path, seed) as world:
            print(f"  everything is up after {time.monotonic() - began:.0f} s")
            faults = await _load(world, schedule, witnessed)
            account = await _account(world, witnessed)
            _print(seed, faults, account)
    assert not account.broken(), f"seed {seed}"
    assert len(faults) >= 20
    assert not [fault for fault, seen in faults.items() if WOKE in seen], "a frozen process outlived its fuse"


async def _load(world: World, schedule: Schedule, witnessed: Witnessed) -> dict[Fault, str]:
    """Publish, text and hurt, then wait until nothing is left to do. What was seen of each fault."""
    reader = TopicReader(world.broker.bootstrap_servers, witnessed)
    producer = Producer(world.broker.bootstrap_servers, schedule, witnessed)
    people = People(world.carrier, schedule, witnessed, ACCOUNTS)
    await reader.start()
    reading = asyncio.create_task(reader.run())
    try:
        began = time.monotonic()
        async with asyncio.TaskGroup() as load:
            load.create_task(producer.run(began))
            load.create_task(people.run(began))
            faults = await _hurt(world, schedule, began)
            producer.enough.set()
            print(f"  the last fault is over {time.monotonic() - began:.0f} s after the first message")
        over = time.monotonic()
        await until(lambda: not any(witnessed.unsettled()), SETTLE_SECONDS, "every event is settled or dead-lettered", every=0.25)
        await until(world.settled, 60, "nothing is left to do", every=0.25)
        await until(reader.at_the_end, 30, "the topics are read", every=0.25)
        print(
            f"  all is settled {time.monotonic() - over:.0f} s after the last message, and {time.monotonic() - began:.0f} s after the first"
        )
        return faults
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await reader.stop()


async def _hurt(world: World, schedule: Schedule, began: float) -> dict[Fault, str]:
    """Each fault at its time; one to a process that is not up yet waits for it, and the load goes on meanwhile."""
    seen: dict[Fault, str] = {}

    async def one(fault: Fault) -> None:
        await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
        what = await world.hurt(fault)
        seen[fault] = what

    async with asyncio.TaskGroup() as faults:
        for fault in schedule.faults:
            faults.create_task(one(fault))
    return dict(sorted(seen.items(), key=lambda item: item[0].number))


async def _account(world: World, witnessed: Witnessed) -> Account:
    account = draw_up(witnessed, await world.carrier.book(), LEASE)
    counted: Counter[str] = Counter()
    for member in world.members.values():
        await member.look()
        for invariants in member.invariants.values():
            counted.update(invariants)
    account.violations["invariants that the gateway counted"] = [f"{name} {value:g}" for name, value in counted.items() if value]
    account.counts |= _endings(world)
    account.counts["rescued claims, by what became of them at once"] = await _rescued(world)
    left = await world.rows("select state, count(*) as messages from queue group by state")
    account.violations["left in the queue"] = [f"{row['messages']} {row['state']}" for row in left]
    parked = await world.rows("select kind, parked from outbox where kind <> 'metrics' or parked is not null")
    account.violations["left in the outbox"] = [f"{row['kind']}: {row['parked']}" for row in parked]
    return account


async def _rescued(world: World) -> str:
    """How often the faults hit what they are aimed at: messages in a worker's hands."""
    rows = await world.rows(
        "select coalesce(state, 'waits again') as became, count(*) as messages from audit where step = 'rescued' group by 1 order by 1"
    )
    return ", ".join(f"{row['messages']} {row['became']}" for row in rows) or "none"


def _endings(world: World) -> dict[str, object]:
    """How the gateway's processes ended, by their supervisors' logs: what this test did not do itself is told."""
    seen: Counter[int] = sum((family.endings() for family in world.families.values()), Counter())
    by_this_test = sum(member.hurt for member in world.members.values())
    others = ", ".join(f"{count} with {code}" for code, count in seen.items() if code != -9) or "none"
    return {
        "processes that a fuse killed unasked": max(0, seen[-9] - by_this_test),
        "processes that left by themselves, by exit code": others,
        "supervisors started again as PostgreSQL was away": sum(family.started_again for family in world.families.values()),
    }


def _print(seed: int, faults: dict[Fault, str], account: Account) -> None:
    for fault, seen in faults.items():
        print(f"  {fault.number:>2}  {fault.at:5.1f} s  {fault.kind:<14}  {fault.target:<9}  {seen}")
    for name, count in account.counts.items():
        print(f"  {name:<52}  {count}")
    for promise, found in account.violations.items():
        print(f"  {promise:<52}  {len(found)}")
        for line in found[:10]:
            print(f"      {line}")
    print(f"  seed {seed}")
