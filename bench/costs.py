"""What a message costs: statements, WAL, events, and the CPU of each process; and where a worker's CPU goes, as a picture."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Final

import psutil

from bench.sending import QUICK, all_told, cpu_of, warmed_up
from bench.stage import ROLES, Figures, Stage, worker_of

__all__ = ["STATEMENTS", "costs", "flame"]

STATEMENTS: Final = {"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track_utility": "on"}
"""PostgreSQL's settings for counting statements."""

_OF_ROLES: Final = f"""
select r.rolname as role, sum(s.calls)::bigint as calls, sum(s.wal_bytes)::bigint as wal
  from pg_stat_statements s join pg_roles r on r.oid = s.userid
 where r.rolname in {ROLES} and s.query !~* '^(begin|commit)'
 group by 1 order by 2 desc
"""


_PLACES: Final = """
select pg_current_wal_lsn() - '0/0' as wal, last_value + (select coalesce(sum(published), 0) from audit_heads) as events from outbox_id_seq
"""


async def costs(stage: Stage, count: int) -> Figures:
    """One process a role; what each used for a message, from the topic to the last event."""
    await stage.fetch("create extension pg_stat_statements")
    async with stage.carrier(*QUICK, "--callbacks", "final") as carrier, stage.roles(named=True) as roles:
        counter = await warmed_up(stage, carrier)
        processes = {
            **{role: [process] for role, process in roles.items()},
            "postgresql": _named("postgres"),
            "broker": _named("tansu"),
            "carrier": [psutil.Process(carrier.process.pid)],
        }
        await stage.fetch("select pg_stat_statements_reset()")
        before = {name: sum(map(cpu_of, found)) for name, found in processes.items()}
        places = await _places(stage)
        await stage.publish(count)
        await counter.accepted(count)
        await carrier.get("/stats?quiet=1&within=120", within=130)
        await all_told(stage)
        processes["postgresql"] = [*dict.fromkeys([*processes["postgresql"], *_named("postgres")])]
        spent = {f"cost_cpu_ms_{name}": sum(map(_cpu, found)) - before[name] for name, found in processes.items()}
        wal, events = (now - then for now, then in zip(await _places(stage), places, strict=True))
        of_roles = await stage.fetch(_OF_ROLES)
        transactions = await stage.count("select sum(calls)::bigint from pg_stat_statements where query ~* '^commit'")
    return {
        "cost_statements": round(sum(row["calls"] for row in of_roles) / count, 3),
        **{f"cost_statements_{row['role']}": round(row["calls"] / count, 3) for row in of_roles},
        "cost_transactions": round(transactions / count, 3),
        "cost_wal_bytes": round(wal / count),
        **{f"cost_wal_bytes_{row['role']}": round(row["wal"] / count) for row in of_roles},
        "cost_events": round(events / count, 2),
        **{name: round(1000 * seconds / count, 3) for name, seconds in spent.items()},
    }


async def _places(stage: Stage) -> tuple[int, int]:
    """Bytes of WAL written, and events published, audit records among them, since the beginning of the database."""
    row = (await stage.fetch(_PLACES))[0]
    return int(row["wal"]), int(row["events"])


def _named(name: str) -> list[psutil.Process]:
    """The processes of this bench with a name in their command line."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if name in process.name() or name in " ".join(process.cmdline()[:1]):
                found.append(process)
    return found


def _cpu(process: psutil.Process) -> float:
    try:
        return cpu_of(process)
    except psutil.Error:  # a session of PostgreSQL that has ended
        return 0.0


async def flame(stage: Stage, count: int, picture: Path = Path("flame.svg")) -> Figures:
    """A flame graph of a whole process that sends as fast as it can, by py-spy."""
    async with stage.carrier(*QUICK, "--callbacks", "final") as carrier, stage.gateway() as parent:
        counter = await warmed_up(stage, carrier)
        await stage.publish(2 * count)
        sampler = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("py-spy")), "record", "--nonblocking", "--rate", "200", "--duration", "5",
            "--output", str(picture), "--pid", str(worker_of(parent).pid),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        refused = await sampler.wait()
        await counter.accepted(2 * count)
    return {"flame_graph": None if refused else str(picture)}
