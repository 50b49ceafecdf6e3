"""The stage: PostgreSQL, broker, simulated carrier and gateway, set up in a fresh directory and taken down without a trace."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.app.kafka import topics_wanted
from gateway.app.simulated import SimulatedAccount, account_settings, carrier_arguments, simulated_accounts
from gateway.bus.address import BrokerAddress
from gateway.bus.topics import apply
from gateway.crypto.bearer import new_token
from gateway.demo.people import BOOKS, CLINIC
from gateway.demo.process import GatewayProcess, gateway_process
from gateway.domain.errors import GatewayError
from gateway.domain.policy import Policies
from gateway.domain.policy_files import load_policies
from gateway.embedded.broker import EmbeddedBroker
from gateway.embedded.ports import free_port
from gateway.embedded.postgres import EmbeddedPostgres
from gateway.settings import Settings, load
from gateway.simulator.process import CarrierProcess, carrier_process
from gateway.store.control import Control
from gateway.store.database import Database
from gateway.store.migrate import migrate

__all__ = ["ACCOUNT_SID", "Stage", "set_stage"]

ACCOUNT_SID: Final = "AC" + "0" * 31 + "1"
_CARRIER_SEED: Final = "2025"
_DRAIN_SECONDS: Final = 10.0
# Short times, so that what takes an hour in service is seen in half a minute. A machine that is busy with other things stays within.
_TIMES: Final = {
    "DISPATCH__REQUEST_SECONDS": "3",
    "DISPATCH__FUSE_SECONDS": "4",
    "DISPATCH__LEASE_SECONDS": "9",
    "DISPATCH__STOP_WAIT_SECONDS": "11",
    "EVIDENCE__LIST_AFTER_SECONDS": "1",
    "EVIDENCE__UNKNOWN_AFTER_SECONDS": "12",
    "EVIDENCE__SENT_FINAL_AFTER_SECONDS": "12",
    "DRAIN_SECONDS": str(_DRAIN_SECONDS),
}


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs, and how it is reached."""

    settings: Settings
    policies: Policies
    accounts: Sequence[SimulatedAccount]
    broker: BrokerAddress
    database: Database
    carrier: CarrierProcess
    gateway: GatewayProcess
    token: str = field(repr=False)

    @property
    def web(self) -> str:
        """The address of the gateway's web."""
        return self.gateway.addresses["web"]

    @property
    def admin(self) -> str:
        """The address of its health and metrics."""
        return self.gateway.addresses["admin"]

    async def leave(self) -> int:
        """Tell the gateway to end as an operator would; its exit code."""
        return await self.gateway.stop(_DRAIN_SECONDS + 10)


@asynccontextmanager
async def set_stage(tell: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Set everything up, and take it down at the end, whatever happens. ``tell`` hears of each step. Raises GatewayError."""
    with _directory() as directory, _postgres(directory) as postgres:
        tell("PostgreSQL is up")
        await migrate(postgres.url)
        with EmbeddedBroker(directory / "broker") as server:
            broker = BrokerAddress(server.bootstrap_servers)
            policies = load_policies(directory / "policies")
            accounts, secret = simulated_accounts(policies), secrets.token_hex(16)
            environment = _environment(directory, postgres.url, server.bootstrap_servers)
            environment |= account_settings(accounts, "http://127.0.0.1:1", secret)  # where the carrier is shows once it is up
            settings = load(environment)
            await apply(broker, topics_wanted(settings, policies))
            tell("the broker is up")
            async with (
                carrier_process(_carrier_arguments(accounts, settings, secret)) as carrier,
                _opened(postgres.url) as database,
            ):
                tell(
                    "the simulated carrier is up, with accounts " + ", ".join(f"{one.alias} ({one.provider})" for one in accounts)
                )
                environment |= account_settings(accounts, carrier.url, secret)
                for one in accounts:
                    if one.provider == "ringcentral":  # being too busy, which costs a minute there, is the others' part
                        await carrier.post("/account", {"sid": one.sid, "every_nth_429": 0})
                async with gateway_process(environment, directory / "gateway.log", drain=_DRAIN_SECONDS) as gateway:
                    tell("the gateway is up")
                    token, token_hash = new_token()
                    await Control(database, "demo").create_token(token_hash, "demo", [BOOKS, CLINIC], "demo")
                    yield Stage(settings, policies, accounts, broker, database, carrier, gateway, token)


@contextmanager
def _directory() -> Iterator[Path]:
    """A folder of the demo's own; PostgreSQL's account must be able to pass through it when this is root."""
    directory = Path(tempfile.mkdtemp(prefix=f"sms-gateway-demo-{os.getpid()}-", dir=_open_folder()))
    try:
        directory.chmod(0o711)
        policies = Path(__file__).parents[2] / "policies"
        (directory / "policies").mkdir()
        for tenant in (BOOKS, CLINIC):
            if not (policies / f"{tenant}.yaml").is_file():
                raise GatewayError(f"the demo needs the example policies of a checkout: {policies / tenant}.yaml is missing")
            shutil.copy(policies / f"{tenant}.yaml", directory / "policies")
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _open_folder() -> Path:
    """The folder for temporary files; when this is root and it is closed to others (as pam_tmpdir makes it), one that is not."""
    usual = Path(tempfile.gettempdir()).resolve()
    if os.geteuid() != 0:
        return usual
    candidates = (usual, Path("/tmp"), Path("/var/tmp"))  # noqa: S108 -- a folder of an unforeseeable name is made in it
    return next((one for one in candidates if all(part.stat().st_mode & 0o001 for part in (one, *one.parents))), usual)


@contextmanager
def _postgres(directory: Path) -> Iterator[EmbeddedPostgres]:
    """PostgreSQL. Where its account cannot enter the directory, or a socket's path would be too long, it keeps folders of its own."""
    left: list[Path] = []
    try:
        with EmbeddedPostgres(directory / "postgresql") as server:
            sockets = Path((server.socket_url or "").partition("host=")[2].partition("&")[0] or server.folder)
            left = [folder for folder in (server.folder, sockets.parent) if directory not in folder.parents]
            yield server
    finally:
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Database]:
    database = await Database(url, sessions=3).open()
    try:
        yield database
    finally:
        await database.close()


def _environment(directory: Path, database_url: str, servers: str) -> dict[str, str]:
    """What the gateway is started with: nothing that is set for another gateway on this machine."""
    port, admin_port = free_port(), free_port()  # the same again for a gateway that was killed
    own = {
        "STATE_DIRECTORY": str(directory / "state"),
        "POLICIES_DIRECTORY": str(directory / "policies"),
        "DATABASE_URL": database_url,
        "KAFKA__SERVERS": servers,
        "KAFKA__IDEMPOTENT": "false",
        "KAFKA__SESSION_SECONDS": "3",
        "KAFKA__SPOOL": "false",
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "WEB_PORT": str(port),
        "ADMIN_PORT": str(admin_port),
        "ACCOUNTS__MAIN__CONCURRENCY": "20",
        "ACCOUNTS__SPARE__CONSENTS_API": "true",
        "LOG_FORMAT": "json",
        **_TIMES,
    }
    system = {name: value for name, value in os.environ.items() if not name.upper().startswith("GATEWAY_")}
    return {**system, **{f"GATEWAY_{name}": value for name, value in own.items()}, "PYTHONUNBUFFERED": "1"}


def _carrier_arguments(accounts: Sequence[SimulatedAccount], settings: Settings, secret: str) -> list[str]:
    arguments = ["--seed", _CARRIER_SEED, *carrier_arguments(accounts, settings.public_url or "", secret)]
    for sender in next(one.senders for one in accounts if one.sid == ACCOUNT_SID):
        arguments += ["--sender", sender]
    return [*arguments, "--every-nth-429", "53", "--latency-ms", "40", "--sent-ms", "150", "--final-ms", "700", "--no-suffixes"]
