"""Status callbacks: when each is due, and a bounded number of them under way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.simulator.book import Book
from gateway.simulator.config import CallbackMode
from gateway.simulator.plan import Step
from gateway.simulator.records import Message, Posted
from gateway.simulator.render import API_VERSION
from gateway.simulator.webhooks import Webhooks

__all__ = ["Callbacks"]


class Callbacks:
    """Posts the status callbacks of accepted messages, each at its time.

    ``token_of`` gives the auth token of an account, by which its webhooks are signed.
    """

    def __init__(
        self, webhooks: Webhooks, book: Book, token_of: Callable[[str], str], *, at_once: int, waiting_limit: int
    ) -> None:
        self._webhooks = webhooks
        self._book = book
        self._token_of = token_of
        self._at_once = at_once
        self._limit = waiting_limit
        self._due: deque[tuple[Message, int]] = deque()
        self._timers: set[asyncio.TimerHandle] = set()
        self._senders: set[asyncio.Task[None]] = set()
        self._generation = 0

    @property
    def waiting(self) -> int:
        """How many callbacks are scheduled, due or under way."""
        return len(self._timers) + len(self._due) + len(self._senders)

    def schedule(self, message: Message, mode: CallbackMode) -> None:
        """Plan all callbacks of a message that has just been accepted."""
        if message.callback is None or message.plan is None:
            return
        delay = max(0.0, message.starts_at - self._book.clock())
        for notice in message.plan.notices(mode):
            if self.waiting >= self._limit:
                self._book.counts["callbacks_dropped"] += 1
                continue
            self._at(delay + notice.after, message, notice.step)

    def _at(self, delay: float, message: Message, step: int) -> None:
        if delay <= 0:
            self._enqueue(message, step)
            return

        def due() -> None:
            self._timers.discard(timer)
            self._enqueue(message, step)

        timer = asyncio.get_running_loop().call_later(delay, due)
        self._timers.add(timer)

    def _enqueue(self, message: Message, step: int) -> None:
        self._due.append((message, step))
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
            message, place = self._due.popleft()
            if message.canceled or message.deleted or message.plan is None or message.callback is None:
                continue
            message.reached = max(message.reached, place)
            step = message.plan.steps[place]
            posted = await self._webhooks.post(
                message.callback, self._token_of(message.account), step.status, _fields(message, step)
            )
            if generation == self._generation:
                self._note(message, posted)

    def _note(self, message: Message, posted: Posted) -> None:
        counts = self._book.counts
        counts["callbacks"] += 1
        counts["callbacks_retried"] += posted.attempts - 1
        if posted.http is None or posted.http >= 300:
            counts["callbacks_failed"] += 1
        if self._book.keep:
            message.posted.append(posted)
        self._book.changed()

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


def _fields(message: Message, step: Step) -> list[tuple[str, str]]:
    """The form of a status callback.

    https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks
    """
    fields = [
        ("SmsSid", message.sid),
        ("SmsStatus", step.status),
        ("MessageStatus", step.status),
        ("To", message.to),
        ("MessageSid", message.sid),
        ("AccountSid", message.account),
        ("ApiVersion", API_VERSION),
    ]
    sender = message.sender or message.pool_sender
    if sender:
        fields.append(("From", sender))
    if message.service:
        fields.append(("MessagingServiceSid", message.service))
    if step.code is not None:
        fields.append(("ErrorCode", str(step.code)))
    return fields
