"""Everything that runs: PostgreSQL and a broker, a carrier, the gateway's processes, and the lines between them."""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.simulator.process import CarrierProcess, carrier_process
from tests.chaos.brokers import Broker, open_broker
from tests.chaos.calm import Calm, measuring
from tests.chaos.faults import FAMILIES, LINES
from tests.chaos.processes import Family, Member, command, environment_of
from tests.chaos.proxy import Line
from tests.chaos.ringcentral import subscribed
from tests.chaos.schedule import PROGRAMMES, Way
from tests.chaos.stores import Store, open_store
from tests.chaos.storms import as_arguments

__all__ = ["ACCOUNTS", "LEASE", "RINGCENTRAL", "World", "open_world"]

REQUEST: Final = 2.0
FUSE: Final = 1.0
LEASE: Final = 4.0

TWILIO: Final = {"north": "AC" + "1" * 32, "south": "AC" + "2" * 32}
RINGCENTRAL: Final = {"ring": "405156321033"}
ACCOUNTS: Final = TWILIO | RINGCENTRAL
_TOKEN: Final = secrets.token_hex(8)
_SUBSCRIBED_SECONDS: Final = 20.0  # quiet ones: the web may be up later than the sweep
# Of RingCentral's: so that a token is renewed under way, and more calls a minute than its default plan has.
_TOKEN_SECONDS: Final = "60"
_RATES: Final = ("Light=6000", "Medium=6000", "Auth=600")

_POLICY: Final = """
tenant: {tenant}
name: {tenant}
languages: [en]
providers: [twilio, ringcentral]
region: US
opt_out: {{scope: {scope}}}
programmes:
"""
_SENDER: Final = '{{number: "{sender}", account: {account}, per_second: 60}}'
_PROGRAMME: Final = """  {name}:
    categories: [{category}]
    senders: [{senders}]
    help_contact: help@{tenant}.example
"""


@dataclass(frozen=True, slots=True)
class World:
    """What runs. ``families`` are by role, ``lines`` by their far end; ``environment`` is the gateway's."""

    store: Store
    broker: Broker
    carrier: CarrierProcess
    families: Mapping[str, Family]
    lines: Mapping[str, Line]
    environment: Mapping[str, str]
    calm: Calm

    @property
    def members(self) -> dict[str, Member]:
        """The processes that do the work, by name."""
        return {member.name: member for family in self.families.values() for member in family.members}

    async def settled(self) -> bool:
        """Whether nothing waits any more: no message to send, no event to publish, no STOP to put in force, no list to read, no callback."""
        rows = await self.store.rows(
            "select (select count(*) from queue) + (select count(*) from outbox)"
            " + (select count(*) from consents where status = 'out' and in_force_at is null)"
            " + (select count(*) from catch_up where raised_at is not null)"
            " + (select count(*) from spool where clear_until <= now()) as left"
        )
        stats = await self.carrier.get("/stats")
        return not rows[0]["left"] and not stats["callbacks_waiting"] and not stats["in_flight"]

    async def told(self) -> bool:
        """Whether no account is owed a word on who opted out or in."""
        return not await self.store.rows("select from propagations where due_at is not null limit 1")


@asynccontextmanager
async def open_world(folder: Path, seed: int) -> AsyncIterator[World]:
    """Start it all, and end it all at the end."""
    async with AsyncExitStack() as stack:
        calm = await stack.enter_async_context(measuring())
        lines = {name: Line(name) for name in LINES}
        for line in lines.values():
            if line.name != "broker":
                await line.open()
            stack.callback(line.close)
        store = await stack.enter_async_context(open_store())
        broker = await stack.enter_async_context(open_broker(folder / "broker", lines["broker"]))
        web_port = _free_ports(1)
        carrier = await stack.enter_async_context(carrier_process(_carrier_arguments(seed, web_port, lines["web"].port)))
        ports = {"postgres": store.port, "carrier": urlsplit(carrier.url).port, "web": web_port}
        for name, port in ports.items():
            lines[name].peer = "127.0.0.1", int(port or 0)
        database_url = store.url.replace(f":{store.port}/", f":{lines['postgres'].port}/")
        environment = _environment(folder, database_url, broker, f"http://127.0.0.1:{lines['carrier'].port}", web_port)
        for words in (["migrate"], ["topics", "apply"]):
            code, _, complained = await command(environment, *words)
            assert code == 0, complained
        families = {role: Family(role, size, environment, _free_ports(size), folder, calm) for role, size in FAMILIES.items()}
        for family in families.values():
            stack.push_async_callback(asyncio.to_thread, family.stop)  # apart, for the lines must go on meanwhile
            family.start()
        await asyncio.gather(*(family.up() for family in families.values()))

        async def called() -> bool:
            return all([await subscribed(carrier, account) for account in RINGCENTRAL.values()])

        await calm.until(called, _SUBSCRIBED_SECONDS, "RingCentral calls the web", kind="subscribed")
        yield World(store, broker, carrier, families, lines, environment, calm)


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


def _carrier_arguments(seed: int, web_port: int, line_port: int) -> list[str]:
    public = f"http://127.0.0.1:{web_port}"
    arguments = [
        "--reach",
        f"{public}=http://127.0.0.1:{line_port}",
        "--seed",
        str(seed),
        "--no-suffixes",
        "--latency-ms",
        "40",
        "--sent-ms",
        "60",
        "--final-ms",
        "250",
    ]
    for alias, sid in TWILIO.items():
        inbound = f"{public}/webhooks/twilio/{alias}/inbound#rc=5&rp=all"
        arguments += ["--account", f"{sid}:{_TOKEN}", "--inbound-url", f"{sid}={inbound}"]
    for alias, sid in RINGCENTRAL.items():
        arguments += ["--ringcentral", f"{sid}:{_TOKEN}:{_TOKEN}:{_TOKEN}", "--token-seconds", _TOKEN_SECONDS]
        arguments += [word for rate in _RATES for word in ("--rate", rate)]
        arguments += [word for way in ways_of(alias) for word in ("--a2p-sender", way.sender)]
    return arguments + as_arguments()


def ways_of(account: str) -> list[Way]:
    """The senders of an account."""
    return [way for programme in PROGRAMMES for way in programme.ways if way.account == account]


def _account(alias: str, carrier_url: str) -> dict[str, str]:
    """An account's settings. Of RingCentral's so few requests are under way at once that messages gather for batches."""
    if alias in TWILIO:
        named = {"ACCOUNT_SID": TWILIO[alias], "AUTH_TOKEN": _TOKEN, "CONSENTS_API": "true", "CONCURRENCY": "60"}
    else:
        named = {"PROVIDER": "ringcentral", "CLIENT_ID": _TOKEN, "CLIENT_SECRET": _TOKEN, "JWT": _TOKEN, "CONCURRENCY": "6"}
        named["VERIFICATION_TOKEN"] = _TOKEN
    return {**named, "API_BASE": carrier_url}


def _environment(folder: Path, database_url: str, broker: Broker, carrier_url: str, web_port: int) -> dict[str, str]:
    policies = folder / "policies"
    policies.mkdir()
    for tenant in {programme.tenant for programme in PROGRAMMES}:
        programmes = [programme for programme in PROGRAMMES if programme.tenant == tenant]
        text = _POLICY.format(tenant=tenant, scope=programmes[0].scope)
        for one in programmes:
            senders = ", ".join(_SENDER.format(sender=way.sender, account=way.account) for way in one.ways)
            text += _PROGRAMME.format(name=one.name, category=one.category, senders=senders, tenant=tenant)
        (policies / f"{tenant}.yaml").write_text(text)
    accounts = {
        f"ACCOUNTS__{alias.upper()}__{name}": value for alias in ACCOUNTS for name, value in _account(alias, carrier_url).items()
    }
    return environment_of(
        DATABASE_URL=database_url,
        DATABASE_POOL="6",
        STATE_DIRECTORY=str(folder / "state"),
        POLICIES_DIRECTORY=str(policies),
        PUBLIC_URL=f"http://127.0.0.1:{web_port}",
        WEB_PORT=str(web_port),
        KAFKA__SERVERS=broker.bootstrap_servers,
        KAFKA__IDEMPOTENT=str(broker.durable).lower(),
        KAFKA__SPOOL=str(broker.durable).lower(),  # what the embedded one holds is not written durably
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
