"""What can be done to the gateway's account at RingCentral: its tokens revoked, its subscription barred or ended."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from gateway.simulator.process import CarrierProcess

__all__ = ["bar_subscriptions", "revoke_tokens", "subscribed"]

_EVERY: Final = 2.5


async def revoke_tokens(carrier: CarrierProcess, account: str, seconds: float) -> str:
    """For a while every token of the account's is revoked again and again; not so often that there is no other to be had."""
    ends, revoked = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        revoked += (await carrier.post("/tokens", {"sid": account, "revoke": True}))["revoked"]
        await asyncio.sleep(_EVERY)
    return f"{revoked} tokens revoked in {seconds:.1f} s"


async def bar_subscriptions(carrier: CarrierProcess, account: str, become: str) -> int:
    """From now on RingCentral calls nobody: every subscription is ``Blacklisted`` or ``Expired``. Returns how many there were."""
    standing = [one["id"] for one in (await carrier.get("/subscriptions"))["subscriptions"] if one["account"] == account]
    for name in standing:
        await carrier.post("/subscription", {"sid": account, "id": name, "become": become})
    return len(standing)


async def subscribed(carrier: CarrierProcess, account: str) -> bool:
    """Whether RingCentral calls the web of this account."""
    standing = (await carrier.get("/subscriptions"))["subscriptions"]
    return any(one["account"] == account and one["status"] == "Active" for one in standing)
