"""Sweep: what is done by the clock. It only calls the chapters, one process at a time, each step bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.domain.errors import GatewayError
from gateway.flow.fuse import clock
from gateway.flow.leading import Leading
from gateway.flow.turns import rest
from gateway.telemetry import get_logger

__all__ = ["Step", "Sweep"]

_LONGEST_STEP: Final = 1.0  # seconds that one step may keep the others waiting

log = get_logger("sweep")


@dataclass(frozen=True, slots=True)
class Step:
    """A bounded piece of work, begun every so many seconds; again at once, for a while, when it did ``most`` and there may be more."""

    name: str
    work: Callable[[], Awaitable[int | None]]
    every: float
    most: int | None = None
    while_held: bool = False
    """Whether it is done in a database that may lack what was written to it, too."""


class Sweep:
    """The chapter. One process at a time holds the name; ``lost`` is called when another has taken it."""

    def __init__(
        self,
        leading: Leading,
        steps: Sequence[Step],
        *,
        lost: Callable[[], None] = lambda: None,
        idle: float = 0.25,
        held: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = clock,
    ) -> None:
        self._leading = leading
        self._steps = steps
        self._idle = idle
        self._held = held
        self._now = now
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
            await rest(self._stopping, self._idle)

    async def once(self) -> None:
        """Every step that is due. A step that fails does not keep the others from their work."""
        for step in self._steps:
            if self._now() < self._due[step.name] or (self._held() and not step.while_held):
                continue
            began = self._now()
            try:
                await self._do(step)
            except GatewayError as fault:
                log.warning("sweep step waits", step=step.name, why=str(fault))
            except Exception:  # one step that fails must not end rescue, STOPs and all the rest
                log.exception("sweep step failed", step=step.name)
            self._due[step.name] = began + step.every

    async def _do(self, step: Step) -> None:
        ends = self._now() + _LONGEST_STEP
        while True:
            done = await step.work()
            if step.most is None or done is None or done < step.most or self._now() >= ends:
                return

    def stop(self) -> None:
        """Begin no further step."""
        self._stopping.set()
