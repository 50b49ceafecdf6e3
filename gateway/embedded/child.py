"""A server process that ends with its parent, and the faults of starting one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from gateway.domain.errors import GatewayError
from gateway.embedded.account import Account

__all__ = ["Child", "EmbeddedServerError", "until"]

_LAUNCHER: Final = Path(__file__).with_name("launch.py")
_POLL: Final = 0.01  # seconds


class EmbeddedServerError(GatewayError):
    """An embedded server cannot be started here; the text says why, and where its log is."""


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether ``condition`` becomes true within ``seconds``; it is asked a hundred times a second."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)
    return True


class Child:
    """One running server process.

    It is in a process group of its own, so that Ctrl-C in a terminal reaches the gateway alone, which then stops its servers last.
    When this process ends in any way, also by ``kill -9``, the server gets ``death_signal``. On Linux that is tied to the *thread*
    that made this object: it must live as long as the server is wanted.
    """

    def __init__(
        self,
        command: list[str],
        *,
        folder: Path,
        log: Path,
        death_signal: signal.Signals,
        account: Account | None = None,
        kernel: bool = sys.platform == "linux",
    ) -> None:
        order = {
            "account": None if account is None else [account.user, account.group],
            "kernel": kernel,
            "parent": os.getpid(),
            "signal": int(death_signal),
        }
        if log.exists():
            log.replace(log.with_name(f"{log.name}.before"))
        with open(log, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(order), *command],
                stdin=subprocess.DEVNULL if kernel else subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=server_environment(),
                process_group=0,
                umask=0o077,
            )
        self.log = log

    @property
    def process_id(self) -> int:
        """The server's process, also while the launcher has not yet become it."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the process runs; a dead one is reaped."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """The end of the log, for an error message."""
        lines = self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []
        return " / ".join(line.strip() for line in lines[-4:] if line.strip()) or "it said nothing"

    def stop(self, *steps: tuple[signal.Signals, float]) -> None:
        """Send each signal in turn and wait its seconds for the end; then kill."""
        for number, seconds in (*steps, (signal.SIGKILL, 5.0)):
            if not self.alive():
                break
            self._process.send_signal(number)
            until(lambda: not self.alive(), seconds)
        pipe: IO[bytes] | None = self._process.stdin
        if pipe is not None:
            try:
                pipe.write(b".")  # calls the watcher off
                pipe.close()
            except BrokenPipeError:
                pass


def server_environment() -> dict[str, str]:
    """What a server or its tools get of the environment: nothing that could configure them (PGPORT, LISTENER_URL, proxies)."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
