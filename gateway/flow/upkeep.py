"""Upkeep: what runs out at providers, such as the subscriptions by which they call our web, is renewed before it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.domain.errors import GatewayError
from gateway.flow.fuse import clock
from gateway.telemetry import Metrics, get_logger

__all__ = ["Kept", "Upkeep"]

_EVERY: Final = 60.0  # seconds
_FIRST_WAIT: Final = 2.0  # seconds after a failure, doubled with each: at a start our web may be a moment later than we are

log = get_logger("upkeep")


class Kept(Protocol):
    """A provider account."""

    @property
    def name(self) -> str: ...

    async def keep_up(self, webhooks_url: str) -> None:
        """Renew what must be renewed by the clock. Raises ProviderUnavailable."""
        ...


@dataclass(slots=True)
class _Due:
    at: float = 0.0
    wait: float = _FIRST_WAIT


class Upkeep:
    """The chapter; one process at a time does it. ``public_url`` is where providers reach our web."""

    def __init__(
        self, accounts: Mapping[str, Kept], public_url: str, metrics: Metrics, *, now: Callable[[], float] = clock
    ) -> None:
        self._accounts = accounts
        self._public_url = public_url.rstrip("/")
        self._metrics = metrics
        self._now = now
        self._due = {alias: _Due() for alias in accounts}

    async def renew(self) -> None:
        """See to every account whose time has come, all at once: one that does not answer keeps no other waiting."""
        now = self._now()
        await asyncio.gather(*(self._renew(alias, due) for alias, due in self._due.items() if due.at <= now))

    async def _renew(self, alias: str, due: _Due) -> None:
        account = self._accounts[alias]
        try:
            await account.keep_up(f"{self._public_url}/webhooks/{account.name}/{alias}")
        except GatewayError as fault:
            log.warning("an account is not kept up", account=alias, why=str(fault))
            self._metrics.upkeep_failures_total.labels(account=alias).inc()
            due.at, due.wait = self._now() + due.wait, min(2 * due.wait, _EVERY)
        else:
            due.at, due.wait = self._now() + _EVERY, _FIRST_WAIT
