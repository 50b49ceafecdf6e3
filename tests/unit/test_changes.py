"""The changes of a message: whatever is learned in whatever order, nothing is sent twice and nothing moves back.

A state machine drives the pure functions with a message, its place in the queue, workers that lose what they hold, and a provider
that accepts, refuses, stays silent and reports late, repeatedly and out of order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.domain.changes import (
    Change,
    Horizons,
    Queued,
    Recorded,
    claim,
    contradicted,
    end,
    give_up_waiting,
    look_again,
    prove,
    put_back,
    report,
    rescue,
    settle,
)
from gateway.domain.decide import Decision
from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Refused, Unknown
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import ListedText, Receipt, ReportedState
from gateway.domain.states import State, may_move

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
UID = UUID("019e0000-0000-7000-8000-000000000001")
HORIZONS = Horizons()
SEND = Decision("send", Reason.ALLOWED, "default.allowed", "v1")
PERSON = PhoneNumber("+12025550101")


def recorded(**more: object) -> Recorded:
    values: dict[str, object] = {
        "uid": UID, "tenant": "clinic", "programme": "visits", "category": "service", "kind": "outbound", "subject_id": b"p" * 16,
        "state": State.ACCEPTED, "final": False, "version": 1, "steps": 1, "attempt": 0, "account": None, "sender": "+12125550120",
        "provider_message_id": None, "policy": "v1", "rule": "default.allowed",
    }  # fmt: skip
    return Recorded(**{**values, **more})  # type: ignore[arg-type] # values of many types


def queued(state: str = "marked", **more: object) -> Queued:
    values: dict[str, object] = {
        "uid": UID, "tenant": "clinic", "state": state, "attempt": 1, "tries": 0, "steps": 2, "provider": "twilio", "account": "main",
        "sender": "+12125550120", "worker_id": "w", "marked_at": NOW,
    }  # fmt: skip
    return Queued(**{**values, **more})  # type: ignore[arg-type] # values of many types


def receipt(state: ReportedState | None = "delivered", *, sid: str = "SM1", attempt: int = 1, filtered: bool = False) -> Receipt:
    return Receipt("main", UID, attempt, sid, state, None, filtered)


def listed(sid: str = "SM1", state: ReportedState | None = None) -> ListedText:
    return ListedText(sid, PERSON, "+12125550120", MessageBody("x"), state, None, 1, NOW)


@dataclass
class Store:
    """What the statement ``apply`` writes, in Python."""

    message: Recorded
    queue: Queued | None

    def write(self, change: Change) -> None:
        held = self.message
        if change.state is not None:
            self.message = replace(
                held,
                state=change.state,
                final=bool(change.final),
                version=change.version or 0,
                steps=change.number,
                attempt=change.attempt if change.attempt is not None else held.attempt,
                account=change.account or held.account,
                provider_message_id=change.provider_message_id or held.provider_message_id,
            )
        elif change.queue == "stay":
            self.message = replace(held, steps=change.number)
        if self.queue is None:
            assert change.queue in {"stay", "leave"}
            return
        match change.queue:
            case "leave":
                self.queue = None
            case "wait":
                tries = self.queue.tries + (change.step == "put_back")
                self.queue = replace(self.queue, state="waiting", tries=tries, steps=change.number, marked_at=None)
            case "claim":
                self.queue = replace(self.queue, state="claimed", attempt=change.attempt or 0, steps=change.number)
            case "stay":
                pass


class OneMessage(RuleBasedStateMachine):
    """A message, its workers and an honest provider."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(recorded(), queued("waiting", attempt=0, steps=1, worker_id=None, marked_at=None))
        self.now = NOW
        self.begun: dict[int, Outcome] = {}  # what the provider answered to each attempt
        self.on_the_wire: set[int] = set()  # answers that may still be settled, even late
        self.taken: dict[int, str] = {}  # attempts that the provider has accepted, and its ids
        self.told = [(State.ACCEPTED, 1, False, False)]
        self.numbers = [1]
        self.contradictions = 0

    # -- the store ---------------------------------------------------------------------------------------------------------------

    def write(self, change: Change | None) -> None:
        if change is None:
            return
        before = self.store.message
        if change.state is not None and change.step != "settled":
            assert may_move(before.state, change.state)
        self.store.write(change)
        self.numbers.append(change.number)
        self.contradictions += change.step == "contradicted"
        if change.told:
            assert change.state is not None
            self.told.append((change.state, change.version or 0, bool(change.final), change.correction))

    @property
    def queue(self) -> Queued:
        assert self.store.queue is not None
        return self.store.queue

    def waits(self, *states: str) -> bool:
        return self.store.queue is not None and self.store.queue.state in states

    # -- what happens ------------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.waits("waiting"))
    @rule()
    def a_worker_claims(self) -> None:
        self.write(claim(self.queue, SEND))

    @precondition(lambda self: self.waits("claimed"))
    @rule()
    def it_marks(self) -> None:
        self.store.queue = replace(self.queue, state="marked", marked_at=self.now)

    @precondition(lambda self: self.waits("marked") and self.queue.attempt not in self.begun)
    @rule(answer=st.sampled_from(["accepted", "later", "refused", "opted_out", "silent_taken", "silent_lost"]))
    def the_request_runs(self, answer: str) -> None:
        attempt = self.queue.attempt
        # The heart of it: nothing is asked of the provider again unless every earlier request was surely refused.
        assert all(isinstance(earlier, Later) for earlier in self.begun.values()), self.begun
        assert not self.taken
        sid = f"SM{attempt}"
        outcomes: dict[str, Outcome] = {
            "accepted": Accepted(sid, 2),
            "later": Later(Reason.RATE_LIMITED, "20429"),
            "refused": Refused(Reason.NOT_TEXTABLE, "21614"),
            "opted_out": OptedOut("21610"),
            "silent_taken": Unknown("timeout"),
            "silent_lost": Unknown("reset"),
        }
        self.begun[attempt] = outcomes[answer]
        self.on_the_wire.add(attempt)
        if answer in {"accepted", "silent_taken"}:
            self.taken[attempt] = sid

    @precondition(lambda self: self.on_the_wire)
    @rule(data=st.data(), again=st.booleans())
    def its_answer_is_settled(self, data: st.DataObject, again: bool) -> None:
        attempt = data.draw(st.sampled_from(sorted(self.on_the_wire)))
        for _ in range(1 + again):  # the answer to a commit may be lost, so that it is settled once more
            self.write(
                settle(
                    self.store.message, self.store.queue, attempt, self.begun[attempt], self.now, HORIZONS, wait=1.0, begun_at=NOW
                )
            )
        self.on_the_wire.discard(attempt)

    @precondition(lambda self: self.waits("claimed", "marked"))
    @rule()
    def its_lease_is_over(self) -> None:
        # a marked one may have begun; the fuse sees to it that nothing begins afterwards
        if self.waits("marked"):
            self.begun.setdefault(self.queue.attempt, Unknown("never began"))
        self.write(rescue(self.store.message, self.queue, self.now, HORIZONS))

    @precondition(lambda self: self.waits("claimed"))
    @rule()
    def it_is_released(self) -> None:
        self.write(put_back(self.queue, self.now, step="released"))

    @precondition(lambda self: self.waits("waiting", "claimed"))
    @rule(
        how=st.sampled_from(
            [(State.BLOCKED, Reason.OPTED_OUT), (State.CANCELED, Reason.CANCELED), (State.EXPIRED, Reason.EXPIRED)]
        )
    )
    def the_gateway_ends_it(self, how: tuple[State, Reason]) -> None:
        self.write(end(self.store.message, self.queue, *how, "a rule"))

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), state=st.sampled_from([None, "sent", "delivered", "undelivered"]), again=st.booleans())
    def the_provider_reports(self, data: st.DataObject, state: ReportedState | None, again: bool) -> None:
        attempt = data.draw(st.sampled_from(sorted(self.taken)))
        for _ in range(1 + again):
            news = report(
                self.store.message, self.store.queue, receipt(state, sid=self.taken[attempt], attempt=attempt), self.now, HORIZONS
            )
            self.write(news)

    @precondition(lambda self: self.store.message.state is State.UNKNOWN)
    @rule(state=st.sampled_from([None, "sent", "delivered", "undelivered"]))
    def the_list_is_read(self, state: ReportedState | None) -> None:
        sid = self.taken.get(self.store.message.attempt)
        if sid is None:
            self.write(look_again(self.store.message, self.now))
        else:
            self.write(prove(self.store.message, listed(sid, state), self.now, HORIZONS))

    @precondition(lambda self: self.store.message.state in {State.SENT, State.UNKNOWN} and not self.store.message.final)
    @rule()
    def no_more_news_is_waited_for(self) -> None:
        self.write(give_up_waiting(self.store.message))

    @rule(seconds=st.integers(1, 4000))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    # -- what always holds -------------------------------------------------------------------------------------------------------

    @invariant()
    def records_are_numbered_one_after_another(self) -> None:
        assert all(one < other for one, other in zip(self.numbers, self.numbers[1:], strict=False)), self.numbers

    @invariant()
    def versions_count_what_is_told(self) -> None:
        assert [version for _, version, _, _ in self.told] == list(range(1, len(self.told) + 1))
        assert self.store.message.version == len(self.told)

    @invariant()
    def final_stays_final_and_only_an_unknown_is_corrected_once(self) -> None:
        settled = next((place for place, (_, _, final, _) in enumerate(self.told) if final), len(self.told))
        before, after = self.told[: settled + 1], self.told[settled + 1 :]
        assert not any(correction for _, _, _, correction in before)
        assert all(final and correction for _, _, final, correction in after)
        assert len(after) <= 1
        assert not after or before[-1][0] is State.UNKNOWN

    @invariant()
    def an_honest_provider_is_never_contradicted(self) -> None:
        assert self.contradictions == 0
        assert len(self.taken) <= 1

    @invariant()
    def what_is_told_as_sent_was_accepted(self) -> None:
        if self.store.message.state in {State.SENT, State.DELIVERED, State.UNDELIVERED}:
            assert self.store.message.provider_message_id in self.taken.values()
        if self.store.message.state in {State.BLOCKED, State.CANCELED, State.EXPIRED, State.FAILED}:
            assert not self.taken

    @invariant()
    def what_waits_has_not_ended(self) -> None:
        if self.store.queue is not None:
            assert self.store.message.state in {State.ACCEPTED, State.DEFERRED}
            assert not self.store.message.final
        elif not self.store.message.final:
            assert self.store.message.state in {State.SENT, State.UNKNOWN}


OneMessage.TestCase.settings = settings(max_examples=200, stateful_step_count=25, deadline=None)
TestOneMessage = OneMessage.TestCase


# -- one by one ------------------------------------------------------------------------------------------------------------------


def test_settling_twice_changes_nothing_the_second_time() -> None:
    store = Store(recorded(), queued())
    first = settle(store.message, store.queue, 1, Accepted("SM1", 1), NOW, HORIZONS)
    assert first is not None
    store.write(first)
    assert settle(store.message, store.queue, 1, Accepted("SM1", 1), NOW, HORIZONS) is None
    assert settle(store.message, store.queue, 1, Later(Reason.RATE_LIMITED, "1"), NOW, HORIZONS) is None


@pytest.mark.parametrize(
    "outcome", [Later(Reason.RATE_LIMITED, "1"), Refused(Reason.REFUSED, "1"), OptedOut("21610"), Unknown("timeout")]
)
@pytest.mark.parametrize(
    "held",
    [
        None,
        queued("waiting"),
        queued("claimed"),
        queued("marked", attempt=2),
        queued("waiting", attempt=2),
    ],
)
def test_only_the_holder_of_the_mark_may_put_back_or_end(outcome: Outcome, held: Queued | None) -> None:
    assert settle(recorded(), held, 1, outcome, NOW, HORIZONS) is None


def test_an_answer_after_a_rescue_turns_unknown_into_sent_and_after_the_end_corrects_it() -> None:
    unknown = recorded(state=State.UNKNOWN, version=2, steps=3, attempt=1, account="main")
    sent = settle(unknown, None, 1, Accepted("SM1", 1), NOW, HORIZONS)
    assert sent is not None
    assert (sent.state, sent.final, sent.correction, sent.version) == (State.SENT, False, False, 3)
    assert sent.settle_by == NOW + HORIZONS.sent_final_after
    corrected = settle(replace(unknown, final=True), None, 1, Accepted("SM1", 1), NOW, HORIZONS)
    assert corrected is not None
    assert (corrected.state, corrected.final, corrected.correction) == (State.SENT, True, True)
    assert corrected.settle_by is None


@pytest.mark.parametrize("state", ["waiting", "claimed", "marked"])
def test_a_receipt_before_the_answer_is_believed(state: str) -> None:
    store = Store(recorded(), queued(state))
    change = report(store.message, store.queue, receipt("delivered"), NOW, HORIZONS)
    assert change is not None
    assert (change.state, change.final, change.queue, change.attempt) == (State.DELIVERED, True, "leave", 1)
    store.write(change)
    assert settle(store.message, store.queue, 1, Accepted("SM1", 1), NOW, HORIZONS) is None
    assert settle(store.message, store.queue, 1, Unknown("timeout"), NOW, HORIZONS) is None


def test_a_callback_that_says_little_still_proves_acceptance() -> None:
    change = report(recorded(), queued(), receipt(None), NOW, HORIZONS)
    assert change is not None
    assert (change.state, change.final, change.evidence) == (State.SENT, False, "callback")


def test_callbacks_in_any_order_and_repeated_end_the_same() -> None:
    orders: list[list[ReportedState]] = [
        ["sent", "delivered"],
        ["delivered", "sent"],
        ["delivered", "delivered", "sent", "sent"],
        ["undelivered", "sent", "delivered"],
    ]
    for order in orders:
        store = Store(recorded(), queued())
        for state in order:
            change = report(store.message, store.queue, receipt(state), NOW, HORIZONS)
            if change is not None:
                store.write(change)
        assert store.message.state is (State.UNDELIVERED if order[0] == "undelivered" else State.DELIVERED)
        assert store.message.final


@pytest.mark.parametrize(
    "message",
    [
        recorded(state=State.SENT, provider_message_id="SM9"),
        recorded(state=State.DELIVERED, final=True, provider_message_id="SM9"),
        recorded(state=State.BLOCKED, final=True),
        recorded(state=State.CANCELED, final=True),
        recorded(state=State.FAILED, final=True),
    ],
)
def test_an_acceptance_that_nobody_knows_of_is_counted_and_changes_nothing(message: Recorded) -> None:
    for change in (
        report(message, None, receipt("delivered"), NOW, HORIZONS),
        settle(message, None, 1, Accepted("SM1", 1), NOW, HORIZONS),
    ):
        assert change == contradicted(message, None, "SM1", change.evidence or "" if change is not None else "")
        assert change is not None
        assert (change.step, change.state, change.told, change.queue, change.code) == ("contradicted", None, False, "stay", "SM1")


def test_a_late_receipt_corrects_an_unknown_once() -> None:
    store = Store(recorded(state=State.UNKNOWN, final=True, version=3, steps=4, attempt=1), None)
    first = report(store.message, None, receipt("sent"), NOW, HORIZONS)
    assert first is not None
    assert (first.correction, first.final, first.told) == (True, True, True)
    store.write(first)
    assert report(store.message, None, receipt("delivered"), NOW, HORIZONS) is None


def test_sent_without_a_receipt_in_time_stays_as_it_was_told() -> None:
    store = Store(recorded(state=State.SENT, provider_message_id="SM1", version=2, steps=3), None)
    settled = give_up_waiting(store.message)
    assert (settled.reason, settled.final, settled.correction) == (Reason.NO_RECEIPT, True, False)
    store.write(settled)
    assert report(store.message, None, receipt("delivered"), NOW, HORIZONS) is None


def test_backing_off_holds_the_lane_a_minute_at_most() -> None:
    for wait in (0.5, 59.0, 61.0, 3600.0):
        change = settle(recorded(), queued(), 1, Later(Reason.RATE_LIMITED, "1"), NOW, HORIZONS, wait=wait)
        assert change is not None
        assert change.due_at == NOW + timedelta(seconds=wait)
        assert change.lane_until == NOW + timedelta(seconds=min(wait, 60))
        assert (change.state, change.told, change.queue) == (None, False, "wait")


def test_a_rescue_puts_back_only_what_was_not_marked() -> None:
    back = rescue(recorded(), queued("claimed"), NOW, HORIZONS)
    assert (back.queue, back.state, back.due_at) == ("wait", None, NOW)
    lost = rescue(recorded(), queued("marked"), NOW, HORIZONS, why="answer_lost")
    assert (lost.queue, lost.state, lost.reason, lost.code, lost.begun_at) == (
        "leave",
        State.UNKNOWN,
        Reason.NO_ANSWER,
        "answer_lost",
        NOW,
    )
    assert lost.settle_by == NOW + HORIZONS.unknown_after
    assert lost.check_at is not None
    assert lost.check_at < lost.settle_by


@pytest.mark.parametrize(
    "state,filtered,reason",
    [
        ("undelivered", True, Reason.FILTERED),
        ("undelivered", False, Reason.NOT_DELIVERED),
        ("delivered", True, Reason.DELIVERED),  # it arrived, whatever else is said of it
        ("sent", True, Reason.ACCEPTED),
    ],
)
def test_a_filtered_text_says_so_and_by_the_providers_word_alone(state: ReportedState, filtered: bool, reason: Reason) -> None:
    told = report(recorded(), queued(), receipt(state, filtered=filtered), NOW, HORIZONS)
    found = prove(recorded(state=State.UNKNOWN), replace(listed(state=state), filtered=filtered), NOW, HORIZONS)
    assert told is not None
    assert found is not None
    assert (told.reason, found.reason) == (reason, reason)


def test_the_gateways_own_answers_are_told_to_nobody() -> None:
    change = settle(recorded(kind="help"), queued(), 1, Accepted("SM1", 1), NOW, HORIZONS)
    assert change is not None
    assert not change.told
