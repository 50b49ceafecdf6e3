"""A Kafka-protocol broker on this machine's loopback address, in memory: gone with its parent, and its topics with it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import ClassVar

from gateway.embedded.child import Child
from gateway.embedded.ports import LOOPBACK, start_on_port
from gateway.embedded.programs import broker_program
from gateway.embedded.server import EmbeddedServer

__all__ = ["EmbeddedBroker"]


class EmbeddedBroker(EmbeddedServer):
    """Tansu, started from its wheel's own program; ``directory`` keeps its log only.

    It has neither transactions, idempotence nor compaction, and forgets everything when it ends: a gateway whose embedded broker
    has died must stop (see :meth:`alive`). :meth:`start` blocks for a tenth of a second: call it from a thread that lives as long
    as the broker (see :class:`Child`), or use ``with`` or ``async with``. ``seconds`` limits the wait for it. A second start of
    the same object keeps the port. ``advertised_port`` is told to clients instead of its own: something between them listens there.
    Raises EmbeddedServerError.
    """

    NAME: ClassVar[str] = "embedded broker"

    def __init__(self, directory: Path, *, seconds: float = 20.0, advertised_port: int | None = None) -> None:
        super().__init__()
        self._folder = directory.absolute()
        self._seconds = seconds
        self._advertised_port = advertised_port

    @property
    def bootstrap_servers(self) -> str:
        """``host:port``, as a Kafka client wants it."""
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start the broker, empty, and return when it accepts connections."""
        if self.alive():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        program = broker_program(self._folder)
        log = self._folder / "broker.log"

        def start(port: int) -> Child:
            address = f"tcp://{LOOPBACK}:{port}"
            advertised = f"tcp://{LOOPBACK}:{self._advertised_port or port}"
            options = ["--listener-url", address, "--advertised-listener-url", advertised, "--storage-engine", "memory://tansu/"]
            return Child([str(program), "broker", *options], folder=self._folder, log=log, death_signal=signal.SIGKILL)

        # Its own word, not its port, tells that it is ready: somebody else might listen there. It says so when it listens.
        self._child, self._port = start_on_port(
            start,
            lambda _: b"\nready in " in log.read_bytes(),
            port=self._port,
            taken="AddrInUse",
            seconds=self._seconds,
        )

    def stop(self) -> None:
        """End the broker; what it held is gone."""
        if self._child is not None:
            self._child.stop((signal.SIGTERM, 3.0))
            self._child = None
