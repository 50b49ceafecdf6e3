"""Twilio's Messages API: which call a request makes, and whose."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Final

from gateway.simulator.book import Book
from gateway.simulator.twilio.account import TwilioState
from gateway.simulator.twilio.checks import Refusal
from gateway.simulator.twilio.create import Creates
from gateway.simulator.twilio.listing import list_messages
from gateway.simulator.twilio.render import API_VERSION, error_json
from gateway.simulator.twilio.resources import delete_message, fetch_message, update_message
from gateway.simulator.wire import Exchange

__all__ = ["CHALLENGE", "ROOT", "STRANGER", "TwilioApi", "refuse"]

ROOT: Final = f"/{API_VERSION}/Accounts/"
STRANGER: Final = Refusal(401, 20003, "Authenticate")
CHALLENGE: Final = ((b"www-authenticate", b'Basic realm="Twilio API"'),)


class TwilioApi:
    """Answers whatever is under :data:`ROOT`."""

    def __init__(self, book: Book, accounts: Iterable[TwilioState], creates: Creates) -> None:
        self._book = book
        self._creates = creates
        self._by_header = {
            b"Basic " + base64.b64encode(f"{state.sid}:{state.settings.token}".encode()): state for state in accounts
        }

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request, with 401 unless it proves to be of the account in its path."""
        sid, _, rest = exchange.path[len(ROOT) :].partition("/")
        state = self.authenticated(exchange)
        if state is None or state.sid != sid:
            await refuse(exchange, STRANGER, CHALLENGE)
            return
        state.enter()
        try:
            if rest == "Messages.json":
                await self._answer_collection(exchange, state)
            elif rest.startswith("Messages/") and rest.endswith(".json") and rest.count("/") == 1:
                await self._answer_resource(exchange, state, rest[len("Messages/") : -len(".json")])
            else:
                await refuse(exchange, Refusal(404, 20404, f"The requested resource {exchange.path} was not found"))
        finally:
            state.leave()
            self._book.changed()

    def authenticated(self, exchange: Exchange) -> TwilioState | None:
        """The account that the request proves to be of."""
        return self._by_header.get(exchange.header(b"authorization") or b"")

    async def _answer_collection(self, exchange: Exchange, state: TwilioState) -> None:
        if exchange.method == "POST":
            await self._creates.handle(exchange, state)
        elif exchange.method == "GET":
            await _give(exchange, _for_test(state) or list_messages(self._book, state.sid, exchange.query()))
        else:
            await refuse(exchange, _not_allowed())

    async def _answer_resource(self, exchange: Exchange, state: TwilioState, sid: str) -> None:
        answer: bytes | Refusal | None = _for_test(state)
        if answer is None:
            match exchange.method:
                case "GET":
                    answer = fetch_message(self._book, state.sid, sid)
                case "POST":
                    answer = update_message(self._book, state.sid, sid, await exchange.form())
                case "DELETE":
                    answer = delete_message(self._book, state.sid, sid)
                case _:
                    answer = _not_allowed()
        await _give(exchange, answer)


async def refuse(exchange: Exchange, refusal: Refusal, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Answer with an error of the API."""
    await exchange.answer(refusal.status, error_json(refusal.status, refusal.code, refusal.message), headers)


async def _give(exchange: Exchange, answer: bytes | Refusal | None) -> None:
    if isinstance(answer, Refusal):
        await refuse(exchange, answer)
    elif answer is None:
        await exchange.answer(204, b"")
    else:
        await exchange.answer(200, answer)


def _not_allowed() -> Refusal:
    return Refusal(405, 20004, "Method not allowed")


def _for_test(state: TwilioState) -> Refusal | None:
    return Refusal(403, 20008, "Resource not accessible with Test Account Credentials") if state.settings.test else None
