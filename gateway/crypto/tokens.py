"""Tokens that say what they speak of, so that nobody else can name one: an attempt in a callback's URL, a dead letter in a replay."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final
from uuid import UUID

from gateway.crypto.secret import Secret, secret_bytes

__all__ = ["AttemptTokens", "ReplayTokens"]

UID_BYTES: Final = 16
ATTEMPT_BYTES: Final = 2
MAC_BYTES: Final = 12
TOKEN_LENGTH: Final = 40  # base64 of 30 bytes: no padding, and every text of this length is canonical
LARGEST_ATTEMPT: Final = 0xFFFF
MOMENT_BYTES: Final = 8


class AttemptTokens:
    """Makes and reads tokens: base64url of the uid, the attempt and a 96-bit HMAC-SHA256 over both and the provider account.

    A token says nothing about a person and is no secret by itself: the provider's signature is checked as well. A made-up one passes
    with a chance of 2^-96 a request.
    """

    def __init__(self, key: Secret | bytes) -> None:
        self._key = Secret(secret_bytes(key))

    def make(self, uid: UUID, attempt: int, account: str) -> str:
        """The token of one attempt through one provider account: 40 characters that a URL's path can hold. ``attempt`` is 0 to 65535."""
        if not 0 <= attempt <= LARGEST_ATTEMPT:
            raise ValueError("an attempt is counted from 0 to 65535")
        named = uid.bytes + attempt.to_bytes(ATTEMPT_BYTES, "big")
        return base64.urlsafe_b64encode(named + self._mac(named, account)).decode("ascii")

    def read(self, token: str, account: str) -> tuple[UUID, int] | None:
        """The uid and attempt; None when the token is not ours, or was made for another account."""
        if len(token) != TOKEN_LENGTH:
            return None
        named, mac = _parts(token)
        if len(named) != UID_BYTES + ATTEMPT_BYTES or not hmac.compare_digest(mac, self._mac(named, account)):
            return None
        return UUID(bytes=named[:UID_BYTES]), int.from_bytes(named[UID_BYTES:], "big")

    def _mac(self, named: bytes, account: str) -> bytes:
        message = b"attempt\0" + named + account.encode("utf-8", errors="surrogatepass")
        return hmac.digest(self._key.reveal(), message, "sha256")[:MAC_BYTES]


class ReplayTokens:
    """Makes and reads tokens that stand beside a record that was put back: which dead letter it first became, and how old it is.

    base64url of the letter's uid, the record's first timestamp and a 96-bit HMAC-SHA256 over both and the SHA-256 of the record's
    value: who may write the topic can neither name another letter nor make a record look older or younger than it is.
    """

    def __init__(self, key: Secret | bytes) -> None:
        self._key = Secret(secret_bytes(key))

    def make(self, first: UUID, timestamp_ms: int, sha256: bytes) -> str:
        """The token of a record that is put back. ``timestamp_ms`` is not before 1970."""
        named = first.bytes + timestamp_ms.to_bytes(MOMENT_BYTES, "big")
        return base64.urlsafe_b64encode(named + self._mac(named, sha256)).decode("ascii")

    def read(self, token: str, sha256: bytes) -> tuple[UUID, int] | None:
        """The first dead letter's uid, and the record's first timestamp; None when the token is not ours, or of another value."""
        named, mac = _parts(token)
        if len(named) != UID_BYTES + MOMENT_BYTES or not hmac.compare_digest(mac, self._mac(named, sha256)):
            return None
        return UUID(bytes=named[:UID_BYTES]), int.from_bytes(named[UID_BYTES:], "big")

    def _mac(self, named: bytes, sha256: bytes) -> bytes:
        return hmac.digest(self._key.reveal(), b"replay\0" + named + sha256, "sha256")[:MAC_BYTES]


def _parts(token: str) -> tuple[bytes, bytes]:
    """What a token names, and its MAC; nothing of what is no base64url."""
    if not token.isascii():
        return b"", b""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except binascii.Error:
        return b"", b""
    return raw[:-MAC_BYTES], raw[-MAC_BYTES:]
