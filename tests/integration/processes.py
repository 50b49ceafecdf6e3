"""Processes of the gateway as a user starts them, on a test's own database and topics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.app.kafka import broker_address, topics_wanted
from gateway.bus.topics import apply
from gateway.domain.policy_files import load_policies
from gateway.settings import load
from gateway.settings.parts import Topics
from gateway.simulator.http_client import HttpClient
from tests.integration.world import environment_for
from tests.support import until

__all__ = ["LIMIT_SECONDS", "GatewayProcess", "environment_on", "running_process"]

LIMIT_SECONDS = 60.0


@dataclass
class GatewayProcess:
    """One that runs: ``entries`` is what it has logged, ``ports`` where it listens."""

    process: asyncio.subprocess.Process
    ports: dict[str, int] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def gone(self) -> int:
        """Its exit code, once it has left."""
        return await asyncio.wait_for(self.process.wait(), LIMIT_SECONDS)

    async def stop(self) -> None:
        """An orderly end."""
        self.send(signal.SIGTERM)
        assert await self.gone() == 0, self.entries[-5:]

    async def metric(self, name: str) -> float:
        """The value of a counter or gauge without labels, as its admin port tells it."""
        client = HttpClient(keep_body=None)
        try:
            url = f"http://127.0.0.1:{self.ports['admin']}/metrics"
            answer = await client.request("GET", url, {}, b"", connect_within=LIMIT_SECONDS, read_within=LIMIT_SECONDS)
        finally:
            client.close()
        return next(float(line.split()[1]) for line in answer.body.decode().splitlines() if line.startswith(f"{name} "))

    async def said(self, event: str) -> dict[str, Any]:
        """What it logged of this, once it has."""

        def found() -> list[dict[str, Any]]:
            return [one for one in self.entries if one.get("event") == event]

        return (await until(found, LIMIT_SECONDS, event))[0]


async def environment_on(database_url: str, folder: Path, servers: str, unique: str, **more: str) -> dict[str, str]:
    """The settings of a gateway whose topics have names of its own; they are made."""
    names = {f"GATEWAY_KAFKA__TOPICS__{name.upper()}": f"{unique}.{name}" for name in Topics.model_fields}
    environment = environment_for(
        database_url,
        folder,
        GATEWAY_KAFKA__SERVERS=servers,
        GATEWAY_KAFKA__GROUP=unique,
        GATEWAY_ADMIN_PORT="0",
        GATEWAY_LOG_FORMAT="json",
        GATEWAY_ACCOUNTS__MAIN__API_BASE="http://127.0.0.1:9",  # nobody is texted
        **names,
        **more,
    )
    settings = load(environment)
    await apply(broker_address(settings), topics_wanted(settings, load_policies(settings.policies_directory), partitions=1))
    return environment


@asynccontextmanager
async def running_process(environment: Mapping[str, str], role: str, *, before: str = "") -> AsyncIterator[GatewayProcess]:
    """One process of a role without a supervisor, ready to work. ``before`` is Python that it runs first. It is killed at the end."""
    ready, told = os.pipe()
    program = f"{before}\nfrom gateway.cli import main\nmain()"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", program, "run", "--role", role, "--child", "--ready-fd", str(told)),
        env={**{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=[told],
    )
    os.close(told)
    running = GatewayProcess(process)
    reading = asyncio.create_task(_read(running))
    try:
        said = await asyncio.wait_for(asyncio.to_thread(os.read, ready, 4096), LIMIT_SECONDS)
        assert said, f"it ended at its start: {running.entries}"
        running.ports = json.loads(said)
        yield running
    finally:
        os.close(ready)
        for number in (signal.SIGCONT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
        await process.wait()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read(running: GatewayProcess) -> None:
    assert running.process.stderr is not None
    async for line in running.process.stderr:
        with contextlib.suppress(ValueError):  # a warning of Python's
            running.entries.append(json.loads(line))
