"""The provider accounts as places of personal data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.app.providers import copies_staying
from gateway.flow.copies import Erasing
from gateway.flow.copies_left import ProviderPlace
from gateway.flow.copies_lost import LostAccounts
from gateway.store.closing import ClosedAccounts
from gateway.store.copies import CopyStore
from gateway.store.holds import HoldTable

if TYPE_CHECKING:
    from gateway.app.wiring import Parts

__all__ = ["lost_accounts", "provider_places"]


def provider_places(parts: Parts) -> list[ProviderPlace]:
    """Each account's place, in order of their aliases."""
    holds, closings = HoldTable(parts.database), ClosedAccounts(parts.database).closings
    policies, uses = list(parts.policies.everybody), list(parts.policies.sender_map().values())
    store, staying = CopyStore(parts.database, parts.name), copies_staying(parts.settings)
    return [
        ProviderPlace(
            provider,
            policies,
            uses,
            staying.get(alias),
            store,
            Erasing(provider, policies, store, holds, parts.metrics, closings),
            holds,
            closings,
        )
        for alias, provider in sorted(parts.providers.items())
    ]


def lost_accounts(parts: Parts) -> LostAccounts:
    """The accounts that the settings do not have any more."""
    closings = ClosedAccounts(parts.database).closings
    return LostAccounts(parts.settings.accounts, list(parts.policies.everybody), CopyStore(parts.database, parts.name), closings)
