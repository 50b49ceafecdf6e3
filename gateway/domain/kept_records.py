"""A record as a dead letter keeps it: the whole of it, so that it can be put back as it came."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from gateway.domain.cloudevents import write_binary
from gateway.domain.event_reading import LONGEST_EVENT
from gateway.domain.events import SOURCE, OutboundMessage

__all__ = ["VALUE_ALONE", "WHOLE_RECORD", "KeptRecord", "fits", "pack", "unpack"]

VALUE_ALONE: Final = 1
"""The form of what was sealed before headers and keys were kept: nothing but the record's value."""
WHOLE_RECORD: Final = 2
"""The form of what is sealed now: key, headers, time and value."""

_LONGEST_REST: Final = 65_536  # bytes of key and headers together
_LENGTH_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """A record. Its key, value and headers may hold personal data and are not shown. ``timestamp_ms`` is -1 where it is not known."""

    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: Sequence[tuple[str, bytes | None]] = field(repr=False)
    timestamp_ms: int


def fits(record: KeptRecord) -> bool:
    """Whether it is kept: a value of at most 256 KiB, a key and headers of at most 64 KiB together."""
    rest = len(record.key or b"") + sum(len(name.encode()) + len(value or b"") for name, value in record.headers)
    return len(record.value or b"") <= LONGEST_EVENT and rest <= _LONGEST_REST


def pack(record: KeptRecord) -> bytes:
    """The bytes to be sealed, of the form :data:`WHOLE_RECORD`: the length of what describes it, that as JSON, the value as it is."""
    described = {
        "key": _text(record.key),
        "headers": [[name, _text(value)] for name, value in record.headers],
        "timestamp_ms": record.timestamp_ms,
        "tombstone": record.value is None,
    }
    head = json.dumps(described, separators=(",", ":")).encode()
    return len(head).to_bytes(_LENGTH_BYTES, "big") + head + (record.value or b"")


def unpack(form: int, plain: bytes, uid: UUID, at: datetime) -> KeptRecord:
    """The record again. ``ValueError`` for a form that this version does not know, or for bytes that are not of it.

    Of the older form the value alone is there. It gets the headers that it needs, under the dead letter's own ``uid`` and ``at``, and
    no key: where its neighbours of the same key lie is not known any more.
    """
    if form == VALUE_ALONE:
        return KeptRecord(None, plain, _needed_headers(plain, uid, at), -1)
    if form != WHOLE_RECORD:
        raise ValueError("a form that this version does not know")
    length = int.from_bytes(plain[:_LENGTH_BYTES], "big")
    described = json.loads(plain[_LENGTH_BYTES : _LENGTH_BYTES + length])
    value = plain[_LENGTH_BYTES + length :]
    return KeptRecord(
        key=_bytes(described["key"]),
        value=None if described["tombstone"] else value,
        headers=[(name, _bytes(text)) for name, text in described["headers"]],
        timestamp_ms=described["timestamp_ms"],
    )


def _needed_headers(value: bytes, uid: UUID, at: datetime) -> list[tuple[str, bytes | None]]:
    """An envelope in the mode that the value is of: a structured event names its version itself."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and "specversion" in found:
        return [("content-type", b"application/cloudevents+json")]
    headers, _ = write_binary(
        event_type=OutboundMessage.TYPE, event_id=str(uid), source=SOURCE, time=at.astimezone(UTC), data=value
    )
    return list(headers)


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)
