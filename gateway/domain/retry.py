"""How long a message that was surely not accepted waits before it is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["LONGEST_WISH", "BackOff"]

LONGEST_WISH: Final = 3600.0
"""Seconds of a provider's ``Retry-After`` that are heeded at most: a broken one must not hold a sender up for years."""


@dataclass(frozen=True, slots=True)
class BackOff:
    """Exponential back-off with full jitter; ``first`` and ``most`` are in seconds."""

    first: float = 1.0
    most: float = 300.0

    def delay(self, tries: int, chance: float, asked: float | None = None) -> float:
        """Seconds to wait after ``tries`` refusals (1 or more), given a random ``chance`` in [0, 1) and the provider's own wish.

        At least half of the bound, so that a crowd of refused messages neither returns at once nor all together.
        """
        bound = min(self.most, self.first * 2.0 ** min(tries - 1, 32))
        jittered = bound * (0.5 + chance / 2)
        return jittered if asked is None else max(min(asked, LONGEST_WISH), jittered)
