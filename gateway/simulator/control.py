"""The control API under ``/_carrier``: the book, the counts, scripts, settings and inbound texts. For this machine only."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from gateway.domain.errors import GatewayError
from gateway.simulator.ringcentral.account import RingCentralState
from gateway.simulator.ringcentral.errors import Fault
from gateway.simulator.scripts import NAMED, SUFFIXES, read_script
from gateway.simulator.wire import Exchange

if TYPE_CHECKING:
    from gateway.simulator.carrier import Carrier

__all__ = ["BadControl", "Control"]

_MOST_ROWS: Final = 10_000
_LONGEST_WAIT: Final = 60.0
_INBOUND_FIELDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "from": str, "to": str, "body": str, "account": str, "opt_out_type": str, "deliver": bool, "repeat": int, "age": (int, float),
    "sid": str, "forged": bool,
}  # fmt: skip


class BadControl(GatewayError):
    """A request to the control API that lacks something, or names something that does not exist."""


class Control:
    """Answers the control API: only to clients on a loopback address, and only JSON, which a web page in a browser can't send."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._gets: Mapping[str, Callable[[dict[str, str]], Awaitable[object]]] = {
            "": self._index,
            "/book": self._book,
            "/stats": self._stats,
            "/consents": self._consents,
            "/script": self._scripts,
            "/subscriptions": self._subscriptions,
        }
        self._posts: Mapping[str, Callable[[dict[str, Any]], Awaitable[object]]] = {
            "/reset": self._reset,
            "/script": self._script,
            "/mix": self._mix,
            "/account": self._account,
            "/inbound": self._inbound,
            "/tokens": self._tokens,
            "/subscription": self._subscription,
        }

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request: 200 with JSON, or 4xx with ``{"error": ...}``."""
        path = exchange.path.removeprefix("/_carrier").rstrip("/")
        client = exchange.scope.get("client")
        status: int
        result: object
        try:
            if client is not None and not ipaddress.ip_address(client[0]).is_loopback:
                status, result = 403, _error("the control API answers to this machine only")
            elif exchange.method == "GET" and path in self._gets:
                status, result = 200, await self._gets[path](dict(exchange.query()))
            elif exchange.method == "POST" and path in self._posts:
                status, result = 200, await self._posts[path](_read(exchange, await exchange.body()))
            else:
                status, result = 404, _error(f"no such call; see GET {self._carrier.url}/_carrier")
        except GatewayError as error:
            status, result = 400, _error(str(error))
        await exchange.answer(status, json.dumps(result).encode())

    async def _index(self, _query: dict[str, str]) -> object:
        return {
            "GET": [f"/_carrier{path}" for path in self._gets],
            "POST": [f"/_carrier{path}" for path in self._posts],
            "accounts": [state.sid for state in self._carrier.accounts],
        }

    async def _book(self, query: dict[str, str]) -> object:
        """Requests after number ``since``, ``limit`` at most, and all inbound texts; ``next`` is the ``since`` of what follows."""
        book = self._carrier.book
        since, limit = int(_number(query, "since", 0)), int(min(_number(query, "limit", _MOST_ROWS), _MOST_ROWS))
        now = book.clock()
        rows = list(islice((request for request in book.requests if request.number > since), limit + 1))
        return {
            "requests": [request.as_json(now) for request in rows[:limit]],
            "next": rows[limit - 1].number if len(rows) > limit else None,
            "duplicates": [[request.number for request in group] for group in book.duplicates()],
            "inbound": [
                {"sid": message.sid, "account": message.account, "from": message.sender, "to": message.to, "at": message.created_at,
                 "opt_out_type": message.opt_out_type, "webhooks": [one.http for one in message.posted]} for message in book.inbound()
            ],
        }  # fmt: skip

    async def _stats(self, query: dict[str, str]) -> object:
        """The counts; with ``accepted=N`` or ``quiet=1`` not before that holds or ``within`` seconds have passed."""
        carrier, within = self._carrier, min(_number(query, "within", 5), _LONGEST_WAIT)
        accepted = int(_number(query, "accepted", 0))
        try:
            await carrier.book.wait_for(lambda book: book.counts["accepted"] >= accepted, within)
            if query.get("quiet") == "1":
                await carrier.quiet(within)
        except TimeoutError:
            pass  # the caller sees by the counts that it did not come to that
        return carrier.stats()

    async def _consents(self, _query: dict[str, str]) -> object:
        """Whom each account knows as opted out."""
        pairs = [
            {"account": state.sid, "from": sender, "to": to}
            for state in self._carrier.accounts
            for sender, to in state.opt_outs()
        ]
        return {"opted_out": pairs}

    async def _scripts(self, _query: dict[str, str]) -> object:
        return {"named": list(NAMED), "suffixes": dict(SUFFIXES) if self._carrier.config.suffixes else {}}

    async def _subscriptions(self, _query: dict[str, str]) -> object:
        """The webhook subscriptions of the accounts at RingCentral that have not expired."""
        return {
            "subscriptions": [
                {"account": state.sid, **state.subscriptions.as_json(one, self._carrier.url)}
                for state in self._carrier.accounts
                if isinstance(state, RingCentralState)
                for one in state.subscriptions.live()
            ]
        }

    async def _reset(self, _body: dict[str, Any]) -> object:
        self._carrier.reset()
        return {}

    async def _script(self, body: dict[str, Any]) -> object:
        scripts = body.get("scripts", {body.get("number"): body.get("script")})
        if not isinstance(scripts, dict) or not all(isinstance(number, str) for number in scripts):
            raise BadControl('give {"number": ..., "script": ...}, or {"scripts": {number: script}}; a script of null removes')
        read = {number: None if script is None else read_script(script) for number, script in scripts.items()}
        for number, script in read.items():
            self._carrier.script(number, script)
        return {}

    async def _mix(self, body: dict[str, Any]) -> object:
        """The shares from now on, in order; a mix of null is the configured one."""
        mix = body.get("mix")
        if mix is not None and not (isinstance(mix, list) and all(_is_share(one) for one in mix)):
            raise BadControl('give {"mix": [[share from 0 to 1, script], ...]}, or a mix of null')
        self._carrier.mix(None if mix is None else [(share, read_script(script)) for share, script in mix])
        return {}

    async def _account(self, body: dict[str, Any]) -> object:
        changes = dict(body)
        self._carrier.accounts.change(str(changes.pop("sid", "")), **changes)
        return {}

    async def _tokens(self, body: dict[str, Any]) -> object:
        """All tokens of an account at RingCentral are worth nothing from now on."""
        return {"revoked": self._ringcentral(body).tokens.revoke()}

    async def _subscription(self, body: dict[str, Any]) -> object:
        """A subscription of an account at RingCentral is blacklisted, or expires."""
        found = self._ringcentral(body).subscriptions.find(str(body.get("id")))
        if isinstance(found, Fault):
            raise BadControl("no subscription with this id")
        match body.get("become"):
            case "Blacklisted":
                found.blacklist(self._carrier.book.clock(), "By the control API")
            case "Expired":
                found.expires_at = 0.0
            case _:
                raise BadControl('become must be "Blacklisted" or "Expired"')
        return {}

    def _ringcentral(self, body: dict[str, Any]) -> RingCentralState:
        state = self._carrier.accounts.get(str(body.get("sid", "")))
        if not isinstance(state, RingCentralState):
            raise BadControl("this account is not at RingCentral")
        return state

    async def _inbound(self, body: dict[str, Any]) -> object:
        if unknown := set(body) - set(_INBOUND_FIELDS):
            raise BadControl(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(_INBOUND_FIELDS)}")
        for name, value in body.items():
            if value is not None and not isinstance(value, _INBOUND_FIELDS[name]):
                raise BadControl(f"{name} has the wrong type")
        given = {name: value for name, value in body.items() if value is not None}
        if "sid" in given:
            result = await self._carrier.inbound_again(given["sid"], repeat=given.get("repeat", 1))
        elif not {"from", "to", "body"} <= set(given):
            raise BadControl("from, to and body are needed")
        elif given.get("opt_out_type", "STOP") not in {"STOP", "START", "HELP"}:
            raise BadControl("opt_out_type must be STOP, START or HELP")
        else:
            result = await self._carrier.inbound(given.pop("from"), given.pop("to"), given.pop("body"), **given)
        return result.as_json()


def _read(exchange: Exchange, body: bytes) -> dict[str, Any]:
    if not (exchange.header(b"content-type") or b"").startswith(b"application/json"):
        raise BadControl("the content type must be application/json")
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        raise BadControl("the body is not JSON") from None
    if not isinstance(value, dict):
        raise BadControl("the body must be an object")
    return value


def _is_share(one: object) -> bool:
    return isinstance(one, list) and len(one) == 2 and type(one[0]) in (int, float) and 0 <= one[0] <= 1


def _number(query: dict[str, str], name: str, default: float) -> float:
    try:
        return float(query.get(name, default))
    except ValueError:
        raise BadControl(f"{name} must be a number") from None


def _error(what: str) -> dict[str, str]:
    return {"error": what}
