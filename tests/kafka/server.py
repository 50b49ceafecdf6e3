"""A real Apache Kafka for tests: one node that is broker and controller (KRaft), on loopback ports that were free."""

from __future__ import annotations

import base64
import signal
import subprocess
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final, Self

from gateway.embedded.child import Child, EmbeddedServerError, until
from gateway.embedded.ports import LOOPBACK, free_port
from tests.kafka.jars import class_path, java

__all__ = ["KafkaServer"]

PORTS_TRIED: Final = 5
MEMORY: Final = ("-Xms96m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")

# One node must do for what is replicated three times by default; and what happens once in minutes happens soon.
SETTINGS: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,WIRED:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "broker.session.timeout.ms": "3000",  # a killed one that comes back waits for that
    "broker.heartbeat.interval.ms": "500",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "log.initial.task.delay.ms": "500",
    "log.retention.check.interval.ms": "500",
    "log.segment.delete.delay.ms": "500",
    "log.cleaner.backoff.ms": "500",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "num.network.threads": "2",
    "num.io.threads": "4",
}

LOGGING: Final = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1}: %m%n%throwable{short}
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
"""


class KafkaServer:
    """Apache Kafka on data of its own in ``directory``, which outlives it: stop or kill it and start it again, on the same ports.

    ``settings`` are broker settings beside those that every test needs. Like every :class:`~gateway.embedded.child.Child` it ends with
    its parent, also by ``kill -9``, and with the *thread* that started it. Raises EmbeddedServerError, or KafkaMissing.
    """

    def __init__(self, directory: Path, *, settings: Mapping[str, str] | None = None, seconds: float = 60.0) -> None:
        self._folder = directory.absolute()
        self._settings = dict(settings or {})
        self._seconds = seconds
        self._child: Child | None = None
        self._ports: tuple[int, int, int, int] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """``host:port``, as a Kafka client wants it."""
        return f"{LOOPBACK}:{self._port(0)}"

    @property
    def wired(self) -> tuple[int, int]:
        """A second way in, for tests with a wire between client and broker: the port it listens on, and the one that it tells clients of."""
        return self._port(1), self._port(2)

    @property
    def process_id(self) -> int | None:
        """The server's process while it runs."""
        return self._child.process_id if self._child is not None and self._child.alive() else None

    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self.process_id is not None

    def start(self) -> None:
        """Start the server on its data, made at the first time, and return when it serves."""
        if self.alive():
            return
        program, jars = java(), class_path()
        again = self._ports is not None
        log = self._folder / "kafka.log"
        for _ in range(PORTS_TRIED):
            if not again:
                self._ports = (free_port(), free_port(), free_port(), free_port())
            self._write()
            self._format(program, jars)
            logging = f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}"
            command = [program, *MEMORY, logging, "-cp", jars, "kafka.Kafka", str(self._folder / "server.properties")]
            child = Child(command, folder=self._folder, log=log, death_signal=signal.SIGKILL)
            if until(partial(self._over_or_ready, child, log), self._seconds):
                if child.alive():
                    self._child = child
                    return
                if not again and b"Address already in use" in log.read_bytes():
                    continue
            child.stop()
            raise EmbeddedServerError(f"Apache Kafka does not start: {child.last_words()}; see {log}")
        raise EmbeddedServerError(f"Apache Kafka found no free ports in {PORTS_TRIED} attempts")

    @staticmethod
    def _over_or_ready(child: Child, log: Path) -> bool:
        return not child.alive() or b"Kafka Server started" in log.read_bytes()

    def stop(self) -> None:
        """End it in order; its data stays."""
        self._end((signal.SIGTERM, 20.0))

    def kill(self) -> None:
        """End it as a crash does; its data stays, as far as it had been written to the operating system."""
        self._end()

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()  # an orderly end takes seconds, and nobody reads the data any more

    def _end(self, *steps: tuple[signal.Signals, float]) -> None:
        if self._child is not None:
            self._child.stop(*steps)
            self._child = None

    def _port(self, which: int) -> int:
        if self._ports is None:
            raise EmbeddedServerError("Apache Kafka has not been started")
        return self._ports[which]

    def _write(self) -> None:
        plain, wired, told, controller = (self._port(which) for which in range(4))
        settings = SETTINGS | {
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{plain},WIRED://{LOOPBACK}:{wired},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{plain},WIRED://{LOOPBACK}:{told}",
            "log.dirs": str(self._folder / "data"),
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{name}={value}\n" for name, value in (settings | self._settings).items()]
        (self._folder / "server.properties").write_text("".join(lines))
        (self._folder / "log4j2.properties").write_text(LOGGING)

    def _format(self, program: str, jars: str) -> None:
        if (self._folder / "data" / "meta.properties").exists():
            return
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [program, *MEMORY, "-cp", jars, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}"]
        command += ["--config", str(self._folder / "server.properties")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=self._seconds)
        if done.returncode != 0:
            raise EmbeddedServerError(
                f"Apache Kafka's storage is not made: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
            )
