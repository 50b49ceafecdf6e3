"""Serving a carrier: inside a test's event loop, or as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator

import uvicorn
import uvloop

from gateway.simulator.carrier import Carrier
from gateway.simulator.config import CarrierConfig
from gateway.simulator.wire import CarrierProtocol, Receive, Scope, Send

__all__ = ["listening", "run_simulator", "running_carrier", "serve"]

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, which tells when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to whoever runs the loop."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        self.ready.set()


@contextlib.asynccontextmanager
async def listening(application: Application, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve an ASGI application in this loop while the context lasts; gives its URL. Port 0 takes a free one.

    Raises OSError where the address can't be used.
    """
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    # What it accepts inherits this. asyncio sets it only on sockets that name TCP as their protocol, and these don't: an answer's body
    # would then wait for the acknowledgement of its head, some 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    address = listener.getsockname()
    server = _Server(
        uvicorn.Config(
            application,
            http=CarrierProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
    )
    serving = asyncio.create_task(server.serve([listener]))
    ready = asyncio.create_task(server.ready.wait())
    try:
        await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        yield f"http://[{address[0]}]:{address[1]}" if ":" in host else f"http://{address[0]}:{address[1]}"
    finally:
        ready.cancel()
        server.should_exit = True
        await serving
        listener.close()


@contextlib.asynccontextmanager
async def running_carrier(
    config: CarrierConfig, host: str = "127.0.0.1", port: int = 0, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[Carrier]:
    """A carrier that listens while the context lasts; port 0 takes a free one, and ``carrier.url`` tells which.

    Raises OSError where the address can't be used.
    """
    carrier = Carrier(config, clock=clock)
    async with listening(carrier, host, port) as carrier.url:
        try:
            yield carrier
        finally:
            await carrier.close()


async def serve(config: CarrierConfig, host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve a carrier until SIGINT or SIGTERM; print ``listening on URL`` as soon as it does."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with running_carrier(config, host, port) as carrier:
            sys.stdout.write(f"listening on {carrier.url}\n")
            sys.stdout.flush()
            await stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def run_simulator(config: CarrierConfig, host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve a carrier on a loop of its own until SIGINT or SIGTERM. Raises OSError where the address can't be used."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config, host, port))
