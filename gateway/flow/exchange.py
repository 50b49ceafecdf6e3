"""The exchange of the key that people are hashed with, as far as it goes by itself: copy what people have said, and see it to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.flow.people import People

__all__ = ["Exchange", "ExchangeStore"]

_BATCH = 500


class ExchangeStore(Protocol):
    """Where the versions stand. Raises StoreUnavailable."""

    async def list(self) -> list[dict[str, object]]: ...

    async def copy(self, version: int, next_id: Callable[[int, bytes], bytes], most: int) -> bool:
        """Copy a page of what people have said to a version; True once all of it is."""
        ...

    async def widen_holds(self, people: People, most: int) -> bool:
        """Have legal holds cover what is kept under all versions; True once all do."""
        ...

    async def copied(self, version: int) -> None:
        """All of it is copied."""
        ...

    async def settle(self) -> bool:
        """End an exchange of which nothing is left in the queue."""
        ...

    async def forget_elders(self, most: int) -> int:
        """Take out of the queue what leads from one version to the other."""
        ...


class Exchange:
    """The chapter: a step of the sweep, by one process at a time; two at once would do each other no harm."""

    def __init__(self, store: ExchangeStore, people: People, next_id: Callable[[int, bytes], bytes]) -> None:
        self._store = store
        self._people = people
        self._next_id = next_id

    async def move(self) -> int:
        """One bounded step; mostly there is nothing to do."""
        await self._people.look()
        keys = self._people.keys
        if keys.newest == 1:
            return 0
        if keys.settled:
            return await self._store.forget_elders(_BATCH)
        if keys.used < keys.newest:
            newest = (await self._store.list())[-1]
            if newest["copied_at"] is None:
                said = await self._store.copy(keys.newest, self._next_id, _BATCH)
                if said and await self._store.widen_holds(self._people, _BATCH):
                    await self._store.copied(keys.newest)
                return _BATCH
            return 0
        return int(await self._store.settle())
