"""What the simulator's tests share: a client of its API, and a server that takes webhooks and keeps them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from gateway.simulator.config import Account, CarrierConfig
from gateway.simulator.http_client import HttpClient
from gateway.simulator.server import listening
from gateway.simulator.wire import Exchange, Receive, Scope, Send

__all__ = ["FROM", "OTHER", "SID", "TO", "TOKEN", "Api", "Hook", "Sink", "config", "running_sink"]

SID: Final = "AC" + "0a" * 16
TOKEN: Final = "a-token"
FROM: Final = "+12025550100"
TO: Final = "+12025550123"
OTHER: Final = "+12025550124"


def config(*, account: dict[str, Any] | None = None, **changes: Any) -> CarrierConfig:
    """A carrier with one account, quick and repeatable."""
    return CarrierConfig(
        **{"accounts": (Account(SID, TOKEN, **(account or {})),), "seed": 1, "sent_ms": 0, "final_ms": 0, **changes}
    )


class Api:
    """The Messages API as a bare HTTP client sees it."""

    def __init__(self, url: str, sid: str = SID, token: str = TOKEN, *, within: float = 10.0) -> None:
        self.url = url
        self.sid = sid
        self.within = within
        self.headers = {"Authorization": "Basic " + base64.b64encode(f"{sid}:{token}".encode()).decode()}
        self.client = HttpClient(keep_body=None)

    async def call(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, Any]:
        headers = {**self.headers, "Content-Type": "application/x-www-form-urlencoded"}
        answer = await self.client.request(
            method, self.url + path, headers, urlencode(form or {}).encode(), read_within=self.within
        )
        return answer.status, json.loads(answer.body) if answer.body else None

    async def create(self, to: str = TO, body: str = "Hello", **form: str) -> tuple[int, Any]:
        fields = {"To": to, "Body": body, **({} if "MessagingServiceSid" in form else {"From": FROM}), **form}
        return await self.call("POST", f"/2010-04-01/Accounts/{self.sid}/Messages.json", fields)

    async def list(self, **query: str) -> tuple[int, Any]:
        return await self.call("GET", f"/2010-04-01/Accounts/{self.sid}/Messages.json?{urlencode(query)}")

    async def message(self, method: str, sid: str, form: dict[str, str] | None = None) -> tuple[int, Any]:
        return await self.call(method, f"/2010-04-01/Accounts/{self.sid}/Messages/{sid}.json", form)

    async def control(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        method, data = ("GET", b"") if body is None else ("POST", json.dumps(body).encode())
        answer = await self.client.request(method, f"{self.url}/_carrier{path}", {"Content-Type": "application/json"}, data)
        return answer.status, json.loads(answer.body)


@dataclass(frozen=True)
class Hook:
    """A webhook that came in."""

    path: str
    headers: dict[str, str]
    pairs: list[tuple[str, str]]

    @property
    def form(self) -> dict[str, str]:
        return dict(self.pairs)


@dataclass
class Sink:
    """A web server that takes webhooks. ``answer`` gives the status for the n-th (from 1); None ends the connection instead."""

    url: str = ""
    answer: Callable[[int], int | None] = lambda _: 200
    body: bytes = b""
    hooks: list[Hook] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        pairs = parse_qsl((await exchange.body()).decode(), keep_blank_values=True)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.hooks.append(Hook(exchange.path, headers, pairs))
        self.came.set()
        status = self.answer(len(self.hooks))
        if status is None:
            await exchange.reset()
        else:
            await exchange.answer(status, self.body, ((b"content-length", b"0"),) if not self.body else ())

    async def wait(self, count: int, within: float = 5.0) -> list[Hook]:
        async with asyncio.timeout(within):
            while len(self.hooks) < count:
                self.came.clear()
                await self.came.wait()
        return self.hooks


@asynccontextmanager
async def running_sink() -> AsyncIterator[Sink]:
    sink = Sink()
    async with listening(sink) as sink.url:
        yield sink
