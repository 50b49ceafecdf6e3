"""A PostgreSQL of the gateway's own, on this machine's loopback address: durable, password-protected, gone with its parent."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from gateway.embedded.account import Account, find_place, private_temporary_folder, unprivileged_account
from gateway.embedded.child import Child, EmbeddedServerError, until
from gateway.embedded.cluster import NAME, Cluster
from gateway.embedded.ports import LOOPBACK, start_on_port
from gateway.embedded.programs import postgres_programs
from gateway.embedded.server import EmbeddedServer

__all__ = ["EmbeddedPostgres"]

_LONGEST_SOCKET: Final = 100  # bytes of a Unix socket's path: macOS allows 103, Linux 107

# The log holds no statement, parameter, key value or row: they could be personal data.
_SETTINGS: Final = {
    "jit": "off",  # of no use to short statements, and slow the first time
    "listen_addresses": LOOPBACK,
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "max_connections": "200",
    "timezone": "UTC",
}


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL 18 in ``directory``, which keeps its data from one start to the next.

    ``settings`` go to the server over the ones above (``{"fsync": "off"}`` for tests). ``seconds`` limits the wait for the server
    to be ready, recovery after a crash included. :meth:`start` blocks for a second or two: call it before there is other work,
    from a thread that lives as long as the server (see :class:`Child`), or use ``with`` or ``async with``. A second start of the
    same object keeps the port. Raises EmbeddedServerError.
    """

    NAME: ClassVar[str] = "embedded PostgreSQL"

    def __init__(self, directory: Path, *, settings: Mapping[str, str] | None = None, seconds: float = 60.0) -> None:
        super().__init__()
        self._wanted = directory
        self._settings = {**_SETTINGS, **(settings or {})}
        self._seconds = seconds
        self._folder: Path | None = None
        self._sockets: Path | None = None
        self._notice: str | None = None
        self._lock: int | None = None
        self._password = ""

    @property
    def url(self) -> str:
        """``postgresql://`` address by TCP, with its password."""
        return f"postgresql://{NAME}:{self._password}@{LOOPBACK}:{self.port}/{NAME}"

    @property
    def socket_url(self) -> str | None:
        """The same by Unix socket, which is a little faster; None where no path is short enough for one."""
        if self._sockets is None:
            return None
        return f"postgresql://{NAME}:{self._password}@/{NAME}?host={self._sockets}&port={self.port}"

    @property
    def folder(self) -> Path:
        """Where data, password and log really are."""
        if self._folder is None:
            raise self._not_started()
        return self._folder

    @property
    def notice(self) -> str | None:
        """A sentence for the operator when :attr:`folder` is not the directory that was asked for."""
        return self._notice

    def start(self) -> None:
        """Make the database if there is none, start the server, and return when it accepts connections."""
        if self.alive():
            return
        account = unprivileged_account()
        place = find_place(self._wanted, account)
        self._folder, self._notice = place.folder, place.notice
        self._take_lock(place.folder)
        try:
            cluster = Cluster(place.folder, account)
            programs = postgres_programs(place.folder, account)
            cluster.end_leftovers()
            self._password = cluster.password()
            cluster.make(programs, durable=self._settings.get("fsync") != "off")
            self._sockets = _socket_folder(place.folder, account)
            self._launch(programs / "postgres", cluster, account)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server, quickly but cleanly: sessions are cut, what was committed is on the disk."""
        if self._child is not None:
            self._child.stop((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0))
            self._child = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self, folder: Path) -> None:
        """One gateway a folder: a second one waits a little, since a killed one's processes may still be ending."""
        if self._lock is not None:  # a start after the server died: the lock was kept
            return
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)

        def taken() -> bool:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not until(taken, 10.0):
            os.close(lock)
            raise EmbeddedServerError(f"another gateway uses {folder}: stop it, or name another folder for the state")
        self._lock = lock

    def _launch(self, program: Path, cluster: Cluster, account: Account | None) -> None:
        quoted = "" if self._sockets is None else '"' + str(self._sockets).replace('"', '""') + '"'

        def start(port: int) -> Child:
            settings = {**self._settings, "port": str(port), "unix_socket_directories": quoted}
            return Child(
                [str(program), "-D", str(cluster.data), *(f"--{name}={value}" for name, value in settings.items())],
                folder=self.folder,
                log=self.folder / "postgres.log",
                death_signal=signal.SIGINT,
                account=account,
            )

        self._child, self._port = start_on_port(
            start,
            lambda child: cluster.ready(child.process_id),
            port=self._port,
            taken="could not create any TCP/IP sockets",
            seconds=self._seconds,
        )


def _socket_folder(folder: Path, account: Account | None) -> Path | None:
    """A folder whose path is short enough for a socket in it: below ``folder``, else among temporary files, else none."""

    def short(candidate: Path) -> bool:
        return len(os.fsencode(candidate / ".s.PGSQL.65535")) < _LONGEST_SOCKET

    sockets = folder / "socket"
    if not short(sockets):
        sockets = private_temporary_folder(sockets, mode=0o711) / "socket"
    if not short(sockets):
        return None
    sockets.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        os.chown(sockets, account.user, account.group)
    return sockets
