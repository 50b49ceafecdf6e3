"""Opt-outs, opt-ins and people's texts, by the statements of consents.sql."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from gateway.domain.changes import Change, end
from gateway.domain.consent import EVERY_TENANT, Consent, ConsentKey, Scope, meet, undoes
from gateway.domain.events import ConsentEvent, encode
from gateway.domain.ids import new_uid
from gateway.domain.reasons import Reason
from gateway.domain.states import State
from gateway.flow.conversation import LastText, OptIn
from gateway.flow.stop import InboundNote, OptOut, ReadyReply, Written, reply_from, reply_row
from gateway.flow.vault import SYSTEM_TENANT, owner_of
from gateway.store.inserting import insert_messages
from gateway.store.ledger import apply, lock_messages, queued_from
from gateway.store.statements import statements

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.flow.accept import NewMessage, Route
    from gateway.store.database import Database, Session

__all__ = ["Consents", "consents_of", "insert_opt_ins"]


def _key(row: Record) -> ConsentKey:
    return ConsentKey(row["subject_id"], row["tenant"], Scope(row["scope"]), row["name"])


def _consent(row: Record) -> Consent:
    return Consent(_key(row), row["status"], row["version"], row["stated_at"], row["in_force_at"])


def _parts(key: ConsentKey) -> tuple[bytes, str, str, str]:
    return key.subject_id, key.tenant, key.scope, key.name


async def consents_of(session: Session, subject_ids: Sequence[bytes]) -> dict[bytes, list[Consent]]:
    """What each of these people has said, read by this statement's own snapshot."""
    found: dict[bytes, list[Consent]] = {}
    for row in await session.fetch(statements("consents")["of"], subject_ids):
        found.setdefault(row["subject_id"], []).append(_consent(row))
    return found


async def _audit(
    session: Session,
    tenant: str,
    step: str,
    *,
    actor: str,
    subject_id: bytes,
    version: int = 1,
    evidence: str | None = None,
    rule: str | None = None,
) -> None:
    await session.execute(
        statements("consents")["audit"], tenant, None, version, step, None, None, rule, None, evidence, actor, subject_id
    )


async def insert_opt_ins(
    session: Session, messages: Sequence[NewMessage], person_key: Callable[[str, bytes], str], actor: str
) -> None:
    """The opt-ins that events have proved. What the person has said meanwhile is looked at again under the lock."""
    for message in messages:
        if message.opt_in is not None:
            key, stated_at, sealed = message.opt_in
            opt_in = OptIn(key, "event", stated_at, actor=actor, proof_sealed=sealed, proof_uid=message.uid)
            await _opt_in(session, opt_in, person_key)


class Consents:
    """Where consent is kept. ``person_key`` gives the pseudonym that a tenant's events use for a person."""

    def __init__(self, database: Database, routes: Sequence[Route], person_key: Callable[[str, bytes], str], actor: str) -> None:
        self._database = database
        self._routes = {(route.tenant, route.programme, route.sender): route.route_id for route in routes}
        self._by_id = {route.route_id: route for route in routes}
        self._person_key = person_key
        self._actor = actor

    async def now(self) -> datetime:
        """PostgreSQL's time."""
        moment: datetime = (await self._database.fetch(statements("ledger")["now"]))[0][0]
        return moment

    # -- STOP -----------------------------------------------------------------------------------------------------------------

    async def write(self, opt_out: OptOut) -> Written | None:
        """Step 1: the text's id and the opt-out, in one transaction."""

        async def work(session: Session) -> Written | None:
            key = opt_out.key
            if opt_out.inbound is not None and not await _note(session, opt_out.inbound, key):
                return await self._written_before(session, opt_out.inbound)
            reply = json.dumps(reply_row(opt_out.reply)) if opt_out.reply is not None else None
            row = await session.fetchrow(
                statements("consents")["write_opt_out"], *_parts(key), opt_out.source, opt_out.stated_at, reply
            )
            assert row is not None
            await _audit(
                session,
                owner_of(key),
                "opt_out_written",
                actor=opt_out.actor,
                subject_id=key.subject_id,
                version=row["version"],
                evidence=opt_out.source,
                rule=f"{key.scope}:{key.name}",
            )
            return Written(key, row["version"], in_force=row["in_force_at"] is not None, repeated=False)

        return await self._database.transact(work)

    @staticmethod
    async def _written_before(session: Session, inbound: InboundNote) -> Written | None:
        first = await session.fetchrow(statements("consents")["inbound"], inbound.account, inbound.provider_message_id)
        if first is None or first["fate"] != "stop":
            return None
        key = ConsentKey(first["subject_id"], first["opt_out_tenant"], Scope(first["opt_out_scope"]), first["opt_out_name"])
        row = await session.fetchrow(statements("consents")["opt_out_of"], *_parts(key))
        if row is None or row["status"] != "out":
            return None
        return Written(key, row["version"], in_force=row["in_force_at"] is not None, repeated=True)

    async def block(self, key: ConsentKey) -> list[Change]:
        """Step 2."""

        async def work(session: Session) -> list[Change]:
            queued = {
                row["uid"]: queued_from(row)
                for row in await session.fetch(statements("consents")["lock_stoppable"], *_parts(key))
            }
            messages = await lock_messages(session, sorted(queued))
            changes = [
                end(message, queued[uid], State.BLOCKED, Reason.OPTED_OUT, f"consent.opted_out.{key.scope}")
                for uid, message in messages.items()
            ]
            await apply(session, changes, worker_id=None, lease=0, actor=self._actor)
            return changes

        return await self._database.transact(work)

    async def under_way(self, key: ConsentKey) -> int:
        """Step 3."""
        count: int = (await self._database.fetch(statements("consents")["under_way"], *_parts(key)))[0][0]
        return count

    async def put_in_force(self, key: ConsentKey, version: int) -> bool:
        """The moment, its events, its audit record and the confirmation owed, in one transaction."""

        async def work(session: Session) -> bool:
            row = await session.fetchrow(statements("consents")["put_in_force"], *_parts(key), version)
            if row is None:
                return False
            await _tell(session, key, dict(row), "out", self._person_key)
            await _audit(
                session,
                owner_of(key),
                "opt_out_in_force",
                actor=self._actor,
                subject_id=key.subject_id,
                version=row["version"],
                rule=f"{key.scope}:{key.name}",
            )
            if row["reply"] is not None:
                await self._queue(session, reply_from(json.loads(row["reply"])), key.subject_id)
            return True

        return await self._database.transact(work)

    async def is_in_force(self, key: ConsentKey) -> bool:
        """Whether the opt-out is in force, or none stands any more."""
        rows = await self._database.fetch(statements("consents")["opt_out_of"], *_parts(key))
        return not rows or rows[0]["status"] != "out" or rows[0]["in_force_at"] is not None

    async def written_only(self, limit: int) -> list[tuple[ConsentKey, int]]:
        """Opt-outs that are not in force yet."""
        rows = await self._database.fetch(statements("consents")["written_only"], limit)
        return [(_key(row), row["version"]) for row in rows]

    # -- people's texts -------------------------------------------------------------------------------------------------------

    async def consents(self, subject_id: bytes) -> Sequence[Consent]:
        """All that a person has said."""
        return [_consent(row) for row in await self._database.fetch(statements("consents")["of"], [subject_id])]

    async def last_text(self, subject_id: bytes, sender: str) -> LastText | None:
        """The last message of ours to a person by a sender."""
        rows = await self._database.fetch(statements("consents")["last_text"], subject_id, sender)
        return LastText(rows[0]["tenant"], rows[0]["programme"], rows[0]["recipient_ref"]) if rows else None

    async def route_id(self, tenant: str, programme: str, sender: str) -> int | None:
        """The way out of a programme by a sender."""
        return self._routes.get((tenant, programme, sender))

    async def seen(self, account: str, provider_message_id: str) -> bool:
        """Whether this inbound text was there before."""
        return bool(await self._database.fetch(statements("consents")["inbound"], account, provider_message_id))

    async def opt_in(self, opt_in: OptIn) -> Literal["granted", "not_proven", "repeated"]:
        """Write an opt-in if no opt-out was said at its moment or later."""

        async def work(session: Session) -> Literal["granted", "not_proven", "repeated"]:
            if opt_in.inbound is not None and not await _note(session, opt_in.inbound, None):
                return "repeated"
            granted = await _opt_in(session, opt_in, self._person_key)
            if granted and opt_in.reply is not None:
                await self._queue(session, opt_in.reply, opt_in.key.subject_id)
            return "granted" if granted else "not_proven"

        return await self._database.transact(work)

    async def note(self, inbound: InboundNote, reply: ReadyReply | None, event: tuple[bytes, bytes] | None) -> bool:
        """Keep a text that changes no consent, with its answer or its event."""

        async def work(session: Session) -> bool:
            if not await _note(session, inbound, None):
                return False
            tenant = inbound.tenant or SYSTEM_TENANT
            await _audit(session, tenant, f"text_{inbound.fate}", actor="person", subject_id=inbound.subject_id)
            if reply is not None:
                await self._queue(session, reply, inbound.subject_id)
            if event is not None:
                uid, payload = event
                await session.execute(
                    statements("consents")["outbox_payload"],
                    "inbound",
                    tenant,
                    UUID(bytes=uid),
                    1,
                    inbound.subject_id,
                    payload,
                    None,
                )
            return True

        return await self._database.transact(work)

    async def _queue(self, session: Session, reply: ReadyReply, subject_id: bytes) -> None:
        """An answer of the gateway's own becomes a message like any other, exempt from consent by its kind."""
        route = self._by_id.get(reply.route_id)
        if route is None:
            # the policy no longer has this sender: the STOP stands, and nothing is left to answer it by
            await _audit(session, SYSTEM_TENANT, "reply_without_route", actor=self._actor, subject_id=subject_id)
            return
        now = await session.fetchval(statements("ledger")["now"])
        row = (
            reply.uid, route.tenant, route.programme, "service", reply.kind, None, None, subject_id, reply.to_sealed, reply.body_sealed,
            State.ACCEPTED, Reason.ALLOWED, False, reply.policy, reply.rule, reply.expires_at, None, now, None, reply.parts,
            reply.route_id, route.sender,
        )  # fmt: skip # in the order of the statement's arrays
        await insert_messages(session, [row], self._actor)


async def _note(session: Session, inbound: InboundNote, key: ConsentKey | None) -> bool:
    row = await session.fetchrow(
        statements("consents")["note_inbound"],
        inbound.account,
        inbound.provider_message_id,
        inbound.created_at,
        inbound.fate,
        inbound.tenant,
        inbound.subject_id,
        *((key.tenant, key.scope, key.name) if key is not None else (None, None, None)),
    )
    return row is not None


async def _opt_in(session: Session, opt_in: OptIn, person_key: Callable[[str, bytes], str]) -> bool:
    """Undo the opt-outs of this reach that were said before, all or none; then write the opt-in."""
    key = opt_in.key
    standing = [_consent(row) for row in await session.fetch(statements("consents")["lock_consents"], key.subject_id)]
    outs = [consent for consent in standing if consent.status == "out" and _within(consent.key, key)]
    # An import undoes no opt-out, whatever date it bears: a list may be older than it says.
    kept = opt_in.source == "import" and any(consent.status == "out" and meet(consent.key, key) for consent in standing)
    if kept or (outs and not opt_in.proven) or any(not undoes(opt_in.stated_at, consent) for consent in outs):
        await _not_proven(session, opt_in)
        return False
    for undone in (key, *(consent.key for consent in outs if consent.key != key)):
        sealed = opt_in.proof_sealed if undone == key else None
        row = await session.fetchrow(
            statements("consents")["write_opt_in"],
            *_parts(undone),
            opt_in.source,
            opt_in.stated_at,
            sealed,
            opt_in.proof_uid,
            opt_in.proven,
        )
        if row is None:  # the first, before anything is written; the others are locked
            assert undone == key
            await _not_proven(session, opt_in)
            return False
        told = {**dict(row), "source": opt_in.source, "stated_at": opt_in.stated_at, "in_force_at": None}
        await _tell(session, undone, told, "in", person_key)
        await _audit(
            session,
            owner_of(undone),
            "opt_in",
            actor=opt_in.actor,
            subject_id=key.subject_id,
            version=row["version"],
            evidence=opt_in.source,
            rule=f"{undone.scope}:{undone.name}",
        )
    return True


async def _not_proven(session: Session, opt_in: OptIn) -> None:
    key = opt_in.key
    await _audit(
        session,
        owner_of(key),
        "opt_in_not_proven",
        actor=opt_in.actor,
        subject_id=key.subject_id,
        evidence=opt_in.source,
        rule=f"{key.scope}:{key.name}",
    )


def _within(narrow: ConsentKey, wide: ConsentKey) -> bool:
    """Whether an opt-in of one reach undoes an opt-out of another: the same, or a narrower one of the same tenant."""
    return narrow == wide or (wide.scope is Scope.TENANT and narrow.tenant == wide.tenant)


async def _tell(
    session: Session,
    key: ConsentKey,
    row: Mapping[str, Any],
    status: Literal["in", "out"],
    person_key: Callable[[str, bytes], str],
) -> None:
    """A consent event for each tenant that knows the person; for the tenant of the consent in any case."""
    now = await session.fetchval(statements("ledger")["now"])
    refs = {
        r["tenant"]: r["recipient_ref"]
        for r in await session.fetch(statements("consents")["recipient_refs"], key.subject_id, key.tenant)
    }
    for tenant in refs or {owner_of(key): None}:
        event = ConsentEvent(
            person=person_key(tenant, key.subject_id),
            tenant=key.tenant if key.tenant == EVERY_TENANT else tenant,
            scope=key.scope,
            name=key.name,
            status=status,
            version=row["version"],
            final=True,
            source=row["source"],
            recipient_ref=refs.get(tenant),
            stated_at=row["stated_at"],
            written_at=row["written_at"],
            in_force_at=row["in_force_at"],
        )
        await session.execute(
            statements("consents")["outbox_payload"],
            "consent",
            tenant,
            new_uid(now),
            row["version"],
            key.subject_id,
            encode(event),
            f"{event.tenant}:{key.scope}:{key.name}",
        )
