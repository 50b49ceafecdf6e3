"""What both APIs do alike with a request to create messages: answer it, refuse it, or misbehave as its script says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.simulator.book import Book
from gateway.simulator.records import Request
from gateway.simulator.scripts import Script
from gateway.simulator.wire import Exchange

__all__ = ["Desk", "Reply", "bare_fault"]

_FAULT: Final = 500


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    body: bytes = field(repr=False)
    headers: Iterable[tuple[bytes, bytes]] = ()


def bare_fault(status: int) -> Reply:
    """A 5xx of whatever stands in front of the API: not one of the API's own errors."""
    return Reply(
        status, json.dumps({"status": status, "message": "upstream connect error or disconnect/reset before headers"}).encode()
    )


class Desk:
    """Answers create requests. One exchange may stand for several requests of the book: the messages of a batch.

    ``closing`` ends what hangs. Replies are made when they are needed: what they tell is as of then.
    """

    def __init__(self, book: Book, closing: asyncio.Event) -> None:
        self._book = book
        self._closing = closing

    async def reply(self, exchange: Exchange, requests: Sequence[Request], reply: Reply) -> None:
        """Answer, and note in the book how it ended. A request whose ``code`` is set was refused."""
        await exchange.answer(reply.status, reply.body, reply.headers)
        self._end(requests, "left" if exchange.left else "answered", reply.status)

    async def wait(self, script: Script) -> None:
        """Let the time pass that the carrier takes to decide."""
        await _pass(script.before_ms)

    async def turn_away(
        self,
        exchange: Exchange,
        requests: Sequence[Request],
        script: Script,
        refusal: Callable[[], Reply],
        fault: Callable[[int], Reply],
    ) -> None:
        """Accept nothing, in the way that the script says; ``fault`` makes a 5xx."""
        await _pass(script.after_ms)
        match script.answer:
            case "refuse":
                await self.reply(exchange, requests, refusal())
            case "error_before":
                await self.reply(exchange, requests, fault(script.status or _FAULT))
            case "reset_before":
                self._end(requests, "reset")
                await exchange.reset()
            case _:
                await exchange.hang(self._closing)
                self._end(requests, "hung")

    async def acknowledge(
        self,
        exchange: Exchange,
        requests: Sequence[Request],
        script: Script,
        reply: Callable[[], Reply],
        fault: Callable[[int], Reply],
    ) -> None:
        """Answer what the carrier has accepted, or fail to, in the way that the script says."""
        await _pass(script.after_ms)
        match script.answer:
            case "error_after":
                await self.reply(exchange, requests, fault(script.status or _FAULT))
            case "reset_after":
                self._end(requests, "reset")
                await exchange.reset()
            case "hang_after":
                await exchange.hang(self._closing)
                self._end(requests, "hung")
            case "cut_after":
                made = reply()
                await exchange.cut(made.status, made.body)
                self._end(requests, "reset", made.status)
            case answer:
                made = reply()
                if answer == "broken_after":
                    made = Reply(made.status, made.body[: len(made.body) // 2], made.headers)
                await self.reply(exchange, requests, made)

    def _end(self, requests: Sequence[Request], ending: str, answer: int | None = None) -> None:
        for request in requests:
            self._book.end(request, ending, answer=answer)


async def _pass(milliseconds: float) -> None:
    if milliseconds:
        await asyncio.sleep(milliseconds / 1000)
