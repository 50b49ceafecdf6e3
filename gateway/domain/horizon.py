"""How short a duration ever is, and what must be gone by now: what a setting in milliseconds, or a place, is held against."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Final

from gateway.domain.retention import Calendar, Duration, deadline

__all__ = ["not_after", "shortest"]

# Eight years hold every length of a month beside every other. Both ends of each day: from a day that is none, business days end at midnight.
_FIRST: Final = datetime(2024, 1, 1, tzinfo=UTC)
_STARTS: Final = tuple(
    datetime.combine(_FIRST + timedelta(days=day), at, UTC) for day in range(8 * 365 + 2) for at in (time.min, time.max)
)
_LONGEST_MONTH: Final = timedelta(days=31)
_MOST_HOLIDAYS: Final = timedelta(days=60)
_SECOND: Final = timedelta(seconds=1)


@cache
def shortest(duration: Duration, calendar: Calendar | None = None) -> timedelta | None:
    """How long it is at least, whenever it begins, while the customer account is open; None when it has no end then."""
    known = None if calendar is None else _Remembered(calendar)
    starts = _STARTS[:1] if all(span.unit == "d" for span in duration.spans) else _STARTS
    ends = ((start, deadline(start, duration, known)) for start in starts)
    return min((end - start for start, end in ends if end is not None), default=None)


def not_after(
    now: datetime, duration: Duration, calendar: Calendar | None = None, *, closed: datetime | None = None
) -> datetime | None:
    """The latest moment, to the second, from which the duration is over: what was made then or before must be gone. None when nothing
    ends, or not yet.

    A later start never ends earlier, so that it can be searched for. ``closed`` is when the customer account was, or will be.
    """
    over, running = now - _longest(duration), now

    def is_over(start: datetime) -> bool:
        end = deadline(start, duration, calendar, closed=closed)
        return end is not None and end <= now

    if is_over(now):
        return now.replace(microsecond=0)
    if not is_over(over):
        return None
    while running - over > _SECOND:
        middle = over + (running - over) / 2
        if is_over(middle):
            over = middle
        else:
            running = middle
    return running.replace(microsecond=0)


class _Remembered:
    """A calendar that looks each day up once: it is asked for the same days thousands of times."""

    def __init__(self, calendar: Calendar) -> None:
        self.is_business_day = cache(calendar.is_business_day)


def _longest(duration: Duration) -> timedelta:
    lengths = []
    for span in duration.spans:
        if span.closing:
            continue
        if span.unit == "d":
            lengths.append(timedelta(days=span.count))
        elif span.unit == "mo":
            lengths.append(span.count * _LONGEST_MONTH)
        else:
            lengths.append(timedelta(days=4 * span.count) + _MOST_HOLIDAYS)
    if not lengths:
        return timedelta(days=1)
    return (max if duration.longest else min)(lengths) + timedelta(days=1)
