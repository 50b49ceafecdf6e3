"""The events that come in and go out, as frozen models. docs/events.md explains them; schemas/ is made from them."""

from __future__ import annotations

import json
from datetime import UTC, date
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from gateway.domain.consent import Scope
from gateway.domain.counts import Dimension, Period
from gateway.domain.errors import DeadLetterReason
from gateway.domain.event_fields import (
    REVEAL,
    Address,
    Body,
    Id,
    Moment,
    Number,
    Proved,
    Received,
    SenderName,
    Slug,
    Trace,
    Written,
    ZonedMoment,
)
from gateway.domain.personal import Personal
from gateway.domain.reasons import Reason

__all__ = [
    "SOURCE",
    "SUBJECT_HEADER",
    "AuditEvent",
    "ConsentEvent",
    "DeadLetterEvent",
    "InboundEvent",
    "MetricsEvent",
    "OptInProof",
    "OutboundMessage",
    "OutgoingEvent",
    "StatusEvent",
    "content_bytes",
    "encode",
]

SOURCE: Final = "sms-gateway"
SUBJECT_HEADER: Final = "ce_sealedsubject"
"""Of a consent event, beside the attributes: the person, sealed for the gateway alone, by which a restored database is put right."""
"""The CloudEvents source of every event of ours."""

ToldState = Literal[
    "accepted", "deferred", "sent", "delivered", "undelivered", "blocked", "expired", "failed", "canceled", "unknown"
]
ConsentSource = Literal["text", "api", "cli", "import", "provider", "event"]


class _Event(BaseModel):
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class OptInProof(_Event):
    """What proves that the person asked for these texts. It is sealed and kept with the consent."""

    medium: Literal["web", "app", "text", "voice", "paper", "in_person", "other"]
    """Where the person said so."""
    at: ZonedMoment
    """When, with the offset of the person's or the form's zone."""
    wording: Proved | None = None
    """The text that the person agreed to, at most 2,000 characters."""
    form_text_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The SHA-256 of that text."""
    form_version: Id | None = None
    """The version of the form."""
    purpose: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """What the person agreed to be texted about."""
    seller: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """On whose behalf."""
    ip: Address | None = None
    """The address that the person's device had."""
    campaign: Id | None = None
    """The campaign that the form belonged to."""
    receipt_id: Id | None = None
    """The consent receipt's id (ISO/IEC TS 27560)."""
    confirmed_by: Annotated[tuple[Id, ...], Field(max_length=10)] = ()
    """The message ids of a double opt-in."""


class OutboundMessage(_Event):
    """One text that a producer wants sent to one person."""

    TYPE: ClassVar[str] = "sms.outbound.message.v1"

    message_id: Id
    """The producer's id, unique per tenant; the same again is answered with the first one's fate. Put nothing personal in it."""
    tenant: Slug
    """Whose message it is: the tenant of a policy."""
    programme: Slug
    """The stream of messages it belongs to."""
    category: Literal["marketing", "service", "security"]
    """What kind of message it is; marketing needs an opt-in."""
    to: Written
    """The person's number, best in E.164; without a country code it is read in the policy's region."""
    body: Body
    """The text, 1 to 1,600 characters, not blank."""
    recipient_ref: Id | None = None
    """The producer's own opaque name for the person, echoed in every event about the message."""
    sender: SenderName | None = None
    """One of the programme's senders; none lets the gateway choose."""
    not_before: Moment | None = None
    """No request begins before."""
    expires_at: Moment | None = None
    """No request begins from here on; never later than the policy keeps texts."""
    opt_in_proof: OptInProof | None = None
    """Proof of an opt-in to this tenant's programme."""
    metadata: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=256)]],
        Field(max_length=20, repr=False),
    ] = {}
    """The producer's own notes; kept sealed with the text, never logged."""
    traceparent: Trace | None = None
    """The W3C trace context, where it is not in a header."""


class OutgoingEvent(_Event):
    """An event that the gateway publishes. Every field is always there; readers pass over fields that they do not know."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    TYPE: ClassVar[str]


class StatusEvent(OutgoingEvent):
    """What became of a message. Readers drop an event whose version is not higher than the last one's for the same message."""

    TYPE: ClassVar[str] = "sms.status.changed.v1"

    message_id: Id
    """The producer's id."""
    tenant: Slug
    """As it came."""
    programme: Slug
    """As it came."""
    category: Literal["marketing", "service", "security"]
    """As it came."""
    recipient_ref: Id | None = None
    """The producer's own name for the person, as it came."""
    state: ToldState
    """Where the message is."""
    reason: Annotated[Reason, Field(json_schema_extra={"x-extensible-enum": True})]
    """Why; a reader must bear with reasons that it does not know."""
    final: bool
    """Whether this settles the message. Only a correction may follow."""
    version: Annotated[int, Field(ge=1)]
    """Counts a message's events from 1."""
    correction: bool = False
    """Whether later evidence corrects what was final."""
    provider: str | None = None
    """The provider that the last attempt went through."""
    parts: Annotated[int, Field(ge=1)] | None = None
    """How many parts the text is sent in."""
    occurred_at: Moment
    """When it became so."""
    policy: str | None = None
    """The version of the policy that the decision was made by."""
    rule: str | None = None
    """The rule that decided."""
    account: str | None = None
    """The provider account that the last attempt went through, by its alias."""
    sender: str | None = None
    """Our number or service that it left by."""
    attempt: Annotated[int, Field(ge=1)] | None = None
    """Which attempt it was, counted from 1; none before the first."""


class InboundEvent(OutgoingEvent):
    """A text from a person that is no STOP, START or HELP. It carries the number and the text: keep its topic short."""

    TYPE: ClassVar[str] = "sms.inbound.received.v1"

    inbound_id: UUID
    """The gateway's id of the text."""
    tenant: Slug
    """Whose text it is: the tenant that the sender serves, or that last wrote to the person by it."""
    programme: Slug | None = None
    """None when the sender serves several programmes."""
    number: Number
    """The person's number, in E.164."""
    sender: SenderName
    """Our number or service that it was sent to."""
    body: Received
    """The text."""
    recipient_ref: Id | None = None
    """The producer's name for the person, from our last message to them."""
    provider: str
    """The provider that it came through."""
    account: str
    """The alias of the provider account that it came through."""
    received_at: Moment
    """When the gateway got it."""


class ConsentEvent(OutgoingEvent):
    """An opt-in or opt-out of one person and scope. Readers drop an event whose version is not higher than the last one's."""

    TYPE: ClassVar[str] = "sms.consent.changed.v1"

    person: Annotated[str, Field(pattern=r"^[0-9a-f]{32,64}$")]
    """A name for the person that only this tenant's events use; no number can be found from it."""
    tenant: Annotated[str, Field(min_length=1, max_length=64)]
    """The tenant, or * for all of them."""
    scope: Scope
    """How far it reaches."""
    name: Annotated[str, Field(max_length=64)] = ""
    """The programme or the sender that the scope speaks of, else empty."""
    status: Literal["in", "out"]
    """Opted in or out."""
    version: Annotated[int, Field(ge=1)]
    """Counts the changes of this person and scope from 1."""
    final: bool
    """Whether it is in force; an opt-in is at once."""
    source: ConsentSource
    """How the gateway learned it."""
    recipient_ref: Id | None = None
    """The producer's name for the person, from our last message to them."""
    stated_at: Moment
    """The latest moment at which the person can have said so."""
    written_at: Moment
    """When the gateway wrote it down."""
    in_force_at: Moment | None = None
    """Of an opt-out: from when on no request for the person and scope begins."""


class DeadLetterEvent(OutgoingEvent):
    """An event that could not be processed, and why."""

    TYPE: ClassVar[str] = "sms.outbound.dead-letter.v1"

    dead_letter_id: UUID
    """The gateway's id of the dead letter."""
    reason: Annotated[DeadLetterReason, Field(json_schema_extra={"x-extensible-enum": True})]
    """Why; a reader must bear with reasons that it does not know."""
    detail: Annotated[str, Field(max_length=500)]
    """Which field and which rule; never a value."""
    topic: str
    """The topic that it came from."""
    partition: Annotated[int, Field(ge=0)]
    """The partition of that topic."""
    offset: Annotated[int, Field(ge=0)]
    """The offset in that partition."""
    tenant: Slug | None = None
    """The tenant, where it could be read; its key seals the payload, else the system's."""
    length: Annotated[int, Field(ge=0)]
    """The payload's length in bytes."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """The payload's SHA-256."""
    sealed: str | None = None
    """The record, sealed, in base64; none when it was too large to keep."""
    sealed_form: Annotated[int, Field(ge=1)] | None = None
    """How what is sealed is laid out: 1 the payload alone, 2 the whole record with its key and headers."""
    key_day: date | None = None
    """The day whose key seals it."""
    replay_of: UUID | None = None
    """The first dead letter of the same record, where it was put back and refused again."""
    occurred_at: Moment
    """When it was refused."""


class MetricsEvent(OutgoingEvent):
    """How many status events of one kind there were in one period. Each status event is in exactly one of these: add them up."""

    TYPE: ClassVar[str] = "sms.metrics.counted.v1"

    tenant: Slug
    """Whose messages they speak of."""
    period: Period
    """How long the period is."""
    start: Moment
    """When the period begins: a whole minute, hour or day in UTC."""
    provider: str | None
    """As in the status events; none where they name none, or where it is merged."""
    category: Literal["marketing", "service", "security"] | None
    """As in the status events; none where it is merged."""
    state: ToldState | None
    """As in the status events; none where it is merged."""
    reason: Annotated[Reason, Field(json_schema_extra={"x-extensible-enum": True})] | None
    """As in the status events; none where it is merged. A reader must bear with reasons that it does not know."""
    merged: tuple[Dimension, ...]
    """Which of them are not told apart, as the count of each would be small."""
    count: Annotated[int, Field(ge=1)]
    """How many status events, corrections included, repeats not."""


class AuditEvent(OutgoingEvent):
    """A record of the audit, in its tenant's chain. Its data is the form that `gateway/domain/chain.py` writes, byte for byte.

    The hash is the SHA-256 of the data without the member `hash`: cut from `,"hash":` on, and closed with `}`. Readers drop a record
    that they have by its sequence; two that are not the same are an alarm.
    """

    TYPE: ClassVar[str] = "sms.audit.recorded.v1"

    chain: Literal[1]
    """The version of the form that is hashed."""
    tenant: Annotated[str, Field(min_length=1, max_length=64)]
    """Whose chain it is; _system for what belongs to no tenant."""
    sequence: Annotated[int, Field(ge=1)]
    """Counts the tenant's records from 1, without a gap."""
    previous: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """The hash of the record before it; zeros before the first."""
    chained_at: Moment
    """When it was chained."""
    at: Moment
    """When it happened."""
    uid: UUID | None = None
    """The gateway's id of the message or dead letter that it is about; the ids of a message's status events begin with it."""
    number: Annotated[int, Field(ge=0)]
    """Counts the records about a message from 1, without a gap."""
    step: str
    """What was done."""
    state: str | None = None
    """The state that the message came to, where it changed."""
    reason: str | None = None
    """Why."""
    rule: str | None = None
    """The rule that decided, or the scope that a consent or a pause covers."""
    policy: str | None = None
    """The version of the policy that was decided by."""
    attempt: int | None = None
    """The attempt that it belongs to."""
    provider: str | None = None
    """The provider that the attempt went through."""
    account: str | None = None
    """The alias of the provider account."""
    code: str | None = None
    """The provider's code, or its id of a text that contradicts."""
    evidence: str | None = None
    """What proves it."""
    actor: str
    """The process, token or operator that did it."""
    person: Annotated[str, Field(pattern=r"^[0-9a-f]{32,64}$")] | None = None
    """The name for the person that this tenant's consent events use; on records about a message none: the message tells."""
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """The SHA-256 of the form of all the above."""


def encode(event: OutgoingEvent | OptInProof) -> bytes:
    """An event, or a proof to be sealed, as JSON with the personal data that it must carry: the one place that lets it out."""
    return event.__pydantic_serializer__.to_json(event, context=REVEAL)


def content_bytes(message: OutboundMessage) -> bytes:
    """What a message says, the same bytes for the same content whatever its key order, blanks and zones: the same ``message_id`` with
    other bytes is another message. The trace context is not content: a repeat has its own.

    Fields that are not set leave no trace, so that a field of a later version does not change the bytes of earlier messages.
    """
    said = _plain(message, but="traceparent")
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def _plain(part: BaseModel, but: str = "") -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name in type(part).model_fields:
        value = getattr(part, name)
        if value is None or value in ({}, ()) or name == but:
            continue
        if isinstance(value, Personal):
            value = value.reveal()
        elif isinstance(value, BaseModel):
            value = _plain(value)
        elif hasattr(value, "timestamp"):
            value = round(value.astimezone(UTC).timestamp() * 1000)
        plain[name] = value
    return plain
