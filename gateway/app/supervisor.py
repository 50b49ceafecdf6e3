"""The init-like parent: it starts what is embedded, keeps the gateway's processes running, and passes signals on.

A process that the fuse has killed is started anew; the parent itself holds no lease and sends nothing, so that it may be PID 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.app.embedded import Embedded
from gateway.app.offspring import ending_with_parent
from gateway.app.process import Role
from gateway.domain.errors import GatewayError
from gateway.settings import Settings
from gateway.telemetry import get_logger

__all__ = ["Started", "supervise"]

_CALM_SECONDS: Final = 30.0  # a process that lived this long may be started anew at once
_MOST_WAIT_SECONDS: Final = 15.0
_READY_SECONDS: Final = 60.0

log = get_logger("supervisor")


@dataclass(frozen=True, slots=True)
class Started:
    """Where everything is, once it runs: addresses by what listens there."""

    addresses: Mapping[str, str]
    embedded: bool


@dataclass(slots=True)
class _Child:
    role: Role
    number: int
    process: subprocess.Popen[bytes] | None = None
    ready: int | None = None
    ports: dict[str, int] = field(default_factory=dict)
    started_at: float = 0.0
    wait: float = 0.0
    again_at: float = 0.0


class _Family:
    """The gateway's processes. ``environment`` is what they are started with: the settings, and where the embedded servers are."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], children: list[_Child], admin_port: int) -> None:
        self._arguments = arguments
        self._environment = environment
        self._admin_port = admin_port
        self.children = children

    def start(self, child: _Child) -> None:
        ready, told = os.pipe()
        environment = dict(self._environment)
        if child.number and self._admin_port:
            environment["GATEWAY_ADMIN_PORT"] = str(self._admin_port + child.number)
        child.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", *self._arguments, "run", "--role", child.role, "--child", "--ready-fd", str(told)],
            env=environment,
            pass_fds=[told],
            preexec_fn=ending_with_parent(),  # noqa: PLW1509 -- this parent has no threads
        )
        os.close(told)
        child.ready = ready
        child.started_at = time.monotonic()

    def await_ready(self, child: _Child, stopping: Callable[[], bool]) -> None:
        """Until a process says that it serves. Raises GatewayError when it ends before, or takes too long."""
        ends = time.monotonic() + _READY_SECONDS
        assert child.ready is not None
        assert child.process is not None
        while not stopping():
            if select.select([child.ready], [], [], 0.1)[0]:
                said = os.read(child.ready, 4096)
                if not said:
                    code = child.process.wait()
                    raise _Failed(f"the {child.role} process ended at its start", code)
                child.ports = json.loads(said)
                break
            if time.monotonic() > ends:
                raise _Failed(f"the {child.role} process did not start within {_READY_SECONDS:g} s", 1)
        os.close(child.ready)
        child.ready = None

    def mind(self) -> None:
        """Start anew what has ended, ever more slowly when it ends again at once."""
        now = time.monotonic()
        for child in self.children:
            if child.process is not None and (code := child.process.poll()) is not None:
                lived = now - child.started_at
                child.wait = 0.0 if lived >= _CALM_SECONDS else min(_MOST_WAIT_SECONDS, max(0.5, child.wait * 2))
                child.again_at = now + child.wait
                log.error("process ended, started anew", role=child.role, code=code, seconds=round(child.wait, 1))
                child.process = None
                if child.ready is not None:
                    os.close(child.ready)
                    child.ready = None
            if child.process is None and now >= child.again_at:
                self.start(child)
            if child.ready is not None and select.select([child.ready], [], [], 0)[0] and (said := os.read(child.ready, 4096)):
                os.close(child.ready)
                child.ready = None
                child.ports = json.loads(said)
                log.info("process serves again", role=child.role, **child.ports)

    def stop(self, seconds: float) -> None:
        """SIGTERM to all, SIGKILL to who has not left within ``seconds``."""
        running = [child.process for child in self.children if child.process is not None and child.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        ends = time.monotonic() + seconds
        for process in running:
            try:
                process.wait(max(0.1, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("process did not leave in time and is killed", pid=process.pid)
                process.kill()
                process.wait()


class _Failed(GatewayError):
    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


@contextlib.contextmanager
def _signals() -> Iterator[dict[str, bool]]:
    told = {"stop": False}

    def stop(_number: int, _frame: Any) -> None:
        told["stop"] = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def supervise(
    settings: Settings,
    role: Role,
    environment: Mapping[str, str],
    arguments: Sequence[str],
    tell: Callable[[Started], None],
) -> int:
    """Run a role in processes of its own until SIGTERM or SIGINT; returns the exit code.

    ``environment`` and ``arguments`` (``--config FILE``) are what the processes read their settings from.
    """
    with _signals() as told, Embedded(settings, role) as embedded:
        roles: list[Role] = [role, *(["worker" if role == "all" else role] * (settings.workers - 1))]
        children = [_Child(one, number) for number, one in enumerate(roles)]
        family = _Family(arguments, {**environment, **embedded.environment}, children, settings.admin_port)
        try:
            for child in children:
                family.start(child)
                family.await_ready(child, lambda: told["stop"])
            if not told["stop"]:
                ports = children[0].ports
                embedded.tell()
                tell(Started({**embedded.addresses, **_addresses(settings, ports)}, embedded.started))
            while not told["stop"]:
                family.mind()
                embedded.check()
                time.sleep(0.1)
        except _Failed as fault:
            log.critical(str(fault))
            return 2 if fault.code == 2 else 1
        finally:
            family.stop(settings.drain_seconds + 5)
    return 0


def _addresses(settings: Settings, ports: Mapping[str, int]) -> dict[str, str]:
    hosts = {"web": settings.web_host, "admin": settings.admin_host}
    return {name: f"http://{hosts[name]}:{port}" for name, port in ports.items()}
