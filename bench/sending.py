"""Texts accepted a second, end to end: from a topic that holds them to the carrier's book; events published meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import psutil

from bench.stage import RINGCENTRAL, TWILIO, Figures, Stage, worker_of
from gateway.app.simulated import SimulatedAccount
from gateway.simulator.process import CarrierProcess

__all__ = ["QUICK", "SENDS", "WORKERS", "all_told", "backlog", "cpu_of", "send", "warmed_up"]

QUICK: Final = ("--keep", "counts", "--sent-ms", "5", "--final-ms", "10")
"""A carrier that keeps counts alone and reports soon."""


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement: its suffix in the figures' names, the carrier's latency, which callbacks it makes, the gateway's processes (so
    many workers of a whole gateway, or with 0 one process a role), and the account that it sends by.
    """

    name: str = ""
    latency_ms: int = 0
    callbacks: str = "final"
    workers: int = 0
    share: float = 1.0  # of the messages asked for
    account: SimulatedAccount = TWILIO


SENDS: Final = (
    Run(),
    Run("_without_callbacks", callbacks="none"),
    Run("_at_100ms", latency_ms=100, share=2.0),  # longer: the first messages, which find every slot free, weigh less
    Run("_ringcentral", account=RINGCENTRAL),
)
"""One process a role: the carrier at once, without callbacks, and at 100 ms; and as RingCentral, in batches whose messages are counted."""
WORKERS: Final = (Run("_1_worker", workers=1), Run("_2_workers", workers=2), Run("_4_workers", workers=4))
"""A whole gateway in one process, and with one and three workers beside it, on the same machine."""


async def send(run: Run, stage: Stage, count: int) -> Figures:
    """One of them; on a stage of its own, since a group whose members have left may keep the embedded broker busy for minutes."""
    found = await _run(stage, run, int(count * run.share))
    return {
        f"sends_per_second{run.name}": found["per_second"],
        f"told_per_second{run.name}": found["told_per_second"],
        f"send_cpu_ms{run.name}": found["cpu_ms"],
        "worker_rss_mb": found["worker_rss_mb"],
        "duplicates": found["duplicates"],
    }


async def _run(stage: Stage, run: Run, count: int) -> Figures:
    arguments = [*QUICK, "--callbacks", run.callbacks, "--latency-ms", str(run.latency_ms)]
    if run.account.provider == "ringcentral":
        arguments += ["--keep", "messages"]  # its events are reasons to ask, and only what is kept is answered
    async with stage.carrier(*arguments, account=run.account) as carrier, _gateway(stage, run.workers) as worker:
        counter = await warmed_up(stage, carrier)
        cpu = cpu_of(worker)
        began = time.time()
        await stage.publish(count)
        accepted = await counter.accepted(count)
        if run.callbacks != "none":
            await carrier.get("/stats?quiet=1&within=120", within=130)
        await all_told(stage)
        return {
            "per_second": round(count / (accepted["last_accepted_at"] - began)),
            "told_per_second": round(count / (time.time() - began)),
            "cpu_ms": round(1000 * (cpu_of(worker) - cpu) / count, 3),
            "worker_rss_mb": round(worker.memory_info().rss / 1e6, 1),
            "duplicates": accepted["duplicates"],
        }


@asynccontextmanager
async def _gateway(stage: Stage, workers: int) -> AsyncIterator[psutil.Process]:
    """The first process that sends."""
    if workers:
        async with stage.gateway("--workers", str(workers)) as parent:
            yield worker_of(parent)
    else:
        async with stage.roles() as roles:
            yield roles["worker"]


async def backlog(stage: Stage, count: int, deep: int = 200_000) -> Figures:
    """The same with ``deep`` messages waiting in front of the rest of the queue, against none; and whether memory grows meanwhile."""
    async with stage.carrier(*QUICK, "--callbacks", "final") as carrier, stage.gateway() as parent:
        counter = await warmed_up(stage, carrier)
        began = time.time()
        await stage.publish(count)
        empty = count / ((await counter.accepted(count))["last_accepted_at"] - began)
        await all_told(stage)
        await stage.fetch("insert into pauses (scope, since, actor) values ('all', now(), 'bench')")
        await stage.publish(deep)
        async with asyncio.timeout(100):
            held = 0
            while (waiting := await stage.count("select count(*) from queue")) < deep:
                if not held and waiting > deep / 2:
                    held = worker_of(parent).memory_info().rss
                await asyncio.sleep(0.5)
        began = time.time()
        await stage.fetch("delete from pauses")
        full = count / ((await counter.accepted(count))["last_accepted_at"] - began)
        grown = worker_of(parent).memory_info().rss - held
    return {
        "worker_rss_growth_mb": round(grown / 1e6, 1),
        "sends_per_second_before_200000": round(full),
        "backlog_to_empty": round(full / empty, 3),
    }


class Counter:
    """What a carrier has accepted, waited for."""

    def __init__(self, carrier: CarrierProcess) -> None:
        self._carrier = carrier
        self._total = 0

    async def accepted(self, more: int) -> Figures:
        """The carrier's counts once it has accepted so many more."""
        self._total += more
        found: Figures = await self._carrier.get(f"/stats?accepted={self._total}&within=300", within=310)
        return found


async def warmed_up(stage: Stage, carrier: CarrierProcess) -> Counter:
    """A first hundred warms every part up."""
    counter = Counter(carrier)
    await stage.publish(100)
    await counter.accepted(100)
    await all_told(stage)
    return counter


_UNTOLD: Final = """
select (select count(*) from queue) + (select count(*) from outbox) + (select count(*) from audit_unchained)
       + (select count(*) from audit_heads where published < sequence)
"""


async def all_told(stage: Stage) -> None:
    """Nothing is left to send, and every event is published, the audit's too."""
    async with asyncio.timeout(180):
        while await stage.count(_UNTOLD):  # noqa: ASYNC110 -- the state is in PostgreSQL
            await asyncio.sleep(0.05)


def cpu_of(process: psutil.Process) -> float:
    """Seconds of CPU that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)
