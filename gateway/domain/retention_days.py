"""When what a tenant has of one day is over: of each class a day at a time, as its key ends, and by its earliest moment."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import Final

from gateway.domain.closing import Closing, Closings, written_until
from gateway.domain.policy import Policy
from gateway.domain.policy_retention import Retention, RetentionClass
from gateway.domain.retention import Calendar, Duration, deadline

__all__ = ["Terms", "midnight"]

_FIRST: Final = date(1970, 1, 1)


def midnight(day: date) -> datetime:
    """The moment at which a day begins, in UTC."""
    return datetime.combine(day, time(tzinfo=UTC))


class Terms:
    """Each tenant's periods, applied to whole days.

    A day's key ends all of a day, in backups too; so a day is over with the deadline of its first moment, and what was made later on it goes up
    to a day early. It is never over while it is still written. A message's record holds its text and number together: neither outlives it.
    What belongs to no tenant that has a policy goes by the shortest period of any that is enabled, and by those that hold where none says else;
    nobody's closing ends it.
    """

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._policies = {policy.tenant: policy for policy in policies}
        self._closings: Closings = {}
        self._due = lru_cache(maxsize=50_000)(self._reckon)

    @property
    def tenants(self) -> tuple[str, ...]:
        """Those that have a policy."""
        return tuple(self._policies)

    def heed(self, closings: Closings) -> None:
        """Whose customer accounts are closed, or will be: from there the periods after closing run."""
        if closings != self._closings:
            self._closings = dict(closings)
            self._due.cache_clear()

    def due(self, tenant: str, data_class: RetentionClass, day: date) -> datetime | None:
        """When a tenant's day is over; None while it has no end, or the policy leaves it open."""
        return self._due(tenant, data_class, day)

    def is_over(self, tenant: str, data_class: RetentionClass, day: date, now: datetime) -> bool:
        """Whether it is over now."""
        due = self.due(tenant, data_class, day)
        return due is not None and due <= now

    def not_before(self, tenant: str, data_class: RetentionClass, now: datetime) -> datetime | None:
        """The beginning of the first day that may still be there; None where all may."""
        first, today = _FIRST.toordinal(), now.astimezone(UTC).date().toordinal()
        days = range(first, today + 1)  # what came later is never over sooner
        found = bisect_left(days, True, key=lambda day: not self.is_over(tenant, data_class, date.fromordinal(day), now))
        return midnight(date.fromordinal(first + found)) if found else None

    def left_open(self, tenant: str, data_class: RetentionClass) -> bool:
        """Whether the tenant's policy says UNSET, so that nobody knows when it is to end."""
        policy = self._policies.get(tenant)
        kept = policy.retention.of(data_class) if policy is not None else None
        return policy is not None and (
            not isinstance(kept, Duration) or (kept.needs_calendar and policy.known_business_days is None)
        )

    def _reckon(self, tenant: str, data_class: RetentionClass, day: date) -> datetime | None:
        classes: tuple[RetentionClass, ...] = (data_class, "events") if data_class in ("content", "address") else (data_class,)
        policy = self._policies.get(tenant)
        if policy is not None:
            closing = self._closings.get(tenant)
            ends = [_end(policy.retention, one, day, policy.known_business_days, closing) for one in classes]
        else:
            enabled = [one for one in self._policies.values() if one.enabled]
            ends = [_end(other.retention, one, day, other.known_business_days) for other in enabled for one in classes]
            ends += [_end(Retention(), one, day, None) for one in classes]
        return min((end for end in ends if end is not None), default=None)


def _end(
    retention: Retention, data_class: RetentionClass, day: date, calendar: Calendar | None, closing: Closing | None = None
) -> datetime | None:
    kept = retention.of(data_class)
    if not isinstance(kept, Duration) or (kept.needs_calendar and calendar is None):
        return None
    end = deadline(midnight(day), kept, calendar, closed=closing.at if closing is not None else None)
    return None if end is None else max(end, written_until(day, data_class, closing))
