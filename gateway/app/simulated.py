"""Simulated accounts: with a simulated carrier, one for each that the policies send by, and the settings that lead the gateway to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.domain.policy import Policies
from gateway.providers.names import PROVIDERS, ProviderName

__all__ = ["SimulatedAccount", "account_settings", "carrier_arguments", "simulated_accounts"]

_TWILIO_REGIONS: Final = {"us": "us1", "eu": "ie1", "au": "au1"}
# RingCentral gives 50 calls a minute. The simulated one gives more, so that trying things out does not end in waiting.
_RATES: Final = ("Light=3000", "Medium=3000", "Auth=300")


@dataclass(frozen=True, slots=True)
class SimulatedAccount:
    """An account with the simulated carrier: its alias here, its id there, its senders, and where a policy wants kept what passes."""

    alias: str
    provider: ProviderName
    sid: str
    senders: tuple[str, ...]
    region: str | None


def simulated_accounts(policies: Policies) -> list[SimulatedAccount]:
    """One for each that the policies send by, in order of their aliases.

    An alias that is a provider's name, or begins with it and ``-`` or ``_``, is with that provider; any other with the first that its
    tenant's policy allows.
    """
    aliases = sorted({route.account for route in policies.routes()})
    return [_account(alias, number, policies) for number, alias in enumerate(aliases, start=1)]


def _account(alias: str, number: int, policies: Policies) -> SimulatedAccount:
    routes = [route for route in policies.routes() if route.account == alias]
    tenants = [policy for policy in map(policies.tenant, dict.fromkeys(route.tenant for route in routes)) if policy is not None]
    named = [one for one in PROVIDERS if alias == one or alias.startswith((f"{one}-", f"{one}_"))]
    allowed = [one for policy in tenants for name in policy.providers for one in PROVIDERS if one == name]
    provider: ProviderName = next(iter([*named, *allowed]), "twilio")
    return SimulatedAccount(
        alias,
        provider,
        f"AC{number:032d}" if provider == "twilio" else f"{405_000_000_000 + number}",
        tuple(sorted({route.sender for route in routes})),
        next((policy.regions[0] for policy in tenants if policy.regions), None),
    )


def carrier_arguments(accounts: Sequence[SimulatedAccount], public_url: str, secret: str) -> list[str]:
    """The simulator's arguments for these accounts; it posts to the gateway's web at ``public_url``."""
    arguments = [part for rate in _RATES for part in ("--rate", rate)]
    for one in accounts:
        match one.provider:
            case "twilio":
                url = f"{public_url}/webhooks/twilio/{one.alias}/inbound#rc=5&rp=all"
                arguments += ["--account", f"{one.sid}:{secret}", "--inbound-url", f"{one.sid}={url}"]
            case "ringcentral":
                arguments += ["--ringcentral", f"{one.sid}:{_client(one)}:{secret}:{_jwt(secret)}"]
                for sender in one.senders:
                    arguments += ["--a2p-sender", f"{one.sid}={sender}"]
    return arguments


def account_settings(accounts: Sequence[SimulatedAccount], carrier_url: str, secret: str) -> dict[str, str]:
    """The environment that sets these accounts; ``secret`` as the carrier was told it."""
    return {
        f"GATEWAY_ACCOUNTS__{one.alias.upper()}__{name}": value
        for one in accounts
        for name, value in _settings(one, carrier_url, secret)
    }


def _settings(one: SimulatedAccount, carrier_url: str, secret: str) -> Iterator[tuple[str, str]]:
    yield "API_BASE", carrier_url
    match one.provider:
        case "twilio":
            yield from (("ACCOUNT_SID", one.sid), ("AUTH_TOKEN", secret))
            if one.region is not None:  # what is simulated is kept wherever a policy wants it
                yield "REGION", _TWILIO_REGIONS.get(one.region, "us1")
        case "ringcentral":
            yield from (
                ("PROVIDER", "ringcentral"),
                ("CLIENT_ID", _client(one)),
                ("CLIENT_SECRET", secret),
                ("JWT", _jwt(secret)),
            )
            yield "VERIFICATION_TOKEN", f"verification-{secret}"
            if one.region in _TWILIO_REGIONS:
                yield "REGION", str(one.region)


def _client(one: SimulatedAccount) -> str:
    return f"client-{one.sid}"


def _jwt(secret: str) -> str:
    return f"jwt-{secret}"
