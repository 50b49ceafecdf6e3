"""A create request from its first byte to its answer, or to whatever the carrier does instead."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable

from gateway.simulator.accounts import AccountState
from gateway.simulator.book import Book
from gateway.simulator.callbacks import Callbacks
from gateway.simulator.checks import Refusal, check, read_send_at
from gateway.simulator.plan import Plan
from gateway.simulator.playlist import Playlist
from gateway.simulator.records import Message, Request
from gateway.simulator.render import error_json, message_json
from gateway.simulator.segments import count_segments
from gateway.simulator.wire import Exchange

__all__ = ["Creates"]

_BUSY = Refusal(429, 20429, "Too Many Requests")
_DEFAULT_POOL = ("+15005550006",)


class Creates:
    """Answers create requests. ``new_sid`` makes a message's identifier from its number; ``closing`` ends what hangs."""

    def __init__(
        self, book: Book, playlist: Playlist, callbacks: Callbacks, new_sid: Callable[[int], str], closing: asyncio.Event
    ) -> None:
        self._book = book
        self._playlist = playlist
        self._callbacks = callbacks
        self._new_sid = new_sid
        self._closing = closing

    async def handle(self, exchange: Exchange, state: AccountState) -> None:
        """Take one request through: entered, limited, delayed, checked, accepted or not, answered or not."""
        form = await exchange.form()
        request = self._book.open(state.settings.sid, exchange.begun_at, form)
        state.creates += 1
        refusal = _over_limit(state)
        if refusal is None and state.settings.latency_ms:
            await asyncio.sleep(state.settings.latency_ms / 1000)
        if refusal is None:
            refusal = check(form, state, self._book.clock())
        if refusal is not None:
            await self._refuse(exchange, request, refusal, state)
            return
        plan = self._playlist.next(request.to)
        if plan.script.before_ms:
            await asyncio.sleep(plan.script.before_ms / 1000)
        if plan.script.accepts:
            await self._accept(exchange, request, form, plan, state)
        else:
            await self._turn_away(exchange, request, plan, state)

    async def _refuse(self, exchange: Exchange, request: Request, refusal: Refusal, state: AccountState) -> None:
        headers = [*_headers(request, state)]
        await exchange.answer(refusal.status, error_json(refusal.status, refusal.code, refusal.message), headers)
        self._book.end(request, _ending(exchange), answer=refusal.status, code=refusal.code)

    async def _turn_away(self, exchange: Exchange, request: Request, plan: Plan, state: AccountState) -> None:
        script = plan.script
        if script.after_ms:
            await asyncio.sleep(script.after_ms / 1000)
        match script.answer:
            case "refuse":
                status = script.status or 400
                headers = [*_headers(request, state)]
                if script.retry_after is not None:
                    headers.append((b"retry-after", str(script.retry_after).encode()))
                await exchange.answer(status, error_json(status, script.code, script.message), headers)
                self._book.end(request, _ending(exchange), answer=status, code=script.code)
            case "error_before":
                await self._fault(exchange, request, script.status or 500)
            case "reset_before":
                self._book.end(request, "reset")
                await exchange.reset()
            case _:
                await exchange.hang(self._closing)
                self._book.end(request, "hung")

    async def _accept(self, exchange: Exchange, request: Request, form: dict[str, str], plan: Plan, state: AccountState) -> None:
        message = self._make(form, plan, state)
        self._book.accept(request, message)
        # Rendered now: what an answer tells is the state in which the message was made, however late the answer is.
        body = message_json(message, message.created_at - 1e-6).encode()
        self._callbacks.schedule(message, "none" if state.settings.test else state.settings.callbacks)
        if plan.script.after_ms:
            await asyncio.sleep(plan.script.after_ms / 1000)
        match plan.script.answer:
            case "error_after":
                await self._fault(exchange, request, plan.script.status or 500)
            case "reset_after":
                self._book.end(request, "reset")
                await exchange.reset()
            case "hang_after":
                await exchange.hang(self._closing)
                self._book.end(request, "hung")
            case "cut_after":
                await exchange.cut(201, body)
                self._book.end(request, "reset", answer=201)
            case answer:
                if answer == "broken_after":
                    body = body[: len(body) // 2]
                await exchange.answer(201, body, _headers(request, state))
                self._book.end(request, _ending(exchange), answer=201)

    async def _fault(self, exchange: Exchange, request: Request, status: int) -> None:
        if status == 500:
            body = error_json(status, 20500, "An internal server error has occurred")
        else:
            body = json.dumps({"status": status, "message": "upstream connect error or disconnect/reset before headers"}).encode()
        await exchange.answer(status, body)
        self._book.end(request, _ending(exchange), answer=status)

    def _make(self, form: dict[str, str], plan: Plan, state: AccountState) -> Message:
        now = self._book.clock()
        number = self._book.next_number()
        to, sender, service, body = (
            form["To"],
            form.get("From") or None,
            form.get("MessagingServiceSid") or None,
            form.get("Body", ""),
        )
        starts_at = now
        if service and form.get("ScheduleType"):
            starts_at = read_send_at(form["SendAt"]) or now
        if state.settings.test:
            plan = self._playlist.unsent
        elif "ValidityPeriod" in form:
            plan = self._playlist.expiring(plan, int(form["ValidityPeriod"]))
        pool_sender = None
        if sender is None and service is not None:
            # The same person always meets the same sender of a service.
            pool = state.settings.services.get(service) or _DEFAULT_POOL
            pool_sender = pool[hashlib.sha256(to.encode()).digest()[0] % len(pool)]
        segments = count_segments(body)
        if form.get("ContentRetention") == "discard":
            body = ""
        if form.get("AddressRetention") == "obfuscate":
            to = f"{to[:-4]}XXXX"
        return Message(
            number, self._new_sid(number), state.settings.sid, "outbound-api", to, sender, service, body, segments, now, starts_at,
            plan, form.get("StatusCallback") or state.settings.status_callback, pool_sender,
        )  # fmt: skip


def _over_limit(state: AccountState) -> Refusal | None:
    settings = state.settings
    if settings.concurrency is not None and state.in_flight > settings.concurrency:
        return _BUSY
    if settings.every_nth_429 and state.creates % settings.every_nth_429 == 0:
        return _BUSY
    return None


def _headers(request: Request, state: AccountState) -> list[tuple[bytes, bytes]]:
    return [
        (b"twilio-concurrent-requests", b"%d" % state.in_flight),
        (b"twilio-request-id", b"RQ%032x" % request.number),
    ]


def _ending(exchange: Exchange) -> str:
    return "left" if exchange.left else "answered"
