"""Counts of status events, and how small ones are told without singling anybody out.

Every event is in exactly one count that is told: counts are added up, and none is found by taking one from another. A count that is
too small in its minute waits for its hour, and then for its day; what is too small even then is told together with others, without
what would tell them apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, Literal

__all__ = ["PERIODS", "Cell", "Dimension", "Period", "close_day", "sift"]

Period = Literal["minute", "hour", "day"]
Dimension = Literal["reason", "provider", "category", "state"]

PERIODS: Final[dict[Period, int]] = {"minute": 60, "hour": 3_600, "day": 86_400}
"""The periods in seconds, from the shortest."""

# In this order: what says most of a person and least of the traffic is given up first.
_DIMENSIONS: Final[tuple[Dimension, ...]] = ("reason", "provider", "category", "state")


@dataclass(frozen=True, slots=True)
class Cell:
    """So many status events of one kind in one period, which begins at ``start``. What is ``merged`` is None: not told apart."""

    tenant: str
    period: Period
    start: datetime
    provider: str | None
    category: str | None
    state: str | None
    reason: str | None
    count: int
    merged: tuple[Dimension, ...] = ()


_name = attrgetter("tenant", "period", "start", "provider", "category", "state", "reason", "merged")
_day = attrgetter("tenant", "start")


def sift(cells: Iterable[Cell], smallest: int) -> tuple[list[Cell], list[Cell]]:
    """Of minutes or hours that are over: what may be told, and what is too small and waits, added up, for the hour or the day."""
    large, small = _parted(cells, smallest)
    return large, _summed(map(_lengthened, small))


def close_day(cells: Iterable[Cell], smallest: int) -> list[Cell]:
    """What is told of days that are over, which is all: ``cells`` must be everything that is left of their tenants' days.

    Below ``smallest`` there is at most one count of a tenant and day, without any dimension: so few events, and not even of what kind.
    """
    return [told for _, day in groupby(sorted(cells, key=_day), key=_day) for told in _close(list(day), smallest)]


def _close(day: Sequence[Cell], smallest: int) -> list[Cell]:
    told, small = _parted(day, smallest)
    for given_up in range(1, len(_DIMENSIONS)):
        large, small = _parted(_summed(_merged(cell, given_up) for cell in small), smallest)
        told += large
    if told and 0 < sum(cell.count for cell in small) < smallest:
        # one that is large enough by itself goes with the rest, so that the rest is not a small one after all
        least = min(told, key=attrgetter("count"))
        told.remove(least)
        small.append(least)
    return told + _summed(_merged(cell, len(_DIMENSIONS)) for cell in small)


def _parted(cells: Iterable[Cell], smallest: int) -> tuple[list[Cell], list[Cell]]:
    large: list[Cell] = []
    small: list[Cell] = []
    for cell in cells:
        (large if cell.count >= smallest else small).append(cell)
    return large, small


def _summed(cells: Iterable[Cell]) -> list[Cell]:
    sums: Counter[tuple[object, ...]] = Counter()
    one_of: dict[tuple[object, ...], Cell] = {}
    for cell in cells:
        sums[_name(cell)] += cell.count
        one_of[_name(cell)] = cell
    return [replace(one_of[name], count=count) for name, count in sums.items()]


def _lengthened(cell: Cell) -> Cell:
    start = cell.start.replace(minute=0, second=0, microsecond=0)
    return (
        replace(cell, period="hour", start=start)
        if cell.period == "minute"
        else replace(cell, period="day", start=start.replace(hour=0))
    )


def _merged(cell: Cell, count: int) -> Cell:
    given_up = _DIMENSIONS[:count]
    nothing: dict[str, Any] = dict.fromkeys(given_up)
    return replace(cell, merged=given_up, **nothing)
