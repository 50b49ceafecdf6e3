"""What a setting ends and no policy: message ids after their window, and the senders that people are texted by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway.domain.consent import EVERY_TENANT
from gateway.flow.retention import Found, Planned

__all__ = ["Window", "Windows"]

# The sweep ends it every few seconds to a minute; a restart, or another process that takes over, is no fault yet.
_GRACE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Window:
    """A table whose rows are kept for ``kept``: the oldest's time, and a step that deletes at most so many; the ``setting`` that says so."""

    table: str
    setting: str
    kept: timedelta
    oldest: Callable[[], Awaitable[datetime | None]]
    forget: Callable[[int], Awaitable[int]]


class Windows:
    """The place. Its rows are not told apart by tenant: one setting holds for all."""

    name = "windows"

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = windows

    async def plan(self, now: datetime) -> Sequence[Planned]:
        """When the oldest of each goes."""
        planned = []
        for window in self._windows:
            oldest = await window.oldest()
            if oldest is not None:
                how = f"the sweep deletes rows: {window.setting} is over"
                planned.append(Planned(self.name, EVERY_TENANT, window.table, max(oldest + window.kept, now), None, how))
        return planned

    async def run(self, now: datetime, most: int) -> int:  # noqa: ARG002 -- the statements ask the store's clock, which is where now is from
        """Delete what is over, of each in turn."""
        ended = 0
        for window in self._windows:
            if ended < most:
                ended += await window.forget(most - ended)
        return ended

    async def left(self, now: datetime) -> str:  # noqa: ARG002 -- the port's: nothing stands in the way of a step
        """Nothing."""
        return ""

    async def verify(self, now: datetime) -> Sequence[Found]:
        """The oldest of each."""
        found = []
        for window in self._windows:
            oldest, not_before = await window.oldest(), now - window.kept
            well = oldest is None or oldest >= not_before - _GRACE
            why = "" if well else f"{window.table}: {window.setting} is over"
            found.append(Found(self.name, EVERY_TENANT, window.table, oldest, not_before, well, why))
        return found
