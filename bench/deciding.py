"""Decisions a second, and the floors: the same work without logic, and the HTTP client alone."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from bench.sending import QUICK
from bench.stage import ACCOUNT_SID, SENDER, TOKEN, Figures, Stage, person
from gateway.bus.address import BrokerAddress
from gateway.bus.topics import TopicSpec, apply
from gateway.providers.http import HttpClient

__all__ = ["decisions", "floors"]


async def decisions(stage: Stage, count: int) -> Figures:
    """Consumed, decided, sealed, durable, told; against the same without logic."""
    count *= 2
    await apply(BrokerAddress(stage.servers), [TopicSpec("floor.v1", 6)])
    await stage.publish(count)
    bare = await _apart(stage, "floor", count)
    ours = await _apart(stage, "gateway", count)
    return {
        "decisions_per_second": round(count / ours["seconds"]),
        "floor_decisions_per_second": round(count / bare["seconds"]),
        "decisions_to_floor": round(bare["seconds"] / ours["seconds"], 3),
        "decision_cpu_ms": round(ours["cpu_ms"], 3),
    }


async def _apart(stage: Stage, what: str, count: int) -> Figures:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.intake", what, str(count), env=stage.environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"bench.intake {what} failed")
    figures: Figures = json.loads(output)
    return figures


async def floors(stage: Stage, count: int) -> Figures:
    """The HTTP client alone: create requests a second, 100 at once, to a carrier at once and to one at 100 ms."""
    return {
        "floor_requests_per_second": await _requests(stage, 2 * count, 0),
        "floor_requests_per_second_at_100ms": await _requests(stage, count, 100),
    }


async def _requests(stage: Stage, count: int, latency_ms: int) -> int:
    async with stage.carrier(*QUICK, "--callbacks", "none", "--latency-ms", str(latency_ms)) as carrier:
        client = HttpClient(time_limit_seconds=8, connections=100)
        url = f"{carrier.url}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"
        numbers = iter(range(count))

        async def one() -> None:
            for number in numbers:
                form = {"To": person(number), "From": SENDER, "Body": "A text of an ordinary length, for the floor of the bench."}
                answer = await client.request("POST", url, headers={}, form=form, basic_auth=(ACCOUNT_SID, TOKEN))
                if answer.status != 201:
                    raise RuntimeError(f"the carrier answered {answer.status}")

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(100)))
        seconds = time.perf_counter() - began
        await client.close()
    return round(count / seconds)
