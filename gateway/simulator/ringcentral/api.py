"""RingCentral's API: which call a request makes, in whose name, and in which usage plan group."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from gateway.simulator.book import Book
from gateway.simulator.ringcentral.account import RingCentralState
from gateway.simulator.ringcentral.calls import ACCOUNT, EXTENSION, Answer, Asked, Calls
from gateway.simulator.ringcentral.create import Creates
from gateway.simulator.ringcentral.errors import Fault, fault_json, not_found
from gateway.simulator.ringcentral.rates import BUSY, Headers
from gateway.simulator.ringcentral.tokens import basic, grant_refused
from gateway.simulator.wire import Exchange

__all__ = ["ROOT", "RingCentralApi"]

ROOT: Final = "/restapi/"
_TOKEN: Final = "/restapi/oauth/token"  # noqa: S105 -- a path
_REVOKE: Final = "/restapi/oauth/revoke"


class RingCentralApi:
    """Answers whatever is under :data:`ROOT`."""

    def __init__(self, book: Book, accounts: Iterable[RingCentralState], creates: Creates, calls: Calls) -> None:
        self._book = book
        self._calls = calls
        self._accounts = tuple(accounts)
        self._by_header = {basic(one.settings.client_id, one.settings.client_secret): one for one in self._accounts}
        # What creates messages answers by itself, whatever it then does instead; all else through what it gives back.
        self._creating: dict[str, tuple[str, Callable[[Exchange, RingCentralState, Headers], Awaitable[None]]]] = {
            f"{EXTENSION}/sms": ("Medium", creates.sms),
            f"{ACCOUNT}/a2p-sms/batches": ("Light", creates.batch),
        }

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request: a token, or a call that a token allows."""
        if exchange.path in {_TOKEN, _REVOKE}:
            await self._answer_oauth(exchange)
            return
        state = self._authenticated(exchange.header(b"authorization"))
        if isinstance(state, Fault):
            await refuse(exchange, state, [(b"www-authenticate", b'Bearer realm="RingCentral REST API", error="invalid_token"')])
            return
        state.enter()
        try:
            await self._answer(exchange, state)
        finally:
            state.leave()
            self._book.changed()

    def _authenticated(self, header: bytes | None) -> RingCentralState | Fault:
        if header is None:
            return Fault(401, "AGW-401", "Authorization header is not specified")
        kind, _, token = header.decode("latin-1").partition(" ")
        if kind.lower() != "bearer" or not token:
            return Fault(401, "AGW-402", "Invalid Authorization header")
        state = next((one for one in self._accounts if one.tokens.known(token)), None)
        if state is None:
            return Fault(401, "OAU-129", "Access token corrupted", headline="TokenInvalid")
        return state.tokens.fault(token) or state

    async def _answer(self, exchange: Exchange, state: RingCentralState) -> None:
        group: str
        for pattern, (group, create) in self._creating.items():
            if exchange.method == "POST" and (found := re.fullmatch(pattern, exchange.path)):
                headers, fault = self._admit(state, found, group)
                if fault is None:
                    await create(exchange, state, headers)
                else:
                    await refuse(exchange, fault, headers)
                return
        known = False
        for (method, pattern), (group, call) in self._calls.table.items():
            found = re.fullmatch(pattern, exchange.path)
            known = known or found is not None
            if found and method == exchange.method:
                headers, fault = self._admit(state, found, group)
                answer = fault or await call(Asked(exchange, state, found.groups()))
                await give(exchange, answer, headers)
                return
        await refuse(exchange, Fault(405, "CMN-120", "Invalid URI") if known else Fault(404, "CMN-120", "Invalid URI"))

    @staticmethod
    def _admit(state: RingCentralState, found: re.Match[str], group: str) -> tuple[Headers, Fault | None]:
        headers, refused = state.rates.count(state.settings, group)
        if refused:
            return headers, BUSY
        mine = {"account": {"~", state.sid}, "extension": {"~", state.settings.extension}}
        for place, name in enumerate(re.findall(r"/(account|accounts|extension)/\(", found.re.pattern)):
            if found[place + 1] not in mine[name.removesuffix("s")]:
                return headers, not_found(f"{name.removesuffix('s')}Id")
        return headers, None

    async def _answer_oauth(self, exchange: Exchange) -> None:
        form = await exchange.form()
        state = self._by_header.get(exchange.header(b"authorization") or b"")
        if exchange.method != "POST":
            await refuse(exchange, Fault(405, "CMN-120", "Invalid URI"))
        elif state is None:
            await exchange.answer(401, grant_refused(Fault(401, "OAU-146", "Invalid client credentials")))
        else:
            headers, refused = state.rates.count(state.settings, "Auth")
            if refused:
                await refuse(exchange, BUSY, headers)
            elif state.settings.token_error:
                await refuse(exchange, Fault(state.settings.token_error, "CMN-201", "Service Temporary Unavailable"), headers)
            elif exchange.path == _REVOKE:
                state.tokens.revoke_one(form.get("token", ""))
                await exchange.answer(200, b"", [*headers, (b"content-length", b"0")])
            else:
                granted = state.tokens.grant(state.settings, form)
                if isinstance(granted, Fault):
                    await exchange.answer(granted.status, grant_refused(granted), headers)
                else:
                    await exchange.answer(200, granted, headers)


async def refuse(exchange: Exchange, fault: Fault, headers: Headers | None = None) -> None:
    """Answer with an error of the API."""
    await exchange.answer(fault.status, fault_json(fault), headers or ())


async def give(exchange: Exchange, answer: Answer, headers: Headers) -> None:
    """Answer with what a call gives back."""
    if isinstance(answer, Fault):
        await refuse(exchange, answer, headers)
    elif answer is None:
        await exchange.answer(204, b"", headers)
    else:
        body = json.dumps(answer).encode()
        await exchange.answer(200, body, [*headers, (b"etag", b'"%08x"' % zlib.crc32(body))])
