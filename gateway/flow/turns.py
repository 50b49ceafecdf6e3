"""Whose turn it is: long work lets the event loop turn in between, and a loop that has nothing to do rests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Final, TypeVar

__all__ = ["in_turns", "rest"]

_MOST: Final = 20  # items before the loop turns

T = TypeVar("T")


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, the event loop turning once after every twenty: a batch of hundreds must not hold up a request that could begin."""
    for place, item in enumerate(items, start=1):
        yield item
        if place % _MOST == 0:
            await asyncio.sleep(0)


async def rest(until: asyncio.Event, seconds: float) -> None:
    """Wait until it is set, so many seconds at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()
