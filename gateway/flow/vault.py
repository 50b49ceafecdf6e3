"""What is sealed of a message, and how: its number and its text, each bound to the message's own uid."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, Literal, Protocol
from uuid import UUID

from gateway.domain.consent import EVERY_TENANT, ConsentKey
from gateway.domain.errors import CannotOpen, GatewayError, KeyMissing
from gateway.domain.ids import new_uid, uid_time
from gateway.domain.personal import MessageBody, PhoneNumber

__all__ = ["SYSTEM_TENANT", "DataClass", "Hasher", "KeptNumber", "Sealer", "Vault", "owner_of"]

DataClass = Literal["content", "address", "dead_letters", "inbound", "consent"]
"""What is sealed alike, and ends together."""

SYSTEM_TENANT = "_system"

_RECIPIENT: Final = b"recipient_ref "  # no text is taken for a name, nor a name for a text: both are under one key


def owner_of(key: ConsentKey) -> str:
    """Whose key seals what belongs to a consent, and whose audit tells of it: every tenant's is the system's."""
    return SYSTEM_TENANT if key.tenant == EVERY_TENANT else key.tenant


class Sealer(Protocol):
    """AES-256-GCM under a key per tenant, class and day."""

    def seal(self, tenant: str, data_class: DataClass, day: date, plaintext: bytes, context: bytes) -> bytes:
        """Seal for this context only."""
        ...

    def open(self, tenant: str, data_class: DataClass, day: date, sealed: bytes, context: bytes) -> bytes:
        """What was sealed; a GatewayError when the key is gone or it was changed."""
        ...


class Hasher(Protocol):
    """Keyed hashes: what the gateway knows people, messages and contents by."""

    def subject_id(self, number: PhoneNumber) -> bytes:
        """16 bytes that stand for a person: the first id, from which those under later versions of the key are made."""
        ...

    def message_id_hash(self, tenant: str, message_id: str) -> bytes:
        """16 bytes that stand for a producer's message id."""
        ...

    def content_digest(self, content: bytes) -> bytes:
        """16 bytes that stand for what a message says."""
        ...

    def person_key(self, tenant: str, subject_id: bytes) -> str:
        """A pseudonym of a person within one tenant: the key of their events."""
        ...

    def seal_subject(self, person: str, subject_id: bytes) -> str:
        """``subject_id``, to be opened by this gateway alone, beside this pseudonym alone."""
        ...

    def open_subject(self, person: str, sealed: str) -> bytes:
        """The ``subject_id`` again. Raises CannotOpen."""
        ...


@dataclass(frozen=True, slots=True)
class KeptNumber:
    """A person's number as it is kept: sealed under a tenant's address key of the day in ``uid``."""

    tenant: str
    uid: UUID
    sealed: bytes


class Vault:
    """Seals and opens numbers and texts of messages; the day is the one in the uid, as for the partitions.

    ``keeps_numbers``: whether there is anybody for whom numbers are kept with consents.
    """

    def __init__(
        self, sealer: Sealer, *, keeps_numbers: bool = False, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._sealer = sealer
        self._keeps_numbers = keeps_numbers
        self._now = now

    def seal_number(self, tenant: str, uid: UUID, number: PhoneNumber) -> bytes:
        """The number, under the tenant's address key of the day."""
        return self._sealer.seal(tenant, "address", uid_time(uid).date(), number.reveal().encode(), uid.bytes)

    def open_number(self, tenant: str, uid: UUID, sealed: bytes) -> PhoneNumber:
        """The number again. Raises GatewayError when its key is gone."""
        return PhoneNumber(self._sealer.open(tenant, "address", uid_time(uid).date(), sealed, uid.bytes).decode())

    def keep_number(self, tenant: str, number: PhoneNumber) -> KeptNumber | None:
        """The number, for as long as a provider is owed what the person said; None when none is to be told, and when it cannot be
        sealed, as with a key folder that is full: no consent is lost for want of that.
        """
        if not self._keeps_numbers:
            return None
        uid = new_uid(self._now())
        try:
            return KeptNumber(tenant, uid, self.seal_number(tenant, uid, number))
        except (GatewayError, OSError):
            return None

    def seal_body(self, tenant: str, uid: UUID, body: MessageBody, metadata: Mapping[str, str] | None = None) -> bytes:
        """The text and its metadata, under the tenant's content key of the day."""
        plaintext = json.dumps([body.reveal(), dict(metadata or {})], ensure_ascii=False).encode()
        return self._sealer.seal(tenant, "content", uid_time(uid).date(), plaintext, uid.bytes)

    def open_body(self, tenant: str, uid: UUID, sealed: bytes) -> MessageBody:
        """The text again. Raises GatewayError when its key is gone."""
        return MessageBody(json.loads(self._sealer.open(tenant, "content", uid_time(uid).date(), sealed, uid.bytes))[0])

    def seal_recipient(self, tenant: str, uid: UUID, recipient_ref: str | None) -> bytes | None:
        """The producer's own name of the person whom a message is for, under the tenant's content key of the day."""
        if recipient_ref is None:
            return None
        return self._sealer.seal(tenant, "content", uid_time(uid).date(), recipient_ref.encode(), _RECIPIENT + uid.bytes)

    def open_recipient(self, tenant: str, uid: UUID, sealed: bytes | None, clear: str | None = None) -> str | None:
        """The name again; ``clear`` is that of a message from before they were sealed. None where there is none, or it opens no more.

        An event goes out without it then: its time is over. Raises KeyRingAway, KeyUnreadable.
        """
        if sealed is None:
            return clear
        try:
            return self._sealer.open(tenant, "content", uid_time(uid).date(), sealed, _RECIPIENT + uid.bytes).decode()
        except (KeyMissing, CannotOpen):
            return None

    def seal_payload(self, tenant: str, data_class: DataClass, uid: UUID, payload: bytes) -> bytes:
        """An event or record that holds personal data, under the key of its class; ``uid`` is the event's own id."""
        return self._sealer.seal(tenant, data_class, uid_time(uid).date(), payload, uid.bytes)

    def open_payload(self, tenant: str, data_class: DataClass, uid: UUID, sealed: bytes) -> bytes:
        """The payload again. Raises GatewayError when its key is gone."""
        return self._sealer.open(tenant, data_class, uid_time(uid).date(), sealed, uid.bytes)
