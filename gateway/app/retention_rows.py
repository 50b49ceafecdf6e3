"""The rows of PostgreSQL as a place where personal data dies on time, and the legal holds on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.domain.retention_days import Terms
from gateway.flow.holds import Holds, Keeper
from gateway.flow.retention_ending import DayEnding
from gateway.flow.retention_rows import Rows
from gateway.store.closing import ClosedAccounts
from gateway.store.holds import HoldTable
from gateway.store.retention import RetentionTables
from gateway.store.retention_looks import RetentionLooks

if TYPE_CHECKING:
    from gateway.app.wiring import Parts

__all__ = ["holds_of", "rows_of"]


def rows_of(parts: Parts) -> Rows:
    """The tables of the gateway's database. What is there of tenants that are not enabled dies by their policies too."""
    terms = Terms(parts.policies.everybody)
    ending = parts.key_ending()
    keeper = Keeper(HoldTable(parts.database), parts.vault, parts.hasher, ending)
    tables = RetentionTables(parts.database)
    days = DayEnding(tables, terms, keeper, ending, parts.ledger, parts.metrics)
    return Rows(tables, terms, keeper, days, RetentionLooks(parts.database, terms), ClosedAccounts(parts.database).closings)


def holds_of(parts: Parts) -> Holds:
    """What operators do with legal holds."""
    return Holds(HoldTable(parts.database, parts.people))
