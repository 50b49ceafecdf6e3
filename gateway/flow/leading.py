"""Work that one process at a time does: it holds a name for a while, and another takes it once that is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.flow.fuse import clock

__all__ = ["Leaders", "Leading"]


class Leaders(Protocol):
    """Where names are held."""

    async def hold(self, name: str, holder: str, seconds: float) -> bool:
        """Take or keep a name; False while another holds it."""
        ...

    async def release(self, name: str, holder: str) -> None:
        """Let another have it at once."""
        ...


class Leading:
    """One name, for one holder. A holder that freezes past its time is ended by the fuse before it can go on."""

    def __init__(
        self, leaders: Leaders, name: str, holder: str, *, seconds: float = 6.0, now: Callable[[], float] = clock
    ) -> None:
        self._leaders = leaders
        self.name = name
        self.holder = holder
        self._seconds = seconds
        self._now = now
        self._until = 0.0
        self._asked = -1e9

    @property
    def held(self) -> bool:
        """Whether the name was ours at the last look and still is for a moment."""
        return self._now() < self._until

    @property
    def left(self) -> float:
        """Seconds for which the name is surely ours; what must not outlast it ends by then."""
        return max(0.0, self._until - self._now())

    async def hold(self) -> bool:
        """Whether the name is ours, asking the store about once a second. Raises StoreUnavailable."""
        now = self._now()
        if now - self._asked >= (1.0 if self.held else 0.4):
            self._asked = now
            self._until = now + self._seconds / 2 if await self._leaders.hold(self.name, self.holder, self._seconds) else 0.0
        return self.held

    async def confirm(self) -> bool:
        """The same, and the store is asked now."""
        self._asked = -1e9
        return await self.hold()

    async def release(self) -> None:
        """Give the name up, at an orderly end."""
        if self.held:
            self._until = 0.0
            await self._leaders.release(self.name, self.holder)
