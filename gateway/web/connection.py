"""An HTTP/1.1 connection within bounds: uvicorn's own waits for a request's head without limit of length or time."""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["BoundedConnection"]

HEAD_BYTES: Final = 32_768
HEAD_SECONDS: Final = 10.0


class BoundedConnection(HttpToolsProtocol):
    """Closes a connection whose first byte, or the rest of a request's head, takes more than 10 s, or whose head is over 32 KiB."""

    _head: int | None = 0  # bytes of the head under way; None between heads
    _began = False  # a head began in the data at hand
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # TCP only: it has what is used of it
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head, self._began = 0, True

    def on_headers_complete(self) -> None:
        self._head = None
        self._stop_timer()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        self._began = False
        super().data_received(data)
        if self._head is None or self.transport.is_closing():
            return
        # In the middle of a head. What began in this data may follow a body in it, so that its length says nothing.
        self._head += 0 if self._began else len(data)
        if self._head > HEAD_BYTES:
            self.transport.abort()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
