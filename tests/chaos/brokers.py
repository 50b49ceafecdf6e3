"""The broker, and what can be done to it. One that keeps its records can be stopped and killed too; the embedded one forgets them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

from gateway.domain.errors import GatewayError
from gateway.embedded.broker import EmbeddedBroker
from tests.chaos.proxy import Line
from tests.kafka.jars import KafkaMissing
from tests.kafka.server import KafkaServer
from tests.support import until

__all__ = ["Broker", "Server", "open_broker"]

_START_SECONDS: Final = 240.0  # a limit for a machine that is busy: 3 are usual


class Server(Protocol):
    """A broker's server: the embedded one, or another. ``start`` blocks until it is ready, and keeps the port."""

    @property
    def process_id(self) -> int | None: ...
    def alive(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Broker:
    """A broker: ``bootstrap_servers`` is the way of the gateway, by a line; ``direct`` the way of who watches it, where there is another.

    ``durable``: it has its records again after a start, and produces idempotently.
    """

    def __init__(self, server: Server, line: Line, direct: str, thread: ThreadPoolExecutor, *, durable: bool, name: str) -> None:
        self.bootstrap_servers = f"127.0.0.1:{line.port}"
        self.direct = direct
        self.durable = durable
        self.name = name
        self._server = server
        self._thread = thread
        self._hurting = asyncio.Lock()

    async def stop(self, seconds: float) -> str:
        """An orderly stop, and a start later."""
        async with self._hurting:
            began = time.monotonic()
            await self._run(self._server.stop)
            await asyncio.sleep(seconds)
            await self._run(self._server.start)
            return f"stopped, up again after {time.monotonic() - began:.1f} s"

    async def kill(self, seconds: float) -> str:
        """``kill -9``, and a start later."""
        async with self._hurting:
            began = time.monotonic()
            assert self._server.process_id is not None
            os.kill(self._server.process_id, signal.SIGKILL)
            await until(lambda: not self._server.alive(), 10, "the broker has died")
            await asyncio.sleep(seconds)
            await self._run(self._server.start)
            return f"killed, up again after {time.monotonic() - began:.1f} s"

    async def freeze(self, seconds: float) -> str:
        """SIGSTOP and SIGCONT."""
        async with self._hurting:
            process_id = self._server.process_id
            assert process_id is not None
            os.kill(process_id, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                os.kill(process_id, signal.SIGCONT)
            return f"frozen for {seconds:.1f} s"

    async def _run(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work)


@asynccontextmanager
async def open_broker(folder: Path, line: Line) -> AsyncIterator[Broker]:
    """Apache Kafka where this machine can run it, else the embedded broker; the line is opened between it and the gateway."""
    with ThreadPoolExecutor(1) as thread:  # as with PostgreSQL
        loop = asyncio.get_running_loop()
        started = KafkaServer(folder, seconds=_START_SECONDS)
        kafka: KafkaServer | None = started
        why_not = ""
        try:
            await loop.run_in_executor(thread, started.start)
        except (GatewayError, KafkaMissing) as fault:  # no Java, no Maven, or a Kafka that does not start: the summary says it
            kafka, why_not = None, str(fault)
        server: Server
        if kafka is not None:
            server, (port, advertised) = kafka, kafka.wired
            line.peer = "127.0.0.1", port
            await line.open(advertised)
            broker = Broker(server, line, kafka.bootstrap_servers, thread, durable=True, name="Apache Kafka")
        else:
            await line.open()
            server = EmbeddedBroker(folder, advertised_port=line.port)
            await loop.run_in_executor(thread, server.start)
            line.peer = "127.0.0.1", server.port
            name = f"the embedded one, in memory: {why_not}"
            broker = Broker(server, line, f"127.0.0.1:{line.port}", thread, durable=False, name=name)
        try:
            yield broker
        finally:
            await loop.run_in_executor(thread, server.stop)
