"""Read one record: an event becomes a message to accept, with its decision, or a fault with its reason. Pure but for sealing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from gateway.domain.cloudevents import ReceivedEvent, read_event
from gateway.domain.consent import Consent, ConsentKey, Reach, Scope, standing
from gateway.domain.decide import Asked, Facts, decide
from gateway.domain.errors import BadEvent
from gateway.domain.event_reading import read_message
from gateway.domain.events import OutboundMessage, content_bytes, encode
from gateway.domain.parts import parts
from gateway.domain.pauses import Pause, is_paused
from gateway.domain.personal import PhoneNumber
from gateway.domain.phone import BadNumber, normalise
from gateway.domain.policy import Policies, Policy
from gateway.domain.reasons import Reason
from gateway.domain.states import State
from gateway.flow.burial import Burial
from gateway.flow.publishers import PublisherCheck
from gateway.flow.records import Record, ReplayMarks, origin_of
from gateway.flow.vault import Hasher, Vault

__all__ = ["Accepter", "NewMessage", "Read", "Route"]

_VERDICT_STATE: Final = {
    "send": State.ACCEPTED,
    "hold": State.ACCEPTED,
    "defer": State.DEFERRED,
    "block": State.BLOCKED,
    "expire": State.EXPIRED,
}


@dataclass(frozen=True, slots=True)
class Route:
    """A way out, as the store numbers it. ``per_second`` is in parts."""

    route_id: int
    tenant: str
    programme: str
    provider: str
    account: str
    sender: str
    per_second: float | None


@dataclass(frozen=True, slots=True)
class Read:
    """An event that was read: what it asks, of whom, by which way. ``route`` is None when ``problem`` says why there is none."""

    uid: UUID
    message: OutboundMessage
    policy: Policy
    number: PhoneNumber | None
    subject_id: bytes | None
    route: Route | None
    problem: Reason | None
    asked: Asked
    trace: str | None


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be inserted, sealed. ``route_id`` None: it never enters the queue."""

    uid: UUID
    tenant: str
    programme: str
    category: str
    message_id: str
    recipient_ref: str | None
    id_hash: bytes
    content_digest: bytes
    subject_id: bytes | None
    to_sealed: bytes | None
    body_sealed: bytes
    state: State
    reason: Reason
    final: bool
    policy: str
    rule: str
    expires_at: datetime
    not_before: datetime | None
    due_at: datetime
    trace: str | None
    parts: int
    route_id: int | None
    sender: str | None
    opt_in: tuple[ConsentKey, datetime, bytes] | None


class Accepter:
    """Turns records into messages. ``allow_list`` None means that every number may be texted."""

    def __init__(
        self,
        policies: Policies,
        routes: Sequence[Route],
        allowed_window: timedelta,
        vault: Vault,
        hasher: Hasher,
        allow_list: Collection[bytes] | None,
        publishers: PublisherCheck,
        marks: ReplayMarks,
    ) -> None:
        self._policies = policies
        self._routes: dict[tuple[str, str], list[Route]] = {}
        for route in routes:
            self._routes.setdefault((route.tenant, route.programme), []).append(route)
        self._window = allowed_window
        self._vault = vault
        self._hasher = hasher
        self._allow_list = allow_list
        self._publishers = publishers
        self._marks = marks
        self.burial = Burial(policies, vault, marks)
        """Where what cannot be read goes."""

    def read(self, record: Record, topic: str, uid: UUID, now: datetime) -> Read:
        """The event of a record of a topic. Raises :class:`BadEvent`."""
        received = read_event(record.headers, record.value)
        message = self._message(received)
        policy = self._policies.tenant(message.tenant)
        if policy is None:
            raise BadEvent("unknown_tenant", "tenant: no policy for it")
        self._publishers.check(record, topic, received, policy, now)
        number = normalise(message.to.reveal(), policy.region)
        known = None if isinstance(number, BadNumber) else number
        subject_id = self._hasher.subject_id(known) if known is not None else None
        route, problem = self._route(message, policy, subject_id)
        if known is None:
            problem = Reason.BAD_NUMBER
        # A record older than the dedupe window may have been seen and forgotten: it is too late for it, also when it was put back since.
        came = origin_of(record, self._marks).timestamp_ms
        too_old = came >= 0 and now.timestamp() - came / 1000 > self._window.total_seconds()
        latest = now if too_old else now + timedelta(days=policy.content_days)
        return Read(
            uid=uid,
            message=message,
            policy=policy,
            number=known,
            subject_id=subject_id,
            route=route if problem is None else None,
            problem=problem,
            asked=Asked(
                kind="outbound",
                category=message.category,
                reach=Reach(message.tenant, message.programme, route.sender if route is not None else None),
                expires_at=min(message.expires_at, latest) if message.expires_at is not None else latest,
                not_before=message.not_before,
            ),
            trace=message.traceparent or received.traceparent,
        )

    @staticmethod
    def _message(received: ReceivedEvent) -> OutboundMessage:
        if received.type != OutboundMessage.TYPE:
            raise BadEvent("unknown_type", f"type: only {OutboundMessage.TYPE} is read here")
        return read_message(received.data)

    def _route(self, message: OutboundMessage, policy: Policy, subject_id: bytes | None) -> tuple[Route | None, Reason | None]:
        """The way out: the sender asked for, or one that stays the same for a person."""
        programme = policy.programme(message.programme)
        if programme is None:
            return None, Reason.UNKNOWN_PROGRAMME
        if message.category not in programme.categories:
            return None, Reason.CATEGORY_NOT_ALLOWED
        routes = self._routes.get((message.tenant, message.programme), [])
        if message.sender is not None:
            routes = [route for route in routes if route.sender == message.sender]
            if not routes:
                return None, Reason.SENDER_NOT_ALLOWED
        routes = [route for route in routes if route.provider in policy.providers]
        if not routes:
            return None, Reason.PROVIDER_NOT_ALLOWED
        return routes[int.from_bytes((subject_id or b"\0")[:8]) % len(routes)], None

    def accept(self, read: Read, consents: Sequence[Consent], now: datetime, pauses: AbstractSet[Pause]) -> NewMessage:
        """Decide, and seal what is to be kept. What is paused is told so, and held by the claim."""
        message, policy, uid = read.message, read.policy, read.uid
        offered = self._opt_in(read, consents, now)
        facts = Facts(
            policy=policy.version,
            consents=[*consents, offered] if offered is not None else consents,
            problem=read.problem,
            allow_listed=self._allow_list is None or read.subject_id in self._allow_list,
            paused=read.route is not None and is_paused(pauses, message.tenant, message.programme, read.route.provider),
        )
        decision = decide(read.asked, facts, now)
        state = _VERDICT_STATE[decision.verdict]
        queued = decision.verdict in ("send", "hold", "defer") and read.route is not None
        return NewMessage(
            uid=uid,
            tenant=message.tenant,
            programme=message.programme,
            category=message.category,
            message_id=message.message_id,
            recipient_ref=message.recipient_ref,
            id_hash=self._hasher.message_id_hash(message.tenant, message.message_id),
            content_digest=self._hasher.content_digest(content_bytes(message)),
            subject_id=read.subject_id,
            to_sealed=self._vault.seal_number(message.tenant, uid, read.number) if read.number is not None else None,
            body_sealed=self._vault.seal_body(message.tenant, uid, message.body, message.metadata),
            state=state,
            reason=decision.reason,
            final=not queued,
            policy=decision.policy,
            rule=decision.rule,
            expires_at=read.asked.expires_at,
            not_before=read.asked.not_before,
            due_at=decision.until or now,
            trace=read.trace,
            parts=parts(message.body),
            route_id=read.route.route_id if queued and read.route is not None else None,
            sender=read.route.sender if read.route is not None else None,
            opt_in=self._sealed_opt_in(read, offered),
        )

    def _opt_in(self, read: Read, consents: Sequence[Consent], now: datetime) -> Consent | None:
        """The opt-in that the event proves, if it may count: nothing said before an opt-out, and none that is there already."""
        proof = read.message.opt_in_proof
        if proof is None or read.subject_id is None or proof.at > now:
            return None
        stands = standing(consents, read.asked.reach)
        if stands.out is not None or stands.opted_in is not None:
            return None
        key = ConsentKey(read.subject_id, read.message.tenant, Scope.PROGRAMME, read.message.programme)
        if any(consent.key == key for consent in consents):
            return None
        return Consent(key, "in", 1, proof.at)

    def _sealed_opt_in(self, read: Read, offered: Consent | None) -> tuple[ConsentKey, datetime, bytes] | None:
        if offered is None or read.message.opt_in_proof is None:
            return None
        plain = encode(read.message.opt_in_proof)
        return offered.key, offered.stated_at, self._vault.seal_payload(read.message.tenant, "consent", read.uid, plain)
