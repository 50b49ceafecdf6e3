"""Read one record: an event becomes a message to accept, with its decision, or a fault with its reason. Pure but for sealing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from types import MappingProxyType
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
from gateway.domain.phone import BadNumber, normalise, region_of
from gateway.domain.policy import Policies, Policy
from gateway.domain.reasons import Reason
from gateway.domain.retention import Duration, deadline
from gateway.domain.routing import Ill, Router, in_order
from gateway.domain.states import State
from gateway.flow.burial import Burial
from gateway.flow.publishers import PublisherCheck
from gateway.flow.records import Record, ReplayMarks, origin_of
from gateway.flow.vault import Hasher, Vault

__all__ = ["Accepter", "KeptSenders", "NewMessage", "Read", "Route", "own_sender"]

KeptSenders = Mapping[str, date]
"""The senders that a person has in a programme, mostly one, and the day on which each was noted last."""

_LONGEST_WAIT: Final = timedelta(days=365)
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
    """An event that was read: what it asks, of whom, by which ways. ``ways`` is empty when ``problem`` says why there is none."""

    uid: UUID
    message: OutboundMessage
    policy: Policy
    number: PhoneNumber | None
    subject_id: bytes | None
    ways: Sequence[Route]
    country: str | None
    problem: Reason | None
    asked: Asked
    trace: str | None


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be inserted, sealed. ``route_id`` None: it never enters the queue.

    ``any_sender``: the gateway chose the sender, and may choose another while it waits. ``keep_sender``: it is to be noted as the person's.
    """

    uid: UUID
    tenant: str
    programme: str
    category: str
    message_id: str
    recipient_sealed: bytes | None
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
    any_sender: bool
    country: str | None
    keep_sender: bool
    opt_in: tuple[ConsentKey, datetime, bytes] | None


def _latest(policy: Policy, now: datetime) -> datetime:
    """When a message may be sent no more: its content's deadline, and a year where that has none. An UNSET one keeps nothing."""
    kept = policy.retention.content
    end = deadline(now, kept, policy.business_days) if isinstance(kept, Duration) else now
    return now + _LONGEST_WAIT if end is None else end


class Accepter:
    """Turns records into messages. ``allow_list`` None means that every number may be texted."""

    def __init__(
        self,
        policies: Policies,
        router: Router[Route],
        allowed_window: timedelta,
        vault: Vault,
        hasher: Hasher,
        allow_list: Collection[bytes] | None,
        publishers: PublisherCheck,
        marks: ReplayMarks,
    ) -> None:
        self._policies = policies
        self._router = router
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
            raise BadEvent("unknown_tenant", "tenant: no policy for it that is enabled")
        self._publishers.check(record, topic, received, policy, now)
        number = normalise(message.to.reveal(), policy.region)
        known = None if isinstance(number, BadNumber) else number
        subject_id = self._hasher.subject_id(known) if known is not None else None
        country = self._country(message, known)
        found = self._router.ways(message.tenant, message.programme, message.category, country, message.sender)
        problem = Reason.BAD_NUMBER if known is None else found if isinstance(found, Reason) else None
        ways = found.ways if not isinstance(found, Reason) else ()
        # A record older than the dedupe window may have been seen and forgotten: it is too late for it, also when it was put back since.
        came = origin_of(record, self._marks).timestamp_ms
        too_old = came >= 0 and now.timestamp() - came / 1000 > self._window.total_seconds()
        latest = now if too_old else _latest(policy, now)
        return Read(
            uid=uid,
            message=message,
            policy=policy,
            number=known,
            subject_id=subject_id,
            ways=ways if problem is None else (),
            country=country,
            problem=problem,
            asked=Asked(
                kind="outbound",
                category=message.category,
                reach=Reach(message.tenant, message.programme, ways[0].sender if len(ways) == 1 else None, self._others(message)),
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

    def _country(self, message: OutboundMessage, number: PhoneNumber | None) -> str | None:
        """The number's country, where a route hangs on it: to find it takes its time."""
        if number is None or not self._router.asks_country(message.tenant, message.programme):
            return None
        return region_of(number) or ""

    def _others(self, message: OutboundMessage) -> frozenset[str]:
        """The senders between which the gateway chooses."""
        return frozenset() if message.sender is not None else self._router.others(message.tenant, message.programme)

    def may_choose(self, read: Read) -> bool:
        """Whether there is more than one sender to choose from: then the person may have one already."""
        return len(read.ways) > 1

    def accept(
        self,
        read: Read,
        consents: Sequence[Consent],
        now: datetime,
        pauses: AbstractSet[Pause],
        *,
        kept: KeptSenders = MappingProxyType({}),
        ill: Ill = frozenset(),
    ) -> NewMessage:
        """Decide, and seal what is to be kept. What is paused is told so, and held by the claim.

        ``kept`` are the person's senders in the programme so far, ``ill`` is what should not be used now.
        """
        message, policy, uid = read.message, read.policy, read.uid
        route = self._route(read, kept, ill)
        asked = read.asked
        if route is not None and asked.reach.sender is None:
            asked = replace(asked, reach=replace(asked.reach, sender=route.sender))
        offered = self._opt_in(read, asked.reach, consents, now)
        facts = Facts(
            policy=policy.version,
            consents=[*consents, offered] if offered is not None else consents,
            problem=read.problem,
            allow_listed=self._allow_list is None or read.subject_id in self._allow_list,
            paused=route is not None and is_paused(pauses, message.tenant, message.programme, route.provider),
        )
        decision = decide(asked, facts, now)
        state = _VERDICT_STATE[decision.verdict]
        queued = decision.verdict in ("send", "hold", "defer") and route is not None
        return NewMessage(
            uid=uid,
            tenant=message.tenant,
            programme=message.programme,
            category=message.category,
            message_id=message.message_id,
            recipient_sealed=self._vault.seal_recipient(message.tenant, uid, message.recipient_ref),
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
            route_id=route.route_id if queued and route is not None else None,
            sender=route.sender if route is not None else None,
            any_sender=bool(self._others(message)),
            country=read.country,
            keep_sender=queued and route is not None and self._is_to_be_kept(read, route, kept, now),
            opt_in=self._sealed_opt_in(read, offered),
        )

    def _route(self, read: Read, kept: KeptSenders, ill: Ill) -> Route | None:
        """The way out: by the sender that the person has, else by weight; by neither while it is ill and another is not."""
        if not self.may_choose(read):
            return read.ways[0] if read.ways else None
        weights = self._router.weights(read.message.tenant, read.message.programme)
        return in_order(read.ways, weights, read.subject_id or b"", own_sender(kept, read.ways), ill)[0]

    def _is_to_be_kept(self, read: Read, route: Route, kept: KeptSenders, now: datetime) -> bool:
        """Whether a person's sender is news: there was none that may still be used, or its day is over.

        One that is ill for a while is not exchanged: the person's next text comes from where the others came from.
        """
        if not self.may_choose(read):
            return False
        own = own_sender(kept, read.ways)
        return own is None or (own == route.sender and kept[own] < now.date())

    def _opt_in(self, read: Read, reach: Reach, consents: Sequence[Consent], now: datetime) -> Consent | None:
        """The opt-in that the event proves, if it may count: nothing said before an opt-out, and none that is there already."""
        proof = read.message.opt_in_proof
        if proof is None or read.subject_id is None or proof.at > now:
            return None
        stands = standing(consents, reach)
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


def own_sender(kept: KeptSenders, ways: Sequence[Route]) -> str | None:
    """The person's own among the ways; of several, as of routes that were changed, the one noted last. None when there is none."""
    own = [(kept[way.sender], way.sender) for way in ways if way.sender in kept]
    return max(own)[1] if own else None
