"""What runs out at providers is renewed in time, and one account's failure is its own."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from gateway.domain.errors import ProviderUnavailable
from gateway.flow.upkeep import Upkeep
from gateway.telemetry import Metrics


class Account:
    """Counts its renewals; fails, or hangs, while it is told to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.urls: list[str] = []
        self.fails = False
        self.gate: asyncio.Event | None = None

    async def keep_up(self, webhooks_url: str) -> None:
        self.urls.append(webhooks_url)
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise ProviderUnavailable("away")


async def test_accounts_are_renewed_every_minute_and_a_failed_one_sooner_and_ever_more_seldom() -> None:
    registry, now = CollectorRegistry(), [100.0]
    good, bad = Account("twilio"), Account("ringcentral")
    upkeep = Upkeep({"main": good, "central": bad}, "https://x.example/", Metrics(registry), now=lambda: now[0])
    bad.fails = True
    asked: list[int] = []
    for second in range(200):
        now[0] = 100.0 + second
        await upkeep.renew()
        if len(bad.urls) > len(asked):
            asked.append(second)
    assert good.urls == ["https://x.example/webhooks/twilio/main"] * 4
    assert bad.urls[0] == "https://x.example/webhooks/ringcentral/central"
    assert asked == [0, 2, 6, 14, 30, 62, 122, 182]
    assert registry.get_sample_value("sms_gateway_upkeep_failures_total", {"account": "central"}) == 8
    bad.fails = False
    now[0] += 60
    await upkeep.renew()
    bad.fails = True
    for _ in range(63):
        now[0] += 1
        await upkeep.renew()
    assert len(bad.urls) == len(asked) + 3  # after a success the waits begin anew: after 60 s, and 2 s later


async def test_an_account_that_does_not_answer_keeps_no_other_waiting() -> None:
    hanging, other = Account("ringcentral"), Account("ringcentral")
    hanging.gate = asyncio.Event()
    upkeep = Upkeep({"a": hanging, "b": other}, "https://x.example", Metrics(CollectorRegistry()), now=lambda: 1.0)
    renewing = asyncio.create_task(upkeep.renew())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert other.urls == ["https://x.example/webhooks/ringcentral/b"]
    hanging.gate.set()
    await renewing
