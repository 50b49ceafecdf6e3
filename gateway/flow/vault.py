"""What is sealed of a message, and how: its number and its text, each bound to the message's own uid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Literal, Protocol
from uuid import UUID

from gateway.domain.consent import EVERY_TENANT, ConsentKey
from gateway.domain.ids import uid_time
from gateway.domain.personal import MessageBody, PhoneNumber

__all__ = ["SYSTEM_TENANT", "DataClass", "Hasher", "Sealer", "Vault", "owner_of"]

DataClass = Literal["content", "address", "dead_letters", "inbound", "consent"]
"""What is sealed alike, and ends together."""

SYSTEM_TENANT = "_system"


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
        """16 bytes that stand for a person."""
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


class Vault:
    """Seals and opens numbers and texts of messages; the day is the one in the uid, as for the partitions."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal_number(self, tenant: str, uid: UUID, number: PhoneNumber) -> bytes:
        """The number, under the tenant's address key of the day."""
        return self._sealer.seal(tenant, "address", uid_time(uid).date(), number.reveal().encode(), uid.bytes)

    def open_number(self, tenant: str, uid: UUID, sealed: bytes) -> PhoneNumber:
        """The number again. Raises GatewayError when its key is gone."""
        return PhoneNumber(self._sealer.open(tenant, "address", uid_time(uid).date(), sealed, uid.bytes).decode())

    def seal_body(self, tenant: str, uid: UUID, body: MessageBody, metadata: Mapping[str, str] | None = None) -> bytes:
        """The text and its metadata, under the tenant's content key of the day."""
        plaintext = json.dumps([body.reveal(), dict(metadata or {})], ensure_ascii=False).encode()
        return self._sealer.seal(tenant, "content", uid_time(uid).date(), plaintext, uid.bytes)

    def open_body(self, tenant: str, uid: UUID, sealed: bytes) -> MessageBody:
        """The text again. Raises GatewayError when its key is gone."""
        return MessageBody(json.loads(self._sealer.open(tenant, "content", uid_time(uid).date(), sealed, uid.bytes))[0])

    def seal_payload(self, tenant: str, data_class: DataClass, uid: UUID, payload: bytes) -> bytes:
        """An event or record that holds personal data, under the key of its class; ``uid`` is the event's own id."""
        return self._sealer.seal(tenant, data_class, uid_time(uid).date(), payload, uid.bytes)

    def open_payload(self, tenant: str, data_class: DataClass, uid: UUID, sealed: bytes) -> bytes:
        """The payload again. Raises GatewayError when its key is gone."""
        return self._sealer.open(tenant, data_class, uid_time(uid).date(), sealed, uid.bytes)
