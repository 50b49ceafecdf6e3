"""The files of an embedded PostgreSQL: its data, the password to it, and what an earlier server left behind."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

import psutil

from gateway.embedded.account import Account
from gateway.embedded.child import EmbeddedServerError, server_environment, until

__all__ = ["NAME", "Cluster"]

NAME: Final = "gateway"  # of the database, and of its owner


class Cluster:
    """The data of one server in ``folder``, owned by ``account`` where this process is root."""

    def __init__(self, folder: Path, account: Account | None) -> None:
        self._folder = folder
        self._account = account
        self.data = folder / "data"

    def password(self) -> str:
        """The password of this folder's database, made the first time; its file is readable for this user alone."""
        file = self._folder / "password"
        if not file.exists():
            if self.data.exists():
                raise EmbeddedServerError(
                    f"{file} is missing: put it back, or remove {self.data} to begin with an empty database"
                )
            unfinished = self._folder / "password.unfinished"
            self._write_private(unfinished, secrets.token_hex(24))
            unfinished.rename(file)
        return file.read_text("ascii").strip()

    def make(self, programs: Path, *, durable: bool) -> None:
        """Make the data if there are none: under another name first, so that an interrupted start leaves nothing half made.

        ``durable`` is False for tests, which need not wait for the disk.
        """
        if self.data.exists():
            return
        unfinished = self._folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        pass_file = self._folder / "password.initdb"
        self._write_private(pass_file, self.password(), self._account)
        if self._account is not None:
            os.chown(unfinished, self._account.user, self._account.group)
        try:
            self._run(
                str(programs / "initdb"),
                f"--pgdata={unfinished}",
                f"--username={NAME}",
                f"--pwfile={pass_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                *([] if durable else ["--no-sync"]),
            )
        finally:
            pass_file.unlink()
        fsync = f"fsync={'on' if durable else 'off'}"
        single = [
            str(programs / "postgres"),
            "--single",
            "-D",
            str(unfinished),
            "-c",
            "exit_on_error=true",
            "-c",
            fsync,
            "postgres",
        ]
        self._run(*single, text=f"CREATE DATABASE {NAME};\n")
        unfinished.rename(self.data)

    def end_leftovers(self) -> None:
        """End what a killed gateway left running here, and forget its process id, which may be somebody else's by now."""
        process_file = self.data / "postmaster.pid"
        if not process_file.exists():
            return
        ended = until(lambda: not self._leftovers(), 10.0)  # it had its signal when its parent died
        for number in (signal.SIGQUIT, signal.SIGKILL):
            if ended:
                break
            for process in self._leftovers():
                try:
                    process.send_signal(number)
                except psutil.NoSuchProcess:
                    continue
            ended = until(lambda: not self._leftovers(), 5.0)
        if not ended:
            raise EmbeddedServerError(f"an older PostgreSQL still runs in {self.data} and does not end")
        process_file.unlink(missing_ok=True)

    def ready(self, process_id: int) -> bool:
        """Whether the server of that process accepts connections: postmaster.pid says so in line 8 (pg_ctl waits for the same)."""
        try:
            lines = (self.data / "postmaster.pid").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(process_id) and lines[7].strip() == "ready"

    def _leftovers(self) -> list[psutil.Process]:
        """Every process of a server works in its data folder."""
        here = str(self.data.resolve())
        return [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == here]

    @staticmethod
    def _write_private(file: Path, text: str, owner: Account | None = None) -> None:
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as output:
            output.write(text)
            output.flush()
            os.fsync(output.fileno())
            if owner is not None:
                os.fchown(output.fileno(), owner.user, owner.group)

    def _run(self, *command: str, text: str = "") -> None:
        account = self._account
        finished = subprocess.run(
            command,
            cwd=self._folder,
            env=server_environment(),
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            process_group=0,  # Ctrl-C in a terminal is for the gateway, which then ends in order
            umask=0o077,
            user=None if account is None else account.user,
            group=None if account is None else account.group,
            extra_groups=None if account is None else [],
        )
        if finished.returncode != 0:
            words = " / ".join(finished.stdout.strip().splitlines()[-4:])
            raise EmbeddedServerError(f"{Path(command[0]).name} ended with {finished.returncode}: {words}")
