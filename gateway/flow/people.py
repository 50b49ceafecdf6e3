"""People: the ids that one person has under the versions of the key that people are hashed with.

The first id, the one under version 1, names a person in the flow: from it the later ones are made, each a keyed hash of the one before,
without the number. What a person says is written under all of them; a message is kept under the one in use alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, Protocol, TypeVar

from gateway.domain.errors import StoreUnavailable, SubjectKeysChanged
from gateway.domain.subject_keys import SubjectKeys
from gateway.flow.fuse import clock

__all__ = ["KNOWN_FOR", "EveryId", "FirstKey", "People", "WatchedPeople", "with_people"]

KNOWN_FOR: Final = 60.0
"""Seconds for which what was read of the versions counts, in a process that reads them by the clock."""

_TRIES: Final = 4

T = TypeVar("T")


class People(Protocol):
    """The ids of people, as far as this process knows the versions."""

    @property
    def keys(self) -> SubjectKeys:
        """The versions, as they were read last."""
        ...

    async def look(self) -> None:
        """Read them again. Raises StoreUnavailable, or what the key ring raises."""
        ...

    def line(self, first: bytes) -> tuple[bytes, ...]:
        """A person's ids under all versions, from the first on."""
        ...

    def kept_under(self, first: bytes) -> tuple[bytes, bytes | None]:
        """The id that something new of the person is kept under; and, while an exchange is open, the one under the version before."""
        ...


class FirstKey:
    """Where the key was never exchanged: a person has one id."""

    keys = SubjectKeys()

    async def look(self) -> None:
        """There is nothing to read."""

    def line(self, first: bytes) -> tuple[bytes, ...]:
        """The one id."""
        return (first,)

    def kept_under(self, first: bytes) -> tuple[bytes, None]:
        """The one id."""
        return first, None


class Hashes(Protocol):
    """Keyed hashes under the versions that are known."""

    def know(self, fingerprints: Mapping[int, str]) -> None:
        """Load the versions from 2 on from the key ring, as many as are named here. It blocks; raises what the key ring raises."""
        ...

    def line(self, first: bytes) -> tuple[bytes, ...]: ...


class Store(Protocol):
    """Where it stands which versions there are."""

    async def now(self) -> tuple[SubjectKeys, Mapping[int, str]]:
        """The versions, and the fingerprints of those from 2 on. Raises StoreUnavailable."""
        ...


class WatchedPeople:
    """As the store and the key ring have them. Once somebody looks by the clock, ids are given only while that goes on."""

    def __init__(self, store: Store, hashes: Hashes, *, now: Callable[[], float] = clock) -> None:
        self._store = store
        self._hashes = hashes
        self._now = now
        self._looked_at = now()
        self._looking = asyncio.Lock()
        self.by_the_clock = False
        self.keys = SubjectKeys()

    async def look(self) -> None:
        """Read the versions, and load those that are new. One at a time: nobody's older reading comes after a newer one."""
        async with self._looking:
            began = self._now()
            keys, fingerprints = await self._store.now()
            if keys.newest != self.keys.newest:
                await asyncio.to_thread(self._hashes.know, fingerprints)
            self.keys = keys
            self._looked_at = began

    def line(self, first: bytes) -> tuple[bytes, ...]:
        """A person's ids under the versions of :attr:`keys`, and no others, also while new ones are being loaded.

        Raises StoreUnavailable when the versions were not read for a minute: there may be one more.
        """
        if self.by_the_clock and self._now() - self._looked_at > KNOWN_FOR:
            raise StoreUnavailable("the versions of the key that people are hashed with were not read for a minute")
        line = self._hashes.line(first)[: self.keys.newest]
        if len(line) < self.keys.newest:
            raise SubjectKeysChanged("the versions of the key that people are hashed with are being read")
        return line

    def kept_under(self, first: bytes) -> tuple[bytes, bytes | None]:
        """The id in use."""
        line, keys = self.line(first), self.keys
        moves = keys.used == keys.newest and not keys.settled
        return line[keys.used - 1], line[keys.used - 2] if moves else None


class EveryId:
    """People who are listed by their first ids, found by any of theirs."""

    def __init__(self, firsts: Iterable[bytes], people: People) -> None:
        self._firsts = tuple(firsts)
        self._people = people
        self._of: SubjectKeys | None = None
        self._ids: frozenset[bytes] = frozenset()

    def __contains__(self, subject_id: object) -> bool:
        """Whether it is an id of somebody who is listed."""
        if self._of != self._people.keys:
            self._ids = frozenset(one for first in self._firsts for one in self._people.line(first))
            self._of = self._people.keys
        return subject_id in self._ids


async def with_people(people: People, work: Callable[[], Awaitable[T]]) -> T:
    """Do what rests on the versions, again after each change of them that it meets."""
    for _ in range(_TRIES):
        try:
            return await work()
        except SubjectKeysChanged:
            await people.look()
    return await work()
