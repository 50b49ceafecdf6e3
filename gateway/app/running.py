"""Where a gateway that embeds its servers keeps their addresses, so that commands on the same machine find them.

The file is private (it holds the embedded database's password) and counts only while the gateway that wrote it holds its lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from gateway.domain.errors import GatewayError, SettingsError

__all__ = ["Running", "running_environment"]

_FILE: Final = "running.json"
_LOCK: Final = "running.lock"
_WAIT_SECONDS: Final = 2.0  # a command that looks holds the lock for a moment


class Running:
    """The mark that one gateway runs on a state directory, for as long as the context lasts.

    Raises GatewayError when another does, and SettingsError when the directory cannot be made or written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            self._open()
        except OSError as fault:
            raise SettingsError(f"settings: state_directory {self._directory} cannot be used: {fault.strerror}") from None
        ends = time.monotonic() + _WAIT_SECONDS
        while not _locked(self._lock, fcntl.LOCK_EX):
            if time.monotonic() > ends:
                os.close(self._lock)
                raise GatewayError(f"another gateway runs with the state directory {self._directory}: stop it, or name another")
            time.sleep(0.02)
        (self._directory / _FILE).unlink(missing_ok=True)
        return self

    def _open(self) -> None:
        if not self._directory.exists():
            self._directory.mkdir(mode=0o700, parents=True)
            # As root the embedded PostgreSQL runs as another user, who must get through; what is below keeps its own modes.
            self._directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
        self._lock = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def tell(self, environment: Mapping[str, str]) -> None:
        """Write down the settings by which the embedded servers are reached."""
        file = self._directory / _FILE
        new = file.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(new, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
            json.dump(dict(environment), out)
        new.replace(file)

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        (self._directory / _FILE).unlink(missing_ok=True)
        os.close(self._lock)


def running_environment(directory: Path) -> dict[str, str]:
    """The settings by which the servers of the gateway that runs on this state directory are reached; none when none runs."""
    try:
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        if _locked(lock, fcntl.LOCK_SH):
            return {}  # nobody runs: what is there is from one that was killed
        told: dict[str, str] = json.loads((directory / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    else:
        return told
    finally:
        os.close(lock)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
