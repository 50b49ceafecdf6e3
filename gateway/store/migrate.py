"""Bring a database to the schema of this version: numbered files, each run once, in order."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import asyncpg

from gateway.domain.errors import StoreRefused, StoreUnavailable

__all__ = ["DAYS_AHEAD", "migrate", "pending"]

DAYS_AHEAD: Final = 14
_LOCK: Final = 7_227_201_144  # an advisory lock of our own: two processes that start together migrate once
_FILE: Final = re.compile(r"^(\d{4})_\w+\.sql$")


async def migrate(url: str) -> list[str]:
    """Apply what is missing and make partitions two weeks ahead; returns the names of the files that were applied.

    Raises :class:`StoreUnavailable` when PostgreSQL cannot be reached, :class:`StoreRefused` when it does not let us.
    """
    session = await _connect(url)
    try:
        applied = []
        async with session.transaction():
            await session.execute("select pg_advisory_xact_lock($1)", _LOCK)
            await session.execute(
                "create table if not exists migrations (name text primary key, at timestamptz not null default now())"
            )
            known = {row["name"] for row in await session.fetch("select name from migrations")}
            for name in _names():
                if name not in known:
                    await session.execute(_folder().joinpath(name).read_text(encoding="utf-8"))
                    await session.execute("insert into migrations (name) values ($1)", name)
                    applied.append(name)
            await session.execute(
                "select ensure_day((gateway_now() at time zone 'UTC')::date + i) from generate_series(-1, $1::int) as i",
                DAYS_AHEAD,
            )
    except asyncpg.PostgresError as fault:
        raise StoreRefused(f"PostgreSQL refused the migration ({type(fault).__name__}); nothing was changed") from None
    else:
        return applied
    finally:
        await session.close()


async def pending(url: str) -> list[str]:
    """The names of the files that :func:`migrate` would apply. Raises :class:`StoreUnavailable`."""
    session = await _connect(url)
    try:
        known: set[str] = set()
        if await session.fetchval("select to_regclass('migrations')") is not None:
            known = {row["name"] for row in await session.fetch("select name from migrations")}
        return [name for name in _names() if name not in known]
    finally:
        await session.close()


async def _connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
    try:
        return await asyncpg.connect(url, timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as fault:
        raise StoreUnavailable(f"PostgreSQL cannot be reached ({type(fault).__name__})") from None


def _folder() -> Traversable:
    return files("gateway.store").joinpath("migrations")


def _names() -> list[str]:
    return sorted(entry.name for entry in _folder().iterdir() if _FILE.match(entry.name))
