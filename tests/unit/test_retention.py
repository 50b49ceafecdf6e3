from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.domain.business_days import business_days
from gateway.domain.policy_retention import CLASSES, Retention
from gateway.domain.retention import UNSET, Duration, Span, Unset, deadline, merged, read_duration

MOMENTS = some.integers(0, 70 * 365 * 86_400).map(lambda seconds: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
SPANS = some.one_of(
    some.builds(Span, some.integers(1, 900), some.just("d")),
    some.builds(Span, some.integers(1, 40), some.just("mo")),
    some.builds(Span, some.integers(1, 60), some.just("bd")),
)
NL = business_days("NL")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def lasting(said: object, *, longest: bool = False) -> Duration:
    found = read_duration(said, longest=longest)
    assert isinstance(found, Duration)
    return found


class TestReading:
    @pytest.mark.parametrize(
        "said, spans",
        [
            ("6d", (Span(6, "d"),)),
            ("13mo", (Span(13, "mo"),)),
            ("10bd", (Span(10, "bd"),)),
            ("3mo after closing", (Span(3, "mo", closing=True),)),
            ("0d after closing", (Span(0, "d", closing=True),)),
            (["30d", "1mo"], (Span(30, "d"), Span(1, "mo"))),
        ],
    )
    def test_what_a_policy_says(self, said: object, spans: tuple[Span, ...]) -> None:
        assert read_duration(said) == Duration(spans)

    def test_unset_is_a_value(self) -> None:
        assert read_duration("UNSET") is UNSET
        assert str(UNSET) == "UNSET"

    def test_for_ever_has_a_reason(self) -> None:
        kept = lasting({"forever": "a court asks for it"})
        assert (kept.forever, kept.reason, str(kept)) == (True, "a court asks for it", "forever")

    @pytest.mark.parametrize(
        "said",
        [
            "", "6", 6, "6 d", "-6d", "06d", "6h", "6D", "0d", "0mo", "0bd after closing", "36501d", "1201mo", "501bd", "6d after", None, True,
            [], ["6d", "6d"], ["6d", "UNSET"], ["6d", {"forever": "x"}], "forever", {"forever": ""}, {"forever": "a\nb"}, {"forever": 1},
            {"forever": "UNSET"}, {"for": "6d"}, {"forever": "x", "more": "y"}, "unset", 6.0,
        ],
    )  # fmt: skip
    def test_what_cannot_be_meant_is_refused(self, said: object) -> None:
        with pytest.raises(ValueError, match=r"must|twice"):
            read_duration(said)

    @given(SPANS)
    def test_is_read_as_it_is_shown(self, span: Span) -> None:
        assert read_duration(str(span)) == Duration((span,))


class TestDeadline:
    @pytest.mark.parametrize(
        "start, said, end",
        [
            ("2026-03-28T23:30:00", "6d", "2026-04-03T23:30:00"),  # clocks go forward in Europe meanwhile: a day stays 24 hours
            ("2026-01-15T10:00:00", "13mo", "2027-02-15T10:00:00"),
            ("2026-01-28T10:00:00", "1mo", "2026-02-28T10:00:00"),
            ("2026-01-29T10:00:00", "1mo", "2026-03-01T00:00:00"),  # the end of February
            ("2026-01-31T00:00:00", "1mo", "2026-03-01T00:00:00"),
            ("2024-01-29T10:00:00", "1mo", "2024-02-29T10:00:00"),
            ("2026-12-31T10:00:00", "2mo", "2027-03-01T00:00:00"),
            ("2026-05-22T10:00:00", "1bd", "2026-05-26T10:00:00"),  # a Friday, and Whit Monday
            ("2026-05-23T10:00:00", "1bd", "2026-05-27T00:00:00"),  # a Saturday: the end of the first business day
            ("2026-12-18T09:00:00", "10bd", "2027-01-05T09:00:00"),  # Christmas, Boxing Day on a Saturday, New Year
        ],
    )
    def test_is_computed_for_the_date_itself(self, start: str, said: str, end: str) -> None:
        assert deadline(at(start), lasting(said), NL) == at(end)

    @pytest.mark.parametrize(
        "start, end", [("2026-01-30T12:00:00", "2026-03-01T00:00:00"), ("2026-03-15T12:00:00", "2026-04-14T12:00:00")]
    )
    def test_thirty_days_or_a_month_whichever_is_sooner(self, start: str, end: str) -> None:
        assert deadline(at(start), lasting(["30d", "1mo"])) == at(end)

    def test_of_a_proof_the_longest_holds(self) -> None:
        assert deadline(at("2026-03-15T12:00:00"), lasting(["30d", "1mo"], longest=True)) == at("2026-04-15T12:00:00")

    def test_for_ever_has_none(self) -> None:
        assert deadline(at("2026-01-01"), lasting({"forever": "why"})) is None

    def test_after_closing_it_begins_when_the_customer_account_is_closed(self) -> None:
        kept = lasting("3mo after closing")
        assert deadline(at("2026-01-01"), kept) is None
        assert deadline(at("2026-01-01"), kept, closed=at("2026-06-10")) == at("2026-09-10")

    def test_of_several_what_is_over_first_holds_also_when_an_account_stays_open(self) -> None:
        kept = lasting(["7d", "0d after closing"])
        assert deadline(at("2026-01-01"), kept) == at("2026-01-08")
        assert deadline(at("2026-01-01"), kept, closed=at("2026-01-03")) == at("2026-01-03")
        assert deadline(at("2026-01-01"), lasting(["7d", "0d after closing"], longest=True)) is None

    @given(MOMENTS, SPANS, some.integers(-12, 14))
    def test_is_the_same_from_every_zone(self, start: datetime, span: Span, hours: int) -> None:
        there = start.astimezone(timezone(timedelta(hours=hours)))
        end = deadline(there, Duration((span,)), NL)
        assert end is not None
        assert end == deadline(start, Duration((span,)), NL)
        assert end.utcoffset() == timedelta(0)

    @given(MOMENTS, some.timedeltas(timedelta(0), timedelta(days=70)), SPANS)
    def test_never_comes_sooner_for_what_came_later(self, start: datetime, later: timedelta, span: Span) -> None:
        one, other = (deadline(moment, Duration((span,)), NL) for moment in (start, start + later))
        assert one is not None
        assert other is not None
        assert start < one <= other

    @given(MOMENTS, SPANS)
    def test_a_longer_one_is_not_over_sooner(self, start: datetime, span: Span) -> None:
        more = Span(span.count + 1, span.unit)
        one, other = (deadline(start, Duration((each,)), NL) for each in (span, more))
        assert one is not None
        assert other is not None
        assert one < other

    def test_business_days_need_a_calendar(self) -> None:
        with pytest.raises(AssertionError):
            deadline(at("2026-01-01"), lasting("1bd"))


class TestMerging:
    @given(MOMENTS, some.lists(SPANS, min_size=1, max_size=4), some.booleans())
    def test_the_shorter_holds_and_of_proofs_the_longer(self, start: datetime, spans: list[Span], longest: bool) -> None:
        together = merged([Duration((span,), longest) for span in spans], longest=longest)
        ends = [deadline(start, Duration((span,)), NL) for span in spans]
        pick: Callable[[list[datetime]], datetime] = max if longest else min
        assert deadline(start, together, NL) == pick([end for end in ends if end is not None])

    def test_for_ever_is_longer_than_all_else(self) -> None:
        ever = lasting({"forever": "why"})
        assert merged([ever, lasting("6d")]) == lasting("6d")
        assert merged([Duration((), longest=True, reason="why"), lasting("6d", longest=True)], longest=True).reason == "why"
        assert merged([ever, ever]).forever

    def test_the_shortest_of_some_and_the_longest_of_others_is_a_mistake(self) -> None:
        with pytest.raises(AssertionError):
            merged([lasting(["6d", "1mo"], longest=True), lasting("3d")])


class TestCalendar:
    @pytest.mark.parametrize(
        "name, day, works",
        [
            ("NL", date(2026, 4, 27), False),  # King's Day
            ("NL", date(2026, 4, 28), True),
            ("NL", date(2026, 4, 26), False),  # a Sunday
            ("DE-BY", date(2026, 1, 6), False),  # Epiphany in Bavaria, and not in Berlin
            ("DE-BE", date(2026, 1, 6), True),
            ("AE", date(2026, 3, 29), False),  # a Sunday, a weekend there since 2022
        ],
    )
    def test_is_that_of_the_place(self, name: str, day: date, works: bool) -> None:
        assert business_days(name).is_business_day(day) is works

    @pytest.mark.parametrize("name", ["", "XX", "nl", "NLD", "NL\n", "NL-XX", "DE-", "../NL"])
    def test_one_that_is_not_known_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="holidays are known"):
            business_days(name)


class TestRetention:
    def test_what_a_policy_leaves_out_has_an_end_all_the_same(self) -> None:
        kept = {data_class: str(Retention().of(data_class)) for data_class in CLASSES}
        assert kept == {
            "content": "30d",
            "address": "30d",
            "events": "13mo",
            "customer_account": "0d after closing",
            "consent_proof": "60mo",
            "dead_letters": "30d",
            "exports": "the shortest of 30d, 7d",
            "suppression": "forever",
        }

    @given(MOMENTS, SPANS)
    def test_whatever_holds_a_number_or_a_text_ends_with_its_content(self, start: datetime, span: Span) -> None:
        retention = Retention.model_validate({"content": str(span)})
        content = deadline(start, Duration((span,)), NL)
        assert content is not None
        for data_class in ("address", "dead_letters", "exports"):
            kept = retention.of(data_class)
            assert isinstance(kept, Duration)
            end = deadline(start, kept, NL)
            assert end is not None
            assert end <= content

    def test_what_is_unset_is_not_replaced_by_a_default(self) -> None:
        retention = Retention.model_validate({"content": "UNSET", "events": "UNSET"})
        assert [retention.of(one) for one in ("content", "address", "events", "dead_letters", "exports")] == [Unset.UNSET] * 5

    def test_a_policy_has_no_say_in_suppression(self) -> None:
        with pytest.raises(ValueError, match="suppression"):
            Retention.model_validate({"suppression": "1d"})

    def test_of_several_duties_to_keep_a_proof_the_longest_holds(self) -> None:
        kept = Retention.model_validate({"consent_proof": ["13mo", "60mo"], "events": ["13mo", "60mo"]})
        start = at("2026-01-01")
        proof, events = kept.of("consent_proof"), kept.of("events")
        assert isinstance(proof, Duration)
        assert isinstance(events, Duration)
        assert deadline(start, proof) == at("2031-01-01")
        assert deadline(start, events) == at("2027-02-01")
