"""The whole account of a run: by the carrier's book and the topics, by PostgreSQL, by the processes' counters and logs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from tests.chaos.account import Account, draw_up
from tests.chaos.calm import Calm
from tests.chaos.faults import Fault
from tests.chaos.hurting import Outcome
from tests.chaos.processes import command
from tests.chaos.schedule import number_of
from tests.chaos.told import held_wrongly
from tests.chaos.witnessed import Witnessed
from tests.chaos.world import LEASE, World

__all__ = ["draw_up_all"]


async def draw_up_all(world: World, witnessed: Witnessed, outcomes: Mapping[Fault, Outcome]) -> Account:
    """The account by the carrier and the topics, and beside it what else must be so: in PostgreSQL, in the logs, of the processes."""
    book = await world.carrier.book()
    account = draw_up(witnessed, book, LEASE, world.calm)
    counted: Counter[str] = Counter()
    for member in world.members.values():
        await member.look()
        for invariants in member.invariants.values():
            counted.update(invariants)
    account.violations |= {
        "invariants that the gateway counted": [f"{name} {value:g}" for name, value in counted.items() if value],
        "left in the queue": [
            f"{row['message_id']}: {row['state']}"
            for row in await world.store.rows("select m.message_id, q.state from queue q left join messages m using (uid)")
        ],
        "left in the outbox": [
            f"{row['kind']}: {row['parked']}" for row in await world.store.rows("select kind, parked from outbox")
        ],
        "accounts that hold the opposite of what a person said last": held_wrongly(
            witnessed, (await world.carrier.get("/consents"))["opted_out"], book["requests"]
        ),
        "opt-outs that an account was not told, or will not hold": [
            f"{row['account']}: {row['pairs']} {row['fate']}"
            for row in await world.store.rows(
                "select account, coalesce(refused, 'owed') as fate, count(*) as pairs from propagations"
                " where due_at is not null or refused is not null group by 1, 2"
            )
        ],
        "left in the spool, or passed over": await _left_in_spool(world, witnessed),
        "frozen, and not killed by the fuse": [
            f"{fault.number}: {fault.target}" for fault, seen in outcomes.items() if seen.woke
        ],
        "numbers or texts in logs": _leaks(world, witnessed),
    }
    account.counts |= _endings(world) | _waits(world.calm)
    account.counts["rescued claims, by what became of them at once"] = await _rescued(world)
    account.counts["audit"], account.violations["audit that is not whole"] = await _audit(world)
    return account


async def _left_in_spool(world: World, witnessed: Witnessed) -> list[str]:
    """Records beyond the offset, those that could not be applied, and those that were never read."""
    rows = await world.store.rows("select next_offset from spool")
    applied = rows[0]["next_offset"] or 0 if rows else 0
    left = [f"record {one.offset}" for one in witnessed.spool if one.offset >= applied]
    passed = await world.store.rows("select step, evidence from audit where step in ('spooled_stop_parked', 'records_not_read')")
    return left + [f"{row['step']}: {row['evidence']}" for row in passed]


def _waits(calm: Calm) -> dict[str, object]:
    """What the machine gave, and what was waited for: both are what limits were counted by."""
    slowness = sorted(calm.slowness) or [1.0]
    machine = f"half of the time {slowness[len(slowness) // 2]:.1f} times as slow as a quiet one, 1 % of it {slowness[-1 - len(slowness) // 100]:.0f}"
    waited = ", ".join(
        f"{kind}: half {sorted(times)[len(times) // 2]:.1f}, most {max(times):.1f}" for kind, times in calm.waited.items()
    )
    return {"the machine": machine, "waited for, in quiet seconds in one piece": waited}


async def _audit(world: World) -> tuple[str, list[str]]:
    """What ``gateway audit verify`` says of all chains, in PostgreSQL and in the topic."""
    code, said, _ = await command(world.environment, "audit", "verify", "--json")
    if code == 0:
        return "verified", []
    return "not whole", [f"gateway audit verify left with {code}", *said.splitlines()[-1:]]


async def _rescued(world: World) -> str:
    """How often the faults hit what they are aimed at: messages in a worker's hands."""
    rows = await world.store.rows(
        "select coalesce(state, 'waits again') as became, count(*) as messages from audit where step = 'rescued' group by 1 order by 1"
    )
    return ", ".join(f"{row['messages']} {row['became']}" for row in rows) or "none"


def _endings(world: World) -> dict[str, object]:
    """How the gateway's processes ended, by their supervisors' logs: what this run did not do itself is told."""
    seen: Counter[int] = sum((family.endings() for family in world.families.values()), Counter())
    by_us = sum(member.hurt for member in world.members.values())
    others = ", ".join(f"{count} with {code}" for code, count in seen.items() if code != -9) or "none"
    return {
        "processes that a fuse killed unasked": max(0, seen[-9] - by_us),
        "processes that left by themselves, by exit code": others,
        "supervisors started again as a start was refused": sum(family.started_again for family in world.families.values()),
        "faults that the processes logged": _faults_logged(world),
    }


def _faults_logged(world: World) -> str:
    """What was logged as an error, or with an exception that nobody had thought of."""
    logged: Counter[str] = Counter()
    for family in world.families.values():
        for line in family.log.read_text("utf-8", "replace").splitlines():
            if line.startswith("{"):
                entry = json.loads(line)
                if entry.get("level") in ("error", "critical"):
                    logged[str(entry.get("event"))] += 1
    return ", ".join(f"{count} {event}" for event, count in logged.most_common()) or "none"


def _leaks(world: World, witnessed: Witnessed) -> list[str]:
    """Whether a log names anybody's number, or holds a text."""
    numbers = {number_of(one.record.person)[1:] for one in witnessed.published}
    found = []
    for role, family in world.families.items():
        text = family.log.read_text("utf-8", "replace")
        if "news number" in text or any(number in text for number in numbers):
            found.append(f"the log of {role}")
    return found
