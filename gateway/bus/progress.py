"""How far one partition has been read, made durable and committed: pure bookkeeping."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

__all__ = ["NEVER", "Progress"]

NEVER: Final = -1
"""Nothing is committed, or it no longer counts."""


@dataclass(slots=True)
class _Span:
    first: int
    next: int
    durable: bool


class Progress:
    """One partition during one assignment.

    ``expected``: the offset to read next. ``durable_to``: every offset before it is durable, so it may be committed. Batches may become
    durable in any order; only those that follow on from the last durable one count. Spans run from one position to the next, so offsets
    that hold no record (transactions, compaction) are no hole.
    """

    def __init__(self, start: int, *, committed: int = NEVER) -> None:
        self.expected = start
        self.durable_to = start
        self.committed = committed
        self._spans: dict[int, _Span] = {}  # by ticket, in order of offsets
        self._tickets = itertools.count()

    @property
    def outstanding(self) -> bool:
        """Whether something was handed out that is neither durable nor given back."""
        return bool(self._spans)

    @property
    def due(self) -> bool:
        """Whether there is something to commit."""
        return self.durable_to != self.committed

    def took(self, next_offset: int) -> int:
        """Records up to ``next_offset`` were handed out: the ticket to name them by."""
        return self._add(next_offset, durable=False)

    def skipped(self, next_offset: int) -> None:
        """There is nothing to hand out up to ``next_offset``."""
        self._add(next_offset, durable=True)
        self._advance()

    def durable(self, ticket: int) -> bool:
        """What was handed out under the ticket is durable. False when it has been given back since."""
        span = self._spans.get(ticket)
        if span is None:
            return False
        span.durable = True
        self._advance()
        return True

    def back_to(self, ticket: int) -> bool:
        """Everything from the ticket on is to be read again. False when that is so already."""
        span = self._spans.get(ticket)
        if span is None:
            return False
        self.expected = span.first
        self._spans = {kept: earlier for kept, earlier in self._spans.items() if kept < ticket}
        return True

    def restart(self, start: int) -> None:
        """Reading goes on elsewhere; what is under way counts no more."""
        self._spans.clear()
        self.expected = self.durable_to = start
        self.committed = NEVER

    def _add(self, next_offset: int, *, durable: bool) -> int:
        ticket = next(self._tickets)
        self._spans[ticket] = _Span(self.expected, next_offset, durable)
        self.expected = next_offset
        return ticket

    def _advance(self) -> None:
        for ticket, span in list(self._spans.items()):
            if not span.durable:
                break
            self.durable_to = span.next
            del self._spans[ticket]
