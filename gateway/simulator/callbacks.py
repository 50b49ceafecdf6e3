"""What is told of messages: when each callback is due, and a bounded number of them under way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from gateway.simulator.book import Book
from gateway.simulator.config import CallbackMode
from gateway.simulator.plan import Step
from gateway.simulator.records import Message, Posted

__all__ = ["Callbacks", "Tell"]


#: Tells of a message's step, once; ``forged``: without what proves who tells. What comes back says how it ended, once a webhook.
Tell = Callable[[Message, Step, bool], Awaitable[Iterable[Posted]]]


class Callbacks:
    """Tells of accepted messages, each step at its time, by whatever a provider posts for it."""

    def __init__(self, book: Book, *, at_once: int, waiting_limit: int) -> None:
        self._book = book
        self._at_once = at_once
        self._limit = waiting_limit
        self._due: deque[tuple[Message, int, Tell]] = deque()
        self._timers: set[asyncio.TimerHandle] = set()
        self._senders: set[asyncio.Task[None]] = set()
        self._generation = 0

    @property
    def waiting(self) -> int:
        """How many callbacks are scheduled, due or under way."""
        return len(self._timers) + len(self._due) + len(self._senders)

    def schedule(self, message: Message, mode: CallbackMode, tell: Tell) -> None:
        """Plan all callbacks of a message that has just been accepted."""
        if message.plan is None:
            return
        delay = max(0.0, message.starts_at - self._book.clock())
        for notice in message.plan.notices(mode):
            if self.waiting >= self._limit:
                self._book.counts["callbacks_dropped"] += 1
                continue
            self._at(delay + notice.after, message, notice.step, tell)

    def _at(self, delay: float, message: Message, step: int, tell: Tell) -> None:
        if delay <= 0:
            self._enqueue(message, step, tell)
            return

        def due() -> None:
            self._timers.discard(timer)
            self._enqueue(message, step, tell)

        timer = asyncio.get_running_loop().call_later(delay, due)
        self._timers.add(timer)

    def _enqueue(self, message: Message, step: int, tell: Tell) -> None:
        self._due.append((message, step, tell))
        self._add_sender()

    def _add_sender(self) -> None:
        # A sender ends when nothing is due, so an idle carrier has none.
        if len(self._senders) < self._at_once:
            sender = asyncio.get_running_loop().create_task(self._send(self._generation))
            self._senders.add(sender)
            sender.add_done_callback(self._ended)

    def _ended(self, sender: asyncio.Task[None]) -> None:
        self._senders.discard(sender)
        if self._due and not sender.cancelled():
            self._add_sender()
        self._book.changed()

    async def _send(self, generation: int) -> None:
        while self._due and generation == self._generation:
            message, place, tell = self._due.popleft()
            if message.canceled or message.deleted or message.plan is None:
                continue
            message.reached = max(message.reached, place)
            for posted in await tell(message, message.plan.steps[place], message.plan.script.callbacks == "forged"):
                if generation == self._generation:
                    self._note(message, posted)

    def _note(self, message: Message, posted: Posted) -> None:
        if self._book.keep:
            message.posted.append(posted)
        self._count(posted)

    def _count(self, posted: Posted) -> None:
        counts = self._book.counts
        counts["callbacks"] += 1
        counts["callbacks_retried"] += posted.attempts - 1
        if posted.http is None or posted.http >= 300:
            counts["callbacks_failed"] += 1
        self._book.changed()

    def soon(self, told: Coroutine[Any, Any, Iterable[Posted]]) -> None:
        """Tell of something that is no message, beside the request that has caused it."""

        async def tell() -> None:
            for posted in await told:
                self._count(posted)

        sender = asyncio.get_running_loop().create_task(tell())
        self._senders.add(sender)
        sender.add_done_callback(self._ended)

    def clear(self) -> None:
        """Drop everything that is not yet on its way."""
        self._generation += 1
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._due.clear()

    async def close(self) -> None:
        """Drop everything, and end what is under way."""
        self.clear()
        senders = list(self._senders)
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
