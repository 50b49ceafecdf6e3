"""The subscription by which RingCentral calls our web: one per account, renewed before it ends, made anew when it is gone or barred.

https://developers.ringcentral.com/guide/notifications/webhooks/creating-webhooks. What is there is looked at each time, so nothing need be
remembered: an answer that was lost, a second process or another installation's subscription does no harm.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from gateway.domain.errors import ProviderUnavailable
from gateway.providers.ringcentral.api import RingCentralRefused
from gateway.providers.ringcentral.records import time_of
from gateway.providers.ringcentral.webhooks import asked_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.providers.ringcentral.api import RingCentralApi

__all__ = ["Subscription"]

PATH: Final = "/restapi/v1.0/subscription"
LIFE: Final = timedelta(days=7)
RENEWAL: Final = LIFE / 2
_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class _Standing:
    """A subscription that calls our web."""

    name: str
    address: str
    active: bool
    filters: frozenset[str]
    ends_at: datetime


class Subscription:
    """Keeps the subscription of one account."""

    def __init__(self, api: RingCentralApi, verification_token: str, filters: Sequence[str]) -> None:
        self._api = api
        self._token = verification_token
        self._filters = tuple(filters)

    async def keep(self, webhooks_url: str, now: datetime) -> None:
        """See that there is one subscription, that it is active, and that it lasts. Raises ProviderUnavailable and the API's faults.

        RingCentral never shows the verification token that a subscription has. So a hash of ours stands in the address: once the
        setting is changed the old subscription is another's, and goes when the new one is there.
        """
        ours = f"{webhooks_url}/events"
        address = f"{ours}?token={hashlib.sha256(b'subscription' + self._token.encode()).hexdigest()[:16]}"
        standing = [one for one in await self._standing() if one.address.partition("?")[0] == ours]
        good = [one for one in standing if one.active and one.address == address]
        kept = max(good, key=lambda one: (one.ends_at, one.name), default=None)
        for barred in standing:
            if not barred.active:
                await self._delete(barred)
        if kept is None or not await self._lasts(kept, now):
            await self._api.call("POST", PATH, "medium", json={**self._wish(), "deliveryMode": self._delivery(address)})
        for other in standing:
            if other.active and other is not kept:
                await self._delete(other)

    async def _lasts(self, kept: _Standing, now: datetime) -> bool:
        """Give it our filters and time. False when it is gone."""
        try:
            if kept.filters != frozenset(self._filters):
                await self._api.call("PUT", f"{PATH}/{kept.name}", "medium", json=self._wish())
            elif kept.ends_at - now < RENEWAL:
                await self._api.call("POST", f"{PATH}/{kept.name}/renew", "light")
        except RingCentralRefused as refusal:
            if refusal.status != 404:
                raise
            return False
        return True

    async def _delete(self, one: _Standing) -> None:
        try:
            await self._api.call("DELETE", f"{PATH}/{one.name}", "medium")
        except RingCentralRefused as refusal:
            if refusal.status != 404:
                raise

    def _wish(self) -> dict[str, object]:
        return {"eventFilters": list(self._filters), "expiresIn": int(LIFE.total_seconds())}

    def _delivery(self, address: str) -> dict[str, str]:
        return {"transportType": "WebHook", "address": address, "verificationToken": self._token}

    async def _standing(self) -> list[_Standing]:
        said = await self._api.call("GET", PATH, "light")
        records = said.get("records") if isinstance(said, dict) else None
        if not isinstance(records, list):
            raise ProviderUnavailable("the list of subscriptions could not be read")
        return [one for record in records if (one := _standing_of(record)) is not None]


def _standing_of(record: object) -> _Standing | None:
    """A webhook's subscription; None for one of another kind, which is not ours."""
    fields = record if isinstance(record, dict) else {}
    mode, name = fields.get("deliveryMode"), fields.get("id")
    address = mode.get("address") if isinstance(mode, dict) else None
    if not isinstance(address, str) or not isinstance(name, str) or not _ID.fullmatch(name):
        return None
    disabled = fields.get("disabledFilters")
    shown = [one.get("filter") for one in disabled if isinstance(one, dict)] if isinstance(disabled, list) else []
    return _Standing(
        name=name,
        address=address,
        active=fields.get("status") == "Active",
        filters=asked_for(fields.get("eventFilters")) | asked_for(shown),
        # without a time it is renewed each time
        ends_at=time_of(fields.get("expirationTime")) or datetime.min.replace(tzinfo=UTC),
    )
