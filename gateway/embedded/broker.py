"""A Kafka-protocol broker on this machine's loopback address, in memory: gone with its parent, and its topics with it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Self

from gateway.embedded.child import Child, EmbeddedServerError
from gateway.embedded.ports import LOOPBACK, start_on_port
from gateway.embedded.programs import broker_program

__all__ = ["EmbeddedBroker"]


class EmbeddedBroker:
    """Tansu, started from its wheel's own program; ``directory`` keeps its log only.

    It has neither transactions, idempotence nor compaction, and forgets everything when it ends: a gateway whose embedded broker
    has died must stop (see :meth:`alive`). :meth:`start` blocks for a tenth of a second: call it from a thread that lives as long
    as the broker (see :class:`Child`), or use ``with`` or ``async with``. ``seconds`` limits the wait for it. A second start of
    the same object keeps the port. Raises EmbeddedServerError.
    """

    def __init__(self, directory: Path, *, seconds: float = 20.0) -> None:
        self._folder = directory.absolute()
        self._seconds = seconds
        self._child: Child | None = None
        self._port: int | None = None

    @property
    def bootstrap_servers(self) -> str:
        """``host:port``, as a Kafka client wants it."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def port(self) -> int:
        """The TCP port on the loopback address."""
        if self._port is None:
            raise EmbeddedServerError("the embedded broker has not been started")
        return self._port

    @property
    def process_id(self) -> int | None:
        """The broker's process while it runs."""
        return self._child.process_id if self._child is not None and self._child.alive() else None

    def alive(self) -> bool:
        """Whether the broker's process runs."""
        return self.process_id is not None

    def start(self) -> None:
        """Start the broker, empty, and return when it accepts connections."""
        if self.alive():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        program = broker_program(self._folder)
        log = self._folder / "broker.log"

        def start(port: int) -> Child:
            address = f"tcp://{LOOPBACK}:{port}"
            options = ["--listener-url", address, "--advertised-listener-url", address, "--storage-engine", "memory://tansu/"]
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

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self.start()  # not in a thread: the broker would end with it
        return self

    async def __aexit__(self, *error: object) -> None:
        self.stop()
