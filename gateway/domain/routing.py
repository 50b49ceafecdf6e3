"""Routing: which way out a message takes, as a pure function of the policies, of what is known of the message, and of health.

A policy decides what may be used at all; among that, the sender that has texted the person goes first, then chance by weight, which
is the same for a person on every worker. What is ill now goes last: it is used only when nothing else may be.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from gateway.domain.errors import PolicyError
from gateway.domain.policy import Policies, Policy, Programme
from gateway.domain.policy_routes import RoutePart, countries_in, used_by
from gateway.domain.reasons import Reason

__all__ = ["Ill", "Router", "Way", "Ways", "check_ways", "in_order"]

Ill = AbstractSet[tuple[str, str]]
"""What should not be used now, as (account, sender); with an empty sender a whole account."""


class Way(Protocol):
    """A way out."""

    @property
    def tenant(self) -> str: ...
    @property
    def programme(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def sender(self) -> str: ...


W = TypeVar("W", bound=Way)


@dataclass(frozen=True, slots=True)
class Ways(Generic[W]):
    """What a message may leave by, in the order of the file, and the rule that said so."""

    ways: tuple[W, ...]
    rule: str


class Router(Generic[W]):
    """The policies' ways out. ``regions`` are the accounts': where the provider keeps what is sent by them."""

    def __init__(self, policies: Policies, ways: Iterable[W], regions: Mapping[str, str]) -> None:
        self._policies = policies
        self._regions = regions
        self._ways: dict[tuple[str, str], list[W]] = {}
        for way in ways:
            self._ways.setdefault((way.tenant, way.programme), []).append(way)
        self._others = {
            key: frozenset(way.sender for way in several) if len(several) > 1 else frozenset()
            for key, several in self._ways.items()
        }
        self._known: dict[tuple[str, str, str, str | None], Ways[W] | Reason] = {}

    def asks_country(self, tenant: str, programme: str) -> bool:
        """Whether the way out may hang on the person's country."""
        part = self._programme(tenant, programme)
        return part is not None and any(route.countries is not None for route in part.routes)

    def ways(
        self, tenant: str, programme: str, category: str, country: str | None, sender: str | None = None
    ) -> Ways[W] | Reason:
        """What a message may leave by, or why by nothing.

        ``country`` is the person's, None when it is not known: then every route that may fit counts; "" when the number has none.
        ``sender`` is the one that the event asks for.
        """
        key = (tenant, programme, category, country)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._find(*key)
        if sender is None:
            return found
        part = self._programme(tenant, programme)
        if part is None or (isinstance(found, Reason) and found in (Reason.UNKNOWN_PROGRAMME, Reason.CATEGORY_NOT_ALLOWED)):
            return found
        if all(sender != one.number for one in part.senders):
            return Reason.SENDER_NOT_ALLOWED
        if isinstance(found, Reason):
            return found
        named = tuple(way for way in found.ways if way.sender == sender)
        if named:
            return Ways(named, "routing.named_sender")
        forbidden = [why for way in self._of(tenant, programme) if way.sender == sender and (why := self.forbidden(way))]
        return forbidden[0] if forbidden else Reason.SENDER_NOT_ALLOWED

    def others(self, tenant: str, programme: str) -> frozenset[str]:
        """The senders between which the gateway chooses for a message that asks for none; none where there is one alone."""
        return self._others.get((tenant, programme), frozenset())

    def weights(self, tenant: str, programme: str) -> Mapping[str, int]:
        """The senders' shares."""
        part = self._programme(tenant, programme)
        return {sender.number: sender.weight for sender in part.senders} if part is not None else {}

    def forbidden(self, way: Way) -> Reason | None:
        """Why the tenant's policy lets nothing leave by a way, whatever it is; None when it does."""
        policy = self._policies.tenant(way.tenant)
        return Reason.UNKNOWN_PROGRAMME if policy is None else _forbidden(policy, way.provider, self._regions.get(way.account))

    def _programme(self, tenant: str, programme: str) -> Programme | None:
        policy = self._policies.tenant(tenant)
        return policy.programme(programme) if policy is not None else None

    def _of(self, tenant: str, programme: str) -> list[W]:
        return self._ways.get((tenant, programme), [])

    def _find(self, tenant: str, programme: str, category: str, country: str | None) -> Ways[W] | Reason:
        part = self._programme(tenant, programme)
        if part is None:
            return Reason.UNKNOWN_PROGRAMME
        if category not in part.categories:
            return Reason.CATEGORY_NOT_ALLOWED
        routes = _fitting(part, category, country)
        ways = [way for way in self._of(tenant, programme) if any(_leads_over(route, way) for route in routes)]
        if not ways:
            return Reason.NO_ROUTE
        allowed = tuple(way for way in ways if self.forbidden(way) is None)
        if not allowed:
            reasons = {self.forbidden(way) for way in ways}
            return Reason.REGION_NOT_ALLOWED if Reason.REGION_NOT_ALLOWED in reasons else Reason.PROVIDER_NOT_ALLOWED
        return Ways(allowed, "routing.senders" if routes[0] is None else f"routing.route.{routes[0].name}")


def in_order(
    ways: Sequence[W], weights: Mapping[str, int], person: bytes, sticky: str | None = None, ill: Ill = frozenset()
) -> Sequence[W]:
    """Ways that are allowed, from the one to take to the last resort. ``person`` is the subject_id, ``sticky`` its sender so far.

    Weighted rendezvous hashing: each way draws a lot from the person and its sender alone, so that no worker has to ask another, and
    a way that comes or goes moves only those people whose it is.
    """
    if len(ways) == 1:
        return ways

    def place(way: W) -> tuple[bool, bool, bool, float, str]:
        weight = weights.get(way.sender, 1)
        unwell = (way.account, "") in ill or (way.account, way.sender) in ill
        return unwell, way.sender != sticky, weight == 0, -_lot(person, way.sender, weight or 1), way.sender

    return sorted(ways, key=place)


def check_ways(policies: Policies, accounts: Mapping[str, tuple[str, str]]) -> list[str]:
    """Refuse a policy that has a programme or a route by which nothing may ever leave. ``accounts``: provider and region by alias.

    Returns a line on each sender that the same file forbids although others are left. Raises PolicyError with file and key.
    """
    notes = []
    for policy in policies:
        for name, programme in policy.programmes.items():
            forbidden = {one.number: why for one in programme.senders if (why := _forbidden(policy, *accounts[one.account]))}
            choices = [("senders", None), *((f"routes.{place}", route) for place, route in enumerate(programme.routes))]
            for key, route in choices:
                used = [
                    one
                    for one in programme.senders
                    if route is None or (used_by(route, one.number, one.account) and _by(route, accounts[one.account][0]))
                ]
                if all(one.number in forbidden for one in used):
                    raise PolicyError(
                        _nothing_left([accounts[one.account] for one in used], policy),
                        file=f"{policy.tenant}.yaml",
                        key=f"programmes.{name}.{key}",
                    )
            notes += [
                f"{policy.tenant}'s {name} does not use {number}: {why.replace('_', ' ')}" for number, why in forbidden.items()
            ]
    return notes


def _nothing_left(used: Sequence[tuple[str, str]], policy: Policy) -> str:
    if not used:
        return "nothing can leave by it: none of its senders is with a provider that it names"
    there = ", ".join(sorted({f"{provider} in {region}" for provider, region in used}))
    wanted = f"providers {', '.join(policy.providers)}" + (f", regions {', '.join(policy.regions)}" if policy.regions else "")
    return f"nothing may leave by it: its senders are with {there}, and the policy allows {wanted}"


def _forbidden(policy: Policy, provider: str, region: str | None) -> Reason | None:
    if provider not in policy.providers:
        return Reason.PROVIDER_NOT_ALLOWED
    if policy.regions is not None and region not in policy.regions:
        return Reason.REGION_NOT_ALLOWED
    return None


def _fitting(part: Programme, category: str, country: str | None) -> list[RoutePart | None]:
    """The route that decides; several when the country is not known; None stands for a programme without routes."""
    if not part.routes:
        return [None]
    fitting: list[RoutePart | None] = []
    for route in part.routes:
        if route.categories is not None and category not in route.categories:
            continue
        if route.countries is None or (country is not None and country in countries_in(route.countries)):
            return [*fitting, route]
        if country is None:
            fitting.append(route)
    return fitting


def _leads_over(route: RoutePart | None, way: Way) -> bool:
    return route is None or (used_by(route, way.sender, way.account) and _by(route, way.provider))


def _by(route: RoutePart, provider: str) -> bool:
    return route.providers is None or provider in route.providers


def _lot(person: bytes, sender: str, weight: int) -> float:
    """Higher is better: the logarithm method of weighted rendezvous hashing (Schindelhauer, Schomaker: SPAA 2005)."""
    drawn = int.from_bytes(hashlib.blake2b(sender.encode(), key=person[:64], digest_size=8).digest()) + 0.5
    return -weight / math.log(drawn / 2.0**64)
