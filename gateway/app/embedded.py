"""What `gateway run` starts when it is given no addresses: PostgreSQL, a broker, and a simulated carrier where no account is set."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from gateway.app.kafka import topics_wanted
from gateway.app.offspring import ending_with_parent
from gateway.app.process import Role
from gateway.app.running import Running
from gateway.app.simulated import account_settings, carrier_arguments, simulated_accounts
from gateway.bus.address import BrokerAddress
from gateway.bus.topics import apply
from gateway.domain.errors import GatewayError, SettingsError
from gateway.domain.policy import Policies
from gateway.domain.policy_files import load_policies
from gateway.embedded.broker import EmbeddedBroker
from gateway.embedded.ports import free_port
from gateway.embedded.postgres import EmbeddedPostgres
from gateway.settings import Settings
from gateway.store.migrate import migrate
from gateway.telemetry import get_logger

__all__ = ["Embedded"]

# Of the simulated accounts: as public as this file, and of no use anywhere else.
_SECRET: Final = "simulated"  # noqa: S105 -- the simulated carrier's, which texts nobody

log = get_logger("embedded")


class Embedded:
    """Servers of this process's own, for as long as the context lasts. ``environment`` tells the gateway's processes where they are."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self._settings = settings
        self._role = role
        self._stack = ExitStack()
        self._broker: EmbeddedBroker | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._carrier: subprocess.Popen[bytes] | None = None
        self._running: Running | None = None
        self.environment: dict[str, str] = {}
        self.addresses: dict[str, str] = {}

    @property
    def started(self) -> bool:
        """Whether anything is embedded at all."""
        return bool(self.environment)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _start(self) -> None:
        settings = self._settings
        wanted = {
            "database_url": settings.database_url,
            "kafka.servers": settings.kafka.servers,
            "accounts": settings.accounts or None,
        }
        needed = [name for name, value in wanted.items() if value is None]
        if needed and self._role != "all":
            raise SettingsError(
                f"settings: {' and '.join(needed)} must be set for --role {self._role}: only a whole gateway embeds its own"
            )
        if needed:
            self._running = self._stack.enter_context(Running(settings.state_directory))
            _refuse_port_in_use(settings.web_host, settings.web_port)
        if settings.database_url is None:
            self._start_postgres(settings.state_directory / "postgresql")
        if settings.kafka.servers is None:
            self._start_broker(settings.state_directory / "broker")
        if not settings.accounts:
            self._start_carrier()

    def _start_postgres(self, directory: Path) -> None:
        self._postgres = self._stack.enter_context(EmbeddedPostgres(directory))
        if self._postgres.notice:
            log.warning(self._postgres.notice)
        url = self._postgres.socket_url or self._postgres.url
        asyncio.run(migrate(self._postgres.url))
        self.environment["GATEWAY_DATABASE_URL"] = url
        self.addresses["postgresql"] = f"127.0.0.1:{self._postgres.port} (data in {self._postgres.folder})"

    @cached_property
    def _policies(self) -> Policies:
        return load_policies(self._settings.policies_directory)

    def _start_broker(self, directory: Path) -> None:
        log.warning("the embedded broker keeps everything in memory: for trying things out, not for service")
        self._broker = self._stack.enter_context(EmbeddedBroker(directory))
        servers = self._broker.bootstrap_servers
        asyncio.run(apply(BrokerAddress(servers), topics_wanted(self._settings, self._policies)))
        self.environment["GATEWAY_KAFKA__SERVERS"] = servers
        self.environment["GATEWAY_KAFKA__IDEMPOTENT"] = "false"
        self.environment["GATEWAY_KAFKA__FETCH_WAIT_SECONDS"] = "0.02"
        self.environment["GATEWAY_KAFKA__SPOOL"] = "false"  # what it holds is gone with it: nothing written there is durable
        # this broker lets the first member wait for others for half of it
        self.environment.setdefault("GATEWAY_KAFKA__SESSION_SECONDS", "2")
        self.addresses["kafka"] = servers

    def _start_carrier(self) -> None:
        """A carrier that accepts everything and texts nobody, one account for each that the policies send by."""
        settings = self._settings
        log.warning("no provider account is set: texts go to a simulated carrier, and to nobody's phone")
        web_port = settings.web_port or free_port()
        public_url = settings.public_url or f"http://127.0.0.1:{web_port}"
        accounts = simulated_accounts(self._policies)
        self._carrier = subprocess.Popen(
            [
                *(sys.executable, "-m", "gateway.simulator", "--port", "0", "--keep", "messages"),
                *carrier_arguments(accounts, public_url, _SECRET),
            ],
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C in a terminal is for the gateway, which ends its carrier last
            preexec_fn=ending_with_parent(),  # noqa: PLW1509 -- this parent has no threads
        )
        self._stack.callback(_end, self._carrier)
        assert self._carrier.stdout is not None
        line = self._carrier.stdout.readline().decode()
        if not line.startswith("listening on "):
            raise GatewayError("the simulated carrier did not start")
        address = line.removeprefix("listening on ").strip()
        self.environment |= account_settings(accounts, address, _SECRET)
        self.environment |= {"GATEWAY_PUBLIC_URL": public_url, "GATEWAY_WEB_PORT": str(web_port)}
        self.addresses["carrier"] = address
        self.addresses["simulated"] = ", ".join(f"{one.alias} ({one.provider})" for one in accounts)

    def tell(self) -> None:
        """Let commands on this machine find what is embedded."""
        if self._running is not None:
            self._running.tell(self.environment)

    def check(self) -> None:
        """Raises GatewayError when an embedded server has died: the broker's topics are gone with it."""
        if self._broker is not None and not self._broker.alive():
            raise GatewayError("the embedded broker has ended, and with it all topics: the gateway stops")
        if self._postgres is not None and not self._postgres.alive():
            raise GatewayError("the embedded PostgreSQL has ended: the gateway stops")
        if self._carrier is not None and self._carrier.poll() is not None:
            raise GatewayError("the simulated carrier has ended: the gateway stops")


def _refuse_port_in_use(host: str, port: int) -> None:
    """Processes of one installation share its web port. So would this one share another gateway's, with half of each other's webhooks."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as fault:
        raise GatewayError(f"can't listen on {host}:{port}: {fault.strerror}") from None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
