"""RingCentral's rate groups: how many calls a minute, and the silence after one too many.

https://developers.ringcentral.com/guide/basics/rate-limits. Every call belongs to a group, whose limit is of an application and user. After
a 429 every further call of the group begins its penalty anew, so that one who goes on never gets out: nothing is called until it is over.
Other processes call as the same user, and know of no penalty but their own: each one's call would begin that of all anew for ever. So who
meets one 429 after another waits twice as long each time, until some call comes after a silence that is long enough.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from gateway.domain.errors import GatewayError
from gateway.providers.reading import retry_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.providers.http import Answer

__all__ = ["RateGroup", "RateHeld"]

UNNAMED_WAIT: Final = 30.0  # "If Retry-After is not returned, the original request should be retried in 30 seconds or later."
LONGEST_WAIT: Final = 3600.0
LONGEST_GROWN_WAIT: Final = 960.0  # so many processes as penalties of a minute fit into this get out
WINDOW: Final = 60.0


class RateHeld(GatewayError):
    """The group's calls are used up, or it is under its penalty: nothing was called. ``wait`` is in seconds."""

    def __init__(self, wait: float) -> None:
        self.wait = wait
        super().__init__("its rate limit holds calls up")


class RateGroup:
    """What one process knows of one group; ``clock`` is in seconds.

    ``limit`` calls in ``WINDOW`` seconds is what RingCentral gives by default; the answers' headers correct both, and show what
    others use of the same limit.
    """

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._window = WINDOW
        self._clock = clock
        self._begun: deque[float] = deque()
        self._held_until = 0.0
        self._refusals = 0  # in a row, those that came together as one

    def begin(self, keep: int = 0) -> None:
        """Count one call, and leave ``keep`` of the limit to calls that matter more. Raises RateHeld."""
        now = self._clock()
        if now < self._held_until:
            raise RateHeld(self._held_until - now)
        while self._begun and self._begun[0] <= now - self._window:
            self._begun.popleft()
        over = len(self._begun) + 1 - max(1, self._limit - keep)
        if over > 0:
            raise RateHeld(self._begun[over - 1] + self._window - now)
        self._begun.append(now)

    def heed(self, answer: Answer) -> float | None:
        """Learn from an answer's headers. Returns the seconds to wait when it says that there were too many calls."""
        now = self._clock()
        limit, window = _number(answer, "x-rate-limit-limit"), _number(answer, "x-rate-limit-window")
        if limit and window:
            self._limit, self._window = limit, float(window)
        wait = min(asked, LONGEST_WAIT) if (asked := retry_after(answer.headers)) is not None else None
        if answer.status == 429:
            wait = self._grown(UNNAMED_WAIT if wait is None else wait, now)
        elif answer.status != 503:
            wait = None
            if now >= self._held_until:
                self._refusals = 0
            # Used up, and not by us alone: others call as the same user.
            if _number(answer, "x-rate-limit-remaining") == 0 and len(self._begun) < self._limit:
                self._held_until = max(self._held_until, now + self._window)
        if wait is not None:
            self._held_until = max(self._held_until, now + wait)
        return wait

    def _grown(self, wait: float, now: float) -> float:
        """The wait after one more 429: of calls that were under way together the first counts."""
        if now >= self._held_until:
            self._refusals += 1
        return max(wait, min(wait * 2.0 ** min(self._refusals - 1, 20), LONGEST_GROWN_WAIT))


def _number(answer: Answer, name: str) -> int | None:
    said = (answer.headers.get(name) or "").strip()
    return int(said) if said.isascii() and said.isdecimal() and len(said) <= 6 else None
