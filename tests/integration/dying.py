"""A process that dies after a statement: what it did is done, and nobody hears of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.integration.world import World

__all__ = ["Killed", "dying"]


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def dying(world: World, after: int) -> Iterator[None]:
    """Let this world's database do so many things, then raise :class:`Killed`; what it did last is done."""
    database, calls = world.parts.database, 0
    run = type(database)._run

    async def once(work: Callable[[Any], Awaitable[Any]]) -> Any:
        nonlocal calls
        calls += 1
        result = await run(database, work)
        if calls >= after:
            raise Killed
        return result

    database._run = once  # type: ignore[method-assign] # every way to the database leads through it; taken away again below
    try:
        yield
    finally:
        del database._run
