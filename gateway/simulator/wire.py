"""The one exchange of a request and its answer, with what HTTP servers do not offer: resetting the connection and never answering."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, cast
from urllib.parse import parse_qsl

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["CarrierProtocol", "Exchange", "Receive", "Scope", "Send", "TooLarge"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_LIMIT: Final = 1 << 20
_WIRE: Final = "carrier.wire"
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
_JSON: Final = (b"content-type", b"application/json;charset=utf-8")


class TooLarge(Exception):
    """The request's body is over the limit."""


class CarrierProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also hands the application its transport and the time of a request's first byte."""

    def on_message_begin(self) -> None:
        """Begin a request: the parser has seen its first byte."""
        super().on_message_begin()
        cast("Scope", self.scope)["extensions"] = {_WIRE: (self.transport, time.time())}


class Exchange:
    """One request and the ways to answer it."""

    __slots__ = ("_receive", "_send", "_transport", "begun_at", "method", "path", "scope")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._receive = receive
        self._send = send
        transport, begun_at = scope.get("extensions", {}).get(_WIRE, (None, None))
        self._transport: asyncio.Transport | None = transport
        self.begun_at: float = time.time() if begun_at is None else begun_at

    def header(self, name: bytes) -> bytes | None:
        """The first header of that (lower-case) name."""
        for key, value in self.scope["headers"]:
            if key == name:
                return cast("bytes", value)
        return None

    def query(self) -> list[tuple[str, str]]:
        """The query's parameters, blank ones too."""
        return parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)

    async def body(self, limit: int = BODY_LIMIT) -> bytes:
        """The whole body. Raises TooLarge above ``limit`` bytes, ConnectionError when the client goes away before its end."""
        chunks: list[bytes] = []
        size = 0
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise ConnectionResetError("the client went away")
            chunk = event.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise TooLarge
            chunks.append(chunk)
            if not event.get("more_body", False):
                return b"".join(chunks) if len(chunks) > 1 else chunk

    async def form(self) -> dict[str, str]:
        """The body as a form; of a repeated name the last value."""
        return dict(parse_qsl((await self.body()).decode("utf-8", "replace"), keep_blank_values=True))

    async def answer(self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer with JSON, or with nothing where ``body`` is empty."""
        fields = [(b"content-length", str(len(body)).encode()), _JSON, *headers] if body else list(headers)
        await self._send({"type": "http.response.start", "status": status, "headers": fields})
        await self._send({"type": "http.response.body", "body": body})

    async def cut(self, status: int, body: bytes) -> None:
        """Answer with the first half of the body only, and close."""
        fields = [(b"content-length", str(len(body)).encode()), _JSON]
        await self._send({"type": "http.response.start", "status": status, "headers": fields})
        await self._send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        self._need_transport().close()
        await self._gone()

    async def reset(self) -> None:
        """End the connection with a TCP reset (RST), as a crashed or overloaded peer does."""
        transport = self._need_transport()
        # A second descriptor of the same socket: uvloop's own is not a real socket object. Closed before the abort, or no RST goes.
        with (
            contextlib.suppress(OSError),  # the client has gone first: there is nothing left to reset
            socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as connection,
        ):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        transport.abort()
        await self._gone()

    async def hang(self, closing: asyncio.Event) -> None:
        """Answer nothing until the client gives up, or until the carrier closes."""
        gone = asyncio.ensure_future(self._gone())
        closed = asyncio.ensure_future(closing.wait())
        try:
            await asyncio.wait((gone, closed), return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                self._need_transport().abort()
                await gone
        finally:
            gone.cancel()
            closed.cancel()

    @property
    def left(self) -> bool:
        """Whether the client has already gone away."""
        return self._transport is not None and self._transport.is_closing()

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _need_transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise RuntimeError("resets need the server of gateway.simulator.server")
        return self._transport
