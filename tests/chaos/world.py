"""Everything that runs: PostgreSQL and a broker, a carrier, and the gateway's processes, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from gateway.embedded.broker import EmbeddedBroker
from gateway.embedded.postgres import EmbeddedPostgres
from gateway.simulator.process import CarrierProcess, carrier_process
from tests.chaos.processes import Family, Member, environment_of
from tests.chaos.schedule import FAMILIES, PROGRAMMES, Fault
from tests.support import until

__all__ = ["ACCOUNTS", "LEASE", "WOKE", "World", "open_world"]

REQUEST: Final = 2.0
FUSE: Final = 1.0
LEASE: Final = 4.0
_FROZEN_LONGER_THAN_A_LEASE: Final = LEASE + 2
_UNDER_WAY: Final = 10
WOKE: Final = "WOKE: its fuse did not kill it"

ACCOUNTS: Final = {"north": "AC" + "1" * 32, "south": "AC" + "2" * 32}
_TOKEN: Final = "chaos"

_POLICY: Final = """
tenant: {tenant}
name: {tenant}
languages: [en]
providers: [twilio]
region: US
opt_out: {{scope: {scope}}}
programmes:
"""
_PROGRAMME: Final = """  {name}:
    categories: [{category}]
    senders: [{{number: "{sender}", account: {account}, per_second: 60}}]
    help_contact: help@{tenant}.example
"""

#: What the carrier does with a share of the create requests; the others are accepted, answered and delivered.
_MIX: Final = (
    (0.250, '{"before_ms": 60}'),
    (0.100, '{"after_ms": 80}'),
    (0.060, '{"after_ms": 500}'),
    (0.003, '{"answer": "refuse", "status": 429, "code": 20429, "retry_after": 1}'),
    (0.010, "reset_before"),
    (0.012, "reset_after"),
    (0.006, "hang_before"),
    (0.006, "hang_after"),
    (0.006, "hang_after_silent"),
    (0.006, "error_before"),
    (0.008, "error_after"),
    (0.004, "broken_answer"),
    (0.004, "cut_answer"),
    (0.012, "undelivered"),
    (0.006, "failed"),
    (0.006, "not_textable"),
    (0.002, "opted_out"),
    (0.010, "callbacks_repeated"),
    (0.010, "callbacks_reversed"),
    (0.010, '{"name": "callbacks_late", "late_ms": 3000}'),
    (0.006, "callbacks_lost"),
)


class World:
    """What runs, and the ways to hurt it. ``families`` are by role, ``members`` by name."""

    def __init__(
        self,
        postgres: EmbeddedPostgres,
        postgres_thread: ThreadPoolExecutor,
        broker: EmbeddedBroker,
        carrier: CarrierProcess,
        families: Mapping[str, Family],
    ) -> None:
        self.postgres = postgres
        self._postgres_thread = postgres_thread
        self.broker = broker
        self.carrier = carrier
        self.families = families
        self.members = {member.name: member for family in families.values() for member in family.members}

    async def rows(self, statement: str, *arguments: object) -> list[dict[str, Any]]:
        """What PostgreSQL answers, asked by a session of the test's own."""
        session = await asyncpg.connect(self.postgres.url, timeout=10)
        try:
            return [dict(row) for row in await session.fetch(statement, *arguments)]
        finally:
            await session.close()

    async def _busy(self) -> None:
        """Wait for requests to be under way, so that the fault hits what it is aimed at; not for long, should there be none."""

        async def under_way() -> bool:
            return bool((await self.carrier.get("/stats"))["in_flight"] >= _UNDER_WAY)

        with contextlib.suppress(AssertionError):
            await until(under_way, 1.5)

    async def hurt(self, fault: Fault) -> str:
        """Let a fault happen to something that is up; what was seen of it."""
        match fault.kind:
            case "cut_sessions":
                return await self._cut_sessions()
            case "crash_postgres":
                return await self._crash_postgres()
            case "kill_family":
                return await self._kill_family(self.families[fault.target])
            case "kill" | "freeze":
                return await self._hurt_member(self.members[fault.target], fault)

    async def _hurt_member(self, member: Member, fault: Fault) -> str:
        async with member.hurting:
            process = await member.up()
            await member.look()
            await self._busy()
            if fault.kind == "kill":
                seen = f"gone after {await member.kill(process):.2f} s"
            else:
                seconds = await member.freeze(process, _FROZEN_LONGER_THAN_A_LEASE)
                seen = WOKE if seconds is None else f"killed by its fuse after {seconds:.2f} s"
            began = time.monotonic()
            await member.up()
            return f"{seen}, up again after {time.monotonic() - began:.1f} s"

    async def _kill_family(self, family: Family) -> str:
        async with AsyncExitStack() as stack:
            for member in family.members:
                await stack.enter_async_context(member.hurting)
            await family.up()
            for member in family.members:
                await member.look()
            await self._busy()
            seen = f"all gone after {await family.kill():.2f} s"
            began = time.monotonic()
            await family.up()
            return f"{seen}, up again after {time.monotonic() - began:.1f} s"

    async def _cut_sessions(self) -> str:
        await self._busy()
        cut = await self.rows(
            "select pg_terminate_backend(pid) from (select pid from pg_stat_activity"
            " where application_name = 'sms-gateway' order by state = 'active' desc, random() limit 4) as sessions"
        )
        return f"{len(cut)} sessions ended by pg_terminate_backend"

    async def _crash_postgres(self) -> str:
        await self._busy()
        began = time.monotonic()
        assert self.postgres.process_id is not None
        os.kill(self.postgres.process_id, signal.SIGKILL)
        await until(lambda: not self.postgres.alive(), 10, "PostgreSQL has died")
        await asyncio.get_running_loop().run_in_executor(self._postgres_thread, self.postgres.start)
        return f"postmaster killed, up again after {time.monotonic() - began:.1f} s"

    async def settled(self) -> bool:
        """Whether nothing waits any more: no message to send, no event to publish, no STOP to put in force, no callback to come."""
        rows = await self.rows(
            "select (select count(*) from queue) + (select count(*) from outbox)"
            " + (select count(*) from consents where status = 'out' and in_force_at is null) as left"
        )
        stats = await self.carrier.get("/stats")
        return not rows[0]["left"] and not stats["callbacks_waiting"] and not stats["in_flight"]


@asynccontextmanager
async def open_world(folder: Path, seed: int) -> AsyncIterator[World]:
    """Start it all, and end it all at the end."""
    async with AsyncExitStack() as stack:
        postgres = EmbeddedPostgres(folder / "postgres")
        thread = stack.enter_context(ThreadPoolExecutor(1))  # a server ends with the thread that started it: this one stays
        stack.callback(lambda: shutil.rmtree(postgres.folder))  # it may be elsewhere, where PostgreSQL's own account can be
        stack.callback(postgres.stop)
        await asyncio.get_running_loop().run_in_executor(thread, postgres.start)
        broker = await stack.enter_async_context(EmbeddedBroker(folder / "broker"))
        web_port = _free_ports(1)
        carrier = await stack.enter_async_context(carrier_process(_carrier_arguments(seed, web_port)))
        environment = _environment(folder, postgres.url, broker.bootstrap_servers, carrier.url, web_port)
        for command in (["migrate"], ["topics", "apply"]):
            await asyncio.to_thread(subprocess.run, [sys.executable, "-m", "gateway", *command], env=environment, check=True)
        families = {role: Family(role, size, environment, _free_ports(size), folder) for role, size in FAMILIES.items()}
        for family in families.values():
            stack.callback(family.stop)
            family.start()
        await asyncio.gather(*(family.up() for family in families.values()))
        yield World(postgres, thread, broker, carrier, families)


def _free_ports(count: int) -> int:
    """The first of so many ports on end that nobody listens on.

    They lie below those that the kernel gives to outgoing connections: one of these could have the port of a process that is being
    started anew.
    """
    while True:
        first = random.randrange(15_000, 30_000)
        try:
            with ExitStack() as stack:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


def _carrier_arguments(seed: int, web_port: int) -> list[str]:
    arguments = ["--seed", str(seed), "--no-suffixes", "--latency-ms", "40", "--sent-ms", "60", "--final-ms", "250"]
    for alias, sid in ACCOUNTS.items():
        inbound = f"http://127.0.0.1:{web_port}/webhooks/twilio/{alias}/inbound#rc=5&rp=all"
        arguments += ["--account", f"{sid}:{_TOKEN}", "--inbound-url", f"{sid}={inbound}"]
    for share, script in _MIX:
        arguments += ["--mix", f"{share}={script}"]
    return arguments


def _environment(folder: Path, database_url: str, servers: str, carrier_url: str, web_port: int) -> dict[str, str]:
    policies = folder / "policies"
    policies.mkdir()
    for tenant in {programme.tenant for programme in PROGRAMMES}:
        programmes = [programme for programme in PROGRAMMES if programme.tenant == tenant]
        text = _POLICY.format(tenant=tenant, scope=programmes[0].scope)
        for one in programmes:
            text += _PROGRAMME.format(name=one.name, category=one.category, sender=one.sender, account=one.account, tenant=tenant)
        (policies / f"{tenant}.yaml").write_text(text)
    accounts = {
        f"ACCOUNTS__{alias.upper()}__{name}": value
        for alias, sid in ACCOUNTS.items()
        for name, value in (("ACCOUNT_SID", sid), ("AUTH_TOKEN", _TOKEN), ("API_BASE", carrier_url), ("CONCURRENCY", "60"))
    }
    return environment_of(
        DATABASE_URL=database_url,
        DATABASE_POOL="6",
        STATE_DIRECTORY=str(folder / "state"),
        POLICIES_DIRECTORY=str(policies),
        PUBLIC_URL=f"http://127.0.0.1:{web_port}",
        WEB_PORT=str(web_port),
        KAFKA__SERVERS=servers,
        KAFKA__IDEMPOTENT="false",
        KAFKA__SESSION_SECONDS="2",
        DISPATCH__REQUEST_SECONDS=str(REQUEST),
        DISPATCH__FUSE_SECONDS=str(FUSE),
        DISPATCH__LEASE_SECONDS=str(LEASE),
        DISPATCH__STOP_WAIT_SECONDS="6",
        DISPATCH__BACKOFF_FIRST_SECONDS="0.2",
        DISPATCH__BACKOFF_MOST_SECONDS="5",
        EVIDENCE__LIST_AFTER_SECONDS="1",
        EVIDENCE__UNKNOWN_AFTER_SECONDS="15",
        DRAIN_SECONDS="5",
        LOG_FORMAT="json",
        **accounts,
    )
