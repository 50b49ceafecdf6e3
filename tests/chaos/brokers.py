"""The broker, and what can be done to it. One that keeps its records can be stopped and killed too; the embedded one forgets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from gateway.embedded.broker import EmbeddedBroker
from tests.chaos.proxy import Line
from tests.chaos.servers import Hurtable, Server
from tests.kafka.jars import KafkaMissing
from tests.kafka.server import KafkaServer

__all__ = ["Broker", "open_broker"]

_START_SECONDS: Final = 240.0  # a limit for a machine that is busy: 3 are usual


class Broker(Hurtable):
    """A broker: ``bootstrap_servers`` is the way of the gateway, by a line; ``direct`` the way of who watches it, where there is another.

    ``durable``: it has its records again after a start, and produces idempotently.
    """

    def __init__(self, server: Server, line: Line, direct: str, thread: ThreadPoolExecutor, *, durable: bool, name: str) -> None:
        super().__init__(server, thread)
        self.bootstrap_servers = f"127.0.0.1:{line.port}"
        self.direct = direct
        self.durable = durable
        self.name = name


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
        except KafkaMissing as fault:  # no Java, no Maven: the summary says it. A Kafka that does not start ends the run
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
