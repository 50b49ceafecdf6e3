"""Versions of the key that people are hashed with, by the statements of subject_keys.sql: added, copied to, used, settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.domain.errors import SubjectKeysChanged
from gateway.domain.subject_keys import SubjectKeys
from gateway.store.lineage import require_meant
from gateway.store.statements import affected, statements

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.domain.lineage import Expected
    from gateway.flow.people import People
    from gateway.store.database import Database, Session

__all__ = ["KNOWN_AFTER", "SubjectKeyTable", "hold_keys", "require_known", "require_life_and_keys"]

KNOWN_AFTER: Final = 90.0
"""Seconds after which every process knows what was changed, or gives no ids, and every transaction from before has ended."""

_BEGINNING: Final = (b"", "", "", "")

Hashes = Callable[[int, bytes], bytes]
"""The id under a version, from the one under the version before."""


async def hold_keys(session: Session, people: People) -> None:
    """In the transaction that writes what a person said: no version is added until it ends. Raises SubjectKeysChanged."""
    require_known(await session.fetchval(statements("subject_keys")["held"]), people)


async def require_life_and_keys(session: Session, expected: Expected, people: People) -> None:
    """In the transaction that takes in: raises DatabaseHeld in a database that is not meant, SubjectKeysChanged when versions changed."""
    row = await session.fetchrow(statements("subject_keys")["lives"], *expected)
    assert row is not None
    require_meant(row["lives"])
    require_known(row["keys"], people)


def require_known(keys: str, people: People) -> None:
    """Raises SubjectKeysChanged when the versions are not those that were read last."""
    if keys != people.keys.text:
        raise SubjectKeysChanged("the key that people are hashed with is being exchanged")


class SubjectKeyTable:
    """The versions. ``actor`` names who changes them, in the audit. Everything raises StoreUnavailable."""

    def __init__(self, database: Database, actor: str) -> None:
        self._database = database
        self._actor = actor
        self._copied: tuple[Any, ...] = _BEGINNING

    async def now(self) -> tuple[SubjectKeys, Mapping[int, str]]:
        """The versions, and the fingerprints of those from 2 on."""
        rows = await self._database.fetch(statements("subject_keys")["now"])
        return SubjectKeys.of(rows[0]["keys"]), {row["version"]: row["fingerprint"] for row in rows if row["version"] is not None}

    async def list(self) -> list[dict[str, Any]]:
        """The versions from 2 on, and how far each has come."""
        return [dict(row) for row in await self._database.fetch(statements("subject_keys")["list"])]

    async def add(self, version: int, fingerprint: str) -> str:
        """Make a version known that the key ring holds; "" when that is done, else why not."""

        async def work(session: Session) -> str:
            sql = statements("subject_keys")
            keys = SubjectKeys.of(await session.fetchval(sql["lock"]))
            if not keys.settled or version != keys.newest + 1:
                return (
                    f"version {keys.newest} is not settled yet" if not keys.settled else f"the next version is {keys.newest + 1}"
                )
            since = await session.fetchval(sql["since_settled"])
            if (since is not None and since < KNOWN_AFTER) or await session.fetchval(sql["any_elder"]):
                return f"version {keys.newest} was settled just now: wait two minutes"
            await session.execute(sql["add"], version, fingerprint, self._actor)
            await session.execute(sql["move"], SubjectKeys(version, keys.used, settled=False).text)
            await session.execute(sql["audit"], "subject_key_added", str(version), self._actor)
            return ""

        return await self._database.transact(work)

    async def use(self, version: int) -> str:
        """Keep new messages under a version from now on; "" when that is done, or was before, else why not."""

        async def work(session: Session) -> str:
            sql = statements("subject_keys")
            keys = SubjectKeys.of(await session.fetchval(sql["lock"]))
            if version == keys.used:
                return ""
            if version != keys.newest:
                return (
                    f"version {version} is older than the one in use" if version < keys.used else f"there is no version {version}"
                )
            row = (await session.fetch(sql["list"]))[-1]
            if row["age"] < KNOWN_AFTER:
                return f"not every process knows it yet: wait {KNOWN_AFTER - row['age']:.0f} s"
            if row["copied_at"] is None:
                return "what people have said is still being copied to it, by the sweep"
            await session.execute(sql["use"], version, self._actor)
            await session.execute(sql["move"], SubjectKeys(version, version, settled=False).text)
            await session.execute(sql["audit"], "subject_key_used", str(version), self._actor)
            return ""

        return await self._database.transact(work)

    # -- what the sweep does --------------------------------------------------------------------------------------------------

    async def copy(self, version: int, next_id: Hashes, most: int) -> bool:
        """Copy a page of what people have said to a version that was added; True once all of it is. It may be repeated."""

        async def work(session: Session) -> list[Record]:
            sql = statements("subject_keys")
            rows = await session.fetch(sql["page"], version - 1, *self._copied, most)
            if rows:
                columns = ([row[name] for row in rows] for name in ("subject_id", "tenant", "scope", "name"))
                await session.execute(sql["copy"], version, *columns, [next_id(version, row["subject_id"]) for row in rows])
            return rows

        rows = await self._database.transact(work)
        last = len(rows) < most
        self._copied = _BEGINNING if last else tuple(rows[-1].values())
        return last

    async def widen_holds(self, people: People, most: int) -> bool:
        """Have legal holds cover what is kept under all versions; True once all do."""
        sql = statements("subject_keys")
        rows = await self._database.fetch(sql["holds"], people.keys.newest, most)
        for row in rows:
            await self._database.execute(sql["widen_hold"], row["id"], list(people.line(row["subject_id"])))
        return len(rows) < most

    async def copied(self, version: int) -> None:
        """All of it is copied: written down if it is so."""
        await self._database.execute(statements("subject_keys")["copied"], version)

    async def settle(self) -> bool:
        """End an exchange of which nothing is left in the queue; False while something is."""
        if not (await self._database.fetch(statements("subject_keys")["moved"]))[0]["done"]:
            return False

        async def work(session: Session) -> bool:
            sql = statements("subject_keys")
            keys = SubjectKeys.of(await session.fetchval(sql["lock"]))
            row = (await session.fetch(sql["list"]))[-1]
            if keys.settled or keys.used != keys.newest or row["used_for"] < KNOWN_AFTER:
                return False
            await session.execute(sql["settle"], keys.newest)
            await session.execute(sql["move"], SubjectKeys(keys.newest, keys.newest, settled=True).text)
            await session.execute(sql["audit"], "subject_key_settled", str(keys.newest), self._actor)
            return True

        return await self._database.transact(work)

    async def forget_elders(self, most: int) -> int:
        """Of an exchange that is over, take the ids before out of the queue; returns of how many rows."""
        done = await self._database.execute(statements("subject_keys")["forget_elders"], most)
        return affected(done)
