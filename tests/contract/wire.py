"""A server on a real socket that does to a connection whatever a test says, and keeps what it received."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

__all__ = ["Connection", "Received", "Wire", "a_full_listener", "an_unused_port", "wire"]


@dataclass(frozen=True)
class Received:
    """One whole request."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=bool(self.body)))

    def header(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name]


@dataclass
class Connection:
    """The server's end of one connection."""

    server: Wire
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read(self) -> Received:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
        length = next((int(value) for name, value in headers if name == "content-length"), 0)
        received = Received(method, target, headers, await self.reader.readexactly(length))
        self.server.requests.append(received)
        self.server.arrived.set()
        return received

    async def bytes_are_there(self) -> None:
        """Wait until the client has written something, and leave it unread by the server's program."""
        while not self.reader._buffer:  # type: ignore[attr-defined] # there is no public way to look at what has arrived
            await self.reader._wait_for_data("bytes_are_there")  # type: ignore[attr-defined] # there is no public way to look at what has arrived

    async def write(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(self, status: int, body: bytes = b"{}", headers: str = "") -> None:
        await self.write(f"HTTP/1.1 {status} Whatever\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body)

    async def hang(self) -> None:
        await self.server.over.wait()

    def fin(self) -> None:
        self.writer.close()

    def rst(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class Wire:
    """The server: where it listens, and all it received over all connections."""

    url: str
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def wire(script: Callable[[Connection], Awaitable[None]], tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """Run ``script`` for every connection."""
    running = Wire("")
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        running.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await script(Connection(running, reader, writer))
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    running.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield running
    finally:
        running.over.set()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0)  # the transports close their sockets


def an_unused_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@asynccontextmanager
async def a_full_listener() -> AsyncIterator[socket.socket]:
    """A listener whose backlog is full: the kernel leaves every further SYN without an answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        listener.setblocking(False)
        fillers = [socket.socket() for _ in range(3)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                with suppress(BlockingIOError):
                    filler.connect(listener.getsockname())
            yield listener
        finally:
            for filler in fillers:
                filler.close()
