"""What the tests of the simulator's RingCentral side share: a client of its API."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from gateway.simulator.config import CarrierConfig, RingCentralAccount
from gateway.simulator.http_client import Answer, HttpClient
from gateway.simulator.server import listening
from gateway.simulator.wire import Exchange, Receive, Scope, Send

__all__ = ["A2P", "ACCOUNT", "CLIENT", "JWT", "SECRET", "SMS", "TO", "EventSink", "RingCentral", "config", "running_events"]

ACCOUNT: Final = "405156321033"
CLIENT: Final = "a-client"
SECRET: Final = "a-client-secret"
JWT: Final = "a.json.web-token"
SMS: Final = "+12025550100"
A2P: Final = "+12025550101"
TO: Final = "+12025550123"
GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def config(*, account: dict[str, Any] | None = None, **changes: Any) -> CarrierConfig:
    """A carrier with one account at RingCentral, quick and repeatable, with one number for single SMS and one for batches."""
    settings = {"senders": (SMS,), "a2p_senders": (A2P,), **(account or {})}
    accounts = (RingCentralAccount(ACCOUNT, CLIENT, SECRET, JWT, **settings),)
    return CarrierConfig(**{"accounts": accounts, "seed": 1, "sent_ms": 0, "final_ms": 0, **changes})


class RingCentral:
    """RingCentral's API as a bare HTTP client sees it; ``answer`` is the last one, with its headers."""

    def __init__(self, url: str, *, within: float = 10.0) -> None:
        self.url = url
        self.within = within
        self.bearer = ""
        self.answer = Answer(0, b"")
        self.client = HttpClient(keep_body=None)

    async def send(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, Any]:
        self.answer = await self.client.request(method, self.url + path, headers, body, read_within=self.within)
        return self.answer.status, json.loads(self.answer.body) if self.answer.body else None

    async def token(self, *, secret: str = SECRET, **form: str) -> tuple[int, Any]:
        """Ask for a token, by the JWT unless the form says otherwise, and use it from now on."""
        basic = base64.b64encode(f"{CLIENT}:{secret}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
        fields = form or {"grant_type": GRANT, "assertion": JWT}
        status, told = await self.send("POST", "/restapi/oauth/token", headers, urlencode(fields).encode())
        if status == 200:
            self.bearer = told["access_token"]
        return status, told

    async def call(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
        """One call, with a token that is asked for first where there is none."""
        if not self.bearer:
            await self.token()
        headers = {"Authorization": f"Bearer {self.bearer}", "Content-Type": "application/json"}
        target = f"{path}?{urlencode(query, doseq=True)}" if query else path
        return await self.send(method, target, headers, b"" if body is None else json.dumps(body).encode())

    async def sms(self, to: str = TO, text: str = "Hello", sender: str = SMS) -> tuple[int, Any]:
        body = {"from": {"phoneNumber": sender}, "to": [{"phoneNumber": to}], "text": text}
        return await self.call("POST", "/restapi/v1.0/account/~/extension/~/sms", body)

    async def batch(self, *to: str, text: str = "Hello", sender: str = A2P) -> tuple[int, Any]:
        body = {"from": sender, "text": text, "messages": [{"to": [one]} for one in to or (TO,)]}
        return await self.call("POST", "/restapi/v1.0/account/~/a2p-sms/batches", body)

    async def a2p(self, path: str, **query: Any) -> tuple[int, Any]:
        return await self.call("GET", f"/restapi/v1.0/account/~/a2p-sms{path}", **query)

    async def store(self, method: str = "GET", path: str = "", **query: Any) -> tuple[int, Any]:
        return await self.call(method, f"/restapi/v1.0/account/~/extension/~/message-store{path}", **query)

    async def consents(self, method: str, path: str = "", body: Any = None, **query: Any) -> tuple[int, Any]:
        return await self.call(method, f"/restapi/v2/accounts/~/sms/consents{path}", body, **query)

    async def subscription(self, method: str, path: str = "", body: Any = None) -> tuple[int, Any]:
        return await self.call(method, f"/restapi/v1.0/subscription{path}", body)

    async def subscribe(self, address: str, *filters: str, token: str | None = "a-token", **more: Any) -> tuple[int, Any]:
        mode = {"transportType": "WebHook", "address": address, **({} if token is None else {"verificationToken": token})}
        body = {"eventFilters": list(filters), "deliveryMode": mode, **more}
        return await self.subscription("POST", body=body)

    async def control(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        method, data = ("GET", b"") if body is None else ("POST", json.dumps(body).encode())
        return await self.send(method, f"/_carrier{path}", {"Content-Type": "application/json"}, data)


@dataclass
class EventSink:
    """A web server that takes RingCentral's webhooks: ``greet`` answers the handshake, ``answer`` is the status for each event."""

    url: str = ""
    greet: Callable[[bytes], tuple[int, bytes, list[tuple[bytes, bytes]]]] = lambda token: (
        200,
        b"",
        [(b"validation-token", token)],
    )
    answer: int = 200
    delay: asyncio.Event | None = None
    greeted: int = 0
    events: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        body = await exchange.body()
        token = exchange.header(b"validation-token")
        if self.delay is not None:
            await self.delay.wait()
        if token is not None:
            assert not body
            self.greeted += 1
            status, answer, headers = self.greet(token)
            await exchange.answer(status, answer, headers if answer else [*headers, (b"content-length", b"0")])
            return
        headers_of = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.events.append((headers_of, json.loads(body)))
        self.came.set()
        await exchange.answer(self.answer, b"", [(b"content-length", b"0")])

    async def wait(self, count: int, within: float = 5.0) -> list[dict[str, Any]]:
        async with asyncio.timeout(within):
            while len(self.events) < count:
                self.came.clear()
                await self.came.wait()
        return [event for _, event in self.events]


@asynccontextmanager
async def running_events() -> AsyncIterator[EventSink]:
    sink = EventSink()
    async with listening(sink) as sink.url:
        yield sink
