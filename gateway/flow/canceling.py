"""Canceling: what other systems have scheduled at a provider for people who have opted out, a part of telling (flow/telling.py).

The gateway schedules nothing there: docs/decisions/0031-nothing-scheduled-at-providers.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Final, Protocol

from gateway.domain.errors import GatewayError
from gateway.domain.personal import PhoneNumber
from gateway.flow.provider import Abilities
from gateway.telemetry import get_logger

__all__ = ["Canceler", "cancel_all"]

_AT_ONCE: Final = 4  # people; an account's requests are there for texts first

log = get_logger("canceling")


class Canceler(Protocol):
    """A provider account at which others may have scheduled texts."""

    @property
    def abilities(self) -> Abilities: ...

    async def cancel_scheduled(self, to: PhoneNumber, senders: Collection[str]) -> int:
        """How many texts were canceled. Raises ProviderUnavailable when something may be left."""
        ...


async def cancel_all(
    account: str, canceler: Canceler, people: Mapping[PhoneNumber, Collection[str]]
) -> tuple[int, frozenset[PhoneNumber]]:
    """Cancel what is scheduled for these people from these senders: how many texts were, and for whom something may be left."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def cancel(to: PhoneNumber, senders: Collection[str]) -> int | None:
        async with places:
            try:
                return await canceler.cancel_scheduled(to, senders)
            except GatewayError as fault:
                log.warning("scheduled texts may be left", account=account, why=str(fault))
                return None

    counts = await asyncio.gather(*(cancel(to, senders) for to, senders in people.items()))
    left = frozenset(to for to, count in zip(people, counts, strict=True) if count is None)
    return sum(count or 0 for count in counts), left
