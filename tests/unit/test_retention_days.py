"""When a day is over: by its first moment, never while it is written, and never later for a day that came before."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.closing import Closing
from gateway.domain.policy import Policy, make_policy
from gateway.domain.retention_days import Terms, midnight

DAY = date(2026, 1, 31)


def policy(tenant: str = "shop", **retention: Any) -> Policy:
    return make_policy(
        {
            "tenant": tenant,
            "name": "Shop",
            "providers": ["twilio"],
            "programmes": "UNSET",
            "calendar": "NL",
            "retention": retention,
        }
    )


def test_a_day_is_over_with_the_deadline_of_its_first_moment_and_not_while_it_is_written() -> None:
    terms = Terms([policy(content="6d", events="1mo")])
    assert terms.due("shop", "content", DAY) == datetime(2026, 2, 6, tzinfo=UTC)
    assert terms.due("shop", "events", DAY) == datetime(2026, 3, 1, tzinfo=UTC)
    assert Terms([policy(content="1d")]).due("shop", "content", DAY) == datetime(2026, 2, 1, 0, 10, tzinfo=UTC)


def test_neither_text_nor_number_outlives_the_message() -> None:
    terms = Terms([policy(content="60d", address={"forever": "it says so"}, events="6d")])
    assert {terms.due("shop", one, DAY) for one in ("content", "address", "events")} == {datetime(2026, 2, 6, tzinfo=UTC)}


def test_what_is_nobodys_goes_by_the_shortest() -> None:
    terms = Terms([policy(content="60d", dead_letters="9d"), policy("other", dead_letters="5d")])
    assert terms.due("_system", "dead_letters", DAY) == midnight(DAY) + timedelta(days=5)
    assert terms.due("gone", "events", DAY) == datetime(2027, 2, 28 + 1 - 1, tzinfo=UTC) + timedelta(days=1)


def test_what_is_left_open_ends_nothing() -> None:
    terms = Terms([policy(content="UNSET", events={"forever": "it says so"})])
    assert terms.left_open("shop", "content")
    assert not terms.left_open("shop", "events")
    assert terms.due("shop", "content", DAY) is None
    assert terms.not_before("shop", "content", datetime(2026, 2, 1, tzinfo=UTC)) is None


PERIODS = st.sampled_from(["1d", "6d", "13mo", "1mo", "10bd", "2bd", ["30d", "1mo"]])
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2028, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 -- the strategy takes bounds without a zone and adds it


@given(PERIODS, MOMENTS)
def test_the_first_day_that_may_be_there_is_the_first_that_is_not_over(period: Any, now: datetime) -> None:
    terms = Terms([policy(content=period)])
    first = terms.not_before("shop", "content", now)
    assert first is not None
    assert not terms.is_over("shop", "content", first.date(), now)
    assert terms.is_over("shop", "content", first.date() - timedelta(days=1), now)


def test_with_its_closing_all_that_was_made_before_is_over_and_the_day_itself_as_soon_as_it_is_written() -> None:
    terms, closed = Terms([policy(content="0d after closing", events="0d after closing")]), datetime(2026, 1, 31, 15, tzinfo=UTC)
    assert terms.due("shop", "content", DAY) is None
    terms.heed({"shop": Closing(closed, closed - timedelta(days=3))})
    assert {terms.due("shop", "content", DAY - timedelta(days=ago)) for ago in (1, 2, 400)} == {closed}
    soon, midnight_after = closed + timedelta(minutes=10), datetime(2026, 2, 1, 0, 10, tzinfo=UTC)
    assert {terms.due("shop", one, DAY) for one in ("content", "address", "dead_letters")} == {soon}
    assert terms.due("shop", "events", DAY) == midnight_after, "its audit is still written"
    assert terms.due("shop", "content", DAY + timedelta(days=1)) == midnight_after + timedelta(days=1)
    assert terms.not_before("shop", "content", soon) == midnight(DAY + timedelta(days=1))
    assert terms.due("_system", "content", DAY) == midnight(DAY + timedelta(days=30)), "nobody's closing ends what is nobody's"
    terms.heed({})
    assert terms.due("shop", "content", DAY) is None


def test_a_closing_that_was_told_late_was_written_to_until_then() -> None:
    terms = Terms([policy(content=["30d", "2d after closing"])])
    terms.heed({"shop": Closing(datetime(2026, 1, 20, tzinfo=UTC), datetime(2026, 1, 31, 9, tzinfo=UTC))})
    assert terms.due("shop", "content", DAY) == datetime(2026, 1, 31, 9, 10, tzinfo=UTC)
    assert terms.due("shop", "content", date(2026, 1, 30)) == datetime(2026, 1, 31, 0, 10, tzinfo=UTC)
    assert terms.due("shop", "content", date(2026, 1, 19)) == datetime(2026, 1, 22, tzinfo=UTC)
    assert terms.due("shop", "content", date(2025, 12, 1)) == datetime(2025, 12, 31, tzinfo=UTC), "the shorter holds"


@given(
    period=st.sampled_from(["6d", "1d", "0d after closing", "3mo after closing", ["13mo", "2d after closing"]]),
    hours=st.integers(-2000, 2000),
    late=st.integers(0, 500),
)
def test_with_a_closing_too_no_day_is_over_before_one_that_came_earlier(period: Any, hours: int, late: int) -> None:
    at = midnight(DAY) + timedelta(hours=hours)
    terms = Terms([policy(content=period, events=period)])
    terms.heed({"shop": Closing(at, at + timedelta(hours=late))})
    for data_class in ("content", "events"):
        ends = [terms.due("shop", data_class, DAY + timedelta(days=day)) for day in range(-30, 30)]
        known = [end for end in ends if end is not None]
        assert known == sorted(known)
        assert None not in ends
