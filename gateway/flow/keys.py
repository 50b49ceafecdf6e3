"""Keys that end data: where a key ring keeps them, and how a day's key is destroyed so that it stays destroyed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Protocol

from prometheus_client import Gauge

from gateway.domain.errors import GatewayError
from gateway.flow.fuse import clock
from gateway.flow.people import WatchedPeople
from gateway.flow.turns import rest
from gateway.flow.vault import DataClass
from gateway.telemetry import get_logger

__all__ = ["DayKey", "EndedKeys", "KeptKey", "KeyEnding", "KeyPlace", "KeyWatch"]

_LOOK_SECONDS: Final = 5.0

log = get_logger("keys")


@dataclass(frozen=True, slots=True)
class KeptKey:
    """A key as it is kept: wrapped by a master key; None: it was destroyed, and its name is used up."""

    name: str
    wrapped: bytes | None


class KeyPlace(Protocol):
    """Where wrapped keys are kept, by names such as ``acme/content/2026-11-23``. A name is used once: what is destroyed stays so.

    Every method blocks, for a moment, and raises KeyRingAway when the place cannot be reached or read.
    """

    @property
    def shown(self) -> str:
        """What people call it, in messages."""
        ...

    def read(self, name: str, *, durable: bool = False) -> bytes | None:
        """The wrapped key, or None when there is none. ``durable``: what is returned outlives a crash of the machine.

        Raises KeyDestroyed.
        """
        ...

    def create(self, name: str, wrapped: bytes) -> bytes:
        """Keep a key durably unless there is one; returns what is kept: of several who make it at once, one wins. Raises KeyDestroyed."""
        ...

    def replace(self, name: str, old: bytes, new: bytes) -> bool:
        """Exchange a wrapped key for the same one, wrapped anew; False when it is not ``old`` any more."""
        ...

    def destroy(self, name: str) -> bool:
        """Use the name up and remove the key durably; False when there was none. To be repeated after a crash."""
        ...

    def entries(self) -> Iterator[KeptKey]:
        """All that is kept, in the order of the names. What is made meanwhile may be missed."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@dataclass(frozen=True, slots=True)
class DayKey:
    """Whose key it is: a tenant's, for a class of data and a day."""

    tenant: str
    data_class: DataClass
    day: date


class Ring(Protocol):
    """The key ring, as far as it ends keys and is watched."""

    def destroy(self, tenant: str, data_class: DataClass, day: date) -> bool:
        """End a key for good; False when it was not there."""
        ...

    def forget_expired(self) -> None:
        """Drop what was in memory for a minute."""
        ...

    def check(self) -> None:
        """Raises a GatewayError when keys cannot be read now."""
        ...


class EndedKeys(Protocol):
    """The store's note of the keys that were destroyed: it outlives a key ring that is restored from a backup."""

    async def note(self, key: DayKey) -> None:
        """Write down that a key is to be destroyed, before it is."""
        ...

    async def done(self, key: DayKey) -> None:
        """It is destroyed."""
        ...

    async def unfinished(self) -> Sequence[DayKey]:
        """What was noted, and nobody has said to be done."""
        ...


class KeyEnding:
    """Destroys the key of a tenant's class and day: what was sealed with it is unreadable everywhere, in backups too.

    A process that had the key in memory opens with it for at most another minute. The caller has ended, and told, what was not settled
    of that day; nothing is ever sealed for it again.
    """

    def __init__(self, ring: Ring, ended: EndedKeys) -> None:
        self._ring = ring
        self._ended = ended

    async def destroy(self, key: DayKey) -> bool:
        """Destroy a key; False when it was not there. It may be repeated. Raises StoreUnavailable, KeyRingAway."""
        await self._ended.note(key)
        was_there = await asyncio.to_thread(self._ring.destroy, key.tenant, key.data_class, key.day)
        await self._ended.done(key)
        return was_there

    async def finish(self) -> int:
        """Destroy what a crash left between the note and the deed; returns how many."""
        left = await self._ended.unfinished()
        for key in left:
            await self.destroy(key)
        return len(left)


class KeyWatch:
    """Looks every few seconds whether keys can be read, and drops from memory those whose minute is over, also in an idle process."""

    def __init__(
        self, ring: Ring, unreadable_seconds: Gauge, clock: Callable[[], float] = clock, *, people: WatchedPeople | None = None
    ) -> None:
        self._ring = ring
        self._people = people
        self._unreadable_seconds = unreadable_seconds
        self._clock = clock
        self._since: float | None = None
        self._told = ""
        self._stopping = asyncio.Event()

    async def check(self) -> None:
        """Raises a GatewayError that says which key, file or setting is wrong."""
        await asyncio.to_thread(self._ring.check)

    async def once(self) -> None:
        """One look."""
        self._ring.forget_expired()
        await self._look_at_people()
        told = ""
        try:
            await self.check()
        except GatewayError as fault:
            told = str(fault)
        self._since = None if not told else self._since if self._since is not None else self._clock()
        self._unreadable_seconds.set(0 if self._since is None else self._clock() - self._since)
        if told and told != self._told:
            log.error("keys cannot be read", why=told)
        elif self._told and not told:
            log.info("keys can be read again")
        self._told = told

    async def _look_at_people(self) -> None:
        """Read the versions of the key that people are hashed with, so that what rests on them does not wait for a fault."""
        if self._people is None:
            return
        try:
            await self._people.look()
        except GatewayError as fault:
            log.warning("versions of the key that people are hashed with were not read", why=str(fault))

    async def run(self) -> None:
        """Look until :meth:`stop`."""
        if self._people is not None:
            self._people.by_the_clock = True
        while not self._stopping.is_set():
            await self.once()
            await rest(self._stopping, _LOOK_SECONDS)

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
