"""The HTTP client under every provider: it says surely when a request was not sent, and it never sends one twice.

Three things about pyreqwest 0.15 that shape this module, each seen on real sockets (``tests/contract/test_http.py``):

- Its exceptions' *names* lie: a POST that the server read and never answered raises ``ConnectTimeoutError``. Only the list of
  causes tells. hyper-util writes ``client error (Connect)`` there, and nowhere else, when name resolution, TCP or the TLS
  handshake failed: all of them come before the first byte of a request. When a kept connection ends before the first byte was
  written, the request goes over another one by itself; it arrives once.
- Cancelling its coroutine does not cancel the request: that goes on in a thread of its own, and *may begin later*. So a request
  here is never cancelled. Whoever waits for it and is cancelled still waits for its true end, at most the time limit.
- Its own pool would let a request wait out of sight, and begin after its caller has gone. So places are given out here, and what
  got none in time was surely not sent.

Its thread wakes Python when a request ends, and lets go of the interpreter a moment later; an interpreter that leaves in that
moment aborts (SIGABRT: seen in 5 of 80 exits of CPython 3.11 right after time-outs, and in none of 150 with the moment's grace
that :meth:`HttpClient.close` gives). So close before the event loop ends; what must leave with a certain exit code does its last
act and then calls ``os._exit``.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from json import dumps
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal

from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import DetailedPyreqwestError

from gateway.domain.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyreqwest.response import ResponseBodyReader

__all__ = ["Answer", "HttpClient", "MaybeSent", "NotSent"]

NotSentWhy = Literal["pool", "late", "closing", "bad_request", "name", "refused", "connect_timeout", "connect", "tls"]
MaybeSentWhy = Literal["timeout", "reset", "closed", "broken_answer"]

# Shares of the time limit: a place in the pool and a connection must come so early that their own limits run out first. Then the
# cause is known, and proves that nothing was sent; when the whole limit runs out nobody can say where it struck.
POOL_SHARE: Final = 1 / 4
CONNECT_SHARE: Final = 3 / 8
# The client's own limit strikes this much before ours, so that a request is over when we say so: a share, at most these seconds.
MARGIN_SHARE: Final = 1 / 20
MARGIN_SECONDS: Final = 0.1

EXIT_GRACE_SECONDS: Final = 0.05

CONNECT: Final = "client error (Connect)"  # hyper-util, src/client/legacy/client.rs, ErrorKind::Connect


class NotSent(GatewayError):
    """Proven: not one byte of the request left this machine. ``why`` is a short name."""

    def __init__(self, why: NotSentWhy) -> None:
        self.why = why
        super().__init__(f"nothing was sent: {why}")


class MaybeSent(GatewayError):
    """The request may have arrived, and may have been acted on; ``why`` is a short name."""

    def __init__(self, why: MaybeSentWhy) -> None:
        self.why = why
        super().__init__(f"the request may have arrived: {why}")


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """A whole answer, whatever its status. ``headers`` are found by name in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Answer(status={self.status})"


class HttpClient:
    """HTTP/1.1 with one time limit for a whole request, no proxy, no redirect, no retry, and a bounded number of connections.

    ``time_limit_seconds`` covers the wait for a place, name resolution, TCP, TLS, the request and the whole answer.
    ``answer_limit_bytes`` bounds an answer's body: a longer one is a broken answer. Certificates are verified, against the
    machine's trust store and ``trusted_certificates`` (PEM). One event loop uses it.
    """

    def __init__(
        self,
        *,
        time_limit_seconds: float,
        connections: int,
        answer_limit_bytes: int = 1 << 20,
        trusted_certificates: bytes | None = None,
    ) -> None:
        if time_limit_seconds <= 0 or connections < 1 or answer_limit_bytes < 1:
            raise ValueError("limits of an HTTP client are above zero")
        self._limit = time_limit_seconds
        self._margin = min(MARGIN_SECONDS, time_limit_seconds * MARGIN_SHARE)
        self._answer_limit = answer_limit_bytes
        self._places = asyncio.Semaphore(connections)
        self._under_way: set[asyncio.Task[Answer]] = set()
        self._closing = False
        builder = (
            ClientBuilder()
            .no_proxy()
            .follow_redirects(enable=False)
            .referer(enable=False)
            .http1_only()
            .gzip(enable=False)
            .brotli(enable=False)
            .zstd(enable=False)
            .deflate(enable=False)
            .timeout(timedelta(seconds=time_limit_seconds - self._margin))
            .connect_timeout(timedelta(seconds=time_limit_seconds * CONNECT_SHARE))
            .pool_max_idle_per_host(connections)
        )
        if trusted_certificates is not None:
            builder = builder.add_root_certificate_pem(trusted_certificates)
        self._client = builder.build()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        form: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        json: object = None,
        basic_auth: tuple[str, str] | None = None,
        within_seconds: float | None = None,
    ) -> Answer:
        """Send one request once and return its answer, of any status; at most the time limit passes.

        ``form`` is sent as ``application/x-www-form-urlencoded``, as pairs where a name stands several times; ``json`` as
        ``application/json``. ``within_seconds`` is a shorter limit, for what is left of somebody's time.
        Raises :class:`NotSent` only on proof that nothing left, :class:`MaybeSent` in every other case. If it is cancelled while
        the request is under way it waits for the request's end before it lets go.
        """
        limit = self._limit if within_seconds is None else min(self._limit, within_seconds)
        deadline = monotonic() + limit
        content = form if form is not None else None if json is None else dumps(json).encode()
        await self._take_place(limit)
        exchange = asyncio.create_task(self._exchange(method, url, headers, content, basic_auth, deadline))
        self._under_way.add(exchange)
        exchange.add_done_callback(self._ended)
        try:
            await asyncio.wait((exchange,), timeout=deadline - monotonic())
        except asyncio.CancelledError:
            await _end_of(exchange)
            raise
        if not exchange.done():
            raise MaybeSent("timeout")
        return exchange.result()

    async def close(self) -> None:
        """Refuse new requests, wait for those under way (at most the time limit), and close the connections.

        Once is enough; a second time does no harm.
        """
        self._closing = True
        for exchange in tuple(self._under_way):
            await _end_of(exchange)
        await self._client.close()
        await asyncio.sleep(EXIT_GRACE_SECONDS)

    async def _take_place(self, limit: float) -> None:
        if not self._places.locked():
            await self._places.acquire()  # does not wait
        else:
            try:
                async with asyncio.timeout(limit * POOL_SHARE):
                    await self._places.acquire()
            except TimeoutError:
                raise NotSent("pool") from None
        if self._closing:
            self._places.release()
            raise NotSent("closing")

    def _ended(self, exchange: asyncio.Task[Answer]) -> None:
        """Give the place back only now: what is under way holds one, also when nobody waits for it any more."""
        self._under_way.discard(exchange)
        self._places.release()
        if not exchange.cancelled():
            exchange.exception()  # seen: a fault that came after the time limit is nobody's any more

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: Mapping[str, str] | Sequence[tuple[str, str]] | bytes | None,
        basic_auth: tuple[str, str] | None,
        deadline: float,
    ) -> Answer:
        fault: NotSent | MaybeSent
        try:
            request = self._client.request(method, url).headers(headers)
            if basic_auth is not None:
                request = request.basic_auth(*basic_auth)
            if isinstance(content, bytes):
                request = request.header("content-type", "application/json").body_bytes(content)
            elif content is not None:
                request = request.form(content)
            left = deadline - self._margin - monotonic()
            if left <= 0:
                raise NotSent("late")  # this process was held up: what begins now could end after its time
            streamed = request.timeout(timedelta(seconds=left)).build_streamed()
        except ValueError:
            fault = NotSent("bad_request")
        else:
            try:
                async with streamed as response:
                    return Answer(response.status, response.headers, await self._read(response.body_reader))
            except MaybeSent as too_long:
                fault = too_long
            except Exception as error:  # noqa: BLE001 - whatever the library may raise: its text must not pass
                fault = _meaning(error)
        # Raised out here, so that it carries nothing of the library's exception, whose text holds the URL with its query.
        raise fault

    async def _read(self, reader: ResponseBodyReader) -> bytes:
        whole = b""
        while (piece := await reader.read(self._answer_limit + 1 - len(whole))) is not None:
            whole += bytes(piece)
            if len(whole) > self._answer_limit:
                raise MaybeSent("broken_answer")
        return whole


async def _end_of(exchange: asyncio.Task[Answer]) -> None:
    """Wait until a request is over, whoever is in a hurry: it cannot be called back, and it ends at its time limit by itself."""
    while not exchange.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait((exchange,))


def _meaning(error: Exception) -> NotSent | MaybeSent:
    """What a fault proves, by its causes; never by its class."""
    details = error.details if isinstance(error, DetailedPyreqwestError) else {"causes": None}
    causes = [cause["message"] for cause in details["causes"] or ()]
    # The place is checked as well as the words: first reqwest's own line, then hyper-util's kind.
    if len(causes) > 1 and causes[0].startswith("error sending request") and causes[1] == CONNECT:
        return NotSent(_why_not_connected(causes[2:]))
    if causes and causes[0].startswith("builder error"):
        return NotSent("bad_request")
    if "operation timed out" in causes:
        return MaybeSent("timeout")
    if any("reset by peer" in cause or "Broken pipe" in cause for cause in causes):
        return MaybeSent("reset")
    if "connection closed before message completed" in causes:
        return MaybeSent("closed")
    return MaybeSent("broken_answer")


def _why_not_connected(causes: list[str]) -> NotSentWhy:
    if any("deadline has elapsed" in cause or "timed out" in cause for cause in causes):
        return "connect_timeout"
    if any("Connection refused" in cause for cause in causes):
        return "refused"
    match causes:
        case ["dns error", *_]:
            return "name"
        case ["tcp connect error", *_]:
            return "connect"
        case _:
            return "tls"
