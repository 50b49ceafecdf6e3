"""Decisions a second, and the floors: the same work without logic, and the HTTP client alone."""

from __future__ import annotations

import asyncio
import json
import time

from bench.sending import QUICK
from bench.stage import ACCOUNT_SID, RINGCENTRAL, SENDER, TOKEN, Figures, Stage, apart, person
from gateway.app.simulated import account_settings
from gateway.bus.address import BrokerAddress
from gateway.bus.topics import TopicSpec, apply
from gateway.providers.http import HttpClient

__all__ = ["decisions", "floors"]


async def decisions(stage: Stage, count: int) -> Figures:
    """Consumed, decided, sealed, durable, told; against the same without logic."""
    count *= 2
    await apply(BrokerAddress(stage.servers), [TopicSpec("floor.v1", 6)])
    await stage.publish(count)
    bare = await apart(stage, "floor", count)
    ours = await apart(stage, "gateway", count)
    return {
        "decisions_per_second": round(count / ours["seconds"]),
        "floor_decisions_per_second": round(count / bare["seconds"]),
        "decisions_to_floor": round(bare["seconds"] / ours["seconds"], 3),
        "decision_cpu_ms": round(ours["cpu_ms"], 3),
    }


async def floors(stage: Stage, count: int) -> Figures:
    """The HTTP client alone: create requests a second, 100 at once, to a carrier at once and to one at 100 ms; texts in batches of 100."""
    return {
        "floor_requests_per_second": await _requests(stage, 2 * count, 0),
        "floor_requests_per_second_at_100ms": await _requests(stage, count, 100),
        "floor_texts_per_second_ringcentral": await _batches(stage, 10 * count),
    }


async def _requests(stage: Stage, count: int, latency_ms: int) -> int:
    async with stage.carrier(*QUICK, "--callbacks", "none", "--latency-ms", str(latency_ms)) as carrier:
        client = HttpClient(time_limit_seconds=8, connections=100)
        url = f"{carrier.url}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"
        numbers = iter(range(count))

        async def one() -> None:
            for number in numbers:
                form = {"To": person(number), "From": SENDER, "Body": "A text of an ordinary length, for the floor of the bench."}
                answer = await client.request("POST", url, headers={}, form=form, basic_auth=(ACCOUNT_SID, TOKEN))
                if answer.status != 201:
                    raise RuntimeError(f"the carrier answered {answer.status}")

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(100)))
        seconds = time.perf_counter() - began
        await client.close()
    return round(count / seconds)


async def _batches(stage: Stage, count: int, size: int = 100) -> int:
    """Texts in batches, ten batches at once."""
    async with stage.carrier(*QUICK, "--callbacks", "none", account=RINGCENTRAL) as carrier:
        client = HttpClient(time_limit_seconds=8, connections=10)
        found = account_settings([RINGCENTRAL], carrier.url, TOKEN)
        client_id, secret, jwt = (found[f"GATEWAY_ACCOUNTS__MAIN__{name}"] for name in ("CLIENT_ID", "CLIENT_SECRET", "JWT"))
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": jwt}
        answer = await client.request(
            "POST", f"{carrier.url}/restapi/oauth/token", headers={}, form=form, basic_auth=(client_id, secret)
        )
        headers = {"Authorization": f"Bearer {json.loads(answer.body)['access_token']}"}
        url = f"{carrier.url}/restapi/v1.0/account/~/a2p-sms/batches"
        starts = iter(range(0, count, size))

        async def one() -> None:
            for start in starts:
                messages = [{"to": [person(number)]} for number in range(start, start + size)]
                batch = {
                    "from": SENDER,
                    "text": "A text of an ordinary length, for the floor of the bench.",
                    "messages": messages,
                }
                answer = await client.request("POST", url, headers=headers, json=batch)
                if answer.status != 201:
                    raise RuntimeError(f"the carrier answered {answer.status}")

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(10)))
        seconds = time.perf_counter() - began
        await client.close()
    return round(count / seconds)
