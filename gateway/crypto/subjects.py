"""Keyed hashes: how a person, a message id and a content are named without holding them."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.crypto.keyring import fingerprint_of
from gateway.crypto.secret import Secret, secret_bytes
from gateway.domain.errors import CannotOpen, KeyMissing, KeyUnreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.domain.personal import PhoneNumber

__all__ = ["Subjects"]

HASH_BYTES: Final = 16
NONCE_BYTES: Final = 12


class Subjects:
    """Truncated HMAC-SHA256 (RFC 2104; 128 bits), each use under a label of its own.

    A plain hash of a telephone number is undone by trying all numbers; with the key it is not. ``message_ids`` is the key for ids and
    contents when it is not the same, so that one may be changed without the other. ``later`` gives the versions of ``key`` from 2 on.
    Pseudonyms stay with the first: who has that key alone cannot tell them of ids that were made with a later one.
    """

    def __init__(
        self,
        key: Secret | bytes,
        message_ids: Secret | bytes | None = None,
        later: Callable[[int], Secret] | None = None,
    ) -> None:
        self._key = Secret(secret_bytes(key))
        self._load = later
        self._later: tuple[Secret, ...] = ()
        self._message_ids = self._key if message_ids is None else Secret(secret_bytes(message_ids))

    def subject_id(self, number: PhoneNumber) -> bytes:
        """Who a number is: 16 bytes, the same for every tenant, under the first version. ``number`` is in E.164 form."""
        return _hash(self._key, b"subject\0" + number.reveal().encode())

    def line(self, first: bytes) -> tuple[bytes, ...]:
        """A person's ids under all versions that are known, from the first on: each is made from the one before, without the number."""
        ids = [first]
        for key in self._later:
            ids.append(_next(key, ids[-1]))
        return tuple(ids)

    def next_id(self, version: int, subject_id: bytes) -> bytes:
        """The id under a version from 2 on, from the one under the version before."""
        return _next(self._later[version - 2], subject_id)

    def know(self, fingerprints: Mapping[int, str]) -> None:
        """Load the versions from 2 on that are named here. KeyMissing, or KeyUnreadable when one is another than it was."""
        found = []
        for version in range(2, len(fingerprints) + 2):
            if self._load is None:
                raise KeyMissing("no key ring gives later versions of the key that people are hashed with")
            key = Secret(secret_bytes(self._load(version)))
            if fingerprint_of(key) != fingerprints[version]:
                raise KeyUnreadable(f"version {version} of the key that people are hashed with was exchanged in the key ring")
            found.append(key)
        self._later = tuple(found)

    def message_id_hash(self, tenant: str, message_id: str) -> bytes:
        """The name of a tenant's message id: 16 bytes."""
        return _hash(self._message_ids, b"message_id\0" + _framed(tenant) + message_id.encode("utf-8", errors="surrogatepass"))

    def content_digest(self, content: bytes) -> bytes:
        """16 bytes that tell whether the same message id came with the same content."""
        return _hash(self._message_ids, b"content\0" + content)

    def person_key(self, tenant: str, subject_id: bytes) -> str:
        """A person's pseudonym towards one tenant: 32 hex digits. Two tenants cannot match theirs; keys of Kafka records are these."""
        return _hash(self._key, b"person\0" + _framed(tenant) + subject_id).hex()

    def seal_subject(self, person: str, subject_id: bytes) -> str:
        """``subject_id`` for nobody but this gateway, in base64: bound to the pseudonym that it stands beside, and never the same twice.

        It lives as long as the key of ``subject_id`` itself. 2^32 may be made (NIST SP 800-38D, 8.3).
        """
        nonce = os.urandom(NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher().encrypt(nonce, subject_id, person.encode())).decode("ascii")

    def open_subject(self, person: str, sealed: str) -> bytes:
        """The ``subject_id`` again. CannotOpen when it is another gateway's, or was moved or changed."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            return self._cipher().decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], person.encode())
        except (binascii.Error, InvalidTag, ValueError):
            raise CannotOpen("a sealed subject_id: changed, of another key ring or of another person") from None

    def _cipher(self) -> AESGCM:
        return AESGCM(hmac.digest(self._key.reveal(), b"sealed subject", "sha256"))


def _next(key: Secret, subject_id: bytes) -> bytes:
    return _hash(key, b"subject of a subject\0" + subject_id)


def _hash(key: Secret, message: bytes) -> bytes:
    return hmac.digest(key.reveal(), message, "sha256")[:HASH_BYTES]


def _framed(text: str) -> bytes:
    """With its length in front: no two pairs of texts become the same bytes."""
    raw = text.encode("utf-8", errors="surrogatepass")
    return len(raw).to_bytes(4, "big") + raw
