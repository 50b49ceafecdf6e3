"""How each fault is done to what runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final

from tests.chaos.applier import hurt_applier
from tests.chaos.calm import Hurt
from tests.chaos.faults import LINES, Fault
from tests.chaos.operator import Operator
from tests.chaos.processes import Family, Member
from tests.chaos.proxy import Line, Trap, Weather
from tests.chaos.ringcentral import bar_subscriptions, revoke_tokens, subscribed
from tests.chaos.storms import Storms
from tests.chaos.traffic import People
from tests.chaos.witnessed import Witnessed
from tests.chaos.world import LEASE, RINGCENTRAL, World
from tests.support import until

__all__ = ["Hurting", "Outcome"]

_FROZEN_LONGER_THAN_A_LEASE: Final = LEASE + 2
_UNDER_WAY: Final = 10
_SUBSCRIBED_WITHIN: Final = 30.0  # quiet seconds: six until another may do it, and it waits ever longer while the web is away
_COMMIT: Final = b"COMMIT;\x00"  # as asyncpg ends a transaction
_REQUEST: Final = b"POST "


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen of a fault; ``played`` is False where this machine or this broker has no such thing, ``woke`` where a fuse failed."""

    seen: str
    played: bool = True
    woke: bool = False


class Hurting:
    """Lets faults happen to something that is up."""

    def __init__(self, world: World, operator: Operator, witnessed: Witnessed, people: People) -> None:
        self._world = world
        self._operator = operator
        self._witnessed = witnessed
        self._people = people
        self._storms = Storms(world.carrier)

    async def hurt(self, fault: Fault) -> Outcome:
        """One fault, from its beginning to its end."""
        store, broker, seconds = self._world.store, self._world.broker, fault.seconds
        if fault.needs_requests:
            await self._busy()
        match fault.kind:
            case "kill" | "freeze":
                return await self._hurt_member(self._world.members[fault.target], fault)
            case "kill_family":
                return Outcome(await self._kill_family(self._world.families[fault.target]))
            case "kill_applier" | "freeze_applier":
                if not broker.durable:
                    return Outcome("not played: without a durable broker there is no spool", played=False)
                seen, woke = await hurt_applier(self._world, self._witnessed, self._people, fault)
                return Outcome(seen, woke=woke)
            case "pause":
                return Outcome(await self._operator.pause(fault.target, seconds))
            case "storm":
                return Outcome(await self._storms.blow(fault.target, seconds))
            case "revoke_tokens":
                return Outcome(await revoke_tokens(self._world.carrier, RINGCENTRAL["ring"], seconds))
            case "bar_subscription":
                return await self._bar_subscription(fault)
            case "fill_disk" if store.why_never_full is not None:
                return Outcome(f"not played: {store.why_never_full}", played=False)
            case "stop_broker" | "kill_broker" if not broker.durable:
                return Outcome("not played: the broker keeps its records in memory alone", played=False)
        with self._world.calm.hurting(*_hurts(fault)):
            return Outcome(await self._hurt_server(fault))

    async def _hurt_server(self, fault: Fault) -> str:
        """A fault of PostgreSQL's, of the broker's, or of a line."""
        store, broker, seconds = self._world.store, self._world.broker, fault.seconds
        match fault.kind:
            case "cut_sessions":
                return await store.cut_sessions()
            case "crash_postgres":
                return await store.kill(0.0)
            case "stop_postgres":
                return await store.stop(seconds)
            case "freeze_postgres":
                return await store.freeze(seconds)
            case "lock_tables":
                return await store.lock_tables(seconds)
            case "use_up_sessions":
                return await store.use_up_sessions(seconds)
            case "fill_disk":
                return await store.fill_disk(seconds)
            case "stop_broker":
                return await broker.stop(seconds)
            case "kill_broker":
                return await broker.kill(seconds)
            case "freeze_broker":
                return await broker.freeze(seconds)
            case "cut_line" | "slow_line" | "thin_line" | "hold_line" | "mute_line":
                return await _hurt_line(self._world.lines[fault.target], fault)
            case "lose_answers":
                pattern = b"" if fault.target == "broker" else _REQUEST
                return await _spring(self._world.lines[fault.target], Trap(pattern, 4, delivered=True), seconds)
            case "lose_commits" | "drop_commits":
                trap = Trap(_COMMIT, 4, delivered=fault.kind == "lose_commits")
                return await _spring(self._world.lines["postgres"], trap, seconds)
            case _:
                raise AssertionError(f"{fault.kind} hurts no server")

    async def _busy(self) -> None:
        """Wait for requests to be under way, so that the fault hits what it is aimed at; not for long, should there be none."""

        async def under_way() -> bool:
            return bool((await self._world.carrier.get("/stats"))["in_flight"] >= _UNDER_WAY)

        with contextlib.suppress(AssertionError):
            await until(under_way, 1.5)

    async def _hurt_member(self, member: Member, fault: Fault) -> Outcome:
        async with member.hurting:
            process = await member.up()
            await member.look()
            if fault.needs_requests:
                await self._busy()
            calm = self._world.calm
            with calm.hurting("sweep") if member.name.startswith("sweep") else contextlib.nullcontext():
                seconds: float | None
                with calm.hurting("process"):
                    if fault.kind == "kill":
                        seconds = await member.kill(process)
                        seen = f"gone after {seconds:.2f} s"
                    else:
                        seconds = await member.freeze(process, _FROZEN_LONGER_THAN_A_LEASE)
                        seen = (
                            "WOKE: its fuse did not kill it" if seconds is None else f"killed by its fuse after {seconds:.2f} s"
                        )
                began = time.monotonic()
                await member.up()
            return Outcome(f"{seen}, up again after {time.monotonic() - began:.1f} s", woke=seconds is None)

    async def _bar_subscription(self, fault: Fault) -> Outcome:
        """RingCentral stops calling. Its subscription is looked at once a minute; a sweep that has just started looks at once."""
        carrier, account = self._world.carrier, RINGCENTRAL["ring"]
        count = await bar_subscriptions(carrier, account, fault.target)
        await asyncio.sleep(fault.seconds)
        sweep = await self._hurt_member(self._world.members["sweep-1"], replace(fault, kind="kill"))

        async def again() -> bool:
            return await subscribed(carrier, account)

        await self._world.calm.until(again, _SUBSCRIBED_WITHIN, "RingCentral calls the web again", kind="subscribed again")
        return Outcome(f"{count} subscriptions became {fault.target}; sweep-1 {sweep.seen}; subscribed again")

    async def _kill_family(self, family: Family) -> str:
        async with AsyncExitStack() as stack:
            for member in family.members:
                await stack.enter_async_context(member.hurting)
            await family.up()
            for member in family.members:
                await member.look()
            await self._busy()
            with self._world.calm.hurting("process"):
                seen = f"all gone after {await family.kill():.2f} s"
            began = time.monotonic()
            await family.up()
            return f"{seen}, up again after {time.monotonic() - began:.1f} s"


def _hurts(fault: Fault) -> tuple[Hurt, ...]:
    """Which server a fault keeps from those that wait for it."""
    if fault.kind.endswith("_broker") or fault.target == "broker":
        return ("broker",)
    if fault.target in LINES:  # to the carrier, or from it to the web
        return ("postgres",) if fault.target == "postgres" else ()
    return ("postgres",)


async def _hurt_line(line: Line, fault: Fault) -> str:
    match fault.kind:
        case "cut_line":
            return f"{line.cut()} connections reset"
        case "slow_line":
            weather = Weather(delay=0.15)
        case "thin_line":
            weather = Weather(bytes_per_second=30_000)
        case "hold_line":
            weather = Weather(held=frozenset({"there", "back"}))
        case _:
            weather = Weather(held=frozenset({"back"}))
    with line.weather(weather):
        await asyncio.sleep(fault.seconds)
    return f"{len(line.links)} connections, for {fault.seconds:.1f} s"


async def _spring(line: Line, trap: Trap, seconds: float) -> str:
    with line.trap(trap):
        await asyncio.sleep(seconds)
    return f"{trap.caught} connections cut {'before the answer came' if trap.delivered else 'before it was delivered'}"
