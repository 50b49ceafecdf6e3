"""The account finds what it is to find: a test of the test. And the schedule of a seed is the same each time."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, get_args
from uuid import UUID

import pytest

from tests.chaos.account import draw_up
from tests.chaos.calm import Calm
from tests.chaos.faults import FAMILIES, FaultKind
from tests.chaos.schedule import PROGRAMMES, SHORT_MINUTES, Outgoing, PersonText, Schedule, number_of
from tests.chaos.told import held_wrongly
from tests.chaos.witnessed import ConsentSeen, Pause, Published, StatusSeen, TextSent, Witnessed

OFFERS = PROGRAMMES[0]
LEASE = 4.0
Book = dict[str, Any]


def uid(number: int) -> UUID:
    return UUID(int=number)


def request(record: Outgoing, begun_at: float, *, of: int | None = None, state: str = "delivered", accepted: bool = True) -> Any:
    token = base64.urlsafe_b64encode(uid(of or record.number).bytes + bytes(14)).decode()
    return {
        "to": number_of(record.person),
        "from": record.programme.ways[0].sender,
        "account": record.programme.ways[0].account,
        "answer": 201,
        "code": None,
        "sid": f"SM{record.number}" if accepted else None,
        "body_sha256": record.body_sha256,
        "callback": f"https://gateway.example/webhooks/twilio/north/status/{token}",
        "begun_at": begun_at,
        "accepted_at": begun_at if accepted else None,
        "ending": "answered",
        "callbacks": [{"status": "delivered", "http": 204}] if accepted and state == "delivered" else [],
        "state": state if accepted else None,
    }


def tell(witnessed: Witnessed, record: Outgoing, *states: str) -> None:
    for version, state in enumerate(states, start=1):
        message = record.programme.tenant, record.message_id
        final = state not in ("accepted", "sent")
        witnessed.see_status(StatusSeen(message, uid(record.number), f"person-{record.person}", version, state, "", final))


def consent(witnessed: Witnessed, person: int, version: int, status: str, at: float) -> None:
    witnessed.see_consent(ConsentSeen(f"person-{person}", OFFERS.consent, version, status, at, at))


def in_order() -> tuple[Witnessed, Book]:
    """Person 1 is texted at 10, texts STOP at 20 (in force at 20.5) and is texted no more; person 2's message was poison."""
    witnessed = Witnessed()
    records = [Outgoing(1, "message", OFFERS, 1), Outgoing(2, "message", OFFERS, 1), Outgoing(3, "poison", OFFERS, 2)]
    witnessed.published += [Published(record, 0, place) for place, record in enumerate(records)]
    tell(witnessed, records[0], "accepted", "sent", "delivered")
    tell(witnessed, records[1], "accepted", "blocked")
    witnessed.dead_letters[0, 2] = "not_json"
    consent(witnessed, 1, 1, "in", 1)
    consent(witnessed, 1, 2, "out", 20.5)
    witnessed.texts.append(TextSent(PersonText(20, 1, OFFERS, "STOP"), 20, 20.6))
    witnessed.pauses.append(Pause(OFFERS.tenant, OFFERS.name, 30, 40))
    witnessed.canceled.add(("lantern", "m-4"))
    tell(witnessed, Outgoing(4, "message", PROGRAMMES[1], 3), "accepted", "canceled")
    return witnessed, {"requests": [request(records[0], 10.0), request(records[1], 15.0, accepted=False)], "inbound": []}


def test_what_is_in_order_breaks_no_promise() -> None:
    witnessed, book = in_order()
    account = draw_up(witnessed, book, LEASE, Calm())
    assert account.broken() == {}
    assert account.counts["events published"] == 3


def lose_an_event(witnessed: Witnessed, book: Book) -> None:
    del witnessed.last["lantern", "m-1"]


def lose_a_dead_letter(witnessed: Witnessed, book: Book) -> None:
    witnessed.dead_letters.clear()


def accept_twice(witnessed: Witnessed, book: Book) -> None:
    book["requests"].append(dict(book["requests"][0]))


def begin_after_stop(witnessed: Witnessed, book: Book) -> None:
    book["requests"][1]["begun_at"] = 20.501


def text_somebody_else(witnessed: Witnessed, book: Book) -> None:
    book["requests"][0]["to"] = number_of(2)


def text_from_another_programme(witnessed: Witnessed, book: Book) -> None:
    book["requests"][0]["from"] = PROGRAMMES[1].ways[0].sender


def by_ringcentral(row: Any, **changes: object) -> Any:
    """The same request as RingCentral is asked: in a batch, by another sender, without a callback of its own."""
    return {**row, "from": OFFERS.ways[0].sender, "account": "4051", "callback": None, "callbacks": [], **changes}


def accept_by_both(witnessed: Witnessed, book: Book) -> None:
    book["requests"].append(by_ringcentral(book["requests"][0], begun_at=12.0, **{"from": "+13105550199"}))


def begin_in_a_batch_after_stop(witnessed: Witnessed, book: Book) -> None:
    others = Outgoing(5, "message", OFFERS, 7)
    witnessed.published.append(Published(others, 0, 5))
    tell(witnessed, others, "accepted", "delivered")
    book["requests"].append(by_ringcentral(request(others, 20.501)))
    book["requests"][1] = by_ringcentral(book["requests"][1], begun_at=20.501)


def send_by_ringcentral_what_was_blocked(witnessed: Witnessed, book: Book) -> None:
    book["requests"][1] = by_ringcentral(book["requests"][1], sid="1", accepted_at=15.0, state="delivered")


def put_in_force_too_late(witnessed: Witnessed, book: Book) -> None:
    witnessed.texts[0] = TextSent(witnessed.texts[0].text, 16, 16.4)


def lose_a_stop(witnessed: Witnessed, book: Book) -> None:
    witnessed.texts.append(TextSent(PersonText(30, 1, PROGRAMMES[1], "STOP"), 30, None))
    orders = Outgoing(4, "message", PROGRAMMES[1], 1)
    witnessed.published.append(Published(orders, 0, 4))
    tell(witnessed, orders, "accepted", "blocked")


def send_what_was_blocked(witnessed: Witnessed, book: Book) -> None:
    book["requests"][1].update(accepted_at=15.0, sid="SM2", state="delivered")


def name_another_message(witnessed: Witnessed, book: Book) -> None:
    book["requests"][1]["callback"] = book["requests"][0]["callback"]


def lose_a_version(witnessed: Witnessed, book: Book) -> None:
    witnessed.versions["lantern", "m-1"].remove(2)


def swap_versions(witnessed: Witnessed, book: Book) -> None:
    witnessed.versions["lantern", "m-1"].reverse()


def begin_while_paused(witnessed: Witnessed, book: Book) -> None:
    book["requests"][0]["begun_at"] = 34.1


def forget_a_cancel(witnessed: Witnessed, book: Book) -> None:
    tell(witnessed, Outgoing(4, "message", PROGRAMMES[1], 3), "accepted", "canceled", "delivered")


def not_heed_a_callback(witnessed: Witnessed, book: Book) -> None:
    witnessed.last.clear()
    tell(witnessed, witnessed.published[0].record, "accepted", "unknown")


def fail_a_callback(witnessed: Witnessed, book: Book) -> None:
    book["requests"][0]["callbacks"].append({"status": "sent", "http": 500})


def fail_a_text(witnessed: Witnessed, book: Book) -> None:
    book["inbound"].append({"sid": "SM1", "webhooks": [503, 500]})


@pytest.mark.parametrize(
    "break_it, promise",
    [
        (lose_an_event, "events neither settled nor dead-lettered"),
        (lose_a_dead_letter, "events neither settled nor dead-lettered"),
        (accept_twice, "accepted twice"),
        (accept_by_both, "accepted twice"),
        (begin_in_a_batch_after_stop, "begun after STOP was in force"),
        (send_by_ringcentral_what_was_blocked, "states that the carrier contradicts"),
        (text_somebody_else, "requests for another message, person or sender than theirs"),
        (text_from_another_programme, "requests for another message, person or sender than theirs"),
        (begin_after_stop, "begun after STOP was in force"),
        (put_in_force_too_late, "STOP answered, and not in force within a lease"),
        (lose_a_stop, "STOP lost"),
        (send_what_was_blocked, "states that the carrier contradicts"),
        (name_another_message, "requests for another message, person or sender than theirs"),
        (begin_while_paused, "begun while paused"),
        (forget_a_cancel, "canceled, and not so"),
        (not_heed_a_callback, "unknown, though a callback proved acceptance"),
        (fail_a_callback, "webhooks answered 500"),
        (fail_a_text, "webhooks answered 500"),
        (lose_a_version, "messages whose events have gaps or lost their order"),
        (swap_versions, "messages whose events have gaps or lost their order"),
    ],
)
def test_what_is_broken_is_found(break_it: Callable[[Witnessed, Book], None], promise: str) -> None:
    witnessed, book = in_order()
    break_it(witnessed, book)
    assert promise in draw_up(witnessed, book, LEASE, Calm()).broken()


def test_what_ringcentral_took_down_and_never_accepted_has_failed() -> None:
    witnessed, book = in_order()
    tell(witnessed, witnessed.published[1].record, "accepted", "sent", "undelivered")
    book["requests"][1] = by_ringcentral(book["requests"][1], sid="1", state="failed", code="SMS-RC-413")
    assert draw_up(witnessed, book, LEASE, Calm()).broken() == {}


def test_an_account_that_holds_the_opposite_is_found() -> None:
    witnessed, _ = in_order()
    sender = OFFERS.ways[0].sender
    assert held_wrongly(witnessed, [{"from": sender, "to": number_of(1)}], []) == []
    assert len(held_wrongly(witnessed, [], [])) == 1, "opted out, and not told"
    assert held_wrongly(witnessed, [], [{"from": sender, "to": number_of(1), "code": 21610}]) == [], "it has said so itself"
    consent(witnessed, 1, 3, "in", 30)
    assert held_wrongly(witnessed, [], []) == []
    assert len(held_wrongly(witnessed, [{"from": sender, "to": number_of(1)}], [])) == 1, "opted in again, and not told"


def test_each_account_of_a_tenant_is_to_hold_an_opt_out() -> None:
    witnessed, crossings = Witnessed(), PROGRAMMES[2]
    one = Outgoing(1, "message", crossings, 161)
    witnessed.published.append(Published(one, 0, 0))
    tell(witnessed, one, "accepted", "blocked")
    witnessed.see_consent(ConsentSeen("person-161", crossings.consent, 1, "out", 5.0, 5.0))
    told = [{"from": crossings.ways[0].sender, "to": number_of(161)}]
    assert [crossings.ways[1].account in text for text in held_wrongly(witnessed, told, [])] == [True]


def test_a_request_after_a_start_is_no_fault() -> None:
    witnessed, book = in_order()
    consent(witnessed, 1, 3, "in", 30)
    book["requests"][1]["begun_at"] = 31.0
    assert draw_up(witnessed, book, LEASE, Calm()).broken() == {}


def test_a_request_within_a_lease_of_a_pause_or_of_another_programme_is_no_fault() -> None:
    witnessed, book = in_order()
    witnessed.pauses[:] = [Pause(OFFERS.tenant, OFFERS.name, 7, 14), Pause(OFFERS.tenant, PROGRAMMES[1].name, 1, 20)]
    assert draw_up(witnessed, book, LEASE, Calm()).broken() == {}


def test_a_stop_that_nobody_was_told_of_may_be_undone_by_a_later_start() -> None:
    witnessed, book = in_order()
    lose_a_stop(witnessed, book)
    witnessed.texts.append(TextSent(PersonText(40, 1, PROGRAMMES[1], "START"), 40, 41))
    assert draw_up(witnessed, book, LEASE, Calm()).broken() == {}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("minutes, faults", [(SHORT_MINUTES, 30), (4.5, 60)])
def test_a_seed_gives_the_same_schedule_each_time(seed: int, minutes: float, faults: int) -> None:
    one, other = Schedule(seed, minutes), Schedule(seed, minutes)
    assert one.faults == other.faults
    assert one.texts == other.texts
    first, again = one.outgoing(), other.outgoing()
    assert [next(first) for _ in range(4000)] == [next(again) for _ in range(4000)]
    assert len(one.faults) >= faults
    if minutes > SHORT_MINUTES:  # the short form has one round
        assert set(FAMILIES) <= {fault.target.partition("-")[0] for fault in one.faults}
    assert set(get_args(FaultKind)) - {fault.kind for fault in one.faults} <= {"lock_tables", "use_up_sessions"}
    assert (one.faults[-1].kind, one.faults[-1].target) == ("kill_family", "web")
    assert all(text.at < one.faults[-1].at for text in one.texts if text.lost), "the last start of the web finds them"


def test_the_full_form_is_ten_thousand_messages() -> None:
    assert Schedule(1, 4.5).messages >= 10_000
