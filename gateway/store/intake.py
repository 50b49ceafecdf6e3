"""Make a batch of messages and dead letters durable, by the statements of intake.sql."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gateway.domain.consent import Consent
from gateway.domain.pauses import Pause
from gateway.domain.routing import Ill
from gateway.flow.accept import KeptSenders, NewMessage
from gateway.flow.burial import DeadLetter
from gateway.flow.intake import Admitted
from gateway.flow.people import FirstKey, People, with_people
from gateway.flow.rerouting import ILL_AFTER
from gateway.store.consents import consents_of, insert_opt_ins
from gateway.store.inserting import insert_messages
from gateway.store.noting import Noting
from gateway.store.routing import ill_ways, keep_senders, kept_senders
from gateway.store.statements import statements
from gateway.store.subject_keys import require_life_and_keys

if TYPE_CHECKING:
    from gateway.store.database import Database, Session

__all__ = ["Admission"]


def _row(message: NewMessage, people: People) -> tuple[Any, ...]:
    subject_id, elder = people.kept_under(message.subject_id) if message.subject_id is not None else (None, None)
    return (
        message.uid,
        message.tenant,
        message.programme,
        message.category,
        "outbound",
        message.message_id,
        message.recipient_sealed,
        subject_id,
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
        message.any_sender,
        message.country,
        elder,
    )


class Admission:
    """Where intake's batches go. ``actor`` names this process in the audit. People are named by their first ids."""

    def __init__(
        self,
        database: Database,
        person_key: Callable[[str, bytes], str],
        actor: str,
        noting: Noting | None = None,
        people: People | None = None,
    ) -> None:
        self._database = database
        self._people = people or FirstKey()
        self._noting = noting or Noting()
        self._person_key = person_key
        self._actor = actor

    async def begin(self) -> tuple[datetime, frozenset[str]]:
        """PostgreSQL's time, and whose customer account is closed by it."""
        (row,) = await self._database.fetch(statements("closing")["now_closed"])
        return row["now"], frozenset(row["closed"])

    async def consents_of(self, subject_ids: Sequence[bytes]) -> Mapping[bytes, Sequence[Consent]]:
        """What these people have said."""
        return await self._database.read(lambda session: consents_of(session, subject_ids)) if subject_ids else {}

    async def kept_senders(self, subject_ids: Sequence[bytes]) -> Mapping[tuple[bytes, str, str], KeptSenders]:
        """Which senders these people have."""
        return await self._database.transact(lambda session: kept_senders(session, subject_ids, self._people))

    async def ill(self) -> Ill:
        """Which accounts and senders should not be chosen."""
        return await ill_ways(self._database, ILL_AFTER)

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
            await require_life_and_keys(session, self._database.expected, self._people)
            admitted = await self._claim_ids(session, messages)
            new = [message for message in messages if message.uid in admitted.new]
            await insert_messages(session, [_row(message, self._people) for message in new], self._actor)
            await insert_opt_ins(
                session,
                sorted((message for message in new if message.opt_in is not None), key=lambda one: one.subject_id or b""),
                self._person_key,
                self._actor,
                self._noting,
                self._people,
            )
            await keep_senders(
                session,
                [
                    (self._people.kept_under(one.subject_id)[0], one.tenant, one.programme, one.sender)
                    for one in new
                    if one.keep_sender and one.subject_id is not None and one.sender is not None
                ],
            )
            if admitted.duplicates:
                await session.execute(statements("intake")["tell_again"], list(admitted.duplicates))
            await self._bury(session, dead_letters)
            return admitted

        return await with_people(self._people, lambda: self._database.transact(work))

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
