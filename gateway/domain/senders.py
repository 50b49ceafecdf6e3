"""Who uses which sender: the ways out, and whom a text that comes in to a sender of ours may be for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from gateway.domain.consent import Scope
from gateway.domain.errors import PolicyError

__all__ = ["Route", "SenderUse", "sender_map"]

_SCOPES: Final = (Scope.SENDER, Scope.PROGRAMME, Scope.TENANT, Scope.ALL)  # from narrow to wide


@dataclass(frozen=True, slots=True)
class Route:
    """A way out: a sender of a programme with a provider account. ``per_second`` is in parts; None for no limit of its own."""

    tenant: str
    programme: str
    account: str
    sender: str
    per_second: float | None


@dataclass(frozen=True, slots=True)
class SenderUse:
    """Who uses a sender, as (tenant, programme), and how far a STOP that is texted to it reaches."""

    sender: str
    account: str
    uses: tuple[tuple[str, str], ...]
    scope: Scope

    @property
    def tenants(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(tenant for tenant, _ in self.uses))


def sender_map(routes: Iterable[Route], scopes: Mapping[str, Scope]) -> dict[str, SenderUse]:
    """Every sender's use; ``scopes`` says how far a STOP reaches by each tenant's policy.

    ``PolicyError`` for a sender that is given two accounts or two limits.
    """
    first: dict[str, Route] = {}
    uses: dict[str, list[tuple[str, str]]] = {}
    for route in routes:
        known = first.setdefault(route.sender, route)
        for what, one, other in (("accounts", known.account, route.account), ("limits", known.per_second, route.per_second)):
            if one != other:
                place = f"{known.tenant}'s {known.programme}"
                raise PolicyError(
                    f"{route.sender} has two {what}: {one} in {place}, {other} here",
                    file=f"{route.tenant}.yaml",
                    key=f"programmes.{route.programme}.senders",
                )
        uses.setdefault(route.sender, []).append((route.tenant, route.programme))
    choosing = {use for use, count in Counter(use for shared in uses.values() for use in shared).items() if count > 1}
    return {
        sender: SenderUse(sender, first[sender].account, tuple(shared), _reach(shared, scopes, choosing))
        for sender, shared in uses.items()
    }


def _reach(shared: list[tuple[str, str]], scopes: Mapping[str, Scope], choosing: AbstractSet[tuple[str, str]]) -> Scope:
    """The widest that its users ask for, and wide enough to cover all of them: a STOP names no programme.

    ``choosing`` are the programmes that have several senders. Which of them texts a person is the gateway's choice, and may change with
    a provider's health: a STOP to one that left the others free would not stop the next text.
    """
    tenants = {tenant for tenant, _ in shared}
    by_use = Scope.PROGRAMME if shared[0] in choosing else Scope.SENDER
    by_use = Scope.ALL if len(tenants) > 1 else Scope.TENANT if len(shared) > 1 else by_use
    return max((by_use, *(scopes[tenant] for tenant in tenants)), key=_SCOPES.index)
