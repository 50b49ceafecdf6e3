"""The parts of the bench; each returns figures by name."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

from bench.stage import ACCOUNT_SID, SENDER, TOKEN, Figures, Stage, percentile, person, worker_of
from gateway.providers.http import HttpClient

__all__ = ["decisions", "floors", "sends", "stop_in_force"]


async def _apart(stage: Stage, what: str, count: int) -> Figures:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.intake", what, str(count), env=stage.environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"bench.intake {what} failed")
    figures: Figures = json.loads(output)
    return figures


async def decisions(stage: Stage, count: int = 20_000) -> Figures:
    """Decisions a second: consumed, decided, sealed, durable, told; against the same without logic."""
    from gateway.bus.address import BrokerAddress
    from gateway.bus.topics import TopicSpec, apply

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


async def floors(stage: Stage, count: int = 20_000) -> Figures:
    """The HTTP client alone: create requests a second against the same carrier, 100 at once."""
    async with stage.carrier("--keep", "counts", "--callbacks", "none") as carrier:
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
    return {"floor_requests_per_second": round(count / seconds)}


async def sends(stage: Stage, first: int, count: int, *, latency_ms: int, callbacks: str, workers: int = 1) -> Figures:
    """Texts accepted a second, end to end: from a topic that holds them to the carrier's book; events published meanwhile."""
    arguments = [
        "--keep",
        "counts",
        "--callbacks",
        callbacks,
        "--latency-ms",
        str(latency_ms),
        "--sent-ms",
        "5",
        "--final-ms",
        "10",
    ]
    async with stage.carrier(*arguments) as carrier, stage.gateway("--workers", str(workers)) as parent:
        # a first hundred warms every part up
        await stage.publish(100, first=first)
        await carrier.get("/stats?accepted=100&within=60")
        worker = worker_of(parent)
        cpu = sum(worker.cpu_times()[:2])
        before = await carrier.stats()
        began = time.time()
        await stage.publish(count, first=first + 100)
        after = await carrier.get(f"/stats?accepted={before['accepted'] + count}&within=300", within=310)
        seconds = after["last_accepted_at"] - began
        if callbacks != "none":
            await carrier.get("/stats?quiet=1&within=120", within=130)
        await _all_told(stage)
        told = time.time() - began
        return {
            "per_second": round(count / seconds),
            "told_per_second": round(count / told),
            "cpu_ms": round(1000 * (sum(worker.cpu_times()[:2]) - cpu) / count, 3),
            "worker_rss_mb": round(worker.memory_info().rss / 1e6, 1),
            "duplicates": after["duplicates"],
        }


async def _all_told(stage: Stage) -> None:
    async with asyncio.timeout(180):
        while await stage.count("select (select count(*) from queue) + (select count(*) from outbox)"):  # noqa: ASYNC110 -- the state is in PostgreSQL
            await asyncio.sleep(0.05)


async def stop_in_force(stage: Stage, first: int, stops: int = 200) -> Figures:
    """From a STOP's webhook to its answer, which says that it is in force, while the gateway sends as fast as it can."""
    arguments = ("--keep", "counts", "--callbacks", "final", "--sent-ms", "5", "--final-ms", "10")
    async with stage.carrier(*arguments) as carrier, stage.gateway():
        await stage.publish(100, first=first)
        await carrier.get("/stats?accepted=100&within=60")
        done = asyncio.Event()

        async def load() -> None:
            start = first + 100
            while not done.is_set():
                waiting = await stage.count("select count(*) from queue")
                if waiting < 4000:
                    await stage.publish(4000, first=start)
                    start += 4000
                await asyncio.sleep(0.1)

        loading = asyncio.create_task(load())
        await carrier.get("/stats?accepted=2000&within=60")
        chance = random.Random(1)
        took = []
        for _ in range(stops):
            text = {"from": person(first + chance.randrange(8000)), "to": SENDER, "body": "STOP"}
            answer = await carrier.post("/inbound", text)
            hook = answer["webhooks"][0]
            if hook["status"] != 200:
                raise RuntimeError(f"the webhook answered {hook['status']}")
            took.append(hook["ms"])
            await asyncio.sleep(0.02)
        done.set()
        await loading
    return {
        "stop_in_force_p50_ms": round(percentile(took, 0.5), 1),
        "stop_in_force_p99_ms": round(percentile(took, 0.99), 1),
    }
