"""How much may start now: shares of an account's requests, given out so that all workers together never exceed its limit."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from gateway.flow.fuse import clock
from gateway.telemetry import Metrics

__all__ = ["Pacing", "ShareStore"]

_RENEW_WITHIN: Final = 5.0  # seconds: a worker that has not renewed its share for so long begins nothing more

_BUSY: Final = 16  # requests under way

_AHEAD: Final = 0.02  # seconds: a mark takes no longer, as a rule
_MEMORY: Final = 0.1  # seconds after which a slot that fell free counts for a third in the rate at which they do


class ShareStore(Protocol):
    """Where the workers share an account's limit."""

    async def share(self, account: str, limit: int, in_flight: int, seconds: float) -> int:
        """This worker's fair part of ``limit`` for ``seconds``; the live parts of all workers never add up to more."""
        ...

    async def give_back(self) -> None:
        """Give up every share, at an orderly end."""
        ...


class Pacing:
    """This worker's room, account by account. ``limits`` are requests at once over all workers; ``request_seconds`` is T.

    ``batches`` says how many messages one request of an account carries at most, where that is more than one.
    """

    def __init__(
        self,
        store: ShareStore,
        limits: Mapping[str, int],
        request_seconds: float,
        metrics: Metrics,
        *,
        batches: Mapping[str, int] | None = None,
        now: Callable[[], float] = clock,
    ) -> None:
        self._batches = batches or {}
        self._store = store
        self._limits = limits
        self._request_seconds = request_seconds
        self._gauges = {account: metrics.requests_in_flight.labels(account=account) for account in limits}
        self._now = now
        self._rate = dict.fromkeys(limits, 0.0)
        self._rated_at = dict.fromkeys(limits, 0.0)
        self._share = dict.fromkeys(limits, 0)
        self._share_until = dict.fromkeys(limits, 0.0)
        self.in_flight = dict.fromkeys(limits, 0)
        self.freed = asyncio.Event()

    async def renew(self) -> None:
        """Ask for the shares of the next seconds. Call about once a second; without it the room closes by itself."""
        for account, limit in self._limits.items():
            asked_at = self._now()
            seconds = self._request_seconds + _RENEW_WITHIN
            # What the answer takes away may be given to others at once: until it is here, no more may begin than it will know of.
            self._share[account] = min(self._share[account], self.in_flight[account])
            self._share[account] = await self._store.share(account, limit, self.in_flight[account], seconds)
            # a request that begins now must have ended before others may be given this share
            self._share_until[account] = asked_at + _RENEW_WITHIN
        self.freed.set()

    def free(self, account: str) -> int:
        """How many requests may begin now."""
        if self._now() >= self._share_until[account]:
            return 0
        return max(0, self._share[account] - self.in_flight[account])

    def batch(self, account: str) -> int:
        """How many messages one request carries at most."""
        return self._batches.get(account, 1)

    def soon(self, account: str) -> int:
        """How many slots will fall free in the time of a mark, by how fast they lately did; a quarter of the share at most.

        Nothing when requests hang: what was marked then would wait for a slot, and a STOP for it.
        """
        return min(self._share[account] // 4, int(self._rate_now(account) * _AHEAD))

    def _rate_now(self, account: str) -> float:
        """Slots that fall free a second, each remembered for a moment."""
        return self._rate[account] * math.exp((self._rated_at[account] - self._now()) / _MEMORY)

    def room(self, waiting: Mapping[str, int]) -> dict[str, int]:
        """How many messages to claim, given those that are claimed and ``waiting`` for a slot.

        Half of the share is claimed ahead, so that a slot that falls free finds a message; unmarked, they cost a STOP nothing. While
        some are waiting, a claim waits until it is worth a transaction: a quarter of the share.
        """
        rooms = {}
        for account, share in self._share.items():
            batch = self.batch(account)
            room = (self.free(account) + share // 2) * batch - waiting.get(account, 0)
            worth = max(1, share * batch // 4) if waiting.get(account, 0) else 1
            if room >= worth and self._now() < self._share_until[account]:
                rooms[account] = room
        return rooms

    @property
    def busy(self) -> bool:
        """Whether enough is under way for more slots to fall free in a moment."""
        return sum(self.in_flight.values()) >= _BUSY

    def take(self, account: str, count: int) -> None:
        """Requests are about to begin."""
        self.in_flight[account] += count
        self._gauges[account].set(self.in_flight[account])

    def release(self, account: str) -> None:
        """A request has ended, or did not begin after all."""
        self.in_flight[account] -= 1
        self._rate[account] = self._rate_now(account) + 1 / _MEMORY
        self._rated_at[account] = self._now()
        self._gauges[account].set(self.in_flight[account])
        self.freed.set()

    async def give_back(self) -> None:
        """Let other workers have the shares at once."""
        self._share = dict.fromkeys(self._limits, 0)
        await self._store.give_back()
