"""The key ring: which keys there are, who makes them, and how long they stay in memory. Where they are kept is a port.

One key for each tenant, class of data and day, so that a day's data ends everywhere, in backups too, when its key is destroyed; and some
keys of the gateway itself. Each is kept wrapped by a master key.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.crypto.master import KEY_BYTES
from gateway.crypto.secret import Secret
from gateway.domain.errors import GatewayError, KeyMissing, KeyUnreadable
from gateway.flow.vault import SYSTEM_TENANT, DataClass

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from gateway.crypto.master import MasterKeys
    from gateway.flow.keys import KeyPlace

__all__ = ["LINEAGE", "SYSTEM_KEYS", "KeyRing", "LoadedKey", "day_name", "fingerprint_of", "later_subject_name"]

SYSTEM_KEYS: Final = tuple(f"{SYSTEM_TENANT}/{name}" for name in ("subject", "message_id", "token"))
"""The gateway's own keys. They live as long as its data: without the first no opt-out is found again."""

LINEAGE: Final = f"{SYSTEM_TENANT}/lineage"
"""Where the ring keeps which database it belongs to: wrapped like a key, and none. It is in no backup of the ring."""

LONGEST_CACHE_SECONDS: Final = 60.0
LONGEST_NAME: Final = 200  # file systems end at 255 bytes
PLAIN: Final = re.compile(rb"[a-z0-9_-]")


def seconds_since_boot() -> float:
    """A clock that goes on while the machine sleeps, where there is one: a key's minute is over when it wakes."""
    return time.clock_gettime(_CLOCK)


_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """A key, and until when (on the ring's clock) what was made from it may be kept."""

    secret: Secret
    until: float


class KeyRing:
    """Makes, finds and destroys keys. Several processes may share one place: they agree on every key.

    Keys are kept in memory for a minute at most, counted from before they were read: a destroyed one opens nothing a minute later.
    ``make_own``: whether the gateway's own keys are made when they are absent. Once something was written with them it must not be:
    a new one would find no opt-out, and take every message for a new one.
    """

    def __init__(
        self,
        place: KeyPlace,
        masters: MasterKeys,
        *,
        make_own: bool = True,
        monotonic: Callable[[], float] = seconds_since_boot,
        cache_seconds: float = LONGEST_CACHE_SECONDS,
    ) -> None:
        if not 0 <= cache_seconds <= LONGEST_CACHE_SECONDS:
            raise ValueError("keys are cached for 0 to 60 seconds")
        self.place = place
        self.masters = masters
        self._make_own = make_own
        self._monotonic = monotonic
        self._cache_seconds = cache_seconds
        self._cache: dict[str, LoadedKey] = {}
        self._subject: str | None = None
        self._made_from: list[Callable[[float], object]] = []
        self._sweep_at = monotonic() + cache_seconds

    def now(self) -> float:
        """The ring's clock, in seconds: what :attr:`LoadedKey.until` is measured on."""
        return self._monotonic()

    def key(self, tenant: str, data_class: DataClass, day: date, *, create: bool = True) -> Secret:
        """The 32-byte key of a tenant, class and day.

        With ``create`` (for sealing) it is made durably when it is absent, unless it was destroyed; without (for opening), KeyMissing is raised.
        """
        return self.loaded(tenant, data_class, day, create=create).secret

    def loaded(self, tenant: str, data_class: DataClass, day: date, *, create: bool) -> LoadedKey:
        """As :meth:`key`, with the time until which it may be kept."""
        return self._load(day_name(tenant, data_class, day), create=create)

    def subject_key(self) -> Secret:
        """The key of ``subject_id``. Without it no opt-out is found again: see :meth:`fingerprint`."""
        key = self._own(0)
        self._subject = self._subject or fingerprint_of(key)
        return key

    def later_subject_key(self, version: int, *, create: bool = False) -> Secret:
        """A version from 2 on of the key of ``subject_id``: with it ids are made from those of the version before.

        It is made only by who adds it. Raises KeyMissing.
        """
        return self._load(later_subject_name(version), create=create).secret

    def message_id_key(self) -> Secret:
        """The key of the hashes of message ids and contents."""
        return self._own(1)

    def token_key(self) -> Secret:
        """The key of the attempt tokens in callback URLs."""
        return self._own(2)

    def fingerprint(self) -> str:
        """16 hex digits that tell this ring's subject key from any other, and tell nothing of the key itself.

        The store keeps it: a start with a new or foreign ring, in which no stored opt-out would be found, can then be refused.
        """
        return fingerprint_of(self.subject_key())

    def destroy(self, tenant: str, data_class: DataClass, day: date) -> bool:
        """Destroy a key durably, for good: what was sealed with it is unreadable, at the latest when caches end, and it is never made again.

        False when it was not there. To be repeated after a crash.
        """
        name = day_name(tenant, data_class, day)
        self._cache.pop(name, None)
        done = self.place.destroy(name)
        self._cache.pop(name, None)  # it may have been asked for meanwhile, by another thread
        return done

    def check(self) -> None:
        """Whether keys can be read now, and are the ones in use. Raises a GatewayError that says which key, file or setting is wrong."""
        self.masters.reload()
        name = SYSTEM_KEYS[0]
        kept = self.place.read(name)
        if kept is None:
            raise KeyMissing(f"{self.place.shown} holds no key {name}")
        if fingerprint_of(Secret(self._unwrapped(name, kept))) != (self._subject or self.fingerprint()):
            raise KeyUnreadable(f"{self.place.shown}: the key {name} was exchanged")

    def lineage(self) -> bytes | None:
        """What :meth:`keep_lineage` kept last. Raises KeyRingAway, KeyUnreadable."""
        kept = self.place.read(LINEAGE)
        return None if kept is None else self._unwrapped(LINEAGE, kept)

    def keep_lineage(self, before: bytes | None, after: bytes) -> bool:
        """Keep 32 bytes beside the keys, if ``before`` is what is kept; False when it is not."""
        kept, wrapped = self.place.read(LINEAGE), self.masters.wrap(LINEAGE, after)
        if kept is None:
            return before is None and self.place.create(LINEAGE, wrapped) == wrapped
        return before == self._unwrapped(LINEAGE, kept) and self.place.replace(LINEAGE, kept, wrapped)

    def also_forget(self, forget: Callable[[float], object]) -> None:
        """Have somebody called, with the ring's time, who keeps what was made from keys: it is to drop what may not be kept any more."""
        self._made_from.append(forget)

    def forget_expired(self) -> None:
        """Drop the keys whose time in memory is over. Runs by itself whenever keys are asked for."""
        now = self._monotonic()
        for forget in self._made_from:
            forget(now)
        self._cache = {name: key for name, key in self._cache.items() if key.until > now}
        self._sweep_at = now + self._cache_seconds

    def _own(self, number: int) -> Secret:
        return self._load(SYSTEM_KEYS[number], create=self._make_own).secret

    def _load(self, name: str, *, create: bool) -> LoadedKey:
        now = self._monotonic()
        if now >= self._sweep_at:
            self.forget_expired()
        cached = self._cache.get(name)
        if cached is not None and cached.until > now:
            return cached
        kept = self.place.read(name, durable=create)
        if kept is None and create:
            kept = self.place.create(name, self.masters.wrap(name, secrets.token_bytes(KEY_BYTES)))
        if kept is None:
            raise KeyMissing(
                f"{self.place.shown} holds no key {name}: it was never made, or is not in the backup that was restored"
            )
        loaded = self._cache[name] = LoadedKey(Secret(self._unwrapped(name, kept)), now + self._cache_seconds)
        return loaded

    def _unwrapped(self, name: str, kept: bytes) -> bytes:
        try:
            return self.masters.unwrap(name, kept)
        except KeyUnreadable as fault:
            raise KeyUnreadable(f"{self.place.shown}: {fault}") from None


def fingerprint_of(subject_key: Secret) -> str:
    """As :meth:`KeyRing.fingerprint`, of a key that is in no ring yet."""
    return hmac.digest(subject_key.reveal(), b"gateway key ring fingerprint", "sha256")[:8].hex()


def later_subject_name(version: int) -> str:
    """What a version from 2 on of the key of ``subject_id`` is called."""
    if version < 2:
        raise ValueError("the first version is not kept by its number")
    return f"{SYSTEM_KEYS[0]}-{version}"


def day_name(tenant: str, data_class: DataClass, day: date) -> str:
    """What the key of a tenant, class and day is called."""
    return f"{safe_name(tenant)}/{data_class}/{day.isoformat()}"


def safe_name(tenant: str) -> str:
    """A tenant's name as a file name: what is not a-z, 0-9, _ or - becomes %XX, so no name leaves the ring or meets another's."""
    raw = tenant.encode("utf-8", errors="surrogatepass")
    name = "".join(chr(byte) if PLAIN.match(bytes([byte])) else f"%{byte:02x}" for byte in raw)
    if not 0 < len(name) <= LONGEST_NAME:
        raise GatewayError("key ring: a tenant's name is empty or too long")
    return name
