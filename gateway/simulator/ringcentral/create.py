"""Requests that create messages, a single SMS or an A2P batch: from the first byte to the answer, or to what happens instead."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from gateway.simulator.book import Book
from gateway.simulator.callbacks import Callbacks
from gateway.simulator.desk import Desk, Reply, bare_fault
from gateway.simulator.plan import Plan
from gateway.simulator.playlist import Playlist
from gateway.simulator.records import Message, Request
from gateway.simulator.ringcentral.account import RingCentralState
from gateway.simulator.ringcentral.checks import Asked, read_batch, read_sms
from gateway.simulator.ringcentral.errors import Fault, delivery_code, fault_json, scripted_fault
from gateway.simulator.ringcentral.rates import BUSY, Headers
from gateway.simulator.ringcentral.records import Batch
from gateway.simulator.ringcentral.render import batch_json, stored_message
from gateway.simulator.scripts import Script
from gateway.simulator.segments import count_segments
from gateway.simulator.wire import Exchange

__all__ = ["Creates"]

_SMS_LIMIT: Final = 10 << 20
_BATCH_LIMIT: Final = 50 << 20
_OPTED_OUT: Final = frozenset({21610, "SMS-RC-413", "SMS-UP-413", "SMS-CAR-413"})
_REJECTED: Final = 400
#: What the message store tells of a message, and the answer to its sending does not.
_ONLY_STORED: Final = frozenset({"extensionId", "segmentCount"})


class Creates:
    """Answers what creates messages."""

    def __init__(self, book: Book, playlist: Playlist, callbacks: Callbacks, desk: Desk) -> None:
        self._book = book
        self._playlist = playlist
        self._callbacks = callbacks
        self._desk = desk

    async def sms(self, exchange: Exchange, state: RingCentralState, headers: Headers) -> None:
        """``POST .../sms``: one message. Who is opted out gets no error: the message is taken down and fails."""
        read = read_sms(_json(await exchange.body(_SMS_LIMIT)), state)
        sender, asked = (None, Asked("", "")) if isinstance(read, Fault) else read
        request = self._book.open(state.sid, exchange.begun_at, asked.to, sender, asked.text)
        fault = await self._first(state, read)
        if fault is not None:
            await self._refuse(exchange, [request], fault, headers)
            return
        plan = self._playlist.next(asked.to)
        await self._desk.wait(plan.script)
        opted_out = state.opted_out(sender, asked.to) or _is_opted_out(plan.script)
        if not opted_out and not plan.script.accepts:
            await self._turn_away(exchange, [request], plan.script, headers)
            return
        message = self._make(state, request, asked, self._failing(state, plan) if opted_out else plan)
        self._take(state, request, message, refused=opted_out)
        told = stored_message(message, message.created_at - 1e-6, state.uri(exchange), state.settings.extension)
        body = json.dumps({name: value for name, value in told.items() if name not in _ONLY_STORED}).encode()
        script = self._playlist.usual.script if opted_out else plan.script
        await self._desk.acknowledge(exchange, [request], script, lambda: Reply(200, body, headers), partial(_fault, headers))

    async def batch(self, exchange: Exchange, state: RingCentralState, headers: Headers) -> None:
        """``POST .../a2p-sms/batches``: many messages, each with an outcome of its own; the request's fate is one.

        Of the scripts that do something else than answer, the first message's counts for the request.
        """
        read = read_batch(_json(await exchange.body(_BATCH_LIMIT)), state)
        messages, sender = ([Asked("", "")], None) if isinstance(read, Fault) else (read.messages, read.sender)
        requests = [self._book.open(state.sid, exchange.begun_at, one.to, sender, one.text) for one in messages]
        fault = await self._first(state, read)
        if fault is not None:
            await self._refuse(exchange, requests, fault, headers)
            return
        assert sender is not None
        plans = [self._playlist.next(one.to, alone=place == 0) for place, one in enumerate(messages)]
        script = next((plan.script for plan in plans if _is_of_request(plan.script)), self._playlist.usual.script)
        await self._desk.wait(script)
        if not script.accepts:
            await self._turn_away(exchange, requests, script, headers)
            return
        number, created_at = self._book.next_number(), self._book.clock()
        batch_id = str(uuid.uuid5(uuid.NAMESPACE_OID, state.new_sid(number)))
        rejected: list[dict[str, Any]] = []
        made: list[Message] = []
        for place, (request, asked, plan) in enumerate(zip(requests, messages, plans, strict=True), 1):
            why = asked.rejected or _rejection(plan.script)
            opted_out = why is None and (state.opted_out(sender, asked.to) or _is_opted_out(plan.script))
            if why is not None:
                request.code = why[0]
                rejected.append({"index": place, "to": [asked.to], "errorCode": why[0], "description": why[1]})
                continue
            message = self._make(state, request, asked, self._failing(state, plan) if opted_out else plan, batch_id)
            self._take(state, request, message, refused=opted_out)
            made.append(message)
        batch = Batch(batch_id, sender, created_at, tuple(message.sid for message in made))
        if self._book.keep:
            state.keep(batch, made)
        body = json.dumps({**batch_json(batch, made, batch.created_at - 1e-6), "rejected": rejected}).encode()
        await self._desk.acknowledge(exchange, requests, script, lambda: Reply(201, body, headers), partial(_fault, headers))

    async def _first(self, state: RingCentralState, read: object) -> Fault | None:
        """What stands before any script: the account's limits, its latency, and what is wrong with the request."""
        state.creates += 1
        if state.over_limit():
            return BUSY
        if state.settings.latency_ms:
            await asyncio.sleep(state.settings.latency_ms / 1000)
        return read if isinstance(read, Fault) else None

    async def _refuse(self, exchange: Exchange, requests: Sequence[Request], fault: Fault, headers: Headers) -> None:
        for request in requests:
            request.code = fault.code
        await self._desk.reply(exchange, requests, Reply(fault.status, fault_json(fault), headers))

    async def _turn_away(self, exchange: Exchange, requests: Sequence[Request], script: Script, headers: Headers) -> None:
        fault = scripted_fault(script)
        if script.answer == "refuse":
            for request in requests:
                request.code = fault.code
        later = [] if script.retry_after is None else [(b"retry-after", b"%d" % script.retry_after)]
        refusal = Reply(fault.status, fault_json(fault), [*headers, *later])
        await self._desk.turn_away(exchange, requests, script, lambda: refusal, partial(_fault, headers))

    def _failing(self, state: RingCentralState, plan: Plan) -> Plan:
        scripted = delivery_code(plan.script.code) if _is_opted_out(plan.script) else None
        return self._playlist.failing(scripted or state.settings.opted_out_code)

    def _make(self, state: RingCentralState, request: Request, asked: Asked, plan: Plan, batch: str | None = None) -> Message:
        now, number = self._book.clock(), self._book.next_number()
        return Message(
            number, state.new_sid(number), state.sid, "outbound-api", asked.to, request.sender, None, asked.text,
            count_segments(asked.text), now, now, plan, batch=batch,
        )  # fmt: skip

    def _take(self, state: RingCentralState, request: Request, message: Message, *, refused: bool) -> None:
        """Accept a message; or, where it is ``refused``, only take it down: it will never reach its person."""
        if refused:
            request.message = message
            assert message.plan is not None
            request.code = message.plan.script.fate_code
            self._book.store(message)
        else:
            self._book.accept(request, message)
        self._callbacks.schedule(message, state.settings.callbacks, state.call_back)


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _is_opted_out(script: Script) -> bool:
    return script.answer == "refuse" and script.code in _OPTED_OUT


def _is_of_request(script: Script) -> bool:
    """Whether a script's answer is about the request as a whole, not about one message of it."""
    if script.answer == "accept":
        return bool(script.before_ms or script.after_ms)
    return script.answer != "refuse" or (_rejection(script) is None and not _is_opted_out(script))


def _rejection(script: Script) -> tuple[str, str] | None:
    """Why one message of a batch is rejected while the others are taken: a script that refuses with status 400, or with none."""
    if script.answer != "refuse" or script.status not in {0, _REJECTED} or _is_opted_out(script):
        return None
    fault = scripted_fault(script)
    code = delivery_code(script.code)
    return (code or fault.code, fault.message)


def _fault(headers: Headers, status: int) -> Reply:
    own = {500: Fault(500, "CMN-203", "Internal Server Error"), 503: Fault(503, "CMN-201", "Service Temporary Unavailable")}.get(
        status
    )
    return bare_fault(status) if own is None else Reply(status, fault_json(own), headers)
