"""A programme's senders and routes, as a policy's file says them: which sender a message may leave by."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import phonenumbers
from pydantic import AfterValidator, Field

from gateway.domain.event_fields import SenderName, Slug
from gateway.domain.policy_part import PolicyPart

__all__ = [
    "EU",
    "Alias",
    "Category",
    "RegionName",
    "RoutePart",
    "Sender",
    "all_different",
    "countries_in",
    "fault_of_routes",
    "used_by",
]

Category = Literal["marketing", "service", "security"]
Alias = Annotated[str, Field(pattern=r"^[a-z](?:_?[a-z0-9-])*_?$", max_length=32)]
RegionName = Annotated[str, Field(pattern=r"^[a-z]{2}[a-z0-9-]{0,14}$")]

EU: Final = frozenset(
    {
        "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV", "MT", "NL",
        "PL", "PT", "RO", "SE", "SI", "SK",
    }
)  # fmt: skip
"""The members of the European Union: https://european-union.europa.eu/principles-countries-history/eu-countries_en"""

# The European Economic Area: https://www.efta.int/eea
_GROUPS: Final = {"EU": EU, "EEA": EU | {"IS", "LI", "NO"}}


def all_different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values, none of which stands twice. Raises ValueError."""
    if len(set(values)) != len(values):
        raise ValueError("holds something twice")
    return values


def _country(value: str) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS and value not in _GROUPS:
        raise ValueError("must be a country by its two letters, such as GB or NO, or EU or EEA")
    return value


Country = Annotated[str, AfterValidator(_country)]
Several = AfterValidator(all_different)


class Sender(PolicyPart):
    """A number or service that a programme's messages leave by, and the provider account it belongs to.

    ``weight`` is its share among the senders that a message may leave by; one of weight 0 stands by until no other can be used.
    """

    number: SenderName
    account: Alias
    per_second: Annotated[float, Field(gt=0, le=10_000, strict=True)] | None = None  # parts a second
    weight: Annotated[int, Field(ge=0, le=1_000, strict=True)] = 1


class RoutePart(PolicyPart):
    """Which senders messages of these categories to these countries leave by. What is left out limits nothing."""

    name: Slug
    categories: Annotated[tuple[Category, ...], Field(min_length=1), Several] | None = None
    countries: Annotated[tuple[Country, ...], Field(min_length=1), Several] | None = None
    senders: Annotated[tuple[SenderName, ...], Field(min_length=1), Several] | None = None
    accounts: Annotated[tuple[Alias, ...], Field(min_length=1), Several] | None = None
    providers: Annotated[tuple[Slug, ...], Field(min_length=1), Several] | None = None


def countries_in(names: tuple[str, ...]) -> frozenset[str]:
    """The countries that these names of countries and groups mean."""
    return frozenset().union(*(_GROUPS.get(name, {name}) for name in names))


def used_by(route: RoutePart, sender: str, account: str) -> bool:
    """Whether a route leads over this sender, as far as the policy alone can tell."""
    return (route.senders is None or sender in route.senders) and (route.accounts is None or account in route.accounts)


def fault_of_routes(routes: tuple[RoutePart, ...], senders: tuple[Sender, ...], categories: tuple[Category, ...]) -> str | None:
    """What the routes of a programme say that its senders and categories do not bear out, if anything."""
    names, accounts = {sender.number for sender in senders}, {sender.account for sender in senders}
    if len({route.name for route in routes}) != len(routes):
        return "two routes have one name"
    for route in routes:
        if set(route.senders or ()) - names:
            return f"route {route.name} names a sender that the programme does not have"
        if set(route.accounts or ()) - accounts:
            return f"route {route.name} names an account that no sender of the programme is with"
        if set(route.categories or ()) - set(categories):
            return f"route {route.name} names a category that the programme does not send"
        if not any(used_by(route, sender.number, sender.account) for sender in senders):
            return f"route {route.name} has no sender: none of those that it names is with an account that it names"
    return None
