"""Counts: nothing is lost or told twice, and nothing small is told of anybody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.counts import PERIODS, Cell, Period, close_day, sift

DAY = datetime(2026, 5, 1, tzinfo=UTC)
ALL = ("reason", "provider", "category", "state")

smallests = st.integers(1, 12)
KINDS = st.tuples(
    st.sampled_from(["shop", "clinic"]),
    st.sampled_from([None, "twilio"]),
    st.sampled_from(["service", "marketing"]),
    st.sampled_from(["sent", "delivered", "blocked"]),
    st.sampled_from(["accepted", "delivered", "opted_out", "no_opt_in"]),
)


def cells_of(period: Period) -> st.SearchStrategy[list[Cell]]:
    starts = st.integers(0, 2 * 86_400 // PERIODS[period] - 1).map(lambda n: DAY + timedelta(seconds=n * PERIODS[period]))
    keys = st.lists(st.tuples(KINDS, starts), unique=True, max_size=25)
    return keys.flatmap(
        lambda found: st.lists(st.integers(1, 20), min_size=len(found), max_size=len(found)).map(
            lambda counts: [
                Cell(tenant, period, start, provider, category, state, reason, count)
                for ((tenant, provider, category, state, reason), start), count in zip(found, counts, strict=True)
            ]
        )
    )


def by_day(cells: Sequence[Cell]) -> Counter[tuple[str, datetime]]:
    sums: Counter[tuple[str, datetime]] = Counter()
    for cell in cells:
        sums[cell.tenant, cell.start.replace(hour=0, minute=0)] += cell.count
    return sums


def matching(cells: Sequence[Cell], told: Cell) -> int:
    """How many events there are of all that a count may speak of."""
    return sum(
        cell.count
        for cell in cells
        if (cell.tenant, cell.start) == (told.tenant, told.start)
        and all(name in told.merged or getattr(cell, name) == getattr(told, name) for name in ALL)
    )


@given(cells_of("minute") | cells_of("hour"), smallests)
def test_what_is_large_is_told_as_it_is_and_what_is_small_waits(cells: list[Cell], smallest: int) -> None:
    told, waiting = sift(cells, smallest)
    assert told == [cell for cell in cells if cell.count >= smallest]
    assert by_day([*told, *waiting]) == by_day(cells)
    longer = "hour" if cells and cells[0].period == "minute" else "day"
    for cell in waiting:
        assert cell.period == longer
        assert cell.merged == ()
        assert (cell.start - DAY) % timedelta(seconds=PERIODS[longer]) == timedelta()
    assert len({replace(cell, count=1) for cell in waiting}) == len(waiting)


@given(cells_of("day"), smallests)
def test_a_day_is_told_whole_and_small_only_without_saying_of_what(cells: list[Cell], smallest: int) -> None:
    told = close_day(cells, smallest)
    assert by_day(told) == by_day(cells)
    for cell in told:
        assert all((getattr(cell, name) is None) >= (name in cell.merged) for name in ALL)
        assert cell.merged == ALL[: len(cell.merged)]
        assert cell.count <= matching(cells, cell)
        if cell.count < smallest:
            # too few in the whole day, and none but they are told of it
            assert cell.merged == ALL
            assert by_day(cells)[cell.tenant, cell.start] == cell.count
    assert len({replace(cell, count=1) for cell in told}) == len(told)


@given(cells_of("day"), smallests)
def test_no_more_is_given_up_than_must_be(cells: list[Cell], smallest: int) -> None:
    told = close_day(cells, smallest)
    hidden = [cell for cell in cells if cell.count >= smallest and cell not in told]
    # of a tenant and day at most one goes with the rest, the smallest of all that could be told
    assert len(hidden) == len({(cell.tenant, cell.start) for cell in hidden})
    if smallest == 1:
        assert sorted(told, key=repr) == sorted(cells, key=repr)


@given(cells_of("minute"), smallests)
def test_every_event_is_in_one_count_whenever_it_is_told(cells: list[Cell], smallest: int) -> None:
    told, hours = sift(cells, smallest)
    more, days = sift(hours, smallest)
    everything = [*told, *more, *close_day(days, smallest)]
    assert by_day(everything) == by_day(cells)
    by_kind: Counter[tuple[str, str]] = Counter()
    for cell in cells:
        by_kind[cell.tenant, str(cell.state)] += cell.count
    for cell in everything:
        if cell.state is not None:
            by_kind[cell.tenant, cell.state] -= cell.count
    assert min(by_kind.values(), default=0) >= 0


def cell(count: int, reason: str, *, state: str = "blocked", category: str = "service") -> Cell:
    return Cell("shop", "day", DAY, "twilio", category, state, reason, count)


@pytest.mark.parametrize(
    "day, told",
    [
        # two reasons that are few together are many: which it was is not told
        ([cell(3, "opted_out"), cell(2, "no_opt_in")], [(5, "blocked", ("reason",))]),
        # a rest that is small takes the smallest of the others with it
        ([cell(2, "opted_out"), cell(9, "accepted", state="sent"), cell(7, "delivered", state="delivered")],
         [(9, "sent", ()), (9, None, ALL)]),
        # what is small in every way is a number of events on a day
        ([cell(2, "opted_out")], [(2, None, ALL)]),
        ([cell(5, "opted_out"), cell(6, "accepted", state="sent")], [(5, "blocked", ()), (6, "sent", ())]),
        # the same state under two categories: the category is given up before the state
        ([cell(2, "opted_out"), cell(3, "opted_out", category="marketing")], [(5, "blocked", ("reason", "provider", "category"))]),
    ],
)  # fmt: skip
def test_a_small_day(day: list[Cell], told: list[tuple[int, str | None, tuple[str, ...]]]) -> None:
    assert [(one.count, one.state, one.merged) for one in close_day(day, 5)] == told
