"""The key ring: a folder of keys, outside the database and its backups.

One key for each tenant, class of data and day, so that a day's data ends everywhere, in backups too, when its key is destroyed::

    ring/acme/content/2026-11-23.key      32 random bytes, mode 0600, below folders of mode 0700
    ring/_system/subject.key              a key of the gateway itself
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from gateway.crypto.files import create_once, folder, read_private, remove, root_folder
from gateway.crypto.secret import Secret
from gateway.domain.errors import GatewayError, KeyMissing

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from pathlib import Path

__all__ = ["SYSTEM_TENANT", "DataClass", "KeyRing", "LoadedKey"]

DataClass = Literal["content", "address", "dead_letters", "inbound", "consent"]
SYSTEM_TENANT: Final = "_system"
"""Owns the gateway's own keys, and the data that belongs to no tenant. No policy may bear this name."""

KEY_BYTES: Final = 32  # AES-256, and a full key for HMAC-SHA256
LONGEST_CACHE_SECONDS: Final = 60.0
LONGEST_NAME: Final = 200  # file systems end at 255 bytes
PLAIN: Final = re.compile(rb"[a-z0-9_-]")


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """A key, and until when (on the ring's monotonic clock) what was made from it may be kept."""

    secret: Secret
    until: float


class KeyRing:
    """Makes, finds and destroys keys. Several processes may share one ring: they agree on every key.

    The folder is made when it is absent. :class:`~gateway.crypto.files.UnsafeKeyRing` is raised when it is a symbolic link, belongs to
    another user or is open to others. Keys are kept in memory for a minute at most, so that a destroyed one is soon gone everywhere.
    """

    def __init__(
        self, directory: Path, *, monotonic: Callable[[], float] = time.monotonic, cache_seconds: float = LONGEST_CACHE_SECONDS
    ) -> None:
        if not 0 <= cache_seconds <= LONGEST_CACHE_SECONDS:
            raise ValueError("keys are cached for 0 to 60 seconds")
        self._directory = directory
        self._monotonic = monotonic
        self._cache_seconds = cache_seconds
        self._cache: dict[tuple[str, ...], LoadedKey] = {}
        self._synced: set[tuple[str, ...]] = set()
        self._sweep_at = monotonic() + cache_seconds
        try:
            with root_folder(directory, create=True):
                pass  # refused now rather than with the first message
        except OSError as problem:
            raise GatewayError(f"key ring {directory}: {problem.strerror or type(problem).__name__}") from None

    def now(self) -> float:
        """The ring's monotonic clock, in seconds: what :attr:`LoadedKey.until` is measured on."""
        return self._monotonic()

    def key(self, tenant: str, data_class: DataClass, day: date, *, create: bool = True) -> Secret:
        """The 32-byte key of a tenant, class and day.

        With ``create`` (for sealing) it is made durably when it is absent; without (for opening), KeyMissing is raised.
        """
        return self.loaded(tenant, data_class, day, create=create).secret

    def loaded(self, tenant: str, data_class: DataClass, day: date, *, create: bool) -> LoadedKey:
        """As :meth:`key`, with the time until which it may be kept."""
        return self._load(
            (safe_name(tenant), data_class), f"{day.isoformat()}.key", (tenant, data_class, day.isoformat()), create=create
        )

    def subject_key(self) -> Secret:
        """The key of ``subject_id``. Without it no opt-out is found again: see :meth:`fingerprint`."""
        return self._system("subject")

    def message_id_key(self) -> Secret:
        """The key of the hashes of message ids and contents."""
        return self._system("message_id")

    def token_key(self) -> Secret:
        """The key of the attempt tokens in callback URLs."""
        return self._system("token")

    def fingerprint(self) -> str:
        """16 hex digits that tell this ring's subject key from any other, and tell nothing of the key itself.

        The store keeps it: a start with a new or foreign ring, in which no stored opt-out would be found, can then be refused.
        """
        return hmac.digest(self.subject_key().reveal(), b"gateway key ring fingerprint", "sha256")[:8].hex()

    def destroy(self, tenant: str, data_class: DataClass, day: date) -> bool:
        """Destroy a key durably: all that was sealed with it is unreadable, at the latest when caches end. False when it was not there."""
        place, name = (safe_name(tenant), data_class), f"{day.isoformat()}.key"
        self._cache.pop((*place, name), None)
        try:
            with ExitStack() as stack:
                return remove(name, self._open(stack, place, create=False))
        except FileNotFoundError:
            return False

    def forget_expired(self) -> None:
        """Drop the keys whose time in memory is over. Runs by itself whenever keys are asked for."""
        now = self._monotonic()
        self._cache = {place: key for place, key in self._cache.items() if key.until > now}
        self._sweep_at = now + self._cache_seconds

    def _system(self, name: str) -> Secret:
        return self._load((SYSTEM_TENANT,), f"{name}.key", (SYSTEM_TENANT, name, "always"), create=True).secret

    def _load(self, place: tuple[str, ...], name: str, shown: tuple[str, str, str], *, create: bool) -> LoadedKey:
        now = self._monotonic()
        if now >= self._sweep_at:
            self.forget_expired()
        cached = self._cache.get((*place, name))
        if cached is not None and cached.until > now:
            return cached
        try:
            secret = Secret(self._find(place, name, create=create))
        except FileNotFoundError:
            tenant, data_class, day = shown
            raise KeyMissing(f"no key for tenant {tenant!r}, class {data_class}, day {day}: destroyed, or never made") from None
        except OSError as problem:
            raise GatewayError(f"key ring {self._directory}: {problem.strerror or type(problem).__name__}") from None
        loaded = self._cache[(*place, name)] = LoadedKey(secret, now + self._cache_seconds)
        return loaded

    def _find(self, place: tuple[str, ...], name: str, *, create: bool) -> bytes:
        shown = self._directory.joinpath(*place, name)
        with ExitStack() as stack:
            parent = self._open(stack, place, create=create)
            try:
                found = read_private(name, parent, shown, KEY_BYTES)
            except FileNotFoundError:
                if not create:
                    raise
                create_once(name, parent, secrets.token_bytes(KEY_BYTES))
                found = read_private(name, parent, shown, KEY_BYTES)
            if create and (*place, name) not in self._synced:
                # Another process may have made it this instant, its folder not yet on the disk: what we seal must not outlive its key.
                os.fsync(parent)
                self._synced.add((*place, name))
            return found

    def _open(self, stack: ExitStack, place: tuple[str, ...], *, create: bool) -> int:
        descriptor = stack.enter_context(root_folder(self._directory, create=create))
        for depth, part in enumerate(place, start=1):
            parent, shown = descriptor, self._directory.joinpath(*place[:depth])
            descriptor = stack.enter_context(folder(part, parent, shown, create=create))
            if create and place[:depth] not in self._synced:
                os.fsync(parent)
                self._synced.add(place[:depth])
        return descriptor


def safe_name(tenant: str) -> str:
    """A tenant's name as a file name: what is not a-z, 0-9, _ or - becomes %XX, so no name leaves the ring or meets another's."""
    raw = tenant.encode("utf-8", errors="surrogatepass")
    name = "".join(chr(byte) if PLAIN.match(bytes([byte])) else f"%{byte:02x}" for byte in raw)
    if not 0 < len(name) <= LONGEST_NAME:
        raise GatewayError("key ring: a tenant's name is empty or too long")
    return name
