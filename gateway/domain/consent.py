"""Opt-ins and opt-outs: what they cover, and which of them stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

__all__ = ["EVERY_TENANT", "Consent", "ConsentKey", "Reach", "Scope", "Standing", "covers", "meet", "standing", "undoes"]

EVERY_TENANT = "*"


class Scope(StrEnum):
    """What an opt-in or opt-out covers, from narrow to wide."""

    SENDER = "sender"
    PROGRAMME = "programme"
    TENANT = "tenant"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class ConsentKey:
    """Whose consent to what: ``name`` is the programme or sender that the scope speaks of, else empty."""

    subject_id: bytes
    tenant: str
    scope: Scope
    name: str = ""


@dataclass(frozen=True, slots=True)
class Consent:
    """One row of the consent list. ``stated_at`` is the latest moment at which the person can have said so."""

    key: ConsentKey
    status: Literal["in", "out"]
    version: int
    stated_at: datetime
    in_force_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """What a message would reach a person by: the things that a scope is compared with.

    ``instead_of`` are the senders that the gateway might have chosen as well: an opt-out from one of them is not got round by another.
    """

    tenant: str
    programme: str
    sender: str | None
    instead_of: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Standing:
    """The consents that bear on one message: an opt-out wins over every opt-in."""

    out: Consent | None
    opted_in: Consent | None


def covers(key: ConsentKey, reach: Reach) -> bool:
    """Whether a consent speaks of this tenant, programme and sender."""
    if key.scope is Scope.ALL:
        return True
    if key.tenant != reach.tenant:
        return False
    match key.scope:
        case Scope.TENANT:
            return True
        case Scope.PROGRAMME:
            return key.name == reach.programme
        case Scope.SENDER:
            # A message whose sender is not chosen yet may still leave by this one; the claim asks again when it is.
            return key.name == reach.sender


def _got_round(key: ConsentKey, reach: Reach) -> bool:
    """Whether an opt-out speaks of a sender that the gateway might have chosen as well."""
    return key.scope is Scope.SENDER and key.tenant == reach.tenant and key.name in reach.instead_of


def meet(one: ConsentKey, other: ConsentKey) -> bool:
    """Whether some message may be covered by both. A sender and a programme of one tenant may meet: programmes share senders."""
    if Scope.ALL in (one.scope, other.scope):
        return True
    if one.tenant != other.tenant:
        return False
    return one.scope is not other.scope or one.name == other.name


def standing(consents: Iterable[Consent], reach: Reach) -> Standing:
    """The opt-out and the opt-in that cover a message, if any."""
    out: Consent | None = None
    opted_in: Consent | None = None
    for consent in consents:
        if consent.status == "out" and (covers(consent.key, reach) or _got_round(consent.key, reach)):
            out = consent
        elif consent.status == "in" and covers(consent.key, reach):
            opted_in = consent
    return Standing(out, opted_in)


def undoes(said_at: datetime | None, opt_out: Consent) -> bool:
    """Whether a START or opt-in said at a moment undoes an opt-out: only when it is provably later.

    A webhook carries no time and may be a provider's late repeat, so that an unknown moment, and a tie, go to STOP.
    """
    return said_at is not None and said_at > opt_out.stated_at
