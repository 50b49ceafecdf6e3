"""Which day keys still have something in the database that they open, by the statements of key_needs.sql."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from gateway.flow.keys import DayKey
from gateway.flow.vault import DataClass
from gateway.store.statements import statements

if TYPE_CHECKING:
    from gateway.store.database import Database

__all__ = ["KeyNeeds"]


class KeyNeeds:
    """Looks for rows that a key opens. Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def needed(self, keys: Collection[DayKey]) -> set[DayKey]:
        """Those of the keys that some row is still sealed by: unsettled, held, or not ended yet."""
        days: dict[tuple[DataClass, date], list[str]] = defaultdict(list)
        for key in keys:
            days[key.data_class, key.day].append(key.tenant)
        found: set[DayKey] = set()
        for (data_class, day), tenants in days.items():
            begin = datetime.combine(day, time.min, UTC)
            rows = await self._database.fetch(statements("key_needs")[data_class], tenants, begin, begin + timedelta(days=1))
            found |= {DayKey(row["tenant"], data_class, day) for row in rows}
        return found
