"""A web server inside a running event loop: uvicorn, without its signal handlers, access log and ``server`` header."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from gateway.domain.errors import GatewayError
from gateway.web.connection import BoundedConnection

__all__ = ["WebServer"]

_BACKLOG: Final = 2048
_KEEP_ALIVE_SECONDS: Final = 30
_LONGEST_STOP_SECONDS: Final = 5.0


class _Server(uvicorn.Server):
    """Leaves signals to the process (whoever made the event loop decides what SIGTERM means), and tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """Serves an ASGI application. Port 0 takes a free one, which :attr:`port` tells after :meth:`start`.

    ``reuse_port`` lets several processes listen on one port, the kernel spreading connections over them. ``drain_seconds`` is how long
    :meth:`stop` waits for requests under way; ``connections`` bounds the open ones.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        drain_seconds: float = 20.0,
        reuse_port: bool = False,
        connections: int = 20_000,
    ) -> None:
        self._host = host
        self._wanted_port = port
        self._reuse_port = reuse_port
        self._drain_seconds = drain_seconds
        self._port: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._server = _Server(
            uvicorn.Config(
                app,
                http=BoundedConnection,
                ws="none",
                loop="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, round(drain_seconds)),
                limit_concurrency=connections,
            ),
        )

    @property
    def port(self) -> int:
        """The port listened on. RuntimeError before :meth:`start`."""
        if self._port is None:
            raise RuntimeError("the server has not been started")
        return self._port

    async def start(self) -> None:
        """Listens; returns when requests are taken. Raises :class:`GatewayError` when the address can't be had."""
        listening = await self._listen()
        self._port = listening.getsockname()[1]
        # Whoever reaches the port can cause uvicorn's warnings (unreadable requests, upgrades) at any rate.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]), name=f"web {self._host}:{self._port}")
        started = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait({self._task, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._task.done():
            listening.close()
            raise GatewayError(f"the web server on {self._host}:{self._port} ended at its start") from self._task.exception()

    async def stop(self) -> None:
        """Takes no more requests, waits for those under way, at most ``drain_seconds``, then cuts them off."""
        if self._task is None:
            return
        self._server.should_exit = True
        done, _ = await asyncio.wait({self._task}, timeout=self._drain_seconds + _LONGEST_STOP_SECONDS)
        if not done:
            self._server.force_exit = True
            self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    async def _listen(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._wanted_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, address = found[0]
            listening = socket.socket(family, kind, protocol)
        except OSError as fault:
            raise GatewayError(f"can't listen on {self._host}:{self._wanted_port}: {fault.strerror}") from None
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._reuse_port:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6 and self._host == "::":
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listening.setblocking(False)
            listening.bind(address)
        except OSError as fault:
            listening.close()
            raise GatewayError(f"can't listen on {self._host}:{self._wanted_port}: {fault.strerror}") from None
        return listening
