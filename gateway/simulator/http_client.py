"""A lean HTTP/1.1 client: kept connections, one request at a time on each, and exact words for what went wrong.

The simulator posts a callback for every message of a benchmark on the same two cores as the gateway, so it can't afford a general
client; and it must know whether a connection failed or an answer did, because Twilio's retries depend on it.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, cast
from urllib.parse import urlsplit

import httptools

__all__ = ["Answer", "HttpClient", "NoAnswer"]

_AUTHORITY: Final = re.compile(r"([^/?#]*)([^#]*)")
_KEPT_BODY: Final = 64 * 1024
#: Seconds. Web servers end idle connections after 5 s or more; one that is used again sooner can't meet that, and so no request
#: is ever lost to it or sent twice because of it.
_LONGEST_IDLE: Final = 2.0


class NoAnswer(Exception):
    """No answer came. ``kind`` is "connect" where nothing was sent, "read" where something was."""

    def __init__(self, kind: Literal["connect", "read"]) -> None:
        self.kind: Literal["connect", "read"] = kind
        super().__init__(kind)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; of a long body the first 64 KiB, or all of it where the client was made to keep all. Header names in lower case."""

    status: int
    body: bytes = field(repr=False)
    headers: dict[bytes, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class _Target:
    secure: bool
    host: str
    port: int


@lru_cache(maxsize=256)
def _target(scheme: str, authority: str) -> _Target:
    parts = urlsplit(f"{scheme}://{authority}")
    secure = scheme == "https"
    return _Target(secure, parts.hostname or "", parts.port or (443 if secure else 80))


class _Connection(asyncio.Protocol):
    """One connection; feeds the answer to the request under way."""

    def __init__(self, keep_body: int | None) -> None:
        self.open = True
        self.reusable = True
        self.idle_since = 0.0
        self._keep_body = keep_body
        self._transport: asyncio.Transport | None = None
        self._pending: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    async def request(self, data: bytes) -> Answer:
        """Send one request and wait for its answer. Raises ConnectionError when the connection ends first."""
        assert self._transport is not None
        if not self.open:
            raise ConnectionResetError
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._size = 0
        self._headers_done = self._sized = False
        self._pending = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        try:
            return await self._pending
        finally:
            self._pending = None

    def data_received(self, data: bytes) -> None:
        if self._pending is None:
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail()
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._headers[name] = value
        self._sized = self._sized or name in {b"content-length", b"transfer-encoding"}

    def on_headers_complete(self) -> None:
        self._headers_done = True

    def on_body(self, body: bytes) -> None:
        if self._keep_body is None or self._size < self._keep_body:
            self._body.append(body)
            self._size += len(body)

    def on_message_complete(self) -> None:
        self.reusable = bool(self._parser.should_keep_alive())
        self._succeed()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        # An answer without a length ends with its connection.
        if self._pending is not None and exc is None and self._headers_done and not self._sized:
            self._succeed()
        else:
            self._fail()

    def _succeed(self) -> None:
        if self._pending is not None and not self._pending.done():
            body = b"".join(self._body)[: self._keep_body]
            self._pending.set_result(Answer(self._parser.get_status_code(), body, self._headers))

    def _fail(self) -> None:
        if self._pending is not None and not self._pending.done():
            self._pending.set_exception(ConnectionResetError())

    def abort(self) -> None:
        """End the connection at once."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()


class HttpClient:
    """Sends requests over kept connections. ``keep_body`` is how much of a body is kept, None for all of it."""

    def __init__(self, *, keep_body: int | None = _KEPT_BODY) -> None:
        self._keep_body = keep_body
        self._idle: dict[_Target, list[_Connection]] = {}
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    async def request(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes,
        *,
        host: str | None = None,
        connect_within: float = 5.0,
        read_within: float = 15.0,
    ) -> Answer:
        """Send a request; ``host`` replaces the URL's own in the Host header. Raises NoAnswer; times are in seconds.

        Nothing is ever sent twice.
        """
        scheme, _, rest = url.partition("://")
        found = _AUTHORITY.match(rest)
        assert found is not None, "it matches any text"
        authority, path = found.groups()
        try:
            target = _target(scheme, authority)
        except ValueError:
            raise NoAnswer("connect") from None
        lines = [
            f"{method} {path if path.startswith('/') else f'/{path}'} HTTP/1.1",
            f"Host: {host or authority.rpartition('@')[2]}",
            f"Content-Length: {len(body)}",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        data = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        connection = self._take(target) or await self._connect(target, connect_within)
        try:
            async with asyncio.timeout(read_within):
                answer = await connection.request(data)
        except (TimeoutError, ConnectionError):
            connection.abort()
            raise NoAnswer("read") from None
        except asyncio.CancelledError:
            connection.abort()
            raise
        self._give_back(target, connection)
        return answer

    def _take(self, target: _Target) -> _Connection | None:
        idle = self._idle.get(target)
        oldest = asyncio.get_running_loop().time() - _LONGEST_IDLE
        while idle:
            connection = idle.pop()
            if connection.open and connection.idle_since >= oldest:
                return connection
            connection.abort()
        return None

    def _give_back(self, target: _Target, connection: _Connection) -> None:
        if self._closed or not connection.reusable:
            connection.abort()
        elif connection.open:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.setdefault(target, []).append(connection)

    async def _connect(self, target: _Target, within: float) -> _Connection:
        if target.secure and self._tls is None:
            self._tls = ssl.create_default_context()
        try:
            async with asyncio.timeout(within):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self._keep_body), target.host, target.port, ssl=self._tls if target.secure else None
                )
        except (OSError, UnicodeError, TimeoutError):
            raise NoAnswer("connect") from None
        return connection

    def close(self) -> None:
        """End all kept connections."""
        self._closed = True
        for idle in self._idle.values():
            for connection in idle:
                connection.abort()
        self._idle.clear()
