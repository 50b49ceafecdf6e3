"""How short a duration ever is, and what must be gone by now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.business_days import business_days
from gateway.domain.horizon import not_after, shortest
from gateway.domain.retention import Duration, Span, deadline

DAY = timedelta(days=1)

spans = st.one_of(
    st.builds(Span, st.integers(1, 800), st.just("d")),
    st.builds(Span, st.integers(1, 30), st.just("mo")),
    st.builds(Span, st.integers(1, 20), st.just("bd")),
    st.builds(Span, st.integers(0, 60), st.just("d"), st.just(True)),
)
durations = st.builds(Duration, st.lists(spans, max_size=3, unique=True).map(tuple), st.booleans(), st.just("why"))
moments = st.datetimes(datetime(2024, 1, 1), datetime(2031, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 -- hypothesis adds the zone


@pytest.mark.parametrize(
    "duration, least",
    [
        (Duration((Span(6, "d"),)), 6 * DAY),
        (Duration((Span(1, "mo"),)), 28 * DAY),
        (Duration((Span(30, "d"), Span(1, "mo"))), 28 * DAY),
        (Duration((Span(30, "d"), Span(1, "mo")), longest=True), 30 * DAY),
        (Duration((Span(3, "mo", closing=True),)), None),
        (Duration((Span(3, "mo", closing=True), Span(13, "mo"))), 393 * DAY),
        (Duration((), reason="why"), None),
    ],
)
def test_the_least_that_a_duration_is(duration: Duration, least: timedelta | None) -> None:
    assert shortest(duration) == least


def test_business_days_are_shortest_from_the_end_of_a_day_that_is_none() -> None:
    found = shortest(Duration((Span(5, "bd"),)), business_days("NL"))
    assert found is not None
    assert 5 * DAY <= found < 5 * DAY + timedelta(seconds=1)


@settings(max_examples=30)
@given(durations, moments)
def test_no_duration_is_ever_shorter(duration: Duration, start: datetime) -> None:
    calendar, least = business_days("NL"), shortest(duration, business_days("NL"))
    end = deadline(start, duration, calendar)
    assert (end is None) == (least is None)
    assert end is None or least is None or end - start >= least


@given(durations, moments)
def test_what_must_be_gone_is_what_is_over_to_the_second(duration: Duration, now: datetime) -> None:
    calendar = business_days("NL")
    last = not_after(now, duration, calendar)
    if last is None:
        assert deadline(now, duration, calendar) is None
        return
    second = timedelta(seconds=1)
    before, after = deadline(last - second, duration, calendar), deadline(last + 2 * second, duration, calendar)
    assert before is not None
    assert after is not None
    assert before <= now < after


@given(durations, moments, st.integers(-900, 900))
def test_also_where_the_account_is_or_will_be_closed(duration: Duration, now: datetime, days: int) -> None:
    calendar, closed = business_days("NL"), now + days * DAY
    found = not_after(now, duration, calendar, closed=closed)

    def over(start: datetime) -> bool:
        end = deadline(start, duration, calendar, closed=closed)
        return end is not None and end <= now

    if found is None:
        assert not over(now - 4000 * DAY)
    else:
        assert over(found - timedelta(seconds=1))
        assert over(now) or not over(found + timedelta(seconds=2))
