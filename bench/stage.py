"""What is measured, and what it stands on: real servers on this machine's loopback, everything on disk, fsync on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

from gateway.app.kafka import topics_wanted
from gateway.bus.address import BrokerAddress
from gateway.bus.producer import EventPublisher
from gateway.bus.topics import apply
from gateway.domain.cloudevents import write_binary
from gateway.domain.policy import load_policies
from gateway.domain.publishing import Acknowledged, OutEvent
from gateway.embedded.broker import EmbeddedBroker
from gateway.embedded.ports import free_port
from gateway.embedded.postgres import EmbeddedPostgres
from gateway.settings import Settings, load
from gateway.simulator.process import CarrierProcess, carrier_process
from gateway.store.migrate import migrate

__all__ = ["ACCOUNT_SID", "SENDER", "TOKEN", "Stage", "person", "stage"]

ACCOUNT_SID: Final = "AC" + "0" * 31 + "1"
TOKEN: Final = "bench"  # noqa: S105 -- of the simulated carrier
SENDER: Final = "+14155550110"

_POLICY: Final = """\
tenant: bench
name: Bench
languages: [en]
providers: [twilio]
opt_out: {scope: tenant}
programmes:
  news:
    categories: [service]
    senders: [{number: "+14155550110", account: main}]
    help_contact: help@bench.example
"""
_BODY: Final = "Your order {} has left our warehouse and should be with you tomorrow between nine and noon. Thank you!"


def person(number: int) -> str:
    """The number of one of six million people, all in area code 202."""
    return f"+1202{220 + number // 10_000 % 600}{number % 10_000:04d}"


@dataclass(slots=True)
class Stage:
    """PostgreSQL, a broker and a folder, and the settings that lead a gateway to them."""

    folder: Path
    environment: dict[str, str]
    postgres: EmbeddedPostgres
    servers: str
    web_port: int
    published: int = 0

    @property
    def settings(self) -> Settings:
        """The settings as a process of the gateway reads them."""
        return load({name: value for name, value in self.environment.items() if name.startswith("GATEWAY_")})

    async def publish(self, count: int) -> None:
        """Publish so many messages, to as many people that none was sent to before."""
        async with self.publisher() as publish:
            for start in range(0, count, 2000):
                await publish(min(2000, count - start))

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Callable[[int], Awaitable[list[str]]]]:
        """Publishes so many messages at each call, and tells to whom."""
        topic = self.settings.kafka.topics.outbound
        publisher = EventPublisher(BrokerAddress(self.servers), idempotent=False)
        await publisher.start()

        async def publish(count: int) -> list[str]:
            numbers = range(self.published, self.published + count)
            self.published += count
            results = await publisher.publish([_event(topic, number) for number in numbers])
            if not all(isinstance(result, Acknowledged) for result in results):
                raise RuntimeError("the broker did not take what was published")
            return [person(number) for number in numbers]

        try:
            yield publish
        finally:
            await publisher.stop()

    @asynccontextmanager
    async def gateway(self, *arguments: str, **settings: str) -> AsyncIterator[psutil.Process]:
        """``gateway run`` as a process of its own, serving; yields it once it says so."""
        log = (self.folder / "gateway.log").open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "run", *arguments,
            env={**self.environment, **settings}, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            await _ready(int(settings.get("GATEWAY_ADMIN_PORT", self.environment["GATEWAY_ADMIN_PORT"])), process)
            yield psutil.Process(process.pid)
        finally:
            log.close()
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await process.wait()

    @asynccontextmanager
    async def roles(self) -> AsyncIterator[dict[str, psutil.Process]]:
        """A gateway in parts, one process a role: the working processes."""
        async with AsyncExitStack() as stack:
            found = {}
            for role in ("worker", "web", "relay", "sweep"):
                parent = await stack.enter_async_context(self.gateway("--role", role, GATEWAY_ADMIN_PORT=str(free_port())))
                found[role] = worker_of(parent)
            yield found

    @asynccontextmanager
    async def carrier(self, *arguments: str) -> AsyncIterator[CarrierProcess]:
        """A simulated carrier, with the settings pointed at it."""
        base = f"http://127.0.0.1:{self.web_port}/webhooks/twilio/main/inbound"
        async with carrier_process(
            ["--account", f"{ACCOUNT_SID}:{TOKEN}", "--inbound-url", base, "--no-suffixes", *arguments]
        ) as carrier:
            self.environment["GATEWAY_ACCOUNTS__MAIN__API_BASE"] = carrier.url
            yield carrier

    async def count(self, statement: str) -> int:
        """One number from the database."""
        return int((await self.fetch(statement))[0][0])

    async def fetch(self, statement: str) -> list[Any]:
        """Rows from the database."""
        import asyncpg

        session = await asyncpg.connect(self.postgres.url)
        try:
            rows: list[Any] = await session.fetch(statement)
            return rows
        finally:
            await session.close()


def _event(topic: str, number: int) -> OutEvent:
    data = json.dumps(
        {
            "message_id": f"bench-{number}",
            "tenant": "bench",
            "programme": "news",
            "category": "service",
            "to": person(number),
            "body": _BODY.format(number),
            "recipient_ref": f"person-{number}",
        }
    ).encode()
    headers, value = write_binary(
        event_type="sms.outbound.message.v1", event_id=f"bench-{number}", source="bench", time=datetime.now(UTC), data=data
    )
    return OutEvent(topic, str(number).encode(), headers, value)


async def _ready(admin_port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(60):
        while True:
            if process.returncode is not None:
                raise RuntimeError("the gateway ended at its start: see its log")
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", admin_port)
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                status = await reader.readline()
                writer.close()
                if b" 200 " in status:
                    return
            await asyncio.sleep(0.05)


@contextmanager
def stage(**postgres_settings: str) -> Iterator[Stage]:
    """A fresh PostgreSQL (fsync on) and broker, and nothing left of them afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sms-gateway-bench-"))
    folder.chmod(0o711)  # the embedded PostgreSQL runs as another user when this one is root
    try:
        policies = folder / "policies"
        policies.mkdir()
        (policies / "bench.yaml").write_text(_POLICY)
        with (
            EmbeddedPostgres(
                folder / "postgresql", settings={"shared_buffers": "256MB", "max_wal_size": "4GB", **postgres_settings}
            ) as postgres,
            EmbeddedBroker(folder / "broker") as broker,
        ):
            asyncio.run(migrate(postgres.url))
            web_port, admin_port = free_port(), free_port()
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
                "GATEWAY_STATE_DIRECTORY": str(folder / "state"),
                "GATEWAY_KEY_RING_DIRECTORY": str(folder / "keys"),
                "GATEWAY_POLICIES_DIRECTORY": str(policies),
                "GATEWAY_DATABASE_URL": postgres.socket_url or postgres.url,
                "GATEWAY_KAFKA__SERVERS": broker.bootstrap_servers,
                "GATEWAY_KAFKA__IDEMPOTENT": "false",
                "GATEWAY_KAFKA__SPOOL": "false",
                "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{web_port}",
                "GATEWAY_WEB_PORT": str(web_port),
                "GATEWAY_ADMIN_PORT": str(admin_port),
                "GATEWAY_INTAKE__WAITING_HIGH": "1000000",
                "GATEWAY_ACCOUNTS__MAIN__ACCOUNT_SID": ACCOUNT_SID,
                "GATEWAY_ACCOUNTS__MAIN__AUTH_TOKEN": TOKEN,
                "GATEWAY_LOG_LEVEL": "warning",
            }
            found = Stage(folder, environment, postgres, broker.bootstrap_servers, web_port)
            asyncio.run(apply(BrokerAddress(broker.bootstrap_servers), topics_wanted(found.settings, load_policies(policies))))
            yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def worker_of(parent: psutil.Process) -> psutil.Process:
    """The process that does the work: the init-like parent's child."""
    return parent.children()[0]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


Figures = dict[str, Any]
