"""The data's own note of the keys that were destroyed, by the statements of ended.sql."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.flow.keys import DayKey
from gateway.store.statements import statements

if TYPE_CHECKING:
    from gateway.store.database import Database

__all__ = ["Ended"]


class Ended:
    """What stays destroyed, whatever a backup of the key ring holds. Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, key: DayKey) -> None:
        """Write down that a key is to be destroyed."""
        await self._database.execute(statements("ended")["note"], key.tenant, key.data_class, key.day)

    async def done(self, key: DayKey) -> None:
        """It is destroyed."""
        await self._database.execute(statements("ended")["done"], key.tenant, key.data_class, key.day)

    async def unfinished(self) -> Sequence[DayKey]:
        """Those that nobody has said to be destroyed, the oldest first; a hundred at most."""
        return [DayKey(*row.values()) for row in await self._database.fetch(statements("ended")["unfinished"])]

    async def all(self) -> Sequence[DayKey]:
        """Every one of them."""
        return [DayKey(*row.values()) for row in await self._database.fetch(statements("ended")["all"])]
