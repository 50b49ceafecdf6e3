"""Hurts the process that applies the spool, between two of its transactions, when PostgreSQL comes back and there is something to apply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from tests.chaos.faults import Fault
from tests.chaos.processes import Member
from tests.chaos.traffic import People
from tests.chaos.witnessed import SpoolSeen, Witnessed
from tests.chaos.world import LEASE, World
from tests.standstill import Standstill, at_the_offset, at_the_text

__all__ = ["hurt_applier"]

_FROZEN: Final = LEASE + 2
_FEW: Final = 5
_STANDS_WITHIN: Final = 6.0  # quiet seconds; beyond them another fault keeps it away
_AWAY: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


async def hurt_applier(world: World, witnessed: Witnessed, people: People, fault: Fault) -> tuple[str, bool]:
    """PostgreSQL is stopped, and people text STOP; once it is back, who applies these is killed or frozen at the fault's moment.

    Returns what was seen, and whether a frozen process had to be woken.
    """
    async with asyncio.TaskGroup() as texts, world.broker.left_alone(), world.store.left_alone():  # they go to the broker
        with world.calm.hurting("postgres"):
            began = time.monotonic()
            async with world.store.stopped():
                people.text_for(fault, texts)
                await asyncio.sleep(fault.seconds)
            away = f"PostgreSQL away for {time.monotonic() - began:.1f} s"
            waiting = await _unapplied(world, witnessed)
            if not waiting:
                return f"{away}; no STOP was spooled meanwhile", False
            try:
                async with _in_its_way(world, fault, waiting) as (standstill, where):
                    await world.calm.until(standstill.reached, _STANDS_WITHIN, "", kind="the applier", without=(), every=0.02)
                    seen, woke = await _hurt(world, fault)
                    if fault.kind == "kill_applier":
                        await standstill.end_who_waits()
                    return f"{away}; {where} {seen}", woke
            except AssertionError:
                return f"{away}; nobody came to apply {len(waiting)} STOPs", False
            except _AWAY as other:
                return f"{away}; another fault was first: {type(other).__name__}", False


async def _unapplied(world: World, witnessed: Witnessed) -> list[SpoolSeen]:
    """What stands in the spool beyond the offset; read at most a moment late."""
    rows = await world.store.rows("select next_offset from spool")
    first = rows[0]["next_offset"] or 0 if rows else 0
    beyond = [one for one in witnessed.spool if one.offset >= first]
    known = await world.store.rows(
        "select provider_message_id as sid from inbound where provider_message_id = any($1::text[])", [one.sid for one in beyond]
    )
    return [one for one in beyond if one.sid not in {row["sid"] for row in known}]


@asynccontextmanager
async def _in_its_way(world: World, fault: Fault, waiting: list[SpoolSeen]) -> AsyncIterator[tuple[Standstill, str]]:
    if fault.target == "offset":
        async with at_the_offset(world.store.url) as standstill:
            yield standstill, f"with up to {len(waiting)} STOPs applied and the offset not moved,"
    else:
        place = min(len(waiting) // 2, _FEW)
        one = waiting[place]
        async with at_the_text(world.store.url, one.account, one.sid) as standstill:
            yield standstill, f"with {place} of {len(waiting)} STOPs applied,"


async def _hurt(world: World, fault: Fault) -> tuple[str, bool]:
    member = await _who_applies(world)
    if member is None or member.hurting.locked():
        return "nothing: another fault had it", False
    async with member.hurting:
        process = member.process()
        if process is None:
            return "nothing: it had just ended", False
        await asyncio.wait_for(member.look(), 5)
        with world.calm.hurting("process"):
            if fault.kind == "kill_applier":
                return f"{member.name} was gone after {await member.kill(process):.2f} s", False
            seconds = await member.freeze(process, _FROZEN)
        if seconds is None:
            return f"{member.name} WOKE: its fuse did not kill it", True
        return f"{member.name} was killed by its fuse after {seconds:.2f} s", False


async def _who_applies(world: World) -> Member | None:
    """By the name it holds: role@host:pid:more."""
    rows = await world.store.rows("select split_part(holder, ':', 2) as pid from leaders where name = 'spool'")
    pids = {int(row["pid"]) for row in rows}
    return next((one for one in world.members.values() if (process := one.process()) is not None and process.pid in pids), None)
