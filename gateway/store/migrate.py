"""Bring a database to the schema of this version: numbered files, each run once, in order."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

import asyncpg

from gateway.domain.errors import StoreUnavailable

__all__ = ["DAYS_AHEAD", "migrate"]

DAYS_AHEAD: Final = 14
_LOCK: Final = 7_227_201_144  # an advisory lock of our own: two processes that start together migrate once
_FILE: Final = re.compile(r"^(\d{4})_\w+\.sql$")


async def migrate(url: str) -> list[str]:
    """Apply what is missing and make partitions two weeks ahead; returns the names of the files that were applied.

    Raises :class:`StoreUnavailable` when PostgreSQL cannot be reached.
    """
    try:
        session = await asyncpg.connect(url, timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError, ValueError) as fault:
        raise StoreUnavailable(f"PostgreSQL cannot be reached ({type(fault).__name__})") from None
    try:
        applied = []
        async with session.transaction():
            await session.execute("select pg_advisory_xact_lock($1)", _LOCK)
            await session.execute(
                "create table if not exists migrations (name text primary key, at timestamptz not null default now())"
            )
            known = {row["name"] for row in await session.fetch("select name from migrations")}
            folder = files("gateway.store").joinpath("migrations")
            for name in sorted(entry.name for entry in folder.iterdir() if _FILE.match(entry.name)):
                if name not in known:
                    await session.execute(folder.joinpath(name).read_text(encoding="utf-8"))
                    await session.execute("insert into migrations (name) values ($1)", name)
                    applied.append(name)
            await session.execute(
                "select ensure_day((gateway_now() at time zone 'UTC')::date + i) from generate_series(-1, $1::int) as i",
                DAYS_AHEAD,
            )
        return applied
    finally:
        await session.close()
