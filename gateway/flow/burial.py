"""Bury a record that can never be processed: what is kept of it, sealed, and the event that tells of it. And open it again."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.domain.errors import BadEvent, CannotOpen, DeadLetterReason, NotFound
from gateway.domain.events import DeadLetterEvent, encode
from gateway.domain.kept_records import WHOLE_RECORD, KeptRecord, fits, pack, unpack
from gateway.domain.policy import Policies
from gateway.flow.records import REPLAY_HEADER, Record, ReplayMarks, origin_of
from gateway.flow.vault import SYSTEM_TENANT, Vault

__all__ = ["Burial", "DeadLetter", "SealedLetter", "open_letter"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that can never be processed: where it came from, why, and all of it sealed (None: not kept)."""

    uid: UUID
    topic: str
    partition: int
    offset: int
    tenant: str
    reason: DeadLetterReason
    detail: str
    length: int
    sha256: bytes
    form: int
    sealed: bytes | None
    replay_of: UUID | None
    event: bytes


@dataclass(frozen=True, slots=True)
class SealedLetter:
    """A dead letter as it lies in the store. ``form`` says how what is sealed is laid out."""

    uid: UUID
    at: datetime
    tenant: str
    topic: str
    sha256: bytes
    form: int
    sealed: bytes | None
    replay_of: UUID | None
    replayed: bool


class Burial:
    """Makes dead letters."""

    def __init__(self, policies: Policies, vault: Vault, marks: ReplayMarks) -> None:
        self._policies = policies
        self._vault = vault
        self._marks = marks

    def letter(
        self, record: Record, uid: UUID, topic: str, partition: int, fault: BadEvent, now: datetime, tenant: str | None
    ) -> DeadLetter:
        """What is kept of a poison record, and its event. ``tenant`` None: it could not be read, or may not be believed.

        Of a record for an account that is closed nothing is kept but where it lay, and it is the system's: that tenant has no keys any more.
        """
        value = record.value or b""
        closed = fault.reason == "tenant_closed"
        owner = tenant if tenant is not None and not closed and self._policies.tenant(tenant) is not None else SYSTEM_TENANT
        origin = origin_of(record, self._marks)
        headers = [(name, said) for name, said in record.headers if name != REPLAY_HEADER]
        kept = KeptRecord(record.key, record.value, headers, origin.timestamp_ms)
        sealed = self._vault.seal_payload(owner, "dead_letters", uid, pack(kept)) if fits(kept) and not closed else None
        digest = hashlib.sha256(value).digest()
        event = DeadLetterEvent(
            dead_letter_id=uid,
            reason=fault.reason,
            detail=fault.what[:500],
            topic=topic,
            partition=partition,
            offset=record.offset,
            tenant=None if owner == SYSTEM_TENANT else owner,
            length=len(value),
            sha256=digest.hex(),
            sealed=base64.b64encode(sealed).decode() if sealed is not None else None,
            sealed_form=WHOLE_RECORD if sealed is not None else None,
            key_day=now.date() if sealed is not None else None,
            replay_of=origin.first,
            occurred_at=now,
        )
        return DeadLetter(
            uid=uid,
            topic=topic,
            partition=partition,
            offset=record.offset,
            tenant=owner,
            reason=fault.reason,
            detail=fault.what[:500],
            length=len(value),
            sha256=digest,
            form=WHOLE_RECORD,
            sealed=sealed,
            replay_of=origin.first,
            event=encode(event),
        )


def open_letter(vault: Vault, letter: SealedLetter) -> KeptRecord:
    """The record that a letter keeps. NotFound when it was not kept; KeyMissing, CannotOpen."""
    if letter.sealed is None:
        raise NotFound(
            f"dead letter {letter.uid} was too large to keep, or for an account that is closed: its length and SHA-256 alone are known"
        )
    plain = vault.open_payload(letter.tenant, "dead_letters", letter.uid, letter.sealed)
    try:
        return unpack(letter.form, plain, letter.uid, letter.at)
    except (ValueError, KeyError, TypeError):
        raise CannotOpen(f"dead letter {letter.uid}: of a form that this version does not know") from None
