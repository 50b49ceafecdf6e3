"""Opt-outs reach both providers: Twilio's and RingCentral's adapters, each at its simulator, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.app.providers import open_providers
from gateway.flow.learning import Learning
from gateway.flow.telling import Telling
from gateway.simulator.carrier import Carrier
from gateway.simulator.config import Account, CarrierConfig, RingCentralAccount
from gateway.simulator.ringcentral.account import RingCentralState
from gateway.simulator.server import running_carrier
from gateway.simulator.twilio.account import TwilioState
from tests.integration.test_learning import MAIN, PERSON, POLICY, RING
from tests.integration.world import World, open_world

SID = "AC" + "0" * 32


class Both:
    """One tenant with an account at each."""

    def __init__(self, world: World, carrier: Carrier, telling: Telling, learning: Learning) -> None:
        self.world, self.carrier, self.telling, self.learning = world, carrier, telling, learning

    @property
    def at_twilio(self) -> bool:
        state = self.carrier.accounts.get(SID)
        assert isinstance(state, TwilioState)
        return (PERSON, MAIN) in state.opted_out

    @property
    def at_ringcentral(self) -> bool:
        state = self.carrier.accounts.get("400")
        assert isinstance(state, RingCentralState)
        return state.consents.opted_out(RING, PERSON)

    @property
    def told(self) -> int:
        """How many words either was told."""
        counts = self.world.parts.registry.get_sample_value
        labels = [{"account": account, "result": "confirmed"} for account in ("main", "ring")]
        return int(sum(counts("sms_gateway_opt_outs_told_total", one) or 0 for one in labels))

    async def round(self) -> None:
        await self.learning.read()
        await self.telling.tell()
        await self.world.parts.database.execute("update opt_out_lists set read_at = read_at - interval '301 seconds'")

    async def text(self, body: str, *, to: str, account: str) -> str:
        now = await self.world.parts.control.now()
        text = replace(self.world.inbound(body, sender=PERSON, to=to, created_at=now), account=account)
        return await self.world.parts.replies().receive(text)


@pytest.fixture
async def both(database_url: str, tmp_path: Path) -> AsyncIterator[Both]:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "shop.yaml").write_text(POLICY)
    accounts = (
        Account(SID, "secret"),
        RingCentralAccount("400", "id", "secret", "jwt", senders=(), a2p_senders=(RING,)),
    )
    async with running_carrier(CarrierConfig(accounts=accounts)) as carrier:
        ring = {
            "PROVIDER": "ringcentral", "CLIENT_ID": "id", "CLIENT_SECRET": "secret", "JWT": "jwt", "VERIFICATION_TOKEN": "v" * 16,
            "API_BASE": carrier.url,
        }  # fmt: skip
        settings = {f"GATEWAY_ACCOUNTS__RING__{name}": value for name, value in ring.items()}
        settings |= {"GATEWAY_ACCOUNTS__MAIN__CONSENTS_API": "true", "GATEWAY_ACCOUNTS__MAIN__API_BASE": carrier.url}
        async with open_world(database_url, tmp_path, None, **settings) as world:
            providers = world.parts.providers = open_providers(world.parts.settings)
            telling = world.parts.telling()
            telling._now = iter(range(0, 100_000, 60)).__next__  # every look is a minute later
            telling._times = replace(telling._times, lease=1e9)
            try:
                yield Both(world, carrier, telling, world.parts.learning())
            finally:
                await asyncio.gather(*(provider.close() for provider in providers.values()))


async def test_a_stop_that_ringcentral_kept_is_told_to_twilio_and_a_start_lifts_both(both: Both) -> None:
    await both.carrier.inbound(PERSON, RING, "STOP", deliver=False)  # its webhook is lost, and the text with it
    assert both.at_ringcentral
    await both.round()
    assert (both.at_twilio, both.told) == (True, 1)
    for _ in range(3):
        await both.round()
    assert both.told == 1

    await both.world.shift(60)
    assert await both.text("START", to=MAIN, account="main") == "start"
    await both.telling.tell()
    assert (both.at_twilio, both.at_ringcentral, both.told) == (False, False, 3)
    for _ in range(3):
        await both.round()
    assert both.told == 3
    rows = await both.world.rows("select status from consents")
    assert {row["status"] for row in rows} == {"in"}


async def test_a_stop_that_was_texted_to_twilio_is_told_to_ringcentral_and_comes_back_as_an_echo(both: Both) -> None:
    assert await both.text("STOP", to=MAIN, account="main") == "stop"
    for _ in range(4):
        await both.round()
    assert (both.at_twilio, both.at_ringcentral, both.told) == (True, True, 2)
    echoes = both.world.parts.registry.get_sample_value(
        "sms_gateway_opt_outs_learned_total", {"account": "ring", "result": "echo"}
    )
    assert echoes
