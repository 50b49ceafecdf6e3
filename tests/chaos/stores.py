"""PostgreSQL, and what can be done to it: killed, stopped, frozen, locked, with every session taken, with its disk full."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import asyncpg

from gateway.embedded.postgres import EmbeddedPostgres
from tests.chaos.disk import Disk
from tests.chaos.servers import Hurtable

__all__ = ["Store", "open_store"]

T = TypeVar("T")

_FAULTS: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
_SETTINGS: Final = {"max_connections": "80", "max_wal_size": "256MB"}  # the small disk must hold the log, and more
_AWAY: Final = 60.0  # a limit for a machine that is busy


class Store(Hurtable):
    """A PostgreSQL that runs. ``url`` and ``port`` are its address, without any line between."""

    def __init__(self, server: EmbeddedPostgres, disk: Disk, thread: ThreadPoolExecutor) -> None:
        super().__init__(server, thread)
        self.url, self.port = server.url, server.port
        self._disk = disk

    @property
    def why_never_full(self) -> str | None:
        """Why its disk can't be filled on this machine; None where it can."""
        return self._disk.why_not

    async def rows(self, statement: str, *arguments: object) -> list[dict[str, Any]]:
        """What it answers to a session of our own; it is waited for where it is away."""
        ends = time.monotonic() + _AWAY
        while True:
            try:
                session = await asyncpg.connect(self.url, timeout=5)
                try:
                    return [dict(row) for row in await session.fetch(statement, *arguments, timeout=10)]
                finally:
                    session.terminate()
            except _FAULTS:
                if time.monotonic() > ends:
                    raise
                await asyncio.sleep(0.2)

    async def cut_sessions(self) -> str:
        """End some sessions, those first that are in the middle of something."""
        cut = await self.rows(
            "select pg_terminate_backend(pid) from (select pid from pg_stat_activity"
            " where application_name = 'sms-gateway' order by state = 'active' desc, random() limit 4) as sessions"
        )
        return f"{len(cut)} sessions ended by pg_terminate_backend"

    async def lock_tables(self, seconds: float) -> str:
        """Hold up every statement on the hot tables: all connections of all pools wait."""
        async with self._hurting:
            for _ in range(20):
                session = await asyncpg.connect(self.url, timeout=10)
                try:
                    async with session.transaction():
                        await session.execute("lock table queue, messages, consents in access exclusive mode", timeout=20)
                        await asyncio.sleep(seconds)
                        waiting = await session.fetchval(
                            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'sms-gateway'"
                        )
                    return f"tables locked for {seconds:.1f} s, {waiting} sessions waiting at its end"
                except asyncpg.DeadlockDetectedError:
                    continue
                except _FAULTS as fault:
                    return f"another fault ended it: {type(fault).__name__}"
                finally:
                    session.terminate()
            return "never got the tables"

    async def use_up_sessions(self, seconds: float) -> str:
        """Take every connection that the server allows, and end the gateway's: it gets none back meanwhile."""
        async with self._hurting:
            ours: list[asyncpg.Connection[asyncpg.Record]] = []
            try:
                ends, refused = time.monotonic() + seconds, 0
                while time.monotonic() < ends:
                    try:
                        ours.append(await asyncpg.connect(self.url, timeout=2))
                    except asyncpg.TooManyConnectionsError:
                        refused += 1
                        with contextlib.suppress(*_FAULTS):
                            await ours[-1].fetch(
                                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sms-gateway'"
                            )
                        await asyncio.sleep(0.1)
                    except _FAULTS:
                        await asyncio.sleep(0.1)
            finally:
                for session in ours:
                    session.terminate()
            return f"{len(ours)} sessions taken, all there were for {seconds:.1f} s"

    async def fill_disk(self, seconds: float) -> str:
        """No byte is free for a while. PostgreSQL may end of it: it is started again when there is room."""
        async with self._hurting:
            filled = await self._run(self._disk.fill)
            try:
                await asyncio.sleep(seconds)
            finally:
                await self._run(self._disk.free)
            died = not self._server.alive()
            await self._run(self._server.start)
            await self.rows("select 1")
            return f"full for {seconds:.1f} s ({filled >> 20} MB of ballast), PostgreSQL {'ended of it' if died else 'stayed up'}"


@asynccontextmanager
async def open_store() -> AsyncIterator[Store]:
    """A PostgreSQL with fsync on, on a small disk of its own where that can be had."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:  # a server ends with the thread that started it: this one stays
        disk = await loop.run_in_executor(thread, Disk)
        server = EmbeddedPostgres(disk.folder / "postgres", settings=_SETTINGS)
        try:
            await loop.run_in_executor(thread, server.start)
            yield Store(server, disk, thread)
        finally:
            await loop.run_in_executor(thread, server.stop)
            await loop.run_in_executor(thread, disk.remove)
