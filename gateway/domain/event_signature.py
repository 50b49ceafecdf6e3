"""The signature of an event: a JWS whose payload is the record's value, detached.

Sources: https://www.rfc-editor.org/rfc/rfc7515 (JWS, appendix F on detached content), https://www.rfc-editor.org/rfc/rfc8037 and
https://www.rfc-editor.org/rfc/rfc9864 (Ed25519, called EdDSA or Ed25519).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from gateway.domain.errors import NotAllowed
from gateway.domain.event_reading import one_key_each

__all__ = ["SIGNATURE_HEADER", "EventSignature", "protected_header", "read_signature", "signature_of", "signed_bytes"]

SIGNATURE_HEADER: Final = "signature"
"""The header of a record that holds the JWS, in binary and structured mode alike."""

_LONGEST: Final = 8192  # characters
_ALGORITHMS: Final = ("EdDSA", "Ed25519")
_LATEST: Final = 1 << 40  # seconds: a larger number cannot be calculated with everywhere
_SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class EventSignature:
    """What a signature says of itself; nothing of it is proved before the signature is. ``signed_at`` is in Unix seconds."""

    key_id: str
    signed_at: int
    event_id: str
    source: str
    type: str
    protected: bytes
    signature: bytes


def read_signature(raw: bytes) -> EventSignature:
    """The parts of a detached JWS. ``NotAllowed`` when it is none, or one that the gateway does not take."""
    pieces = raw.split(b".")
    if len(raw) > _LONGEST or len(pieces) != 3 or pieces[1]:
        raise NotAllowed("unreadable", "signature: is no JWS with detached content (header..signature)")
    signature = _decoded(pieces[2])
    header = _header(_decoded(pieces[0]))
    if header is None or signature is None or len(signature) != _SIGNATURE_BYTES:
        raise NotAllowed("unreadable", "signature: its protected header is no JSON object, or it has not 64 bytes")
    if header.get("alg") not in _ALGORITHMS:
        raise NotAllowed("unreadable", "signature: alg must be EdDSA")
    if "crit" in header or "b64" in header:  # RFC 7515, 4.1.11: what is not understood must be refused
        raise NotAllowed("unreadable", "signature: extensions (crit, b64) are not taken")
    texts = [header.get(name) for name in ("kid", "ce_id", "ce_source", "ce_type")]
    signed_at = header.get("iat")
    if not all(isinstance(text, str) for text in texts) or type(signed_at) is not int or not 0 <= signed_at < _LATEST:
        raise NotAllowed("unreadable", "signature: kid, iat, ce_id, ce_source and ce_type must stand in its protected header")
    key_id, event_id, source, event_type = map(str, texts)
    return EventSignature(key_id, signed_at, event_id, source, event_type, pieces[0], signature)


def protected_header(*, key_id: str, signed_at: int, event_id: str, source: str, event_type: str) -> bytes:
    """The protected header of a signature to be made, encoded. ``signed_at`` is in Unix seconds."""
    header = {
        "alg": "EdDSA",
        "kid": key_id,
        "iat": signed_at,
        "ce_id": event_id,
        "ce_source": source,
        "ce_type": event_type,
    }
    return _encoded(json.dumps(header, separators=(",", ":")).encode())


def signature_of(protected: bytes, value: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """The detached JWS of a record's value, for its header."""
    return protected + b".." + _encoded(sign(signed_bytes(protected, value)))


def signed_bytes(protected: bytes, value: bytes) -> bytes:
    """What is signed: the encoded header, a dot, the encoded value of the record (RFC 7515, 5.1)."""
    return protected + b"." + _encoded(value)


def _header(raw: bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(raw or b"", object_pairs_hook=one_key_each)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _decoded(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
