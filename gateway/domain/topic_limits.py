"""How long a topic may keep what it holds: as long as the strictest policy of the tenants whose data may be in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway.domain.closing import Closings
from gateway.domain.consent import EVERY_TENANT
from gateway.domain.horizon import not_after, shortest
from gateway.domain.policy import Policy
from gateway.domain.policy_retention import RetentionClass
from gateway.domain.retention import Calendar, Duration, deadline

__all__ = ["ClosedIn", "TopicLimit", "closed_in", "strictest"]


@dataclass(frozen=True, slots=True)
class TopicLimit:
    """The tenant and class of data that a topic must forget first; ``longest``: how long that is at least, None when it has no end.

    ``period`` is None, of every tenant, where nothing in the topic has to end.
    """

    topic: str
    tenant: str
    data_class: RetentionClass
    period: Duration | None = None
    longest: timedelta | None = None
    calendar: Calendar | None = field(default=None, repr=False)

    def due_at(self, made: datetime) -> datetime | None:
        """When what was made then must be gone."""
        return deadline(made, self.period, self.calendar) if self.period is not None else None

    def not_before(self, now: datetime) -> datetime | None:
        """Nothing that was made before may be there; None where all may."""
        return not_after(now, self.period, self.calendar) if self.period is not None else None


def strictest(topic: str, classes: Iterable[RetentionClass], policies: Iterable[Policy]) -> TopicLimit:
    """The limit of a topic that holds these classes of data of these tenants.

    What a tenant leaves open that is not enabled sets none: nobody knows it. An enabled one was refused when its policy was read.
    """
    classes = tuple(classes)
    found = TopicLimit(topic, EVERY_TENANT, classes[0])
    for policy in policies:
        kept = policy.retention
        for data_class in classes:
            period = kept.of(data_class)
            if not isinstance(period, Duration):
                continue
            calendar = policy.known_business_days if period.needs_calendar else None
            if period.needs_calendar and calendar is None:
                continue
            longest = shortest(period, calendar)
            if longest is not None and (found.longest is None or longest < found.longest):
                found = TopicLimit(topic, policy.tenant, data_class, period, longest, calendar)
    return found


@dataclass(frozen=True, slots=True)
class ClosedIn:
    """A tenant whose account is closed, and a class of its data in a topic that is over so long after that.

    A topic knows no tenants: nothing ends the records of one. They go with the topic's own time, which began before the closing.
    """

    topic: str
    tenant: str
    data_class: RetentionClass
    closed_at: datetime
    over_at: datetime


def closed_in(topic: str, classes: Iterable[RetentionClass], policies: Iterable[Policy], closings: Closings) -> list[ClosedIn]:
    """What of a topic that holds these classes of data of these tenants is over, or will be, because an account is closed."""
    classes = tuple(classes)
    found = []
    for policy in policies:
        closing = closings.get(policy.tenant)
        for data_class in classes if closing is not None else ():
            period = policy.retention.of(data_class)
            if not isinstance(period, Duration) or not any(span.closing for span in period.spans):
                continue
            assert closing is not None
            calendar = policy.known_business_days if period.needs_calendar else None
            if period.needs_calendar and calendar is None:
                continue  # of a tenant that is not enabled: nobody has asked
            over_at = deadline(closing.at, period, calendar, closed=closing.at)
            if over_at is not None:
                found.append(ClosedIn(topic, policy.tenant, data_class, closing.at, over_at))
    return found
