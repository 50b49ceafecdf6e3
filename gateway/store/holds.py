"""Legal holds, by the statements of holds.sql."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from gateway.flow.copies import Whose
from gateway.flow.holds import Covered, Persons, Thing, UndoneProof
from gateway.flow.people import FirstKey, People, with_people
from gateway.store.consents import key_of, parts_of
from gateway.store.statements import affected, statements
from gateway.store.subject_keys import hold_keys

if TYPE_CHECKING:
    from gateway.store.database import Database, Session

__all__ = ["HoldTable", "covered"]

_STATEMENT: Final[Mapping[Thing, str]] = {
    "content": "covered_messages",
    "address": "covered_messages",
    "events": "covered_messages",
    "dead_letters": "covered_letters",
    "audit": "covered_audit",
}


async def covered(
    session: Session, thing: Thing, tenant: str, first: datetime, after: datetime, persons: Persons, most: int
) -> list[Covered]:
    """What of a time holds cover and do not keep yet; also for who decides under the holds' lock."""
    arguments: list[object] = [tenant, first, after, thing, most]
    if thing == "audit":
        arguments += [[hold for hold, _ in persons], [person for _, person in persons]]
    found = []
    for row in await session.fetch(statements("holds")[_STATEMENT[thing]], *arguments):
        get = dict(row).get
        found.append(Covered(row["hold"], row["name"], get("uid"), get("to_sealed"), get("body"), row["record"], get("audit")))
    return found


class HoldTable:
    """The holds, and what they keep."""

    def __init__(self, database: Database, people: People | None = None) -> None:
        self._database = database
        self._people = people or FirstKey()

    async def held(self, copies: Collection[Whose]) -> Collection[Whose]:
        """Which of these copies at providers a hold that stands covers."""
        if not copies:
            return ()
        asked = list(copies)
        rows = await self._database.fetch(statements("holds")["held_of"], *map(list, zip(*asked, strict=True)))
        return {asked[row["place"] - 1] for row in rows}

    async def now(self) -> datetime:
        """The store's time."""
        found: datetime = (await self._database.fetch(statements("ledger")["now"]))[0][0]
        return found

    async def add(
        self,
        hold: UUID,
        tenant: str,
        subject_id: bytes | None,
        uid: UUID | None,
        who: str,
        why: str,
        until: datetime | None,
        actor: str,
    ) -> None:
        """Write a hold, with its audit."""

        async def work(session: Session) -> None:
            sql = statements("holds")
            await hold_keys(session, self._people)
            line = list(self._people.line(subject_id)) if subject_id is not None else None
            await session.execute(sql["add"], hold, tenant, subject_id, uid, who, why, actor, until, line)
            await session.execute(sql["audit"], tenant, "hold_added", str(hold), actor, subject_id)

        await with_people(self._people, lambda: self._database.transact(work))

    async def list(self, *, ended: bool) -> Sequence[Mapping[str, Any]]:
        """The holds, with those that are ended or without."""
        return [dict(row) for row in await self._database.fetch(statements("holds")["list"], ended)]

    async def release(self, hold: UUID, actor: str) -> bool:
        """Release one, with its audit."""

        async def work(session: Session) -> bool:
            row = await session.fetchrow(statements("holds")["release"], hold, actor)
            if row is not None:
                await session.execute(
                    statements("holds")["audit"], row["tenant"], "hold_released", str(hold), actor, row["subject_id"]
                )
            return row is not None

        return await self._database.transact(work)

    async def over(self) -> Sequence[UUID]:
        """Those that are to end."""
        return [row["id"] for row in await self._database.fetch(statements("holds")["over"])]

    async def end(self, hold: UUID, most: int) -> int:
        """Delete what it kept, then end it."""
        sql = statements("holds")
        deleted = affected(await self._database.execute(sql["forget"], hold, most))
        if deleted >= most:
            return deleted

        async def work(session: Session) -> int:
            row = await session.fetchrow(sql["end"], hold)
            last = 0
            if row is not None:
                last = affected(await session.execute(sql["forget"], hold, None))  # what was being kept meanwhile
                await session.execute(sql["audit"], row["tenant"], "hold_ended", str(hold), "retention", row["subject_id"])
            return last

        return deleted + await self._database.transact(work)

    async def persons(self, tenant: str) -> Sequence[tuple[UUID, bytes]]:
        """The people whom holds of a tenant are for, by each id of theirs."""
        return [(row["id"], row["subject_id"]) for row in await self._database.fetch(statements("holds")["persons"], tenant)]

    async def covered(
        self, thing: Thing, tenant: str, first: datetime, after: datetime, persons: Persons, most: int
    ) -> Sequence[Covered]:
        """What holds cover and do not keep yet."""
        return await self._database.transact(lambda session: covered(session, thing, tenant, first, after, persons, most))

    async def keep_proofs(self, seal: Callable[[UndoneProof, UUID], bytes], most: int) -> int:
        """Keep proofs of opt-ins that were undone for the holds that cover them, and let go of them where they were."""

        async def work(session: Session) -> int:
            sql = statements("holds")
            if not await session.fetchval(sql["any_undone_proof"]):
                return 0
            await session.execute(statements("retention")["lock_holds"])  # none is added that this does not know
            rows = await session.fetch(sql["undone_proofs"], most)
            for row in rows:
                proof = UndoneProof(key_of(row), row["proof_uid"], row["proof"], row["record"])
                for hold in row["holds"]:
                    sealed = seal(proof, hold)
                    await session.execute(sql["keep"], [hold], "proof", [str(proof.uid)], [sealed])
                await session.execute(sql["forget_proof"], *parts_of(proof.key))
            return len(rows)

        return await self._database.transact(work)

    async def keep(self, thing: Thing, kept: Sequence[tuple[UUID, str, bytes]]) -> None:
        """Keep these, but for holds that have ended."""
        if kept:
            holds, names, sealed = (list(column) for column in zip(*kept, strict=True))
            await self._database.execute(statements("holds")["keep"], holds, thing, names, sealed)
