"""Dead letters as they lie in the store, by the statements of letters.sql."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gateway.flow.burial import SealedLetter
from gateway.flow.letters import LetterFilter, Reader
from gateway.store.statements import statements

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.store.database import Database, Session

__all__ = ["DeadLetters"]


class DeadLetters:
    """The table of dead letters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: LetterFilter, before: UUID | None, most: int) -> list[dict[str, Any]]:
        """What is known of the newest letters that came before ``before``."""
        reasons = list(wanted.reasons) or None
        rows = await self._database.fetch(
            statements("letters")["page"],
            wanted.tenant,
            reasons,
            wanted.since,
            wanted.until,
            wanted.replayed,
            before,
            most,
        )
        return [dict(row) for row in rows]

    async def facts(self, uid: UUID) -> dict[str, Any] | None:
        """What is known of one letter, and what was done with it; None when there is none."""
        sql = statements("letters")
        rows = await self._database.fetch(sql["facts"], uid)
        if not rows:
            return None
        return {**rows[0], "steps": [dict(step) for step in await self._database.fetch(sql["steps"], uid)]}

    async def sealed(self, uids: Sequence[UUID]) -> list[SealedLetter]:
        """These letters with what is sealed of them, oldest first."""
        return [_letter(row) for row in await self._database.fetch(statements("letters")["sealed"], list(uids))]

    async def open(
        self, uid: UUID, token_hash: bytes | None, judge: Callable[[Reader | None, str], str | None], asker: str
    ) -> tuple[SealedLetter, str | None] | None:
        """In one transaction: find letter and token, ask why not, write down who was let in or refused. None: no such letter."""

        async def work(session: Session) -> tuple[SealedLetter, str | None] | None:
            sql = statements("letters")
            rows = await session.fetch(sql["sealed"], [uid])
            if not rows:
                return None
            found = await session.fetch(sql["reader"], token_hash) if token_hash is not None else []
            reader = _reader(found[0]) if found else None
            why = judge(reader, rows[0]["tenant"])
            actor = f"token:{reader.name} {asker}" if reader is not None else asker
            await session.execute(sql["audit"], [uid], "payload_read" if why is None else "payload_refused", why, actor)
            return _letter(rows[0]), why

        return await self._database.transact(work)

    async def begin_replay(self, uids: Sequence[UUID], actor: str) -> None:
        """Write down that these letters are about to be put back."""
        await self._database.execute(statements("letters")["audit"], list(uids), "replay_begun", None, actor)

    async def replayed(self, uids: Sequence[UUID], actor: str) -> None:
        """Mark letters as put back, with the audit of it."""

        async def work(session: Session) -> None:
            sql = statements("letters")
            await session.execute(sql["replayed"], list(uids), actor)
            await session.execute(sql["audit"], list(uids), "replayed", None, actor)

        await self._database.transact(work)


def _letter(row: Record) -> SealedLetter:
    return SealedLetter(*row.values())


def _reader(row: Record) -> Reader:
    tenants = row["tenants"]
    return Reader(row["name"], None if tenants is None else frozenset(tenants), frozenset(row["rights"]), row["revoked"])
