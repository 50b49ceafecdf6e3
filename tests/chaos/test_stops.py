"""The account tells what a STOP that the spool answered was promised, and finds each way in which that is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.chaos.account import draw_up
from tests.chaos.calm import Calm
from tests.chaos.schedule import PROGRAMMES, Outgoing, PersonText
from tests.chaos.test_account import LEASE, OFFERS, Book, consent, request, tell
from tests.chaos.witnessed import ConsentSeen, Published, SpoolSeen, TextSent, Witnessed

TOO_LATE = "STOP answered, and not in force within a lease"
WRITTEN = "begun a lease after STOP was answered as written"
NOT_APPLIED = "STOP spooled, and not applied within a lease of PostgreSQL being back"
IN_FORCE = "begun after STOP was in force"


@dataclass
class Spooled:
    """PostgreSQL is away from 18 to 30. The STOP of person 1 is texted at 20, in the spool at 20.1, answered at 25.7, applied at 31 and in
    force at 31.2. One message to them began at 10, another, marked before, at 28.
    """

    witnessed: Witnessed = field(default_factory=Witnessed)
    calm: Calm = field(default_factory=Calm)
    book: Book = field(default_factory=lambda: {"requests": [], "inbound": []})

    def __post_init__(self) -> None:
        records = [Outgoing(1, "message", OFFERS, 1), Outgoing(2, "message", OFFERS, 1)]
        self.witnessed.published += [Published(record, 0, place) for place, record in enumerate(records)]
        for record in records:
            tell(self.witnessed, record, "accepted", "sent", "delivered")
        self.book["requests"] += [request(records[0], 10.0), request(records[1], 28.0)]
        consent(self.witnessed, 1, 1, "in", 1)
        self.apply(31.0, 31.2)
        self.witnessed.texts.append(TextSent(PersonText(20, 1, OFFERS, "STOP"), 20, 25.7, 1, "SM1"))
        self.spool("SM1", 20.1)
        self.away(18, 30)

    def apply(self, written_at: float, in_force_at: float) -> None:
        self.forget()
        self.witnessed.see_consent(ConsentSeen("person-1", OFFERS.consent, 2, "out", in_force_at, written_at))

    def forget(self) -> None:
        self.witnessed.consents = {one for one in self.witnessed.consents if one.status == "in"}

    def spool(self, sid: str, at: float) -> None:
        self.witnessed.spool[:] = [SpoolSeen(0, "north", sid, at)]

    def away(self, begins: float, ends: float) -> None:
        self.calm = Calm()
        self.calm.hurt("postgres", begins, ends)

    def begin(self, at: float) -> None:
        self.book["requests"][1] = request(self.witnessed.published[1].record, at)

    def start(self, at: float) -> None:
        consent(self.witnessed, 1, 3, "in", at)

    def broken(self) -> set[str]:
        return set(draw_up(self.witnessed, self.book, LEASE, self.calm).broken())


def test_a_spooled_stop_in_order_breaks_no_promise_and_is_counted() -> None:
    spooled = Spooled()
    assert spooled.broken() == set()
    counts = draw_up(spooled.witnessed, spooled.book, LEASE, spooled.calm).counts
    assert counts["STOPs in the spool, answered by it"] == "1, 1"
    assert counts["of these applied after, in quiet seconds in one piece"] == "half 1.00, most 1.00"


@pytest.mark.parametrize("moment, promises", [(29.69, set()), (29.71, {WRITTEN}), (31.19, {WRITTEN}), (31.21, {IN_FORCE})])
def test_what_was_marked_before_the_answer_begins_within_a_lease_of_it_and_nothing_later(
    moment: float, promises: set[str]
) -> None:
    spooled = Spooled()
    spooled.begin(moment)
    assert spooled.broken() == promises


def test_another_persons_and_another_programmes_messages_go_on() -> None:
    spooled = Spooled()
    for number, programme, person in ((3, OFFERS, 2), (4, PROGRAMMES[1], 1)):
        record = Outgoing(number, "message", programme, person)
        spooled.witnessed.published.append(Published(record, 0, number))
        tell(spooled.witnessed, record, "accepted", "sent", "delivered")
        spooled.book["requests"].append(request(record, 30.5))
    assert spooled.broken() == set()


def test_a_message_after_a_later_start_is_no_fault() -> None:
    spooled = Spooled()
    spooled.start(33)
    spooled.begin(33.5)
    assert spooled.broken() == set()


@pytest.mark.parametrize("written_at", [20.21, 25.7, 40.0])
def test_an_answer_that_cannot_be_the_spools_promises_force(written_at: float) -> None:
    """It came sooner than the spool answers, or the record is that of a later repeat."""
    spooled = Spooled()
    spooled.spool("SM1", written_at)
    assert spooled.broken() == {TOO_LATE}


def test_another_texts_record_excuses_nothing() -> None:
    spooled = Spooled()
    spooled.spool("SM2", 20.1)
    assert spooled.broken() == {TOO_LATE}


@pytest.mark.parametrize("applied_at, promises", [(30.9, set()), (31.1, {NOT_APPLIED})])
def test_it_is_applied_within_a_lease_and_the_time_of_a_name(applied_at: float, promises: set[str]) -> None:
    """PostgreSQL was back before the answer."""
    spooled = Spooled()
    spooled.away(18, 24)
    spooled.apply(applied_at, applied_at)
    assert spooled.broken() == promises


def test_what_is_applied_must_be_in_force() -> None:
    spooled = Spooled()
    spooled.apply(31, 38.1)
    assert spooled.broken() == {NOT_APPLIED}


def test_one_that_comes_to_nothing_is_found() -> None:
    spooled = Spooled()
    spooled.forget()
    assert spooled.broken() == {NOT_APPLIED, "STOP lost"}
    spooled.begin(60)
    assert WRITTEN in spooled.broken()


def test_one_that_a_start_undid_before_it_was_in_force_is_not_judged() -> None:
    spooled = Spooled()
    spooled.forget()
    spooled.start(31.1)
    spooled.begin(31.3)
    assert spooled.broken() == set()


def hurt_again(spooled: Spooled) -> None:
    spooled.calm.hurt("postgres", 33, 36)


def hurt_the_broker(spooled: Spooled) -> None:
    spooled.calm.hurt("broker", 32, 36)


def kill_the_applier(spooled: Spooled) -> None:
    spooled.calm.hurt("process", 34, 34.1)


def kill_the_sweep(spooled: Spooled) -> None:
    spooled.calm.hurt("sweep", 30, 40)


def nothing(spooled: Spooled) -> None:
    pass


@pytest.mark.parametrize(
    "hurt, promises",
    [
        (hurt_again, set()),
        (hurt_the_broker, set()),
        (kill_the_applier, set()),
        (kill_the_sweep, {NOT_APPLIED}),
        (nothing, {NOT_APPLIED}),
    ],
)
def test_the_time_counts_anew_when_what_it_needs_is_hurt_again(hurt: Callable[[Spooled], None], promises: set[str]) -> None:
    spooled = Spooled()
    spooled.apply(40, 40)
    hurt(spooled)
    assert spooled.broken() == promises


def test_on_a_machine_that_is_slow_it_may_take_as_many_times_as_long() -> None:
    spooled = Spooled()
    spooled.apply(60, 60)
    assert spooled.broken() == {NOT_APPLIED}
    for at in range(10, 61):
        spooled.calm.measured(at, 5.0)
    assert spooled.broken() == set()
