"""Sealing: AES-256-GCM with the key of a tenant, class and day."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.crypto.keyring import safe_name
from gateway.domain.errors import CannotOpen

if TYPE_CHECKING:
    from datetime import date

    from gateway.crypto.keyring import KeyRing
    from gateway.flow.vault import DataClass

__all__ = ["Sealer"]

VERSION: Final = b"\x01"
NONCE_BYTES: Final = 12
OVERHEAD: Final = len(VERSION) + NONCE_BYTES + 16


class Sealer:
    """Seals and opens: a version byte, a random 12-byte nonce, the ciphertext with its tag.

    The tenant, class, day and context are bound to it as associated data: a sealed value that is moved to another row does not open.
    Ciphers are kept as long as their key may be: a minute. Random nonces are sound for 2^32 values a key (NIST SP 800-38D, 8.3); a tenant's class has a new key every day.
    """

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._ciphers: dict[tuple[str, str, date, bool], tuple[AESGCM, bytes, float]] = {}
        ring.also_forget(self._forget)

    def seal(self, tenant: str, data_class: DataClass, day: date, plaintext: bytes, context: bytes) -> bytes:
        """Seal for a day that may still be written: its key is made when it is absent. ``context`` names the place, such as a uid.

        Raises KeyDestroyed when the day's key is gone for good.
        """
        cipher, bound = self._cipher(tenant, data_class, day, create=True)
        nonce = os.urandom(NONCE_BYTES)
        return VERSION + nonce + cipher.encrypt(nonce, plaintext, bound + context)

    def open(self, tenant: str, data_class: DataClass, day: date, sealed: bytes, context: bytes) -> bytes:
        """What was sealed. KeyMissing when its key is gone, KeyDestroyed when for good; CannotOpen when the bytes, the key or the place is another."""
        if len(sealed) < OVERHEAD or sealed[:1] != VERSION:
            raise CannotOpen(
                f"sealed {data_class} of tenant {tenant!r}, day {day.isoformat()}: cut short, or of an unknown version"
            )
        cipher, bound = self._cipher(tenant, data_class, day, create=False)
        try:
            return cipher.decrypt(sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :], bound + context)
        except InvalidTag:
            raise CannotOpen(
                f"sealed {data_class} of tenant {tenant!r}, day {day.isoformat()}: changed, or sealed with another key or for another place"
            ) from None

    def _cipher(self, tenant: str, data_class: DataClass, day: date, *, create: bool) -> tuple[AESGCM, bytes]:
        now = self._ring.now()
        place = (tenant, data_class, day, create)
        known = self._ciphers.get(place)
        if known is not None and known[2] > now:
            return known[0], known[1]
        key = self._ring.loaded(tenant, data_class, day, create=create)
        # Only the context, which stands last, may hold any byte: no two places share their associated data.
        bound = f"{safe_name(tenant)}|{data_class}|{day.isoformat()}|".encode()
        cipher = AESGCM(key.secret.reveal())
        self._ciphers[place] = (cipher, bound, key.until)
        return cipher, bound

    def _forget(self, now: float) -> None:
        self._ciphers = {kept: cipher for kept, cipher in self._ciphers.items() if cipher[2] > now}
