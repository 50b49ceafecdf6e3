"""How long is long: seconds in which the machine gave what was asked of it, and nothing that is waited for was being hurt.

A limit that bears a busy machine by being generous hides a hang on a quiet one. So a limit here is what somebody would bear on a quiet
machine, and the seconds are counted by what was measured meanwhile: one in which a process got a fifth of what it asked for is a fifth.
They are counted anew when something was hurt: "within four seconds of PostgreSQL being back".
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

__all__ = ["SERVERS", "Calm", "Hurt", "measuring"]

T = TypeVar("T")

Hurt = Literal["postgres", "broker", "process", "sweep"]
"""What is being hurt: a server with the lines to it, one of the gateway's processes, its sweep. Of a process, until it is gone; of the
sweep, which is one alone, until another is up."""

SERVERS: Final = frozenset[Hurt]({"postgres", "broker"})

_WORK: Final = 0.010
_EVERY: Final = 0.25
#: A process that asks for 10 ms of a processor four times a second, and says how many times as long it took to get them.
_MEASURE: Final = f"""
import time
due = time.monotonic()
while True:
    began = time.thread_time()
    while time.thread_time() - began < {_WORK}:
        pass
    print(time.time(), (time.monotonic() - due) / {_WORK}, flush=True)
    due = time.monotonic() + {_EVERY}
    time.sleep({_EVERY})
"""


@dataclass(slots=True)
class _Hurting:
    what: Hurt
    begins: float
    ends: float = math.inf


class Calm:
    """What was hurt when, and what the machine gave. Moments are seconds of the Unix epoch, as the carrier and PostgreSQL tell them."""

    def __init__(self) -> None:
        self._hurts: list[_Hurting] = []
        self._moments: list[float] = []
        self._given: list[float] = []  # quiet seconds up to each moment
        self._share = 1.0
        self.slowness: list[float] = []
        """How many times as long as on a quiet machine it took, each time that was measured."""
        self.waited: dict[str, list[float]] = {}
        """What was waited for by :meth:`until`, and the longest stretch of each time."""

    def measured(self, at: float, slowness: float) -> None:
        """The machine took so many times as long as a quiet one at this moment; what lies before it is counted by it."""
        self.slowness.append(slowness)
        self._share = 1 / max(1.0, slowness)
        before = (self._moments[-1], self._given[-1]) if self._moments else (at, 0.0)
        if at >= before[0]:
            self._moments.append(at)
            self._given.append(before[1] + (at - before[0]) * self._share)

    @contextmanager
    def hurting(self, *what: Hurt) -> Iterator[None]:
        """These are being hurt while the context lasts."""
        began = [_Hurting(one, time.time()) for one in what]
        self._hurts += began
        try:
            yield
        finally:
            for one in began:
                one.ends = time.time()

    def hurt(self, what: Hurt, begins: float, ends: float) -> None:
        """It was hurt from here to there."""
        self._hurts.append(_Hurting(what, begins, ends))

    def seconds(self, begins: float, ends: float) -> float:
        """The quiet seconds between two moments."""
        return max(0.0, self._given_at(ends) - self._given_at(begins))

    def longest(self, begins: float, ends: float, without: Collection[Hurt] = SERVERS) -> float:
        """The quiet seconds of the longest stretch between two moments in which none of these was being hurt."""
        stretches, at = [0.0], begins
        for one in sorted((one for one in self._hurts if one.what in without), key=lambda one: one.begins):
            if one.ends > at and one.begins < ends:
                stretches.append(self.seconds(at, one.begins))
                at = one.ends
        return max(*stretches, self.seconds(at, ends) if at < ends else 0.0)

    async def until(
        self,
        condition: Callable[[], Awaitable[T | None]],
        limit: float,
        what: str,
        *,
        kind: str,
        without: Collection[Hurt] = SERVERS,
        every: float = 0.1,
    ) -> T:
        """The first true answer of ``condition``; fails when a stretch without hurt was longer than ``limit`` quiet seconds.

        ``kind`` is what such a wait is called in :attr:`waited`.
        """
        began = time.time()
        while True:
            value = await condition()
            longest = self.longest(began, time.time(), without)
            if value:
                self.waited.setdefault(kind, []).append(longest)
                return value
            if longest > limit:
                raise AssertionError(f"not within {limit:g} quiet seconds, {time.time() - began:.0f} s on this machine: {what}")
            await asyncio.sleep(every)

    def _given_at(self, at: float) -> float:
        """Quiet seconds up to a moment: between two that were measured in proportion, outside as at the nearest."""
        if not self._moments:
            return at
        place = bisect.bisect_left(self._moments, at)
        if place == len(self._moments):
            return self._given[-1] + (at - self._moments[-1]) * self._share
        if place == 0:
            return self._given[0] - (self._moments[0] - at)
        (before, given), (after, then) = ((self._moments[one], self._given[one]) for one in (place - 1, place))
        return given + (then - given) * (at - before) / (after - before)


@asynccontextmanager
async def measuring() -> AsyncIterator[Calm]:
    """Measure what the machine gives as long as the context lasts."""
    calm = Calm()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _MEASURE, stdout=asyncio.subprocess.PIPE)

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            at, slowness = map(float, line.split())
            calm.measured(at, slowness)

    reading = asyncio.create_task(read())
    try:
        yield calm
    finally:
        reading.cancel()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.gather(reading, return_exceptions=True)
        await process.wait()
