"""A day of bodies dropped: how long it takes, and what intake notices of it."""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from bench.stage import Figures, Stage, apart
from gateway.store.database import Database
from gateway.store.retention import RetentionTables

__all__ = ["retention"]

_BODIES: Final = 100  # for each message of a run: a million with the count that is not named
_PAIRS: Final = 3

_DAY: Final = "select ensure_day($1)"
# As large as a sealed text of one part with its metadata; ids of the day, in order, as intake makes them.
_FILL: Final = """
insert into bodies (uid, sealed)
select (lpad(to_hex((extract(epoch from $1::timestamptz) * 1000)::bigint + n / 100), 12, '0')
        || '7' || lpad(to_hex(n % 4096), 3, '0') || '8' || substr(md5(n::text), 1, 15))::uuid,
       decode(repeat(md5(n::text), 10), 'hex')
  from generate_series($2::bigint, $3::bigint - 1) as n
"""


async def retention(stage: Stage, count: int) -> Figures:
    """The drop alone is timed in each pair; a pair is intake alone, and intake with a drop in the middle of it, in turns the first."""
    bodies = count * _BODIES
    ratios, drops = [], []
    for pair in range(_PAIRS):
        day = (datetime.now(UTC) - timedelta(days=30 + pair)).replace(hour=0, minute=0, second=0, microsecond=0)
        await _fill(stage, day, bodies)
        partition = f"bodies_{day:%Y%m%d}"
        await _alone(stage, count)  # the first pages written after a checkpoint go to the WAL whole
        alone = await _alone(stage, count) if pair % 2 else None
        await stage.publish(count)
        meanwhile, drop = await asyncio.gather(_intake(stage, count), _drop(stage, partition))
        ratios.append((alone or await _alone(stage, count)) / meanwhile)
        drops.append(drop)
    return {
        "dropped_bodies": bodies,
        "drop_seconds": round(statistics.median(drops), 3),
        "longest_drop_seconds": round(max(drops), 3),
        "intake_during_drop_to_alone": round(statistics.median(ratios), 3),
    }


async def _alone(stage: Stage, count: int) -> float:
    await stage.publish(count)
    return await _intake(stage, count)


async def _fill(stage: Stage, day: datetime, bodies: int) -> None:
    import asyncpg

    session = await asyncpg.connect(stage.postgres.url)
    try:
        await session.execute(_DAY, day.date())
        for start in range(0, bodies, 100_000):
            await session.execute(_FILL, day, start, min(start + 100_000, bodies))
        await session.execute("checkpoint")
    finally:
        await session.close()


async def _intake(stage: Stage, count: int) -> float:
    """Seconds from the first batch to the last."""
    return float((await apart(stage, "gateway", count))["seconds"])


async def _drop(stage: Stage, partition: str) -> float:
    """Seconds that the drop took, begun once intake is under way."""
    before = await stage.count("select count(*) from messages")
    while await stage.count("select count(*) from messages") == before:  # noqa: ASYNC110 -- another process inserts them
        await asyncio.sleep(0.05)
    database = await Database(stage.postgres.url, sessions=2).open()
    try:
        began = time.perf_counter()
        await RetentionTables(database).drop(partition)
        took = time.perf_counter() - began
    finally:
        await database.close()
    if await stage.count(f"select count(*) from pg_class where relname = '{partition}'"):
        raise RuntimeError(f"{partition} is still there")
    return took
