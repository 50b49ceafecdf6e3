"""Keyed hashes: how a person, a message id and a content are named without holding them."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from gateway.crypto.secret import Secret, secret_bytes

if TYPE_CHECKING:
    from gateway.domain.personal import PhoneNumber

__all__ = ["Subjects"]

HASH_BYTES: Final = 16


class Subjects:
    """Truncated HMAC-SHA256 (RFC 2104; 128 bits), each use under a label of its own.

    A plain hash of a telephone number is undone by trying all numbers; with the key it is not. ``message_ids`` is the key for ids and
    contents when it is not the same, so that one may be changed without the other.
    """

    def __init__(self, key: Secret | bytes, message_ids: Secret | bytes | None = None) -> None:
        self._key = Secret(secret_bytes(key))
        self._message_ids = self._key if message_ids is None else Secret(secret_bytes(message_ids))

    def subject_id(self, number: PhoneNumber) -> bytes:
        """Who a number is: 16 bytes, the same for every tenant. ``number`` is in E.164 form."""
        return _hash(self._key, b"subject\0" + number.reveal().encode())

    def message_id_hash(self, tenant: str, message_id: str) -> bytes:
        """The name of a tenant's message id: 16 bytes."""
        return _hash(self._message_ids, b"message_id\0" + _framed(tenant) + message_id.encode("utf-8", errors="surrogatepass"))

    def content_digest(self, content: bytes) -> bytes:
        """16 bytes that tell whether the same message id came with the same content."""
        return _hash(self._message_ids, b"content\0" + content)

    def person_key(self, tenant: str, subject_id: bytes) -> str:
        """A person's pseudonym towards one tenant: 32 hex digits. Two tenants cannot match theirs; keys of Kafka records are these."""
        return _hash(self._key, b"person\0" + _framed(tenant) + subject_id).hex()


def _hash(key: Secret, message: bytes) -> bytes:
    return hmac.digest(key.reveal(), message, "sha256")[:HASH_BYTES]


def _framed(text: str) -> bytes:
    """With its length in front: no two pairs of texts become the same bytes."""
    raw = text.encode("utf-8", errors="surrogatepass")
    return len(raw).to_bytes(4, "big") + raw
