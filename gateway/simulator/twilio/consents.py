"""Twilio's Consent Management API: opt-outs and opt-ins that an account is told, 25 at a time.

https://www.twilio.com/docs/messaging/features/consent-api
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

from gateway.simulator.book import Book
from gateway.simulator.twilio.account import TwilioState
from gateway.simulator.twilio.api import CHALLENGE, STRANGER, TwilioApi, refuse
from gateway.simulator.twilio.checks import Refusal
from gateway.simulator.wire import Exchange

__all__ = ["CONSENTS_PATH", "Consents", "Mode", "ToldConsent"]

CONSENTS_PATH: Final = "/v1/Consents/Bulk"

Mode = Literal["answer", "busy", "error_before", "reset_after", "hang_after"]
"""``before`` and ``after``: whether what was told is taken before the client gets no answer, or none that helps."""

_MOST: Final = 25
_KEPT: Final = 100_000
_CONTACT: Final = re.compile(r"\+[1-9]\d{6,14}")
_SENDER: Final = re.compile(r"\+[1-9]\d{6,14}|\d{3,8}|MG[0-9a-fA-F]{32}")
_CORRELATION: Final = re.compile(r"[0-9a-fA-F]{32}")
_SOURCES: Final = frozenset({"website", "offline", "opt-in-message", "opt-out-message", "others"})


@dataclass(frozen=True, slots=True)
class ToldConsent:
    """One consent that was taken, and when it says that it was given."""

    account: str
    contact: str
    sender: str
    status: str
    date: str


class Consents:
    """Takes consents. ``mode`` is how it answers from now on; ``refused`` are contacts that it takes nothing of."""

    def __init__(self, book: Book, api: TwilioApi, closing: asyncio.Event) -> None:
        self._book = book
        self._api = api
        self._closing = closing
        self.clear()

    def clear(self) -> None:
        """Forget what was told, and answer again."""
        self.mode: Mode = "answer"
        self.refused: set[str] = set()
        self.told: deque[ToldConsent] = deque(maxlen=_KEPT)
        self.requests = 0

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request, with 401 unless it proves to be of an account."""
        state = self._api.authenticated(exchange)
        if state is None:
            await refuse(exchange, STRANGER, CHALLENGE)
            return
        body = (await exchange.body()).decode("utf-8", "replace")
        items = [value for name, value in parse_qsl(body, keep_blank_values=True) if name == "Items"]
        self.requests += 1
        self._book.counts["consents"] += len(items)
        try:
            if exchange.method != "POST":
                await refuse(exchange, Refusal(405, 20004, "Method not allowed"))
            elif self.mode == "busy":
                await refuse(exchange, Refusal(429, 20429, "Too Many Requests"))
            elif self.mode == "error_before":
                await refuse(exchange, Refusal(500, 20500, "An internal server error has occurred"))
            elif not 0 < len(items) <= _MOST:
                await refuse(exchange, Refusal(400, 20001, "Items must have 1 to 25 elements"))
            else:
                await self._answer(exchange, [self._take(state, item) for item in items])
        finally:
            self._book.changed()

    async def _answer(self, exchange: Exchange, results: list[dict[str, Any]]) -> None:
        self._book.changed()
        if self.mode == "reset_after":
            await exchange.reset()
        elif self.mode == "hang_after":
            await exchange.hang(self._closing)
        else:
            await exchange.answer(201, json.dumps({"items": results}).encode())

    def _take(self, state: TwilioState, item: str) -> dict[str, Any]:
        try:
            given = json.loads(item)
        except ValueError:
            given = None
        if not isinstance(given, dict):
            given = {}
        fields = {name: str(given.get(name, "")) for name in ("contact_id", "sender_id", "status", "source", "correlation_id")}
        faults = self._faults(fields)
        if not faults:
            self._set(state, fields, str(given.get("date_of_consent", "")))
        return {
            "correlation_id": fields["correlation_id"],
            "error_code": 30646 if faults else 0,
            "error_messages": faults,
        }

    def _faults(self, fields: dict[str, str]) -> list[str]:
        right = {
            "INVALID_CORRELATION_ID": _CORRELATION.fullmatch(fields["correlation_id"]),
            "INVALID_SENDER_ID": _SENDER.fullmatch(fields["sender_id"]),
            "INVALID_CONTACT_ID": _CONTACT.fullmatch(fields["contact_id"]) and fields["contact_id"] not in self.refused,
            "INVALID_STATUS": fields["status"] in {"opt-in", "opt-out"},
            "INVALID_SOURCE": fields["source"] in _SOURCES,
        }
        return [fault for fault, fine in right.items() if not fine]

    def _set(self, state: TwilioState, fields: dict[str, str], date: str) -> None:
        pair = (fields["contact_id"], fields["sender_id"])
        if fields["status"] == "opt-out":
            state.opted_out.add(pair)
        else:
            state.opted_out.discard(pair)
        self.told.append(ToldConsent(state.sid, *pair, fields["status"], date))
