"""The breaker of provider accounts: one that does not answer is not asked for a while, then by one request at a time.

Each worker judges by its own requests; what it finds is shared through PostgreSQL. An open breaker is a hold like any other, so that it
costs a claim nothing; a statement is made only when one opens or closes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Refused, Unknown
from gateway.domain.reasons import Reason
from gateway.flow.fuse import clock
from gateway.flow.surviving import survive
from gateway.telemetry import get_logger

__all__ = ["Breaker", "BreakerStore", "verdict"]

log = get_logger("breaker")

Verdict = Literal["well", "ill", "crowded", "nothing"]

_WINDOW: Final = 10.0  # seconds: requests that ended longer ago do not count
_ENOUGH: Final = 20  # requests within the window: of fewer a half says little
# What says something of this process, and nothing of the provider: no slot in time, held up, at its end, or content that cannot be read.
_OUR_OWN: Final = frozenset(
    {"pool", "late", "closing", "bad_request", "lease_too_short", "content_unreadable", "unstorable_answer"}
)


class BreakerStore(Protocol):
    """Where the workers share what they know of accounts."""

    async def open_breaker(self, account: str, first: float, most: float, *, tried: bool) -> bool:
        """Hold the account: ``first`` seconds, and twice as long each time that a try failed, ``most`` at most. False: it was open."""
        ...

    async def close_breaker(self, account: str) -> bool:
        """Let the account be used again. False: it was closed, or has been opened again."""
        ...


def verdict(outcome: Outcome) -> Verdict:
    """What an outcome says of its account.

    ``ill``: the provider was not reached, or nobody knows what it did. ``crowded``: it answers that all is too much, which a hold
    mostly mends. A refusal of a message shows that the provider works. What an operator must mend says nothing: it has its own hold.
    """
    match outcome:
        case Accepted() | Refused() | OptedOut():
            return "well"
        case Unknown(why):
            return "nothing" if why in _OUR_OWN else "ill"
        case Later(reason, code, holds=holds):
            if code in _OUR_OWN or reason is Reason.CONFIGURATION:
                return "nothing"
            if reason is Reason.UNREACHABLE:
                return "ill"
            return "crowded" if holds == "account" else "well"


@dataclass(slots=True)
class _Seen:
    """What one account's requests came to: how many failed in a row, and the last ones with their times."""

    row: int = 0
    last: deque[tuple[float, bool]] = field(default_factory=deque)


class Breaker:
    """The chapter. ``failures`` in a row open it, or more than half of the requests of ten seconds, too many at once among them.

    In a row count only those that the provider did not answer: at its limit it refuses as many at once as are under way, and a second's
    hold mends that. A storm of refusals that goes on is more than half.
    """

    def __init__(
        self, store: BreakerStore, *, failures: int, first: float, most: float, now: Callable[[], float] = clock
    ) -> None:
        self._store = store
        self._failures = failures
        self._first = first
        self._most = most
        self._now = now
        self._seen: dict[str, _Seen] = {}

    async def heard(self, account: str, outcomes: Sequence[Outcome], *, tried: bool = False) -> None:
        """What one request came to, all of its texts together. ``tried``: it was the one that an open breaker let through."""
        verdicts = {verdict(outcome) for outcome in outcomes}
        found: Verdict = next((each for each in ("well", "crowded", "ill") if each in verdicts), "nothing")
        if tried:
            await self._after_a_try(account, found)
        elif self._opens(account, found):
            self._seen.pop(account)
            await self._open(account, tried=False)

    def _opens(self, account: str, found: Verdict) -> bool:
        if found == "nothing":
            return False
        seen, now = self._seen.setdefault(account, _Seen()), self._now()
        if found != "crowded":
            seen.row = seen.row + 1 if found == "ill" else 0
        seen.last.append((now, found != "well"))
        while seen.last[0][0] <= now - _WINDOW:
            seen.last.popleft()
        failed = sum(failed for _, failed in seen.last) if found != "well" else 0
        return seen.row >= self._failures or (len(seen.last) >= _ENOUGH and 2 * failed > len(seen.last))

    async def _after_a_try(self, account: str, found: Verdict) -> None:
        if found in ("ill", "crowded"):
            await self._open(account, tried=True)
        elif found == "well":
            self._seen.pop(account, None)
            await survive(self._closed(account), log, "breaker stays open")

    async def _open(self, account: str, *, tried: bool) -> None:
        await survive(self._opened(account, tried=tried), log, "breaker stays closed")

    async def _opened(self, account: str, *, tried: bool) -> None:
        if await self._store.open_breaker(account, self._first, self._most, tried=tried):
            log.error("an account is not used for a while", account=account, again=tried)

    async def _closed(self, account: str) -> None:
        if await self._store.close_breaker(account):
            log.warning("an account is used again", account=account)
