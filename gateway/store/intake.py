"""Make a batch of messages and dead letters durable, by the statements of intake.sql."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gateway.domain.consent import Consent
from gateway.domain.pauses import Pause
from gateway.flow.accept import NewMessage
from gateway.flow.burial import DeadLetter
from gateway.flow.intake import Admitted
from gateway.store.consents import consents_of, insert_opt_ins
from gateway.store.inserting import insert_messages
from gateway.store.ledger import Ledger
from gateway.store.statements import statements

if TYPE_CHECKING:
    from gateway.store.database import Database, Session

__all__ = ["Admission"]


def _row(message: NewMessage) -> tuple[Any, ...]:
    return (
        message.uid,
        message.tenant,
        message.programme,
        message.category,
        "outbound",
        message.message_id,
        message.recipient_ref,
        message.subject_id,
        message.to_sealed,
        message.body_sealed,
        message.state,
        message.reason,
        message.final,
        message.policy,
        message.rule,
        message.expires_at,
        message.not_before,
        message.due_at,
        message.trace,
        message.parts,
        message.route_id,
        message.sender,
    )


class Admission:
    """Where intake's batches go. ``actor`` names this process in the audit."""

    def __init__(self, database: Database, person_key: Callable[[str, bytes], str], actor: str) -> None:
        self._database = database
        self._person_key = person_key
        self._actor = actor
        self._ledger = Ledger(database, actor)

    async def now(self) -> datetime:
        """PostgreSQL's time."""
        return await self._ledger.now()

    async def consents_of(self, subject_ids: Sequence[bytes]) -> Mapping[bytes, Sequence[Consent]]:
        """What these people have said."""
        if not subject_ids:
            return {}

        async def work(session: Session) -> Mapping[bytes, Sequence[Consent]]:
            return await consents_of(session, subject_ids)

        return await self._database.transact(work)

    async def pauses(self) -> frozenset[Pause]:
        """What operators hold."""
        rows = await self._database.fetch(statements("control")["pauses"])
        return frozenset((row["scope"], row["tenant"], row["name"]) for row in rows)

    async def waiting(self, most: int) -> int:
        """How many messages could be sent now; counting stops at ``most``."""
        count: int = (await self._database.fetch(statements("intake")["waiting"], most))[0][0]
        return count

    async def admit(self, messages: Sequence[NewMessage], dead_letters: Sequence[DeadLetter]) -> Admitted:
        """All of it or nothing, in one transaction."""

        async def work(session: Session) -> Admitted:
            admitted = await self._claim_ids(session, messages)
            new = [message for message in messages if message.uid in admitted.new]
            await insert_messages(session, [_row(message) for message in new], self._actor)
            await insert_opt_ins(
                session,
                sorted((message for message in new if message.opt_in is not None), key=lambda one: one.subject_id or b""),
                self._person_key,
                self._actor,
            )
            if admitted.duplicates:
                await session.execute(statements("intake")["tell_again"], list(admitted.duplicates))
            await self._bury(session, dead_letters)
            return admitted

        return await self._database.transact(work)

    async def _claim_ids(self, session: Session, messages: Sequence[NewMessage]) -> Admitted:
        if not messages:
            return Admitted(frozenset(), frozenset(), frozenset())
        by_id = sorted(messages, key=lambda one: (one.tenant, one.id_hash, one.uid))
        columns = (
            [one.tenant for one in by_id],
            [one.id_hash for one in by_id],
            [one.content_digest for one in by_id],
            [one.uid for one in by_id],
        )
        new = frozenset(row["uid"] for row in await session.fetch(statements("intake")["claim_ids"], *columns))
        if len(new) == len(messages):
            return Admitted(new, frozenset(), frozenset())
        repeated = [one for one in by_id if one.uid not in new]
        rows = await session.fetch(
            statements("intake")["first_ones"],
            [one.tenant for one in repeated],
            [one.id_hash for one in repeated],
            [one.content_digest for one in repeated],
            [one.uid for one in repeated],
        )
        firsts: set[UUID] = {row["first_uid"] for row in rows if row["same"]}
        return Admitted(new, frozenset(firsts), frozenset(row["uid"] for row in rows if not row["same"]))

    async def _bury(self, session: Session, letters: Sequence[DeadLetter]) -> None:
        if letters:
            await session.execute(
                statements("intake")["dead_letters"],
                [one.uid for one in letters],
                [one.topic for one in letters],
                [one.partition for one in letters],
                [one.offset for one in letters],
                [one.tenant for one in letters],
                [one.reason for one in letters],
                [one.detail for one in letters],
                [one.length for one in letters],
                [one.sha256 for one in letters],
                [one.form for one in letters],
                [one.sealed for one in letters],
                [one.replay_of for one in letters],
                [one.event for one in letters],
                self._actor,
            )
