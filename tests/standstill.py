"""Stands in a transaction's way in PostgreSQL, so that a test meets another process between two of its transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

__all__ = ["Standstill", "at_the_offset", "at_the_text"]


class Standstill:
    """A transaction of ours that is open, and whoever waits for it."""

    def __init__(self, session: asyncpg.Connection[asyncpg.Record]) -> None:
        self._session = session

    async def reached(self) -> bool:
        """Whether a process of the gateway's waits for us."""
        return bool(await self._waiting("pid"))

    async def end_who_waits(self) -> None:
        """End the sessions that wait: what a killed process had asked for is not done after its death."""
        await self._waiting("pg_terminate_backend(pid)")

    async def _waiting(self, what: str) -> list[asyncpg.Record]:
        return await self._session.fetch(
            f"select {what} from pg_stat_activity where application_name = 'sms-gateway' and pg_backend_pid() = any(pg_blocking_pids(pid))"
        )


@asynccontextmanager
async def at_the_text(url: str, account: str, provider_message_id: str) -> AsyncIterator[Standstill]:
    """Whoever takes this text waits as long as the context lasts: the ones before it are done, in transactions of their own."""
    async with _standing(
        url,
        "insert into inbound (account, provider_message_id, received_at, fate, subject_id) values ($1, $2, now(), 'other', '\\x00')",
        account,
        provider_message_id,
    ) as standstill:
        yield standstill


@asynccontextmanager
async def at_the_offset(url: str) -> AsyncIterator[Standstill]:
    """Whoever moves the offset of the spool waits as long as the context lasts: what it has read is applied."""
    async with _standing(url, "lock table spool in share mode") as standstill:
        yield standstill


@asynccontextmanager
async def _standing(url: str, statement: str, *arguments: str) -> AsyncIterator[Standstill]:
    session = await asyncpg.connect(url, timeout=10)
    try:
        transaction = session.transaction()
        await transaction.start()
        await session.execute(statement, *arguments, timeout=10)
        yield Standstill(session)
        await transaction.rollback()
    finally:
        session.terminate()
