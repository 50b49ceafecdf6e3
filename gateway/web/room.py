"""How many requests are under way at once: beyond that the web says at once that it is busy, rather than queue and time out."""

from __future__ import annotations

__all__ = ["Room"]


class Room:
    """Counts requests under way, up to ``most``. A quarter is kept free of status callbacks.

    A callback that is turned away is made up for by the provider's list; a STOP that waits behind callbacks is not.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_for_receipts = most - max(1, most // 4)
        self._inside = 0

    @property
    def inside(self) -> int:
        """Requests under way now."""
        return self._inside

    def enter(self, *, receipt: bool = False) -> bool:
        """Whether there is room; who enters must leave."""
        if self._inside >= (self._most_for_receipts if receipt else self._most):
            return False
        self._inside += 1
        return True

    def leave(self) -> None:
        self._inside -= 1
