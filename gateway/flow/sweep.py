"""Sweep: what is done by the clock. It only calls the chapters, one process at a time, each step bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.domain.errors import GatewayError
from gateway.flow.fuse import clock
from gateway.flow.leading import Leading
from gateway.telemetry import get_logger

__all__ = ["Step", "Sweep"]

log = get_logger("sweep")


@dataclass(frozen=True, slots=True)
class Step:
    """A bounded piece of work, done every so many seconds; again at once while it says that it changed something."""

    name: str
    work: Callable[[], Awaitable[int | bool | None]]
    every: float


class Sweep:
    """The chapter. One process at a time holds the name ``sweep``; ``lost`` is called when another has taken it."""

    def __init__(
        self, leading: Leading, steps: Sequence[Step], *, lost: Callable[[], None] = lambda: None, idle: float = 0.25
    ) -> None:
        self._leading = leading
        self._steps = steps
        self._idle = idle
        self._due = {step.name: 0.0 for step in steps}
        self._lost = lost
        self._led = False
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Sweep until :meth:`stop`."""
        while not self._stopping.is_set():
            try:
                if await self._leading.hold():
                    self._led = True
                    await self.once()
                elif self._led:
                    self._led = False
                    self._lost()
            except GatewayError as fault:
                log.warning("sweep waits", why=str(fault))
            try:
                async with asyncio.timeout(self._idle):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    async def once(self) -> None:
        """Every step that is due. A step that fails does not keep the others from their work."""
        for step in self._steps:
            if clock() < self._due[step.name]:
                continue
            try:
                await step.work()
            except GatewayError as fault:
                log.warning("sweep step waits", step=step.name, why=str(fault))
            self._due[step.name] = clock() + step.every

    def stop(self) -> None:
        """Begin no further step."""
        self._stopping.set()
