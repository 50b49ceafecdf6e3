"""The oldest of what a setting ends, by the statements of windows.sql."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

from gateway.domain.ids import uid_time
from gateway.store.statements import statements

if TYPE_CHECKING:
    from gateway.store.database import Database

__all__ = ["WindowTables"]


class WindowTables:
    """Two tables. Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def oldest_id(self) -> datetime | None:
        """When the oldest message was taken in whose id is still known."""
        rows = await self._database.fetch(statements("windows")["message_ids"])
        return uid_time(rows[0]["uid"]) if rows else None

    async def oldest_sender(self) -> datetime | None:
        """The day, in UTC, on which a person was last texted by a sender that is still kept for them."""
        rows = await self._database.fetch(statements("windows")["kept_senders"])
        return datetime.combine(rows[0]["used_on"], time(tzinfo=UTC)) if rows else None
