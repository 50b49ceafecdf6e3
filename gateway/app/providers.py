"""Providers made of the settings' accounts."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.errors import SettingsError
from gateway.domain.policy import Policies
from gateway.domain.policy_copies import check_copies
from gateway.domain.routing import check_ways
from gateway.flow.provider import Provider
from gateway.settings import RingCentralSettings, Settings, TwilioSettings

__all__ = ["account_notes", "check_accounts", "copies_staying", "open_providers", "ways_of"]


def check_accounts(settings: Settings, policies: Policies) -> list[str]:
    """Every account that a policy sends by is there and can have its senders, and every programme has a way out that its policy allows.

    Returns a line on each sender that is not used, as its tenant's policy forbids it, and on each account whose copies stay. Raises
    SettingsError and PolicyError.
    """
    missing = sorted({route.account for route in policies.routes()} - set(settings.accounts))
    if missing:
        raise SettingsError(
            f"settings: accounts.{missing[0]} is missing: a policy in {settings.policies_directory} sends by it"
            f" (set GATEWAY_ACCOUNTS__{missing[0].upper()}__PROVIDER and what that provider needs: docs/configuration.md)"
        )
    for route in policies.routes():
        fault = settings.accounts[route.account].sender_fault(route.sender)
        if fault is not None:
            place = f"{route.tenant}'s {route.programme} in {settings.policies_directory}"
            raise SettingsError(f"settings: accounts.{route.account}.{fault}, and {place} sends by it from {route.sender}")
    ways = check_ways(policies, ways_of(settings))
    return [*ways, *check_copies(policies, copies_staying(settings))]


def copies_staying(settings: Settings) -> dict[str, str]:
    """By alias of each account whose copies nobody can delete: what of them stays."""
    return {alias: account.copies_stay for alias, account in settings.accounts.items() if account.copies_stay is not None}


def account_notes(settings: Settings) -> list[str]:
    """One line on each thing that an operator should know of the accounts' settings."""
    return [f"accounts.{alias}.{note}" for alias, account in sorted(settings.accounts.items()) for note in account.notes]


def ways_of(settings: Settings) -> dict[str, tuple[str, str]]:
    """Every account's provider and place."""
    return {alias: (account.provider, account.place) for alias, account in settings.accounts.items()}


def open_providers(settings: Settings) -> Mapping[str, Provider]:
    """Every account's provider, by alias. A provider's libraries are imported only where an account is with it."""
    providers: dict[str, Provider] = {}
    for alias, account in settings.accounts.items():
        match account:
            case TwilioSettings():
                from gateway.providers.twilio.provider import Twilio, TwilioAccount

                providers[alias] = Twilio(
                    TwilioAccount(
                        alias,
                        account.account_sid,
                        account.auth_token.get_secret_value(),
                        api_base=account.api,
                        time_limit_seconds=settings.dispatch.request_seconds,
                        connections=account.concurrency,
                        content_retention=account.content_retention,
                        address_retention=account.address_retention,
                        consents_api=account.consents_api,
                        cancels_scheduled=account.cancel_scheduled,
                    )
                )
            case RingCentralSettings():
                from gateway.providers.ringcentral.provider import RingCentral, RingCentralAccount

                providers[alias] = RingCentral(
                    RingCentralAccount(
                        alias,
                        account.client_id,
                        account.client_secret.get_secret_value(),
                        account.jwt.get_secret_value(),
                        account.verification_token.get_secret_value(),
                        high_volume=account.high_volume,
                        api_base=account.api_base,
                        time_limit_seconds=settings.dispatch.request_seconds,
                        connections=account.concurrency,
                    )
                )
    return providers
