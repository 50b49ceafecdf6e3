"""The tables, as far as days of them end: what the chapters of retention ask of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from gateway.domain.policy_retention import RetentionClass
from gateway.domain.retention_days import midnight
from gateway.flow.holds import Persons, Thing

__all__ = ["PLACE", "Apart", "KeptBy", "Part", "RowStore", "Standing", "bounds", "rule_of"]

PLACE: Final = "postgresql"


@dataclass(frozen=True, slots=True)
class Part:
    """A day's partition of a table; not ``attached`` while it is being detached, and until it is dropped."""

    parent: str
    name: str
    day: date
    attached: bool


@dataclass(frozen=True, slots=True)
class Apart:
    """The oldest of something of a tenant's in a table without partitions: ``dead_letters`` or ``numbers`` that providers are owed."""

    what: str
    tenant: str
    oldest: date


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands of a tenant's in a table without partitions, by the day that it is of. ``what`` names it, see the place's plan."""

    what: str
    tenant: str
    days: Mapping[date, int]


@dataclass(frozen=True, slots=True)
class KeptBy:
    """How much a legal hold keeps, until when, and whether it stands."""

    hold: UUID
    tenant: str
    count: int
    until: datetime | None
    stands: bool


class RowStore(Protocol):
    """The tables; see gateway.store.retention."""

    async def parts(self) -> Sequence[Part]: ...
    async def tenants(self, parent: str, first: datetime, after: datetime) -> frozenset[str]: ...
    async def rows(self, parent: str, first: datetime, after: datetime) -> Mapping[str, int]: ...
    async def apart(self) -> Sequence[Apart]: ...
    async def ended(self) -> Mapping[tuple[date, Thing, str], bool]: ...
    async def unsettled(self, tenant: str, first: datetime, after: datetime, most: int) -> Sequence[UUID]: ...
    async def owed(self, tenant: str, first: datetime, after: datetime) -> bool: ...
    async def audit_waits(self, tenant: str, after: datetime) -> bool: ...
    async def decide(self, thing: Thing, tenant: str, day: date, first: datetime, after: datetime, persons: Persons) -> bool: ...
    async def step(
        self, thing: Thing, tenant: str, first: datetime, after: datetime, last: UUID | None, most: int
    ) -> UUID | None: ...
    async def delete_letters(self, tenant: str, first: datetime, after: datetime, most: int) -> int: ...
    async def empty_numbers(self, tenant: str, first: datetime, after: datetime) -> int: ...
    async def delete_parked(self, tenant: str, before: datetime, *, inbound: bool, most: int) -> int: ...
    async def empty_inbound(self, tenant: str, before: datetime, most: int) -> int: ...
    async def delete_audit(self, tenant: str, before: datetime, most: int) -> int: ...
    async def anchor_day(self, after: datetime) -> None: ...
    async def done(self, day: date, thing: Thing, tenant: str) -> None: ...
    async def drop(self, name: str) -> None: ...


def rule_of(thing: Thing) -> RetentionClass:
    """The class of a policy that something goes by."""
    return "events" if thing == "audit" else thing


def bounds(day: date) -> tuple[datetime, datetime]:
    """When a day begins, and when the next one does."""
    return midnight(day), midnight(day + timedelta(days=1))
