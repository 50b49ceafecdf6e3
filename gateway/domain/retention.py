"""How long something is kept, or by when something is due: durations, the days they end on, and which of several holds.

All is reckoned in UTC, so that no day is an hour longer or shorter than another and no two clocks disagree about a deadline.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from typing import Final, Literal, Protocol

__all__ = ["UNSET", "Calendar", "Duration", "Span", "Unset", "deadline", "merged", "read_duration"]


class Unset(Enum):
    """What a notice leaves open, as a value: nobody may take a default for it."""

    UNSET = "UNSET"

    def __str__(self) -> str:
        return self.value


UNSET: Final = Unset.UNSET

Unit = Literal["d", "bd", "mo"]  # days of 24 hours, business days, calendar months
_SPAN: Final = re.compile(r"(0|[1-9][0-9]{0,4})(d|bd|mo)( after closing)?")
_MOST: Final = {"d": 36_500, "bd": 500, "mo": 1_200}
_FORMS: Final = "must be a duration such as 6d, 13mo or 10bd, one after closing (3mo after closing), a list of these, or UNSET"


class Calendar(Protocol):
    """Which days are business days where a tenant is."""

    def is_business_day(self, day: date) -> bool:
        """Whether people work on it."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """So many days, business days or months; ``closing``: after the customer account is closed, else after a thing was made."""

    count: int
    unit: Unit
    closing: bool = False

    def __str__(self) -> str:
        return f"{self.count}{self.unit}{' after closing' if self.closing else ''}"


@dataclass(frozen=True, slots=True)
class Duration:
    """One span, or several duties at once, of which the shortest holds; with ``longest`` the longest does.

    Without any span it is for ever, and ``reason`` says why.
    """

    spans: tuple[Span, ...]
    longest: bool = False
    reason: str = ""

    @property
    def forever(self) -> bool:
        return not self.spans

    @property
    def needs_calendar(self) -> bool:
        """Whether it counts business days."""
        return any(span.unit == "bd" for span in self.spans)

    def __str__(self) -> str:
        if self.forever:
            return "forever"
        if len(self.spans) == 1:
            return str(self.spans[0])
        return f"the {'longest' if self.longest else 'shortest'} of {', '.join(map(str, self.spans))}"


def read_duration(value: object, *, longest: bool = False) -> Duration | Unset:
    """What a policy says: ``6d``, ``[30d, 1mo]``, ``3mo after closing``, ``{forever: why}`` or ``UNSET``. Raises ValueError."""
    if value == UNSET.value:
        return UNSET
    if value == "forever":
        raise ValueError("must say why, as {forever: the reason}")
    if isinstance(value, dict) and set(value) == {"forever"}:
        reason = value["forever"]
        if not isinstance(reason, str) or not reason.strip() or not reason.isprintable() or reason == UNSET.value:
            raise ValueError("must say why, in one line of text")
        return Duration((), longest, reason.strip())
    spans = tuple(map(_span, value if isinstance(value, list) else [value]))
    if not spans:
        raise ValueError(_FORMS)
    if len(set(spans)) != len(spans):
        raise ValueError("holds something twice")
    return Duration(spans, longest)


def _span(text: object) -> Span:
    found = _SPAN.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(_FORMS)
    count, closing = int(found[1]), found[3] is not None
    unit: Unit = "d" if found[2] == "d" else "bd" if found[2] == "bd" else "mo"
    if count > _MOST[unit]:
        raise ValueError(f"must be at most {_MOST[unit]}{unit}")
    if count == 0 and (unit != "d" or not closing):
        raise ValueError("must be more than nothing; what ends with the customer account is kept 0d after closing")
    return Span(count, unit, closing)


def merged(durations: Iterable[Duration], *, longest: bool = False) -> Duration:
    """Several duties as one: the shorter holds, or with ``longest`` the longer. For ever is longer than all else."""
    given = tuple(durations)
    if any(one.longest != longest and len(one.spans) > 1 for one in given):
        raise AssertionError("the shortest of some and the longest of others is no one duration")
    finite = [one for one in given if not one.forever]
    if not finite or (longest and len(finite) < len(given)):
        return Duration((), longest, next(one.reason for one in given if one.forever))
    return Duration(tuple(dict.fromkeys(span for one in finite for span in one.spans)), longest)


def deadline(
    start: datetime, duration: Duration, calendar: Calendar | None = None, *, closed: datetime | None = None
) -> datetime | None:
    """When ``duration`` is over for what was made, or asked, at ``start``: for that very date. UTC; None while it has no end.

    ``closed`` is when the customer account was closed, None while it is open. ``calendar`` is needed for business days.
    """
    ends = [_end(closed if span.closing else start, span, calendar) for span in duration.spans]
    known = [end for end in ends if end is not None]
    if duration.longest:
        return max(known) if known and len(known) == len(ends) else None
    return min(known, default=None)


def _end(start: datetime | None, span: Span, calendar: Calendar | None) -> datetime | None:
    if start is None:
        return None
    moment = start.astimezone(UTC)
    if span.unit == "d":
        return moment + timedelta(days=span.count)
    if span.unit == "mo":
        return _months_after(moment, span.count)
    if calendar is None:
        raise AssertionError("business days without a calendar: a policy with the one and not the other is refused")
    return _business_days_after(moment, span.count, calendar.is_business_day)


def _months_after(moment: datetime, months: int) -> datetime:
    """The same day and time; in a month without that day, its last day to the end.

    Regulation (EEC, Euratom) 1182/71, art. 3(2)(c): https://eur-lex.europa.eu/eli/reg/1971/1182/oj
    """
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    last = monthrange(year, month + 1)[1]
    if moment.day <= last:
        return moment.replace(year=year, month=month + 1)
    return _midnight(date(year, month + 1, last) + timedelta(days=1))


def _business_days_after(moment: datetime, count: int, is_business_day: Callable[[date], bool]) -> datetime:
    """The same time of the n-th business day that follows; from a day that is none, that day's end. So a later start never ends earlier."""
    day, left = moment.date(), count
    while left:
        day += timedelta(days=1)
        left -= is_business_day(day)
    if is_business_day(moment.date()):
        return datetime.combine(day, moment.timetz())
    return _midnight(day + timedelta(days=1))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(tzinfo=UTC))
