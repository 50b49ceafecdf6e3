"""The carrier's own book: every create request and what became of it, every message, and the counts."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Final

from gateway.simulator.records import Message, Request

__all__ = ["Book"]

_SEEN_LIMIT: Final = 4_000_000


class Book:
    """What the carrier was asked, what it accepted, and what it holds.

    A request of the book is one message that somebody asked for: a batch of many is as many. ``counts`` has: requests, accepted, duplicates (the same to, sender and body accepted once more), refused, errors, resets, hangs,
    inbound, callbacks, callbacks_failed, callbacks_retried, callbacks_dropped, and ``refused_<code>``.
    """

    def __init__(self, *, keep: bool, limit: int, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.keep = keep
        self._limit = limit
        self._waiting = 0
        self._changed = asyncio.Event()
        self._number = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything; numbers go on, so that no identifier is given twice."""
        self.requests: deque[Request] = deque()
        self.messages: dict[str, Message] = {}
        self.counts: Counter[str] = Counter()
        self.first_begun_at: float | None = None
        self.last_accepted_at: float | None = None
        self._by_to: dict[str, deque[Message]] = {}
        self._by_number: deque[Message] = deque()
        self._seen: set[int] = set()
        self.changed()

    def open(
        self, account: str, begun_at: float, to: str, sender: str | None, body: str,
        *, service: str | None = None, callback: str | None = None,
    ) -> Request:  # fmt: skip
        """Enter a request to create one message, before anything is decided about it."""
        self._number += 1
        request = Request(
            self._number, account, begun_at, to, sender, service,
            hashlib.sha256(body.encode("utf-8", "surrogatepass")).digest(), callback,
        )  # fmt: skip
        self.counts["requests"] += 1
        if self.first_begun_at is None:
            self.first_begun_at = begun_at
        if self.keep:
            self.requests.append(request)
            if len(self.requests) > self._limit:
                self.requests.popleft()
        self.changed()
        return request

    def next_number(self) -> int:
        """The next message's number, one sequence with the requests'."""
        self._number += 1
        return self._number

    def accept(self, request: Request, message: Message) -> None:
        """The carrier takes the message: from here on it counts, whatever the client sees."""
        request.message = message
        request.accepted_at = self.last_accepted_at = message.created_at
        self.counts["accepted"] += 1
        key = hash((request.to, request.sender or request.service, request.body_sha256))
        if key in self._seen:
            self.counts["duplicates"] += 1
        elif len(self._seen) < _SEEN_LIMIT:
            self._seen.add(key)
        self.store(message)

    def end(self, request: Request, ending: str, *, answer: int | None = None) -> None:
        """The request is over; it was refused where its ``code`` is set."""
        request.ending, request.answer = ending, answer
        request.ended_at = self.clock()
        counts, code = self.counts, request.code
        if code is not None:
            counts["refused"] += 1
            counts[f"refused_{code}"] += 1
        elif ending == "reset":
            counts["resets"] += 1
        elif ending == "hung":
            counts["hangs"] += 1
        elif answer is not None and answer >= 500:
            counts["errors"] += 1
        self.changed()

    def store(self, message: Message) -> None:
        """Keep a message where messages are kept."""
        if self.keep:
            self.messages[message.sid] = message
            self._by_to.setdefault(message.to, deque()).append(message)
            self._by_number.append(message)
            if len(self._by_number) > self._limit:
                self._forget(self._by_number.popleft())
        self.changed()

    def _forget(self, message: Message) -> None:
        self.messages.pop(message.sid, None)
        same = self._by_to[message.to]
        same.popleft()
        if not same:
            del self._by_to[message.to]

    def newest_first(self, account: str, to: str | None) -> Iterator[Message]:
        """The messages of an account that are not deleted, to one number where ``to`` is given."""
        for message in reversed(self._by_number if to is None else self._by_to.get(to, deque())):
            if message.account == account and not message.deleted:
                yield message

    def accepted(self, to: str | None = None) -> list[Request]:
        """The create requests that were accepted, in order of arrival."""
        return [request for request in self.requests if request.accepted_at is not None and to in {None, request.to}]

    def inbound(self) -> list[Message]:
        """The inbound messages, oldest first."""
        return [message for message in self._by_number if message.direction == "inbound"]

    def duplicates(self) -> list[list[Request]]:
        """Groups of accepted requests with the same number, sender and body: what a person was texted more than once."""
        groups: dict[tuple[object, ...], list[Request]] = {}
        for request in self.accepted():
            groups.setdefault((request.to, request.sender or request.service, request.body_sha256), []).append(request)
        return [group for group in groups.values() if len(group) > 1]

    def changed(self) -> None:
        """Wake whoever waits for something in the book."""
        if self._waiting:
            self._changed.set()

    async def wait_for(self, predicate: Callable[[Book], bool], within: float = 5.0) -> None:
        """Wait until the predicate holds. Raises TimeoutError after ``within`` seconds."""
        self._waiting += 1
        try:
            async with asyncio.timeout(within):
                while not predicate(self):
                    self._changed.clear()
                    await self._changed.wait()
        finally:
            self._waiting -= 1
