"""Usage plan groups: so many requests a window, and a penalty that every call renews.

https://developers.ringcentral.com/guide/basics/rate-limits
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil

from gateway.simulator.config import RingCentralAccount
from gateway.simulator.ringcentral.errors import Fault

__all__ = ["BUSY", "Headers", "Rates"]

BUSY = Fault(429, "CMN-301", "Request rate exceeded")

Headers = list[tuple[bytes, bytes]]


class Rates:
    """The requests of one user and application, by group. Without a limit for a group nothing is counted and no header tells."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._calls: dict[str, deque[float]] = {}
        self._penalty_until: dict[str, float] = {}

    def clear(self) -> None:
        """Nothing counted, no penalty."""
        self._calls.clear()
        self._penalty_until.clear()

    def count(self, settings: RingCentralAccount, group: str) -> tuple[Headers, bool]:
        """Count a call: the headers that tell of the group, and whether the call is one too many."""
        limit = settings.rates.get(group)
        if limit is None:
            return [], False
        now = self._clock()
        calls = self._calls.setdefault(group, deque())
        while calls and calls[0] <= now - settings.window_s:
            calls.popleft()
        refused = now < self._penalty_until.get(group, 0) or len(calls) >= limit
        if refused:
            self._penalty_until[group] = now + settings.penalty_s
        else:
            calls.append(now)
        headers = [
            (b"x-rate-limit-group", group.lower().encode()),
            (b"x-rate-limit-limit", b"%d" % limit),
            (b"x-rate-limit-remaining", b"%d" % (0 if refused else limit - len(calls))),
            (b"x-rate-limit-window", b"%d" % ceil(settings.window_s)),
        ]
        if refused and settings.retry_after:
            headers.append((b"retry-after", b"%d" % ceil(settings.penalty_s)))
        return headers, refused
