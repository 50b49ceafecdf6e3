"""Which life of the database this is, by the statements of lineage.sql."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.domain.errors import DatabaseHeld
from gateway.domain.lineage import Lineage
from gateway.store.statements import statements

if TYPE_CHECKING:
    from gateway.domain.lineage import Expected
    from gateway.store.database import Database, Session

__all__ = ["LineageStore", "require_life", "require_meant"]

_KEPT: Final = "lineage_kept"
_REPLAYED: Final = "replayed"


async def require_life(session: Session, expected: Expected) -> None:
    """In the transaction that writes: raises DatabaseHeld when it is not in the database that is meant."""
    require_meant(await session.fetchval(statements("lineage")["lives"], *expected))


def require_meant(lives: bool) -> None:
    """What the database answered to that: raises DatabaseHeld."""
    if not lives:
        raise DatabaseHeld("held: the database was restored or failed over: see `gateway restore status`")


class LineageStore:
    """The database's own word of which it is. Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> Lineage:
        """Which it is, and how far it has come."""
        (row,) = await self._database.fetch(statements("lineage")["now"])
        return Lineage(row["name"], row["timeline"], row["place"])

    async def was_kept(self) -> bool:
        """Whether its lineage was ever kept outside."""
        return await self._fact(_KEPT) is not None

    async def note_kept(self) -> None:
        """It is."""
        await self._database.execute(statements("lineage")["note"], _KEPT, "yes")

    async def replayed(self) -> Lineage | None:
        """Which life of it a replay was completed in."""
        value = await self._fact(_REPLAYED)
        return None if value is None else Lineage.decode(bytes.fromhex(value))

    async def note_replayed(self, lineage: Lineage) -> None:
        """A replay is complete."""
        await self._database.execute(statements("lineage")["note"], _REPLAYED, lineage.encode().hex())

    async def _fact(self, name: str) -> str | None:
        rows = await self._database.fetch(statements("lineage")["fact"], name)
        return rows[0]["value"] if rows else None

    def expect(self, expected: Expected) -> None:
        """From now on statements that send, take in or publish do so in this database alone."""
        self._database.expected = expected
