"""The faults of the gateway, as one tree. What is expected (an opt-out, a refusal by a provider) is a value, never one of these.

::

    GatewayError                 what a person can act on; shown as one line, never with a number or a text
    ├── SettingsError            a setting is wrong, unknown or missing: the start is refused
    ├── PolicyError              a tenant's policy file is wrong: which file, line and key
    ├── BadEvent                 an event that can never be processed: it is dead-lettered with a reason
    │   └── NotAllowed           an event whose producer may not publish for the tenant that it names
    ├── BadWebhook               a provider's webhook that cannot be read or is not ours
    │   └── WebhookRefused       one that is turned away unread: not signed as it must be, of another account or another kind
    ├── NotFound                 what was asked for is not there
    ├── Conflict                 what was asked for is at odds with what stands
    ├── NoRight                  who asks may not see or do this
    ├── KeyMissing               a key is not in the key ring: destroyed, or never made
    │   └── KeyDestroyed         its time was over: it is never made again, and nothing more is sealed for its day
    ├── KeyUnreadable            a key is there and cannot be unwrapped: its master key is missing, or another
    ├── KeyRingAway              the key ring cannot be reached or read: nothing is opened or sealed
    ├── CannotOpen               what was sealed cannot be opened: other bytes, another key or another place
    ├── StoreRefused             PostgreSQL will never take a value that it was given
    └── Unavailable              not now; the same may work later
        ├── ProviderUnavailable  a provider did not answer a question about texts
        ├── StoreUnavailable     PostgreSQL is away
        ├── DatabaseHeld         the database was restored or failed over: nothing is sent until that is made good
        ├── SubjectKeysChanged   the key that people are hashed with is exchanged: whoever meets it reads again, and goes on
        └── BrokerUnavailable    Kafka is away
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "BadEvent",
    "BadWebhook",
    "BrokerUnavailable",
    "CannotOpen",
    "Conflict",
    "DatabaseHeld",
    "DeadLetterReason",
    "GatewayError",
    "KeyDestroyed",
    "KeyMissing",
    "KeyRingAway",
    "KeyUnreadable",
    "NoRight",
    "NotAllowed",
    "NotAllowedWhy",
    "NotFound",
    "PolicyError",
    "ProviderUnavailable",
    "SettingsError",
    "StoreRefused",
    "StoreUnavailable",
    "SubjectKeysChanged",
    "Unavailable",
    "WebhookFault",
    "WebhookRefused",
]

DeadLetterReason = Literal[
    "too_large",  # more than 256 KiB
    "not_utf8",  # bytes that are not UTF-8, or a lone surrogate
    "nul",  # a NUL character, plain or escaped
    "not_json",  # not JSON, or JSON in which a key stands twice
    "bad_cloudevent",  # the CloudEvents envelope is missing or wrong
    "unknown_type",  # a CloudEvents type that the gateway does not read
    "wrong_schema",  # a field is missing, unknown, of the wrong type or out of its bounds
    "unknown_tenant",  # no policy for this tenant
    "not_allowed",  # its producer may not publish for this tenant
    "id_reused",  # the message_id was there before with other content
    "tenant_closed",  # the tenant's customer account is closed; nothing of the record is kept
]

WebhookFault = Literal[
    "not_found",  # the provider calls no such address
    "unsupported_type",  # not of the media type that the provider sends
    "unreadable",  # not what the media type says it is
    "bad_signature",  # not signed, or not marked, as only the provider can
    "foreign_account",  # it speaks of an account that is not this one
    "bad_token",  # the address names no attempt of ours
]

NotAllowedWhy = Literal[
    "wrong_topic",  # the tenant's events come by other topics, or the topic is another tenant's
    "not_signed",  # the tenant's events must be signed, and this one is not
    "unreadable",  # its signature is none that the gateway reads
    "other_event",  # its signature speaks of another event's id, source or type
    "stale",  # it was signed longer ago than message ids are remembered, or in the future
    "unknown_key",  # signed with a key that no policy names
    "other_tenant",  # signed with another tenant's key
    "revoked_key",  # signed with a key that was revoked
    "wrong_signature",  # the signature is not the key's, or the event was changed
]


class GatewayError(Exception):
    """A fault that a person can act on. Its text says what and where, and never holds a number, a text or a secret."""


class SettingsError(GatewayError):
    """A setting is wrong, unknown or missing; the text names it."""


class PolicyError(GatewayError):
    """A policy file is wrong. ``line`` counts from 1 and is None where the fault is in no one line; ``key`` is dotted."""

    def __init__(self, what: str, *, file: str, line: int | None = None, key: str | None = None) -> None:
        self.what = what
        self.file = file
        self.line = line
        self.key = key
        place = file if line is None else f"{file}:{line}"
        super().__init__(f"{place}: {key}: {what}" if key else f"{place}: {what}")


class BadEvent(GatewayError):
    """An event that can never be processed. ``what`` names the field and the rule, never the value."""

    def __init__(self, reason: DeadLetterReason, what: str) -> None:
        self.reason: DeadLetterReason = reason
        self.what = what
        super().__init__(f"{reason}: {what}")


class NotAllowed(BadEvent):
    """An event whose producer may not publish for the tenant that it names; ``why`` is for the metric."""

    def __init__(self, why: NotAllowedWhy, what: str) -> None:
        self.why: NotAllowedWhy = why
        super().__init__("not_allowed", what)


class BadWebhook(GatewayError):
    """A webhook that lacks a field, or speaks of an account that is not ours."""


class WebhookRefused(BadWebhook):
    """A webhook that is turned away before anything is done with it; ``fault`` says why."""

    def __init__(self, fault: WebhookFault) -> None:
        super().__init__(f"webhook: {fault}")
        self.fault: WebhookFault = fault


class NotFound(GatewayError):
    """What was asked for is not there."""


class Conflict(GatewayError):
    """What was asked for is at odds with what stands: the text says with what, and what to do first."""


class NoRight(GatewayError):
    """Who asks has not the right to see or do this."""


class KeyMissing(GatewayError):
    """A key is not in the key ring: it was destroyed when its data's time was over, or it was never made."""


class KeyDestroyed(KeyMissing):
    """The key of a tenant's class and day was destroyed, and is never made again: nothing more can be sealed or opened for it."""


class KeyUnreadable(GatewayError):
    """A key is in the key ring and cannot be unwrapped: its master key is missing or another, or the key was changed."""


class KeyRingAway(GatewayError):
    """The key ring cannot be reached or read. No :class:`Unavailable`: a STOP is written without it, which that would put off."""


class CannotOpen(GatewayError):
    """What was sealed cannot be opened: the bytes, the key or the place is another."""


class StoreRefused(GatewayError):
    """PostgreSQL will never take a value of this batch: who sent it looks for which."""


class Unavailable(GatewayError):
    """Something the gateway depends on is away. Nothing was decided; the same may work later."""


class ProviderUnavailable(Unavailable):
    """A provider did not answer, or not readably, when it was asked about texts."""


class StoreUnavailable(Unavailable):
    """PostgreSQL is away or refuses connections."""


class DatabaseHeld(Unavailable):
    """The database may lack what was written to it before: see docs/operations.md, R37."""


class SubjectKeysChanged(Unavailable):
    """There are other versions of the key that people are hashed with than this process has read."""


class BrokerUnavailable(Unavailable):
    """The Kafka broker is away or refuses what was asked."""
