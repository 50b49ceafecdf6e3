"""Opt-outs, opt-ins and people's texts, by the statements of consents.sql."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from uuid import UUID

from gateway.domain.changes import Change, end
from gateway.domain.consent import EVERY_TENANT, Consent, ConsentKey, Scope, meet, undoes
from gateway.domain.events import ConsentEvent, encode
from gateway.domain.ids import new_uid
from gateway.domain.reasons import Reason
from gateway.domain.states import State
from gateway.domain.telling import Holding
from gateway.flow.conversation import LastText, OptIn
from gateway.flow.people import FirstKey, People, with_people
from gateway.flow.stop import InboundNote, OptOut, ReadyReply, Written, reply_from, reply_row
from gateway.flow.vault import SYSTEM_TENANT, KeptNumber, owner_of
from gateway.store.closing import is_closed
from gateway.store.inserting import insert_messages
from gateway.store.ledger import apply, lock_messages, queued_from
from gateway.store.noting import Noting
from gateway.store.statements import statements
from gateway.store.subject_keys import hold_keys

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.flow.accept import NewMessage, Route
    from gateway.store.database import Database, Session

__all__ = ["Consents", "consents_of", "insert_opt_ins", "key_of", "keys_under_all", "parts_of", "tell_consent"]

T = TypeVar("T")

_FIRST: Final = 1
"""The version of the key whose rows are told and audited; those under the later ones say the same."""


def keys_under_all(people: People, key: ConsentKey) -> list[tuple[int, ConsentKey]]:
    """A consent, named by the person's first id, under every version: as it is locked and written."""
    line = people.line(key.subject_id)
    return sorted(
        ((version, replace(key, subject_id=one)) for version, one in enumerate(line, 1)), key=lambda each: each[1].subject_id
    )


def key_of(row: Record) -> ConsentKey:
    """Of which consent a row is, or tells."""
    return ConsentKey(row["subject_id"], row["tenant"], Scope(row["scope"]), row["name"])


def _consent(row: Record) -> Consent:
    return Consent(key_of(row), row["status"], row["version"], row["stated_at"], row["in_force_at"])


def parts_of(key: ConsentKey) -> tuple[bytes, str, str, str]:
    """A consent's key, as its columns are."""
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
    session: Session,
    messages: Sequence[NewMessage],
    person_key: Callable[[str, bytes], str],
    actor: str,
    noting: Noting,
    people: People,
) -> None:
    """The opt-ins that events have proved. What the person has said meanwhile is looked at again under the lock."""
    if messages:
        await hold_keys(session, people)
    for message in messages:
        if message.opt_in is not None:
            key, stated_at, sealed = message.opt_in
            number = KeptNumber(message.tenant, message.uid, message.to_sealed) if message.to_sealed is not None else None
            opt_in = OptIn(key, "event", stated_at, actor=actor, proof_sealed=sealed, proof_uid=message.uid, number=number)
            await _opt_in(session, opt_in, person_key, noting, people)


class Consents:
    """Where consent is kept. ``person_key`` gives the pseudonym that a tenant's events use for a person.

    People are named by their first ids; what they say is written under the ids of all versions, in one transaction.
    """

    def __init__(
        self,
        database: Database,
        routes: Sequence[Route],
        person_key: Callable[[str, bytes], str],
        actor: str,
        noting: Noting | None = None,
        people: People | None = None,
    ) -> None:
        self._database = database
        self._people = people or FirstKey()
        self._routes = {(route.tenant, route.programme, route.sender): route.route_id for route in routes}
        self._by_id = {route.route_id: route for route in routes}
        self._person_key = person_key
        self._actor = actor
        self._noting = noting or Noting()

    async def now(self) -> datetime:
        """PostgreSQL's time."""
        moment: datetime = (await self._database.fetch(statements("ledger")["now"]))[0][0]
        return moment

    async def _transact(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """A transaction that writes what somebody said: under all versions that there are."""

        async def held(session: Session) -> T:
            await hold_keys(session, self._people)
            return await work(session)

        return await with_people(self._people, lambda: self._database.transact(held))

    # -- STOP -----------------------------------------------------------------------------------------------------------------

    async def write(self, opt_out: OptOut) -> Written | None:
        """Step 1: the text's id and the opt-out, in one transaction."""

        async def work(session: Session) -> Written | None:
            key = opt_out.key
            if opt_out.inbound is not None and not await self._note(session, opt_out.inbound, key):
                return await self._written_before(session, opt_out.inbound, key)
            reply = json.dumps(reply_row(opt_out.reply)) if opt_out.reply is not None else None
            under_all = keys_under_all(self._people, key)
            stated_at = opt_out.stated_at
            if stated_at is None and len(under_all) > 1:
                stated_at = await session.fetchval(statements("ledger")["now"])
            written = {
                version: await session.fetchrow(
                    statements("consents")["write_opt_out"],
                    *parts_of(one),
                    opt_out.source,
                    stated_at,
                    reply if version == _FIRST else None,
                    version,
                )
                for version, one in under_all
            }
            row = written[_FIRST]
            assert row is not None
            by_text = opt_out.source == "text"
            await self._noting.opted_out(
                session, key, opt_out.number, opt_out.learned_from, by_text=by_text, said_at=opt_out.stated_at
            )
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
            later = tuple(
                (one, each["version"]) for version, one in under_all if version != _FIRST and (each := written[version])
            )
            return Written(key, row["version"], in_force=row["in_force_at"] is not None, repeated=False, later=later)

        return await self._transact(work)

    async def _written_before(self, session: Session, inbound: InboundNote, asked: ConsentKey) -> Written | None:
        first = await session.fetchrow(statements("consents")["inbound"], inbound.account, inbound.provider_message_id)
        if first is None or first["fate"] != "stop":
            return None
        # The text bears the id that was in use when it came: the person's opt-outs are named by the first.
        person = asked.subject_id if first["subject_id"] in self._people.line(asked.subject_id) else first["subject_id"]
        key = ConsentKey(person, first["opt_out_tenant"], Scope(first["opt_out_scope"]), first["opt_out_name"])
        under_all = keys_under_all(self._people, key)
        stands = {
            version: await session.fetchrow(statements("consents")["opt_out_of"], *parts_of(one)) for version, one in under_all
        }
        row = stands[_FIRST]
        if row is None or row["status"] != "out":
            return None
        later = tuple((one, each["version"]) for version, one in under_all if version != _FIRST and (each := stands[version]))
        return Written(key, row["version"], in_force=row["in_force_at"] is not None, repeated=True, later=later)

    async def block(self, key: ConsentKey) -> list[Change]:
        """Step 2."""

        async def work(session: Session) -> list[Change]:
            queued = {
                row["uid"]: queued_from(row)
                for row in await session.fetch(statements("consents")["lock_stoppable"], *parts_of(key))
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
        count: int = (await self._database.fetch(statements("consents")["under_way"], *parts_of(key)))[0][0]
        return count

    async def put_in_force(self, key: ConsentKey, version: int) -> bool:
        """The moment, its events, its audit record and the confirmation owed, in one transaction."""

        async def work(session: Session) -> bool:
            others = [one for one in self._people.line(key.subject_id) if one != key.subject_id]
            row = await session.fetchrow(statements("consents")["put_in_force"], *parts_of(key), version, others)
            if row is None:
                return False
            if row["key"] != _FIRST:
                return True  # told, audited and confirmed with the first
            await tell_consent(session, key, dict(row), "out", self._person_key, self._people)
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

        return await self._transact(work)

    async def is_in_force(self, key: ConsentKey) -> bool:
        """Whether the opt-out is in force, or none stands any more."""
        rows = await self._database.fetch(statements("consents")["opt_out_of"], *parts_of(key))
        return not rows or rows[0]["status"] != "out" or rows[0]["in_force_at"] is not None

    async def holding(self, account: str, sender: str, subject_id: bytes) -> Holding | None:
        """What an account is known to hold of a person; None when it was never to be told anything."""
        if not any((use.account, use.sender) == (account, sender) for use in self._noting.told):
            return None
        rows = await self._database.fetch(statements("propagations")["holding"], account, sender, subject_id)
        return Holding(*rows[0].values()) if rows else None

    async def written_only(self, limit: int) -> list[tuple[ConsentKey, int]]:
        """Opt-outs that are not in force yet."""
        rows = await self._database.fetch(statements("consents")["written_only"], limit)
        return [(key_of(row), row["version"]) for row in rows]

    # -- people's texts -------------------------------------------------------------------------------------------------------

    async def consents(self, subject_id: bytes) -> Sequence[Consent]:
        """All that a person has said."""
        return [_consent(row) for row in await self._database.fetch(statements("consents")["of"], [subject_id])]

    async def last_text(self, subject_id: bytes, sender: str) -> LastText | None:
        """The last message of ours to a person by a sender."""
        rows = await self._database.fetch(statements("consents")["last_text"], self._people.line(subject_id), sender)
        return LastText(*rows[0].values()) if rows else None

    async def is_closed(self, tenant: str) -> bool:
        """Whether the tenant's customer account is closed."""
        return await is_closed(self._database, tenant)

    async def route_id(self, tenant: str, programme: str, sender: str) -> int | None:
        """The way out of a programme by a sender."""
        return self._routes.get((tenant, programme, sender))

    async def seen(self, account: str, provider_message_id: str) -> bool:
        """Whether this inbound text was there before."""
        return bool(await self._database.fetch(statements("consents")["inbound"], account, provider_message_id))

    async def opt_in(self, opt_in: OptIn) -> Literal["granted", "not_proven", "repeated"]:
        """Write an opt-in if no opt-out was said at its moment or later."""

        async def work(session: Session) -> Literal["granted", "not_proven", "repeated"]:
            if opt_in.inbound is not None and not await self._note(session, opt_in.inbound, None):
                return "repeated"
            granted = await _opt_in(session, opt_in, self._person_key, self._noting, self._people)
            if granted and opt_in.reply is not None:
                await self._queue(session, opt_in.reply, opt_in.key.subject_id)
            return "granted" if granted else "not_proven"

        return await self._transact(work)

    async def note_start(self, inbound: InboundNote, number: KeptNumber | None, learned_from: tuple[str, str] | None) -> bool:
        """Keep a START that changes no consent here, and look at what its provider account holds now."""

        async def work(session: Session) -> bool:
            if not await self._note_text(session, inbound):
                return False
            subject_id = inbound.subject_id
            standing = [_consent(row) for row in await session.fetch(statements("consents")["lock_consents"], [subject_id])]
            await self._noting.kept_out(session, subject_id, standing, number, learned_from)
            return True

        return await self._database.transact(work)

    async def note(self, inbound: InboundNote, reply: ReadyReply | None, event: tuple[bytes, bytes] | None) -> bool:
        """Keep a text that changes no consent, with its answer or its event."""

        async def work(session: Session) -> bool:
            if not await self._note_text(session, inbound):
                return False
            if reply is not None:
                await self._queue(session, reply, inbound.subject_id)
            if event is not None:
                uid, payload = event
                await session.execute(
                    statements("consents")["outbox_payload"],
                    "inbound",
                    inbound.tenant or SYSTEM_TENANT,
                    UUID(bytes=uid),
                    1,
                    self._people.kept_under(inbound.subject_id)[0],
                    payload,
                    None,
                )
            return True

        return await self._database.transact(work)

    async def _note_text(self, session: Session, inbound: InboundNote) -> bool:
        """Of one that changes no consent, with its audit; False if it was there."""
        if not await self._note(session, inbound, None):
            return False
        tenant = inbound.tenant or SYSTEM_TENANT
        await _audit(session, tenant, f"text_{inbound.fate}", actor="person", subject_id=inbound.subject_id)
        return True

    async def _note(self, session: Session, inbound: InboundNote, key: ConsentKey | None) -> bool:
        row = await session.fetchrow(
            statements("consents")["note_inbound"],
            inbound.account,
            inbound.provider_message_id,
            inbound.created_at,
            inbound.fate,
            inbound.tenant,
            self._people.kept_under(inbound.subject_id)[0],
            *((key.tenant, key.scope, key.name) if key is not None else (None, None, None)),
        )
        return row is not None

    async def _queue(self, session: Session, reply: ReadyReply, subject_id: bytes) -> None:
        """An answer of the gateway's own becomes a message like any other, exempt from consent by its kind."""
        route = self._by_id.get(reply.route_id)
        if route is None:
            # the policy no longer has this sender: the STOP stands, and nothing is left to answer it by
            await _audit(session, SYSTEM_TENANT, "reply_without_route", actor=self._actor, subject_id=subject_id)
            return
        now = await session.fetchval(statements("ledger")["now"])
        kept_under, elder = self._people.kept_under(subject_id)
        row = (
            reply.uid, route.tenant, route.programme, "service", reply.kind, None, None, kept_under, reply.to_sealed, reply.body_sealed,
            State.ACCEPTED, Reason.ALLOWED, False, reply.policy, reply.rule, reply.expires_at, None, now, None, reply.parts,
            reply.route_id, route.sender, False, None, elder,
        )  # fmt: skip # in the order of the statement's arrays
        await insert_messages(session, [row], self._actor)


async def _opt_in(
    session: Session, opt_in: OptIn, person_key: Callable[[str, bytes], str], noting: Noting, people: People
) -> bool:
    """Undo the opt-outs of this reach that were said before, all or none; then write the opt-in."""
    key = opt_in.key
    rows = await session.fetch(statements("consents")["lock_consents"], people.line(key.subject_id))
    standing = [_consent(row) for row in rows if row["subject_id"] == key.subject_id]
    outs = [consent for consent in standing if consent.status == "out" and _within(consent.key, key)]
    # An import undoes no opt-out, whatever date it bears: a list may be older than it says.
    kept = opt_in.source == "import" and any(consent.status == "out" and meet(consent.key, key) for consent in standing)
    if kept or (outs and not opt_in.proven) or any(not undoes(opt_in.stated_at, consent) for consent in outs):
        await _not_proven(session, opt_in, standing, noting)
        return False
    written = False
    for undone in (key, *(consent.key for consent in outs if consent.key != key)):
        told: dict[str, Any] = {}
        for version, one in keys_under_all(people, undone):
            proves = undone == key and version == _FIRST
            row = await session.fetchrow(
                statements("consents")["write_opt_in"],
                *parts_of(one),
                opt_in.source,
                opt_in.stated_at,
                opt_in.proof_sealed if proves else None,
                opt_in.proof_uid if version == _FIRST else None,
                opt_in.proven,
                version,
            )
            if row is None:  # the first, before anything is written; the others are locked, or say the same
                assert not written
                await _not_proven(session, opt_in, standing, noting)
                return False
            written = True
            if version == _FIRST:
                told = {**dict(row), "source": opt_in.source, "stated_at": opt_in.stated_at, "in_force_at": None}
        await tell_consent(session, undone, told, "in", person_key, people)
        await _audit(
            session,
            owner_of(undone),
            "opt_in",
            actor=opt_in.actor,
            subject_id=key.subject_id,
            version=told["version"],
            evidence=opt_in.source,
            rule=f"{undone.scope}:{undone.name}",
        )
    await noting.opted_in(session, key.subject_id, outs, standing, opt_in.number, opt_in.learned_from)
    return True


async def _not_proven(session: Session, opt_in: OptIn, standing: Sequence[Consent], noting: Noting) -> None:
    key = opt_in.key
    await noting.kept_out(session, key.subject_id, standing, opt_in.number, opt_in.learned_from)
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


async def tell_consent(
    session: Session,
    key: ConsentKey,
    row: Mapping[str, Any],
    status: Literal["in", "out"],
    person_key: Callable[[str, bytes], str],
    people: People,
) -> None:
    """A consent event for each tenant that knows the person; for the tenant of the consent in any case."""
    now = await session.fetchval(statements("ledger")["now"])
    rows = await session.fetch(statements("consents")["recipients"], people.line(key.subject_id), key.tenant)
    recipients = {one["tenant"]: dict(one) for one in rows}
    for tenant, recipient in (recipients or {owner_of(key): dict[str, Any]()}).items():
        event = ConsentEvent(
            person=person_key(tenant, key.subject_id),
            tenant=key.tenant if key.tenant == EVERY_TENANT else tenant,
            scope=key.scope,
            name=key.name,
            status=status,
            version=row["version"],
            final=True,
            source=row["source"],
            recipient_ref=recipient.get("recipient_ref"),
            stated_at=row["stated_at"],
            written_at=row["written_at"],
            in_force_at=row["in_force_at"],
        )
        await session.execute(
            statements("consents")["outbox_consent"],
            tenant,
            new_uid(now),
            row["version"],
            key.subject_id,
            encode(event),
            f"{event.tenant}:{key.scope}:{key.name}",
            recipient.get("uid"),
            recipient.get("recipient_sealed"),
        )
