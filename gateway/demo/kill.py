"""The gateway is killed while it sends: kill -9, no word to anybody. Its parent starts it anew."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final

from gateway.demo.backend import Backend
from gateway.demo.stage import Stage
from gateway.demo.traffic import Traffic
from gateway.domain.errors import GatewayError
from gateway.simulator.http_client import HttpClient, NoAnswer

__all__ = ["kill_midway"]

_UNDER_WAY: Final = 8  # texts of the burst that the carrier has taken when the gateway is killed
_BURSTS: Final = 5  # at most
_AGAIN_SECONDS: Final = 60.0
_WORKER: Final = "select actor from audit where step = 'claimed' order by at desc limit 1"
_UNSETTLED: Final = "select count(*) from queue where worker_id = $1 and state <> 'waiting'"


async def kill_midway(stage: Stage, backend: Backend, traffic: Traffic, tell: Callable[[str], None]) -> str:
    """Publish more than can be sent at once, and kill the gateway's process that sends it. Returns its name in the audit.

    Raises GatewayError when the gateway is not caught with texts under way, or does not serve again.
    """
    worker, process = await _caught(stage, backend, traffic)
    os.kill(process, signal.SIGKILL)
    began = asyncio.get_running_loop().time()
    tell("kill -9 of the gateway, while it sends")
    await _serves_again(stage)
    tell(f"the gateway serves again after {asyncio.get_running_loop().time() - began:.1f} s")
    return worker


async def _caught(stage: Stage, backend: Backend, traffic: Traffic) -> tuple[str, int]:
    """The worker's name and its process, stopped in its tracks with texts under way."""
    for _ in range(_BURSTS):
        taken = (await stage.carrier.stats())["accepted"]
        await backend.publish(*traffic.burst())
        await stage.carrier.get(f"/stats?accepted={taken + _UNDER_WAY}&within=10")
        worker: str = (await stage.database.fetch(_WORKER))[0]["actor"]
        process = int(worker.split(":")[-2])
        os.kill(process, signal.SIGSTOP)  # it may have sent all of it already: look while it cannot go on
        if (await stage.database.fetch(_UNSETTLED, worker))[0]["count"]:
            return worker, process
        os.kill(process, signal.SIGCONT)
    raise GatewayError("the gateway was quicker than the demo: it could not be killed with texts under way")


async def _serves_again(stage: Stage) -> None:
    client = HttpClient()
    try:
        async with asyncio.timeout(_AGAIN_SECONDS):
            while not await _is_ready(client, stage):  # noqa: ASYNC110 -- only the gateway knows, and it is asked over HTTP
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise GatewayError(f"the gateway that was killed did not serve again within {_AGAIN_SECONDS:g} s") from None
    finally:
        client.close()


async def _is_ready(client: HttpClient, stage: Stage) -> bool:
    try:
        return (await client.request("GET", f"{stage.admin}/readyz", {}, b"")).status == 200
    except NoAnswer:
        return False
