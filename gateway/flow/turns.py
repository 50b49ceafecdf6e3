"""Long work in turns: the event loop serves its requests in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

__all__ = ["in_turns"]

T = TypeVar("T")


async def in_turns(items: Iterable[T], most: int = 20) -> AsyncIterator[T]:
    """The items, the event loop turning once after every ``most``: a batch of hundreds must not hold up a request that could begin."""
    for place, item in enumerate(items, start=1):
        yield item
        if place % most == 0:
            await asyncio.sleep(0)
