"""The gateway as a process of its own, started as a user would: its addresses from what it prints, its log in a file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import gateway
from gateway.domain.errors import GatewayError

__all__ = ["GatewayProcess", "gateway_process"]

_LAUNCHER: Final = Path(__file__).parents[1] / "embedded" / "launch.py"
_START_SECONDS: Final = 60.0
_COMMAND_SECONDS: Final = 60.0


class GatewayProcess:
    """A running ``gateway run``; ``addresses`` are where its web and admin servers listen."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, environment: Mapping[str, str]) -> None:
        self._process = process
        self._environment = dict(environment)
        self._reading: asyncio.Task[None] | None = None
        self.log = log
        self.addresses: Mapping[str, str] = {}

    async def started(self, within: float) -> None:
        """Wait until it says where everything is. Raises GatewayError with the end of its log when it does not."""
        assert self._process.stdout is not None
        said = ""
        try:
            async with asyncio.timeout(within):
                while line := await self._process.stdout.readline():
                    said += line.decode()
                    told = _whole(said)
                    if told is not None:
                        self.addresses = told["addresses"]
                        self._reading = asyncio.create_task(_drain(self._process.stdout))
                        return
        except TimeoutError:
            raise GatewayError(
                f"the gateway did not start within {within:g} s; the end of its log:\n{self.last_words()}"
            ) from None
        raise GatewayError(f"the gateway did not start; the end of its log:\n{self.last_words()}")

    async def ended(self) -> None:
        """Returns never, or raises GatewayError: nobody has asked it to end."""
        code = await self._process.wait()
        raise GatewayError(f"the gateway ended by itself with exit code {code}; the end of its log:\n{self.last_words()}")

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])

    async def stop(self, within: float) -> int:
        """SIGTERM, and its exit code; it is killed when it has not left in time."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self._process.wait(), within)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()
        finally:
            if self._reading is not None:
                self._reading.cancel()

    async def command(self, *arguments: str) -> tuple[int, Any]:
        """Run a command of the gateway with the same settings: its exit code, and the JSON that it prints. Raises GatewayError without any."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            cwd=Path(gateway.__file__).parents[1],
        )
        try:
            async with asyncio.timeout(_COMMAND_SECONDS):
                out, err = await process.communicate()
        except TimeoutError:
            raise GatewayError(f"gateway {' '.join(arguments)} took longer than {_COMMAND_SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        told = _whole(out.decode())
        if told is None:
            raise GatewayError(f"gateway {' '.join(arguments)} said nothing but: {err.decode('utf-8', 'replace')[-2000:]}")
        assert process.returncode is not None
        return process.returncode, told


@asynccontextmanager
async def gateway_process(environment: Mapping[str, str], log: Path, *, drain: float) -> AsyncIterator[GatewayProcess]:
    """The gateway with these settings while the context lasts. Raises GatewayError where it does not start.

    It is in a session of its own: Ctrl-C reaches the demo, which ends the gateway in order. When the demo is killed it gets SIGTERM.
    """
    command = [sys.executable, "-m", "gateway", "run", "--json"]
    if sys.platform == "linux":
        order = {"account": None, "kernel": True, "parent": os.getpid(), "signal": int(signal.SIGTERM)}
        command = [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(order), *command]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            env=dict(environment),
            cwd=Path(gateway.__file__).parents[1],
            start_new_session=True,
        )
    running = GatewayProcess(process, log, environment)
    try:
        await running.started(_START_SECONDS)
        yield running
    finally:
        await running.stop(drain + 10)


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(4096):
        pass


def _whole(said: str) -> Any:
    try:
        return json.loads(said)
    except ValueError:
        return None
