"""The gateway's processes as a user starts them, and what can be done to them."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

import psutil

from gateway.simulator.http_client import HttpClient, NoAnswer
from tests.chaos.calm import Calm
from tests.support import until

__all__ = ["ROOT", "Family", "Member", "command", "environment_of"]

ROOT: Final = Path(__file__).parents[2]
_PR_SET_PDEATHSIG: Final = 1
_READY_SECONDS: Final = 20.0  # quiet ones, with the servers up: a supervisor waits 15 at most, and a start takes 2 to 3
_STARTS_AGAIN: Final = 40
_libc: Final = ctypes.CDLL(None)


class Family:
    """``gateway run --role ROLE --workers N``, as a user starts it: a supervisor, and the children that do the work."""

    def __init__(
        self, role: str, size: int, environment: Mapping[str, str], first_admin_port: int, folder: Path, calm: Calm
    ) -> None:
        self.role = role
        self.calm = calm
        self.log = folder / f"{role}.log"
        """Its standard error, in JSON."""
        self.members = [Member(self, f"{role}-{number + 1}", first_admin_port + number) for number in range(size)]
        self.started_again = 0
        self._environment = {**environment, "GATEWAY_ADMIN_PORT": str(first_admin_port)}
        self._parent: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def start(self) -> None:
        """Start it as a user would. It ends with this test's process, however that ends."""
        self._output = self._output or self.log.open("ab")
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "gateway", "run", "--role", self.role, "--workers", str(len(self.members))],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._output,
            preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),  # noqa: PLW1509 -- ctypes is loaded
        )

    def stop(self) -> int | None:
        """Ask it to leave, and kill it where it does not; returns its exit code."""
        if self._parent is None:
            return None
        if self._parent.poll() is None:
            self._parent.terminate()
            try:
                self._parent.wait(20)
            except subprocess.TimeoutExpired:
                self._parent.kill()
        if self._output is not None:
            self._output.close()
        return self._parent.wait()

    async def up(self) -> None:
        """Return when every child is ready."""
        await asyncio.gather(*(member.up() for member in self.members))

    async def kill(self) -> float:
        """SIGKILL to the supervisor, whose children go with it, and start it again, as an operator's init would.

        Returns the seconds until the last child was gone.
        """
        children = self.children()
        assert self._parent is not None
        self._parent.kill()
        self._parent.wait()
        seconds = max([await _gone(child, 10) for child in children])
        self.start()
        return seconds

    def mind(self) -> None:
        """Start it again where it has left, as an init would: a start is refused while PostgreSQL is away."""
        assert self._parent is not None
        if self._parent.poll() is not None:
            self.started_again += 1
            assert self.started_again <= _STARTS_AGAIN, f"gateway run --role {self.role} leaves again and again; see {self.log}"
            self.start()

    def children(self) -> list[psutil.Process]:
        """The processes that do the work now."""
        assert self._parent is not None
        pid = self._parent.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()  # psutil would read all of /proc
            return [psutil.Process(int(child)) for child in children]
        except (psutil.Error, OSError):
            return []  # one of them has just ended: who asks will ask again

    def endings(self) -> Counter[int]:
        """How often the supervisor saw a child end, by exit code; a signal's is negative."""
        entries = [json.loads(line) for line in self.log.read_text("utf-8", "replace").splitlines() if line.startswith("{")]
        return Counter(entry["code"] for entry in entries if entry.get("logger") == "supervisor" and "code" in entry)


class Member:
    """One child of a family. It keeps its name and admin port when it is started anew."""

    def __init__(self, family: Family, name: str, admin_port: int) -> None:
        self.name = name
        self.hurting = asyncio.Lock()
        self.hurt = 0
        """How often this test has killed it alone, or frozen it for the fuse to kill."""
        self.invariants: dict[int, Mapping[str, float]] = {}
        """The last values seen of the counters that must stay 0, by process id: who is killed takes them along."""
        self._family = family
        self._admin_port = admin_port

    def process(self) -> psutil.Process | None:
        """The child's process, while there is one."""
        for child in self._family.children():
            try:
                if child.environ().get("GATEWAY_ADMIN_PORT") == str(self._admin_port):
                    return child
            except (psutil.Error, OSError):
                continue  # it has just ended
        return None

    async def up(self) -> psutil.Process:
        """The process, once it says that it is ready."""

        async def ready() -> psutil.Process | None:
            self._family.mind()
            process = self.process()
            return (
                process if process is not None and await self._get("/readyz") is not None and process == self.process() else None
            )

        what = f"{self.name} is ready; see {self._family.log}"
        return await self._family.calm.until(ready, _READY_SECONDS, what, kind="ready again")

    async def look(self) -> None:
        """Remember what it counts."""
        process, text = self.process(), await self._get("/metrics")
        if process is not None and text is not None and process == self.process():
            self.invariants[process.pid] = _invariants(text)

    async def kill(self, process: psutil.Process) -> float:
        """SIGKILL; the seconds until it was gone."""
        self.hurt += 1
        process.kill()
        return await _gone(process, 10)

    async def freeze(self, process: psutil.Process, longest: float) -> float | None:
        """SIGSTOP. The fuse is to kill it: the seconds until it did, or None when it had to be woken after ``longest``."""
        self.hurt += 1
        process.suspend()
        try:
            return await _gone(process, longest)
        except AssertionError:
            process.resume()
            return None

    async def _get(self, path: str) -> str | None:
        """What the admin port answers with 200; None for anything else, or nothing within two seconds."""
        client = HttpClient(keep_body=None)
        url = f"http://127.0.0.1:{self._admin_port}{path}"
        try:
            answer = await client.request("GET", url, {}, b"", connect_within=2, read_within=2)
        except NoAnswer:
            return None
        finally:
            client.close()
        return answer.body.decode() if answer.status == 200 else None


async def _gone(process: psutil.Process, limit: float) -> float:
    began = time.monotonic()

    def gone() -> bool:
        try:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    await until(gone, limit, f"process {process.pid} is gone")
    return time.monotonic() - began


def _invariants(text: str) -> dict[str, float]:
    wanted = ("sms_gateway_sends_after_stop_total", "sms_gateway_duplicate_sends_total")
    found = (line.rpartition(" ") for line in text.splitlines() if line.startswith(wanted))
    return {name: float(value) for name, _, value in found}


def environment_of(**settings: str) -> dict[str, str]:
    """The environment of a process that gets these settings and nothing else of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return {**kept, **{f"GATEWAY_{name}": value for name, value in settings.items()}}


async def command(environment: Mapping[str, str], *words: str) -> tuple[int, str, str]:
    """What ``gateway`` with these words left with, said and complained of."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway", *words),
        cwd=ROOT,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = (output.decode() for output in await process.communicate())
    assert process.returncode is not None
    return process.returncode, said, complained
