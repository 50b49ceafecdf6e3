"""How far the spool is applied, by the statements of spool.sql."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from gateway.flow.spool_applier import Looked
from gateway.store.statements import statements

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.store.database import Database

__all__ = ["SpoolPlace"]


class SpoolPlace:
    """The row of one topic."""

    def __init__(self, database: Database, topic: str, actor: str) -> None:
        self._database = database
        self._topic = topic
        self._actor = actor

    async def _rows(self, name: str, *arguments: object) -> list[Record]:
        return await self._database.fetch(statements("spool")[name], *arguments)

    async def look(self) -> Looked:
        """PostgreSQL's time, and the first offset that is not applied; None when the spool was never read."""
        rows = await self._rows("look", self._topic)
        if not rows:
            await self._rows("begin", self._topic)
            rows = await self._rows("look", self._topic)
        return Looked(rows[0]["at"], rows[0]["next_offset"])

    async def advance(self, before: int | None, after: int) -> bool:
        """Everything before ``after`` is applied. False when the place is no longer ``before``: another process moved it."""
        return bool(await self._rows("advance", self._topic, before, after))

    async def clear(self, offset: int, at: datetime, seconds: float) -> bool:
        """At ``at`` there was nothing beyond ``offset``: for so many seconds from then, messages may be claimed."""
        return bool(await self._rows("clear", self._topic, offset, at, seconds))

    async def park(self, offset: int, why: str) -> None:
        """Keep in the audit that a record is passed over."""
        note = statements("control")["note_gap"]
        await self._database.execute(note, "spooled_stop_parked", f"{why}: {self._topic}/0 {offset}", self._actor)
