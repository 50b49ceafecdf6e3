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
from urllib.parse import urlsplit, urlunsplit

import psutil

from gateway.app.kafka import topics_wanted
from gateway.app.simulated import SimulatedAccount, account_settings, carrier_arguments
from gateway.bus.address import BrokerAddress
from gateway.bus.producer import EventPublisher
from gateway.bus.topics import apply
from gateway.domain.cloudevents import write_binary
from gateway.domain.policy_files import load_policies
from gateway.domain.publishing import Acknowledged, OutEvent
from gateway.embedded.broker import EmbeddedBroker
from gateway.embedded.ports import free_port
from gateway.embedded.postgres import EmbeddedPostgres
from gateway.settings import Settings, load
from gateway.simulator.process import CarrierProcess, carrier_process
from gateway.store.migrate import migrate

__all__ = ["ACCOUNT_SID", "RINGCENTRAL", "ROLES", "SENDER", "TOKEN", "TWILIO", "Stage", "apart", "person", "stage"]

ROLES: Final = ("worker", "web", "relay", "sweep")
ACCOUNT_SID: Final = "AC" + "0" * 31 + "1"
TOKEN: Final = "bench"  # noqa: S105 -- of the simulated carrier
SENDER: Final = "+14155550110"
TWILIO: Final = SimulatedAccount("main", "twilio", ACCOUNT_SID, (SENDER,), None)
RINGCENTRAL: Final = SimulatedAccount("main", "ringcentral", "405156321033", (SENDER,), None)
# What is measured is the gateway, and not the calls a minute that RingCentral gives.
_RATES: Final = ("--rate", "Light=900000", "--rate", "Medium=900000")

_POLICY: Final = """\
tenant: bench
name: Bench
languages: [en]
providers: [twilio, ringcentral]
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
    async def gateway(
        self, *arguments: str, program: Sequence[str] = ("-m", "gateway", "run"), **settings: str
    ) -> AsyncIterator[psutil.Process]:
        """``gateway run``, or what stands for it, as a process of its own, serving; yields it once it says so."""
        log = (self.folder / "gateway.log").open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable, *program, *arguments,
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
    async def roles(self, *, named: bool = False) -> AsyncIterator[dict[str, psutil.Process]]:
        """A gateway in parts, one process a role: the working processes. ``named``: each comes to PostgreSQL as a user of its own."""
        async with AsyncExitStack() as stack:
            found = {}
            for role in ROLES:
                own = {"GATEWAY_ADMIN_PORT": str(free_port())}
                if named:
                    own["GATEWAY_DATABASE_URL"] = await self._url_of(role)
                parent = await stack.enter_async_context(self.gateway("--role", role, **own))
                found[role] = worker_of(parent)
            yield found

    @asynccontextmanager
    async def carrier(self, *arguments: str, account: SimulatedAccount = TWILIO) -> AsyncIterator[CarrierProcess]:
        """A simulated carrier, with the settings pointed at it and at this account."""
        own = carrier_arguments([account], f"http://127.0.0.1:{self.web_port}", TOKEN)
        async with carrier_process([*own, *_RATES, "--no-suffixes", *arguments]) as carrier:
            for name in [name for name in self.environment if name.startswith("GATEWAY_ACCOUNTS__")]:
                del self.environment[name]
            self.environment |= account_settings([account], carrier.url, TOKEN)
            yield carrier

    async def _url_of(self, user: str) -> str:
        """Make this user, who may do all that the embedded one may."""
        url = urlsplit(self.environment["GATEWAY_DATABASE_URL"])
        await self.fetch(f"create role {user} superuser login password '{url.password}'")
        return urlunsplit(url._replace(netloc=url.netloc.replace(f"{url.username}:", f"{user}:", 1)))

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
                "GATEWAY_KAFKA__FETCH_WAIT_SECONDS": "0.02",
                "GATEWAY_KAFKA__SPOOL": "false",
                "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{web_port}",
                "GATEWAY_WEB_PORT": str(web_port),
                "GATEWAY_ADMIN_PORT": str(admin_port),
                "GATEWAY_INTAKE__WAITING_HIGH": "1000000",
                "GATEWAY_LOG_LEVEL": "warning",
                **account_settings([TWILIO], "http://127.0.0.1:1", TOKEN),  # a carrier of a measurement's own takes its place
            }
            found = Stage(folder, environment, postgres, broker.bootstrap_servers, web_port)
            asyncio.run(apply(BrokerAddress(broker.bootstrap_servers), topics_wanted(found.settings, load_policies(policies))))
            yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def apart(stage: Stage, what: str, count: int) -> Figures:
    """What ``python -m bench.intake`` tells: of ``gateway`` or ``floor``, for so many records."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.intake", what, str(count), env=stage.environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"bench.intake {what} failed")
    figures: Figures = json.loads(output.splitlines()[-1])  # the log may come first
    return figures


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
