"""A create request from its first byte to its answer, or to whatever the carrier does instead."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial

from gateway.simulator.book import Book
from gateway.simulator.callbacks import Callbacks
from gateway.simulator.desk import Desk, Reply, bare_fault
from gateway.simulator.plan import Plan
from gateway.simulator.playlist import Playlist
from gateway.simulator.records import Message, Request
from gateway.simulator.segments import count_segments
from gateway.simulator.twilio.account import TwilioState
from gateway.simulator.twilio.checks import Refusal, check, read_send_at
from gateway.simulator.twilio.render import error_code, error_json, message_json
from gateway.simulator.wire import Exchange

__all__ = ["Creates"]

_BUSY = Refusal(429, 20429, "Too Many Requests")
_DEFAULT_POOL = ("+15005550006",)


class Creates:
    """Answers create requests."""

    def __init__(self, book: Book, playlist: Playlist, callbacks: Callbacks, desk: Desk) -> None:
        self._book = book
        self._playlist = playlist
        self._callbacks = callbacks
        self._desk = desk

    async def handle(self, exchange: Exchange, state: TwilioState) -> None:
        """Take one request through: entered, limited, delayed, checked, accepted or not, answered or not."""
        form = await exchange.form()
        request = self._book.open(
            state.sid, exchange.begun_at, form.get("To", ""), form.get("From") or None, form.get("Body", ""),
            service=form.get("MessagingServiceSid") or None, callback=form.get("StatusCallback") or None,
        )  # fmt: skip
        state.creates += 1
        refusal = _BUSY if state.over_limit() else None
        if refusal is None and state.settings.latency_ms:
            await asyncio.sleep(state.settings.latency_ms / 1000)
        if refusal is None:
            refusal = check(form, state, self._book.clock())
        if refusal is not None:
            request.code = refusal.code
            await self._desk.reply(exchange, [request], _refusal(request, state, refusal))
            return
        plan = self._playlist.next(request.to)
        script = plan.script
        await self._desk.wait(script)
        if script.accepts:
            await self._accept(exchange, request, form, plan, state)
            return
        scripted = Refusal(script.status or 400, error_code(script.code), script.message)
        if script.answer == "refuse":
            request.code = scripted.code
        make = partial(_refusal, request, state, scripted, script.retry_after)
        await self._desk.turn_away(exchange, [request], script, make, _fault)

    async def _accept(self, exchange: Exchange, request: Request, form: dict[str, str], plan: Plan, state: TwilioState) -> None:
        message = self._make(form, plan, state)
        self._book.accept(request, message)
        # Rendered now: what an answer tells is the state in which the message was made, however late the answer is.
        body = message_json(message, message.created_at - 1e-6).encode()
        if message.callback is not None:
            self._callbacks.schedule(message, "none" if state.settings.test else state.settings.callbacks, state.call_back)
        await self._desk.acknowledge(exchange, [request], plan.script, lambda: Reply(201, body, _headers(request, state)), _fault)

    def _make(self, form: dict[str, str], plan: Plan, state: TwilioState) -> Message:
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
            number, state.new_sid(number), state.sid, "outbound-api", to, sender, service, body, segments, now, starts_at, plan,
            form.get("StatusCallback") or state.settings.status_callback, pool_sender=pool_sender,
        )  # fmt: skip


def _fault(status: int) -> Reply:
    return (
        Reply(status, error_json(status, 20500, "An internal server error has occurred")) if status == 500 else bare_fault(status)
    )


def _refusal(request: Request, state: TwilioState, refusal: Refusal, retry_after: int | None = None) -> Reply:
    headers = _headers(request, state)
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    return Reply(refusal.status, error_json(refusal.status, refusal.code, refusal.message), headers)


def _headers(request: Request, state: TwilioState) -> list[tuple[bytes, bytes]]:
    return [
        (b"twilio-concurrent-requests", b"%d" % state.in_flight),
        (b"twilio-request-id", b"RQ%032x" % request.number),
    ]
