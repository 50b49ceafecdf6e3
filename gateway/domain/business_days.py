"""Business days of a country or a part of it, by the library of public holidays."""

from __future__ import annotations

import re
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from holidays import HolidayBase

__all__ = ["CALENDAR_NAME", "BusinessDays", "business_days"]

CALENDAR_NAME: Final = r"^([A-Z]{2})(?:-([A-Za-z0-9]{1,6}))?$"
"""A country, or a part of it."""


class BusinessDays:
    """Days that are neither a weekend nor a public holiday there."""

    def __init__(self, holidays: HolidayBase) -> None:
        self._holidays = holidays

    def is_business_day(self, day: date) -> bool:
        return bool(self._holidays.is_working_day(day))


@cache
def business_days(name: str) -> BusinessDays:
    """The calendar of a country (``NL``) or a part of it (``DE-BY``). Raises ValueError when there is none."""
    from holidays import country_holidays  # a third of a second: only who counts business days pays for it

    found = re.fullmatch(CALENDAR_NAME, name)
    if found is not None:
        try:
            return BusinessDays(country_holidays(found[1], subdiv=found[2]))
        except NotImplementedError:
            pass
    raise ValueError("must be a country whose holidays are known, such as NL, or a part of one, such as DE-BY")
