"""The closing of a tenant's customer account: from when on nothing is taken in or sent for it, and what runs from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from gateway.domain.policy_retention import RetentionClass

__all__ = ["STILL_WRITTEN", "Closing", "Closings", "closed_at", "written_until"]

STILL_WRITTEN: Final = timedelta(minutes=10)
"""So long after the end of a day, what came in its last moments may be on its way into the tables."""

# What is sealed of messages, and of records that could not be read: nothing of it is made for an account that is closed. Its audit is.
_ENDS_WITH_IT: Final[frozenset[RetentionClass]] = frozenset({"content", "address", "dead_letters"})


@dataclass(frozen=True, slots=True)
class Closing:
    """When a customer account is closed, which may be to come, and when the gateway was told: until then it went on writing."""

    at: datetime
    noted_at: datetime

    @property
    def since(self) -> datetime:
        """From when on the account is closed here."""
        return max(self.at, self.noted_at)


Closings = Mapping[str, Closing]
"""By tenant; who is not there has an open account."""


def closed_at(closings: Closings, tenant: str) -> datetime | None:
    """When a tenant's account is closed, or will be; None while it is open."""
    return closings[tenant].at if tenant in closings else None


def written_until(day: date, data_class: RetentionClass, closing: Closing | None) -> datetime:
    """Until when something of a day may still be written. Of the day of a closing, texts and numbers only until then."""
    begins = datetime.combine(day, time(tzinfo=UTC))
    ends = begins + timedelta(days=1)
    if closing is not None and data_class in _ENDS_WITH_IT and begins <= closing.since < ends:
        ends = closing.since
    return ends + STILL_WRITTEN
