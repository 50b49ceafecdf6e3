"""The outbox, by the statements of outbox.sql."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.flow.relay import OutboxRow
from gateway.store.statements import statements

if TYPE_CHECKING:
    from gateway.store.database import Database

__all__ = ["Outbox"]


class Outbox:
    """Events that wait to be published."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, most: int) -> list[OutboxRow]:
        """The oldest that are there."""
        return [
            OutboxRow(*row.values())
            for row in await self._database.fetch(statements("outbox")["take"], most, *self._database.expected)
        ]

    async def remove(self, rows: Sequence[OutboxRow], name: str, holder: str) -> None:
        """The broker has them. Does nothing when ``holder`` no longer holds ``name``."""
        if rows:
            ids, categories = [row.id for row in rows], [row.category for row in rows]
            await self._database.execute(statements("outbox")["remove"], ids, name, holder, categories)

    async def park(self, ids: Sequence[int], why: str) -> None:
        """The broker will never take them."""
        await self._database.execute(statements("outbox")["park"], list(ids), why)
