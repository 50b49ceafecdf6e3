"""How long things take: from a publication to its request at half load, and from a STOP to its being in force at full load."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

from bench.sending import QUICK, all_told, warmed_up
from bench.stage import SENDER, Figures, Stage, percentile, person

__all__ = ["latency", "stop"]

_TICK: Final = 0.02  # seconds between two publications of the steady publisher
_STEADY: Final = 15.0  # seconds


async def latency(stage: Stage, count: int) -> Figures:
    """From the moment before a message is published to the first byte of its request at the carrier, at half of the full rate."""
    async with (
        stage.carrier("--callbacks", "final", "--sent-ms", "5", "--final-ms", "10") as carrier,
        stage.roles(),
        stage.publisher() as publish,
    ):
        counter = await warmed_up(stage, carrier)
        began = time.time()
        await publish(count)
        full = count / ((await counter.accepted(count))["last_accepted_at"] - began)
        await all_told(stage)
        published: dict[str, float] = {}
        clock = asyncio.get_running_loop().time
        began, owed = clock(), 0.0
        while clock() - began < _STEADY:
            owed += full / 2 * _TICK
            moment = time.time()
            published |= dict.fromkeys(await publish(int(owed)), moment)
            owed -= int(owed)
            await asyncio.sleep(max(0.0, began + (len(published) / (full / 2)) - clock()))
        await counter.accepted(len(published))
        requests = (await carrier.book())["requests"]
    took = [1000 * (request["begun_at"] - published[request["to"]]) for request in requests if request["to"] in published]
    return {
        "half_load_per_second": round(full / 2),
        "publish_to_request_p50_ms": round(percentile(took, 0.5), 1),
        "publish_to_request_p99_ms": round(percentile(took, 0.99), 1),
    }


async def stop(stage: Stage, _count: int, stops: int = 200) -> Figures:
    """From a STOP's webhook to its answer, which says that it is in force, while the gateway sends as fast as it can."""
    async with stage.carrier(*QUICK, "--callbacks", "final") as carrier, stage.roles():
        counter = await warmed_up(stage, carrier)
        done = asyncio.Event()

        async def load() -> None:
            while not done.is_set():
                if await stage.count("select count(*) from queue") < 4000:
                    await stage.publish(4000)
                await asyncio.sleep(0.1)

        loading = asyncio.create_task(load())
        await counter.accepted(2000)
        chance = random.Random(1)
        took = []
        for _ in range(stops):
            text = {"from": person(chance.randrange(8000)), "to": SENDER, "body": "STOP"}
            hook = (await carrier.post("/inbound", text))["webhooks"][0]
            if hook["status"] not in (200, 204):
                raise RuntimeError(f"the webhook answered {hook['status']}")
            took.append(hook["ms"])
            await asyncio.sleep(0.02)
        done.set()
        await loading
    return {
        "stop_in_force_p50_ms": round(percentile(took, 0.5), 1),
        "stop_in_force_p99_ms": round(percentile(took, 0.99), 1),
    }
