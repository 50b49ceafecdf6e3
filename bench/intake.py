"""A worker's intake alone, and its floor: the same records consumed, inserted and answered by an event each, without any logic.

Run as a process of its own: ``python -m bench.intake gateway|floor COUNT``; prints seconds from the first batch to the last.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime

import asyncpg
import uvloop

from bench.stage import Figures
from gateway.app.kafka import broker_address
from gateway.app.wiring import open_parts
from gateway.bus.consumer import RecordSource
from gateway.bus.producer import EventPublisher
from gateway.bus.records import Gap
from gateway.domain.publishing import OutEvent
from gateway.settings import load

__all__ = ["floor", "gateway"]


async def _no_gap(gap: Gap) -> None:
    raise RuntimeError(f"records are missing: {gap.why}")


async def gateway(count: int) -> Figures:
    """Read, decide, seal and make durable; and publish what was decided, as the relay does."""
    import os

    settings = load(os.environ)
    async with open_parts(settings, "bench", with_providers=False) as parts:
        source = RecordSource(broker_address(settings), settings.kafka.topics.outbound, "bench", on_gap=_no_gap)
        publisher = EventPublisher(broker_address(settings), idempotent=False)
        await asyncio.gather(source.start(), publisher.start())
        intake = parts.intake(source, None)
        relay = parts.relay(publisher)
        relaying = asyncio.create_task(relay.run())
        taken, began, cpu = 0, 0.0, 0.0
        while taken < count:
            batch = await source.next_batch(0.5, 500)
            if batch is not None:
                began, cpu = began or time.perf_counter(), cpu or time.process_time()
                taken += await intake.admit(batch.topic, batch.partition, batch.records)
                await source.durable(batch)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        relay.stop()
        await relaying
        await source.stop()
        await publisher.stop()
    return {"seconds": seconds, "cpu_ms": 1000 * cpu / count}


async def floor(count: int) -> Figures:
    """The same without logic: a row a record by one statement a batch, and an event a record."""
    import os

    settings = load(os.environ)
    assert settings.database_url is not None
    source = RecordSource(broker_address(settings), settings.kafka.topics.outbound, "floor", on_gap=_no_gap)
    publisher = EventPublisher(broker_address(settings), idempotent=False)
    await asyncio.gather(source.start(), publisher.start())
    session = await asyncpg.connect(settings.database_url.get_secret_value())
    await session.execute("create table if not exists floor (at timestamptz, id bigint, payload bytea)")
    taken, began, cpu = 0, 0.0, 0.0
    while taken < count:
        batch = await source.next_batch(0.5, 500)
        if batch is None:
            continue
        began, cpu = began or time.perf_counter(), cpu or time.process_time()
        records = batch.records
        await session.execute(
            "insert into floor select $1, * from unnest($2::bigint[], $3::bytea[])",
            datetime.now(UTC), [r.offset for r in records], [r.value for r in records],
        )  # fmt: skip
        events = [OutEvent("floor.v1", r.key or b"", [], r.value) for r in records]
        await publisher.publish(events)
        await source.durable(batch)
        taken += len(records)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    await session.close()
    await source.stop()
    await publisher.stop()
    return {"seconds": seconds, "cpu_ms": 1000 * cpu / count}


if __name__ == "__main__":
    import json

    work = gateway if sys.argv[1] == "gateway" else floor
    print(json.dumps(uvloop.run(work(int(sys.argv[2])))))
