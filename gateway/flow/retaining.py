"""Retention by the clock: each place ends what is due, and looks every hour whether anything is there that may not be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from gateway.domain.errors import GatewayError, Unavailable
from gateway.flow.fuse import clock
from gateway.flow.leading import Leading
from gateway.flow.retention import Found, Place
from gateway.telemetry import Metrics, get_logger

__all__ = ["STEP_MOST", "Retaining", "described", "end_all", "look_at"]

STEP_MOST: Final = 500  # things that one step ends: a second or so in PostgreSQL, a minute or so at a provider
_END_SECONDS: Final = 120.0  # what takes longer is cut off, and begun again by the next step
_LOOK_SECONDS: Final = 1800.0

log = get_logger("retention")

T = TypeVar("T")


async def look_at(place: Place, now: datetime) -> Sequence[Found]:
    """What is found in a place. That it could not be looked at, for whatever fault, is a finding too, and not well: nobody knows what is there."""
    try:
        return await place.verify(now)
    except Exception as fault:  # noqa: BLE001 -- one place's fault, be it ours, must not hide what the others hold
        return [Found(place.name, "*", "*", None, None, well=False, why=f"could not be looked at: {described(fault)}")]


def described(fault: Exception) -> str:
    """Why a place failed, in one line. What the text of a fault that is not ours holds is not known: it may be a number."""
    if isinstance(fault, GatewayError):
        return " ".join(str(fault).split())
    log.error("a place of personal data failed", exc_info=fault)
    return f"a fault of the gateway itself ({type(fault).__name__}), please report it"


async def _at_once() -> None:
    """Nothing stands in the way."""


async def end_all(
    place: Place,
    now: datetime,
    moved: Callable[[int], None] = lambda _: None,
    may: Callable[[], Awaitable[None]] = _at_once,
) -> int:
    """Step by step until one ends nothing; ``moved`` is called with what each step ended, and ``may`` before each: it raises to stop.

    Raises a GatewayError of the place.
    """
    ended = 0
    while True:
        await may()
        step = await place.run(now, STEP_MOST)
        ended += step
        moved(step)
        if not step:
            return ended


class Retaining:
    """One place by the clock. It holds its own name: a place that does not answer keeps no other waiting."""

    def __init__(
        self,
        place: Place,
        leading: Leading,
        now: Callable[[], Awaitable[datetime]],
        metrics: Metrics,
        *,
        elapsed: Callable[[], float] = clock,
    ) -> None:
        self._place = place
        self._leading = leading
        self._now = now
        self._elapsed = elapsed
        labels = {"place": place.name}
        self._ended = metrics.retention_ended_total.labels(**labels)
        self._metrics = metrics

    async def end(self) -> int:
        """One bounded step of what is due."""
        ended = await self._holding(self._place.run(await self._now(), STEP_MOST), _END_SECONDS)
        if ended:
            self._ended.inc(ended)
            log.info("ended what was due", place=self._place.name, count=ended)
        return ended

    async def look(self) -> None:
        """Verify the place, and show what is not well in the metrics and the log."""
        name = self._place.name
        try:
            found = await self._holding(look_at(self._place, await self._now()), _LOOK_SECONDS)
        except Exception:
            self._show(1, 0.0)  # whatever it was: nobody knows what is there
            raise
        unwell = [one for one in found if not one.well]
        self._show(len(unwell), max(map(_excess, unwell), default=0.0))
        for one in unwell:
            log.error("what should be gone is there", place=name, tenant=one.tenant, data_class=one.data_class, why=one.why)

    def _show(self, unwell: int, excess: float) -> None:
        self._metrics.retention_overdue.labels(place=self._place.name).set(unwell)
        self._metrics.retention_oldest_excess_seconds.labels(place=self._place.name).set(excess)

    def forget(self) -> None:
        """Another process looks now: what this one saw last is not shown any more."""
        self._metrics.forget_retention(self._place.name)

    async def _holding(self, work: Coroutine[Any, Any, T], within: float) -> T:
        """Keep the name while it lasts, else another process begins the same beside us. Cut off, it is begun again: no harm is done."""
        task = asyncio.create_task(work)
        ends = self._elapsed() + within
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=1)
                if task.done():
                    break
                if self._elapsed() > ends:
                    raise Unavailable(f"{self._place.name} took longer than {within:g} s")
                if not await self._leading.hold():
                    raise Unavailable(f"another process sees to {self._place.name} now")
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _excess(found: Found) -> float:
    """For how many seconds the oldest has been there too long, as far as that is known."""
    if found.oldest is None or found.not_before is None:
        return 0.0
    return max(0.0, (found.not_before - found.oldest).total_seconds())
