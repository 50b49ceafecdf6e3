"""How full the queue is, what operators hold, and which accounts are ill: asked once a second for all the topics that a process reads."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from gateway.domain.errors import GatewayError
from gateway.domain.pauses import Pause
from gateway.domain.routing import Ill
from gateway.flow.fuse import clock
from gateway.telemetry import Metrics

__all__ = ["Level"]

_EVERY: Final = 1.0  # seconds


class Waiting(Protocol):
    """Where messages wait."""

    async def pauses(self) -> frozenset[Pause]:
        """What operators hold."""
        ...

    async def ill(self) -> Ill:
        """Which accounts and senders should not be chosen."""
        ...

    async def waiting(self, most: int) -> int:
        """How many messages could be sent now and are not; counting stops at ``most``."""
        ...


class Level:
    """``high`` and ``low`` are messages waiting at which reading stops and goes on: dispatch sets the pace."""

    def __init__(self, store: Waiting, metrics: Metrics, *, high: int = 50_000, low: int = 40_000) -> None:
        self._store = store
        self._metrics = metrics
        self._high = high
        self._low = low
        self._looked = 0.0
        self._looking = asyncio.Lock()
        self.full = False
        """Whether nothing more is to be read."""
        self.pauses: frozenset[Pause] = frozenset()
        """What operators held at the last look."""
        self.ill: Ill = frozenset()
        """Which accounts and senders should not be chosen."""

    async def look(self) -> None:
        """Look, if the last time is a second ago. While PostgreSQL is away all stays as it was."""
        async with self._looking:
            if clock() - self._looked < _EVERY:
                return
            self._looked = clock()
            try:
                self.pauses = await self._store.pauses()
                self.ill = await self._store.ill()
                waiting = await self._store.waiting(self._high)
            except GatewayError:
                return
            self.full = waiting > self._low if self.full else waiting >= self._high
            self._metrics.intake_paused.set(self.full)
