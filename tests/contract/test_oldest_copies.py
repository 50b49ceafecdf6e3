"""The oldest copies at a provider, by its own list: found from the oldest side in a bounded number of questions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reports import Text
from gateway.providers.ringcentral import lists
from gateway.providers.ringcentral.provider import RingCentral, RingCentralAccount
from gateway.providers.twilio import oldest
from gateway.providers.twilio.provider import Twilio, TwilioAccount
from gateway.simulator.config import Account, CarrierConfig
from gateway.simulator.config import RingCentralAccount as RingAccount
from gateway.simulator.server import running_carrier

SID = "AC" + "0" * 32
OURS, TO = "+14155550110", "+12025550101"
DAY = 86_400.0


@pytest.mark.parametrize("kind", ["twilio", "ringcentral"])
async def test_the_oldest_are_found_beside_many(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oldest, "_PAGE_SIZE", 4)
    monkeypatch.setattr(lists, "PER_PAGE", 4)
    account: Account | RingAccount = (
        Account(SID, "secret", senders=(OURS,))
        if kind == "twilio"
        else RingAccount("405", "app", "secret", "jwt", senders=(OURS,))
    )
    config = CarrierConfig(accounts=(account,), sent_ms=0, final_ms=0)
    async with running_carrier(config) as carrier:
        provider: Twilio | RingCentral = (
            Twilio(TwilioAccount("main", SID, "secret", api_base=carrier.url))
            if kind == "twilio"
            else RingCentral(
                RingCentralAccount("main", "app", "secret", "jwt", "verification", high_volume=False, api_base=carrier.url)
            )
        )
        try:
            for number in range(10):
                text = Text(uuid4(), 1, "main", OURS, PhoneNumber(TO), MessageBody(f"{number}"), "https://gateway.example/x")
                await provider.send([text])
            for number, message in enumerate(carrier.book.messages.values()):  # 40 days ago, 36, … 4
                message.created_at -= (40 - 4 * number) * DAY
                message.starts_at = message.created_at
            now = datetime.now(UTC)
            few = await provider.oldest_copies(OURS, now - timedelta(days=31))
            assert ([round((now - one.created_at).total_seconds() / DAY) for one in few.oldest], few.all_seen) == (
                [40, 36, 32],
                True,
            )
            assert all(one.has_text for one in few.oldest)
            many = await provider.oldest_copies(OURS, now)
            days = [round((now - one.created_at).total_seconds() / DAY) for one in many.oldest]
            assert (days[0], many.all_seen) == (40, False)
            assert days == sorted(days, reverse=True)
            assert (await provider.oldest_copies(OURS, now - timedelta(days=41))).oldest == []
            assert (await provider.oldest_copies("+14155550119", now)).oldest == []
        finally:
            await provider.close()
