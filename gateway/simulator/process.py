"""A carrier as a process of its own, for chaos tests, benchmarks and the demo: started, driven over HTTP, stopped."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gateway.domain.errors import GatewayError
from gateway.simulator.http_client import HttpClient

__all__ = ["CarrierFailed", "CarrierProcess", "carrier_process"]


class CarrierFailed(GatewayError):
    """The simulator's process did not start, or answered a control request with an error."""


class CarrierProcess:
    """A running simulator. ``url`` is its address; it serves the API and, under ``/_carrier``, the control API."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url
        self._client = HttpClient(keep_body=None)

    async def get(self, path: str, *, within: float = 30.0) -> Any:
        """The JSON of a control call such as ``/stats?accepted=100``. Raises CarrierFailed, NoAnswer."""
        return await self._call("GET", path, b"", within)

    async def post(self, path: str, body: dict[str, Any] | None = None, *, within: float = 120.0) -> Any:
        """Make a control call such as ``/inbound``. Raises CarrierFailed, NoAnswer."""
        return await self._call("POST", path, json.dumps(body or {}).encode(), within)

    async def book(self) -> dict[str, Any]:
        """The whole book, page after page."""
        book: dict[str, Any] = await self.get("/book")
        while book["next"] is not None:
            page = await self.get(f"/book?since={book['next']}")
            book = {**page, "requests": [*book["requests"], *page["requests"]]}
        return book

    async def stats(self) -> dict[str, Any]:
        """The counts."""
        stats: dict[str, Any] = await self.get("/stats")
        return stats

    async def _call(self, method: str, path: str, body: bytes, within: float) -> Any:
        headers = {"Content-Type": "application/json"}
        answer = await self._client.request(method, f"{self.url}/_carrier{path}", headers, body, read_within=within)
        value = json.loads(answer.body)
        if answer.status != 200:
            raise CarrierFailed(f"the simulator answered {answer.status}: {value.get('error')}")
        return value

    async def stop(self) -> int:
        """Ask it to end, wait until it has, and return its exit code."""
        self._client.close()
        if self.process.returncode is None:
            self.process.terminate()
        return await self.process.wait()


@asynccontextmanager
async def carrier_process(arguments: Sequence[str], *, within: float = 20.0) -> AsyncIterator[CarrierProcess]:
    """A simulator with these command-line arguments, on a free port unless they name one, while the context lasts.

    Raises CarrierFailed where it does not listen ``within`` seconds.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.simulator", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), within)).decode()
    except TimeoutError:
        line = ""
    if not line.startswith("listening on "):
        if process.returncode is None:
            process.kill()
        await process.wait()
        raise CarrierFailed("the simulator did not start")
    carrier = CarrierProcess(process, line.removeprefix("listening on ").strip())
    try:
        yield carrier
    finally:
        await carrier.stop()
