"""What every provider must pass. A new one is put into SUBJECTS; docs/adding-a-provider.md."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import get_args

import pytest

from gateway.domain.errors import BadWebhook, ProviderUnavailable, WebhookRefused
from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Refused, Unknown
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import InboundText, ReportedState, Text
from gateway.domain.webhooks import Reports, WebhookRequest
from gateway.flow.provider import Copies, OptOutWord
from tests.contract.conformance.ringcentral_subject import RingCentralBatches, RingCentralSingles
from tests.contract.conformance.subject import (
    NOON,
    NUMBER,
    WORDS,
    Books,
    Came,
    Reply,
    Sent,
    Standing,
    Subject,
    Word,
    standing,
    text,
)
from tests.contract.conformance.template_subject import TemplateSubject
from tests.contract.conformance.twilio_subject import TwilioSubject
from tests.contract.wire import Connection, Received, an_unused_port

SUBJECTS: list[Subject] = [TwilioSubject(), RingCentralSingles(), RingCentralBatches(), TemplateSubject()]
BATCHING = [subject for subject in SUBJECTS if type(subject).rejects is not Subject.rejects]

each = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.label)
each_that_batches = pytest.mark.parametrize("subject", BATCHING, ids=lambda subject: subject.label)

ANOTHER = "+13105550194"
THIRD = "+13105550195"
DISTURBED = (301, 307, 408, 409, 500, 502, 504)


def of(subject: Subject, number: int = 1, to: str = NUMBER, body: str = WORDS) -> Text:
    return text(number, to, body, subject.sender)


def answers(reply: Reply) -> Callable[[Received], Reply]:
    return lambda _: reply


# ----------------------------------------------------------------------------------------------------------- create requests


@each
async def test_a_text_is_asked_for_once_and_accepted_under_its_name(subject: Subject) -> None:
    async with standing(subject) as one:
        (result,) = await one.provider.send([of(subject)])
        assert isinstance(result, Accepted)
        assert result.provider_message_id == subject.accepted_id(Sent(1))
        (request,) = one.creates()
    assert subject.asked(request) == [(NUMBER, WORDS)]
    assert NUMBER[1:] not in request.target  # a number is never in the address of a create request


@each
@pytest.mark.parametrize("body", ["\U0001f600 ünï\r\n&=+%\\\"'", " ", "{}", None])
async def test_a_body_arrives_as_it_is(subject: Subject, body: str | None) -> None:
    body = "x" * subject.longest if body is None else body
    async with standing(subject) as one:
        await one.provider.send([of(subject, body=body)])
        assert subject.asked(one.creates()[0]) == [(NUMBER, body)]


@each
async def test_a_body_that_is_no_unicode_text_is_refused_and_not_sent(subject: Subject) -> None:
    async with standing(subject) as one:
        assert list(await one.provider.send([of(subject, body="\ud800")])) == [Refused(Reason.REFUSED, "not_unicode")]
        assert one.creates() == []


async def outcomes_of(subject: Subject, replies: Sequence[Reply]) -> list[Outcome]:
    """What one text after the other comes to, each asked for once and answered by the next of these."""
    left = list(replies)
    async with standing(subject, create=lambda _: left.pop(0)) as one:
        found = [outcome for _ in replies for outcome in await one.provider.send([of(subject)])]
        assert left == []
    return found


@each
async def test_errors_to_outcomes_row_by_row(subject: Subject) -> None:
    rows = subject.refusals
    found = await outcomes_of(subject, [reply for reply, _ in rows])
    for (reply, meant), outcome in zip(rows, found, strict=True):
        assert outcome == meant, reply
        assert not isinstance(meant, Accepted | Unknown)


@each
def test_the_rows_have_an_opt_out_a_number_an_operator_and_a_wait(subject: Subject) -> None:
    meant = [outcome for _, outcome in subject.refusals]
    assert any(isinstance(one, OptedOut) for one in meant)
    assert any(isinstance(one, Refused) and one.reason is Reason.NOT_TEXTABLE for one in meant)
    assert any(isinstance(one, Later) and one.operator and one.holds == "account" for one in meant)
    assert any(isinstance(one, Later) and one.operator and one.holds == "sender" for one in meant)
    assert any(isinstance(one, Later) and not one.operator for one in meant)


@each
async def test_a_server_that_fails_or_sends_elsewhere_leaves_it_unknown(subject: Subject) -> None:
    opted_out = next(reply for reply, meant in subject.refusals if isinstance(meant, OptedOut))
    headers = "Location: /elsewhere\r\nRetry-After: 1\r\n"
    replies: list[Reply] = []
    for status in DISTURBED:
        # whatever its body says of the text
        replies += [(status, b"", headers), (status, opted_out[1], headers)]
    assert await outcomes_of(subject, replies) == [Unknown(f"http_{reply[0]}") for reply in replies]
    for reply in ((503, b""), (503, opted_out[1], headers)):
        assert await outcomes_of(subject, [reply]) == [Unknown("http_503")]


@each
async def test_an_answer_of_success_that_cannot_be_read_leaves_it_unknown(subject: Subject) -> None:
    broken: list[Reply] = [(201, b""), (201, b"{"), (201, b"\xff\xfe"), (200, b"[" * 100_000), (201, []), (201, "id"), (204, b"")]
    for reply, outcome in zip(
        [*subject.unreadable, *broken], await outcomes_of(subject, [*subject.unreadable, *broken]), strict=True
    ):
        assert outcome == Unknown("unreadable_answer"), reply


@each
async def test_a_4xx_without_a_word_is_no_acceptance_and_no_doubt(subject: Subject) -> None:
    replies: list[Reply] = [(status, b"<html>") for status in (401, 403, 404, 405, 413, 422, 425)]
    replies += [(400, b""), (400, b"[" * 100_000), (400, []), (400, {"code": [1], "errorCode": [1], "errors": [{}, 7]})]
    replies += [(429, b"<html>")]
    for reply, outcome in zip(replies, await outcomes_of(subject, replies), strict=True):
        assert isinstance(outcome, Refused | Later), reply


@each
@pytest.mark.parametrize("seconds", [3, None])
async def test_too_many_requests_hold_the_account(subject: Subject, seconds: int | None) -> None:
    (result,) = await outcomes_of(subject, [subject.throttled(seconds)])
    assert isinstance(result, Later)
    assert (result.reason, result.holds, result.operator) == (Reason.RATE_LIMITED, "account", False)
    assert seconds is None or result.wait == seconds


async def hangs(connection: Connection) -> None:
    await connection.hang()


async def resets(connection: Connection) -> None:
    connection.rst()


async def closes(connection: Connection) -> None:
    connection.fin()


async def half_answers(connection: Connection) -> None:
    await connection.write(b'HTTP/1.1 201 Created\r\ncontent-length: 500\r\n\r\n{"id": "x')


async def resets_after_acceptance(connection: Connection) -> None:
    await connection.write(b"HTTP/1.1 201 Created\r\ncontent-length: 500\r\n\r\n")
    connection.rst()


@each
@pytest.mark.parametrize(
    "script,why",
    [
        (hangs, "timeout"),
        (resets, "reset"),
        (closes, "closed"),
        (half_answers, "broken_answer"),
        (resets_after_acceptance, "reset"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_a_request_without_a_whole_answer_is_unknown(
    subject: Subject, script: Callable[[Connection], Awaitable[None]], why: str
) -> None:
    async with standing(subject, script=script, time_limit_seconds=0.6) as one:
        (result,) = await one.provider.send([of(subject)])
        assert len(one.creates()) == 1
    assert result in {Unknown(why), Unknown("broken_answer")}


@each
async def test_what_was_surely_not_sent_comes_later(subject: Subject) -> None:
    provider = subject.open(f"http://127.0.0.1:{an_unused_port()}")
    for _ in range(2):
        (result,) = await provider.send([of(subject)])
        assert isinstance(result, Later)
        assert (result.reason, result.holds, result.operator) == (Reason.UNREACHABLE, "account", False)
        await provider.close()


@each
async def test_an_address_that_is_none_waits_for_an_operator(subject: Subject) -> None:
    provider = subject.open("ftp://127.0.0.1")
    (result,) = await provider.send([of(subject)])
    assert isinstance(result, Later)
    assert (result.reason, result.holds, result.operator) == (Reason.CONFIGURATION, "account", True)
    await provider.close()


@each
async def test_the_time_limit_is_of_the_whole_send(subject: Subject) -> None:
    async with standing(subject, script=hangs, time_limit_seconds=0.8) as one:
        began = monotonic()
        await one.provider.send([of(subject)])
        assert monotonic() - began < 0.8 + 1.5


@each
async def test_who_is_cancelled_waits_for_the_end_of_what_has_begun(subject: Subject) -> None:
    read, done = asyncio.Event(), asyncio.Event()

    async def answers_in_time(connection: Connection) -> None:
        read.set()
        await done.wait()
        await connection.answer(500)

    async with standing(subject, script=answers_in_time) as one:
        sending = asyncio.create_task(_send(one))
        await read.wait()
        sending.cancel()
        await asyncio.sleep(0)
        assert not sending.done()
        done.set()
        with suppress(asyncio.CancelledError):
            await sending


async def _send(one: Standing) -> object:
    return await one.provider.send([of(one.subject)])


# ------------------------------------------------------------------------------------------------------------------ batches


@each
async def test_a_provider_says_how_many_texts_a_request_carries(subject: Subject) -> None:
    async with standing(subject) as one:
        assert (one.provider.abilities.batch > 1) == (subject in BATCHING)
        assert one.provider.account == "main"


@each_that_batches
async def test_a_batch_is_one_request_with_an_outcome_for_each_in_its_place(subject: Subject) -> None:
    texts = [of(subject, 1, NUMBER, "one"), of(subject, 2, ANOTHER, "two"), of(subject, 3, THIRD, "\ud800")]
    async with standing(subject) as one:
        outcomes = list(await one.provider.send(texts))
        (request,) = one.creates()
    assert subject.asked(request) == [(NUMBER, "one"), (ANOTHER, "two")]
    assert [type(result) for result in outcomes] == [Accepted, Accepted, Refused]


@each_that_batches
async def test_who_is_rejected_is_rejected_alone(subject: Subject) -> None:
    texts = [of(subject, 1, NUMBER), of(subject, 2, "+1310555019", "\ud800"), of(subject, 3, ANOTHER), of(subject, 4, THIRD)]
    async with standing(subject, create=lambda request: subject.rejects(request, 1)) as one:
        outcomes = list(await one.provider.send(texts))
        assert len(one.creates()) == 1
    # the second of the three that were asked for is the third of the four
    assert [type(result) for result in outcomes] == [Accepted, Refused, Refused, Accepted]
    assert isinstance(outcomes[2], Refused)
    assert outcomes[2].reason is Reason.NOT_TEXTABLE


@each_that_batches
async def test_doubt_about_a_batch_is_doubt_about_each(subject: Subject) -> None:
    texts = [of(subject, 1, NUMBER), of(subject, 2, ANOTHER), of(subject, 3, THIRD)]
    for reply in [*subject.unreadable, (500, b""), (200, b"{")]:
        async with standing(subject, create=answers(reply)) as one:
            outcomes = list(await one.provider.send(texts))
            assert len(one.creates()) == 1
        assert len(outcomes) == 3
        assert all(isinstance(result, Unknown) for result in outcomes), reply
    for script in (resets, closes):
        async with standing(subject, script=script) as one:
            assert all(isinstance(result, Unknown) for result in await one.provider.send(texts))
            assert len(one.creates()) == 1


@each_that_batches
async def test_what_one_text_is_refused_for_is_not_anothers_fault(subject: Subject) -> None:
    refusal = next(reply for reply, meant in subject.refusals if meant == Refused(Reason.REFUSED, getattr(meant, "code", "")))
    texts = [of(subject, number, f"+1310555{number:04}", "bad" if number == 5 else "good") for number in range(1, 9)]

    def picky(request: Received) -> Reply:
        return refusal if any(body == "bad" for _, body in subject.asked(request)) else subject.accepts(request)

    async with standing(subject, create=picky) as one:
        outcomes = list(await one.provider.send(texts))
        sent = [to for request in one.creates() for to, body in subject.asked(request) if subject.accepts(request)]
    assert [type(result) for result in outcomes] == [Accepted] * 4 + [Refused] + [Accepted] * 3
    assert len(set(sent)) == 8


@each_that_batches
async def test_what_holds_an_account_or_a_sender_holds_all_of_a_batch_and_is_asked_once(subject: Subject) -> None:
    texts = [of(subject, 1, NUMBER), of(subject, 2, ANOTHER)]
    rows = [(reply, meant) for reply, meant in subject.refusals if isinstance(meant, Later) and reply[0] != 401]
    left = [reply for reply, _ in rows]
    async with standing(subject, create=lambda _: left.pop(0)) as one:
        for reply, meant in rows:
            assert list(await one.provider.send(texts)) == [meant, meant], reply
        assert len(one.creates()) == len(rows)


# ---------------------------------------------------------------------------------------------------------------- evidence


@each
async def test_what_was_sent_is_listed_over_all_pages(subject: Subject) -> None:
    second = timedelta(seconds=1)
    books = Books(
        sent=[
            Sent(1, state="delivered", at=NOON + 5 * second, batch=1),
            Sent(2, at=NOON - second, batch=2),
            Sent(3, to=ANOTHER, batch=3),
            Sent(4, state="undelivered", at=NOON, batch=4),
            Sent(5, body="other words", batch=5),
            Sent(6, sender="+15005550005", batch=6),
        ],
        came=[Came(9)],
        page=2,
    )
    async with standing(subject, books) as one:
        found = await one.provider.list_sent(PhoneNumber(NUMBER), subject.sender, NOON)
        assert len(one.others()) > 1
    assert sorted((listed.provider_message_id, listed.state, listed.body.reveal()) for listed in found) == sorted(
        [
            (subject.accepted_id(books.sent[0]), "delivered", WORDS),
            (subject.accepted_id(books.sent[3]), "undelivered", WORDS),
            (subject.accepted_id(books.sent[4]), None, "other words"),
        ],
        key=lambda row: row[0],
    )
    assert {(listed.to, listed.sender) for listed in found} == {(PhoneNumber(NUMBER), subject.sender)}
    assert {listed.created_at for listed in found} == {NOON, NOON + 5 * second}


@each
async def test_an_acceptance_that_was_lost_is_found_in_the_list(subject: Subject) -> None:
    """What a request that nobody answered came to: the list names it as the answer would have."""
    async with standing(subject, Books(sent=[Sent(1)]), script=resets_after_acceptance) as one:
        (doubt,) = await one.provider.send([of(subject)])
        assert isinstance(doubt, Unknown)
        (listed,) = await one.provider.list_sent(PhoneNumber(NUMBER), subject.sender, NOON)
    async with standing(subject) as one:
        (accepted,) = await one.provider.send([of(subject)])
    assert isinstance(accepted, Accepted)
    assert (listed.provider_message_id, listed.body) == (accepted.provider_message_id, MessageBody(WORDS))


@each
async def test_what_people_sent_is_listed_oldest_first_and_none_is_left_out(subject: Subject) -> None:
    second = timedelta(seconds=1)
    books = Books(
        sent=[Sent(1)],
        came=[
            Came(11, at=NOON + 9 * second),
            Came(12, at=NOON + 3 * second, body="late \ud83d"),
            Came(13, at=NOON - 60 * second),
            Came(14, at=None),
            Came(15, person="40404"),
            Came(16, to="+15005550005"),
        ],
        page=2,
    )
    async with standing(subject, books) as one:
        found = await one.provider.list_inbound(subject.sender, NOON)
    assert [(came.created_at, came.body.reveal()) for came in found] == [
        (None, "Stop"),
        (NOON + 3 * second, "late \ufffd"),
        (NOON + 9 * second, "Stop"),
    ]
    assert {(came.sender, came.to, came.account) for came in found} == {(PhoneNumber(NUMBER), subject.sender, "main")}


QUESTIONS: dict[str, Callable[[Standing], Awaitable[object]]] = {
    "list_sent": lambda one: one.provider.list_sent(PhoneNumber(NUMBER), one.subject.sender, NOON),
    "list_inbound": lambda one: one.provider.list_inbound(one.subject.sender, NOON),
    "inbound_created_at": lambda one: one.provider.inbound_created_at(_inbound_id(one.subject)),
    "check": lambda one: one.provider.check(),
}


def _inbound_id(subject: Subject) -> str:
    return subject.accepted_id(Sent(11)).replace("a2p:batch-1", "a2p-in:11")


FAULTS: list[Reply] = [
    (500, b"oops"),
    (503, b"", "Retry-After: 1\r\n"),
    (401, b"<html>"),
    (403, {"message": NUMBER}),
    (302, b"", "Location: /elsewhere\r\n"),
    (200, b"{"),
    (200, []),
]


@each
@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_question_that_is_not_answered_whole_is_a_fault_that_tells_nothing(
    subject: Subject, question: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for reply in [*FAULTS, subject.throttled(1)]:
        async with standing(subject, other=answers(reply)) as one:
            with pytest.raises(ProviderUnavailable) as fault:
                await QUESTIONS[question](one)
        assert "account main" in str(fault.value)
        shown = "".join(traceback.format_exception(fault.value)) + caplog.text
        assert not any(secret in shown for secret in (NUMBER[1:], WORDS, *subject.secrets)), reply


@each
async def test_a_list_with_a_record_that_cannot_be_read_is_no_list(subject: Subject) -> None:
    books = Books(came=[Came(11)])
    async with standing(subject, books) as one:
        await one.provider.list_inbound(subject.sender, NOON)
        status, page, *_ = subject.answer(one.others()[0], books)
    assert isinstance(page, dict)
    name = next(name for name, value in page.items() if isinstance(value, list) and value)
    without_id = {key: value for key, value in page[name][0].items() if key not in {"id", "sid"}}
    for record in (7, None, without_id):
        async with standing(subject, other=answers((status, page | {name: [record]}))) as one:
            with pytest.raises(ProviderUnavailable):
                await one.provider.list_inbound(subject.sender, NOON)


@each
async def test_the_time_of_an_inbound_text_is_known_by_its_id_and_no_other(subject: Subject) -> None:
    books = Books(sent=[Sent(1)], came=[Came(11, at=NOON + timedelta(seconds=4))])
    async with standing(subject, books) as one:
        (came,) = await one.provider.list_inbound(subject.sender, NOON)
        assert await one.provider.inbound_created_at(came.provider_message_id) == NOON + timedelta(seconds=4)
        assert await one.provider.inbound_created_at(came.provider_message_id[:-1] + "9") is None
        assert await one.provider.inbound_created_at(subject.accepted_id(Sent(1))) is None  # ours, not a person's
        asked = len(one.server.requests)
        for name in ("", "../Calls", "sms:", "sms:../1", "a2p-in:", "SM"):
            assert await one.provider.inbound_created_at(name) is None
        assert len(one.server.requests) == asked


@each
async def test_an_account_is_in_order_or_says_what_is_not(subject: Subject) -> None:
    async with standing(subject, Books(sent=[Sent(1)])) as one:
        await one.provider.check()


# ---------------------------------------------------------------------------------------------------------------- webhooks


async def heard(one: Standing, request: WebhookRequest) -> Reports:
    reports = await one.provider.hear(request)
    assert isinstance(reports, Reports)
    return reports


@each
async def test_an_inbound_text_is_heard_as_it_is_listed(subject: Subject) -> None:
    came = Came(11)
    async with standing(subject, Books(came=[came])) as one:
        (said,) = (await heard(one, subject.came(came))).texts
        (listed,) = await one.provider.list_inbound(subject.sender, NOON)
    assert (said.provider_message_id, said.sender, said.to, said.body, said.account) == (
        listed.provider_message_id,
        PhoneNumber(NUMBER),
        subject.sender,
        MessageBody("Stop"),
        "main",
    )
    assert said.created_at in {None, NOON}


@each
async def test_what_became_of_a_text_is_heard_under_its_name(subject: Subject) -> None:
    for state in (*get_args(ReportedState), None):
        sent = Sent(1, state=state)
        async with standing(subject, Books(sent=[sent])) as one:
            assert _news(await heard(one, subject.became(sent))) == {(subject.accepted_id(sent), state)}


@each
async def test_a_text_that_was_filtered_out_is_told_and_listed_as_such(subject: Subject) -> None:
    codes = [one.code for _, one in subject.refusals if isinstance(one, Refused) and one.reason is Reason.NOT_TEXTABLE]
    for code, filtered in [*((code, True) for code in subject.filtered), (codes[0], False), (None, False)]:
        sent = Sent(1, state="undelivered", code=code)
        async with standing(subject, Books(sent=[sent])) as one:
            reports = await heard(one, subject.became(sent))
            (listed,) = await one.provider.list_sent(PhoneNumber(NUMBER), subject.sender, NOON)
        told = {news.filtered for news in reports.receipts} | {news.filtered for news in reports.statuses}
        assert (told, listed.filtered) == ({filtered}, filtered), code


@each
def test_what_is_refused_as_filtered_is_what_is_told_as_filtered(subject: Subject) -> None:
    """The same code means the same before acceptance and after it."""
    refused = {outcome.code: outcome.reason for _, outcome in subject.refusals if isinstance(outcome, Refused)}
    assert {refused.get(code, Reason.FILTERED) for code in subject.filtered} == {Reason.FILTERED}
    assert {code for code, reason in refused.items() if reason is Reason.FILTERED} <= set(subject.filtered)


def _news(reports: Reports) -> set[tuple[str, str | None]]:
    receipts = {(receipt.provider_message_id, receipt.state) for receipt in reports.receipts}
    return receipts | {(news.provider_message_id, news.state) for news in reports.statuses}


@each
async def test_what_is_heard_again_and_in_any_order_says_the_same(subject: Subject) -> None:
    sent, came = Sent(1, state="delivered"), Came(11)
    async with standing(subject, Books(sent=[sent], came=[came])) as one:
        first = [await heard(one, request) for request in (subject.became(sent), subject.came(came))]
        again = [await heard(one, request) for request in (subject.came(came), subject.became(sent))]
    assert first == again[::-1]


@each
async def test_what_is_forged_is_refused_before_anything_is_asked(subject: Subject) -> None:
    sent, came = Sent(1, state="delivered"), Came(11)
    async with standing(subject, Books(sent=[sent], came=[came])) as one:
        for request in (subject.came(came), subject.became(sent)):
            for how, forged in subject.forged(request).items():
                with pytest.raises(WebhookRefused) as refused:
                    await one.provider.hear(forged)
                assert NUMBER[1:] not in str(refused.value), how
        assert one.server.requests == []


@each
async def test_what_cannot_be_read_is_bad_and_not_shown(subject: Subject) -> None:
    async with standing(subject, Books(came=[Came(11)])) as one:
        for how, malformed in subject.malformed(subject.came(Came(11))).items():
            with pytest.raises(BadWebhook) as fault:
                await one.provider.hear(malformed)
            assert not isinstance(fault.value, WebhookRefused), how
            assert NUMBER[1:] not in "".join(traceback.format_exception(fault.value)), how
        assert one.server.requests == []


@each
async def test_who_does_not_sign_is_believed_nothing_but_ids(subject: Subject) -> None:
    """A webhook with all marks of a real one speaks of a text that the provider does not have."""
    async with standing(subject, Books()) as one:
        if one.provider.abilities.signs:
            return  # its signature is the proof
        with pytest.raises(ProviderUnavailable):
            await one.provider.hear(subject.came(Came(11)))
        assert _news(await heard(one, subject.became(Sent(1, state="delivered")))) == set()


# --------------------------------------------------------------------------------------------------- erasure and opt-outs


@each
async def test_a_copy_is_taken_away_or_never(subject: Subject) -> None:
    sent = Sent(1, state="delivered")
    async with standing(subject, Books(sent=[sent])) as one:
        able, name = one.provider.abilities, subject.accepted_id(sent)
        for can, erase in ((able.redacts, one.provider.redact), (able.deletes, one.provider.delete)):
            before = len(one.server.requests)
            assert await erase(name) == ("done" if can else "never")
            assert can or len(one.server.requests) == before
            gone = name.replace("1", "2")
            assert await erase(gone) == ("done" if can else "never")  # it is not there, so it is gone


@each
async def test_the_oldest_copies_are_those_of_before_from_and_to_our_sender(subject: Subject) -> None:
    books = Books(sent=[Sent(1, state="delivered")], came=[Came(11)])
    async with standing(subject, books) as one:
        if not one.provider.abilities.deletes:
            assert await one.provider.oldest_copies(subject.sender, NOON) == Copies((), all_seen=False)
            assert one.server.requests == []
            return
        found = await one.provider.oldest_copies(subject.sender, NOON + timedelta(hours=1))
        assert {copy.provider_message_id for copy in found.oldest} == {subject.accepted_id(Sent(1)), _inbound_id(subject)}
        assert [copy.created_at for copy in found.oldest] == sorted(copy.created_at for copy in found.oldest)
        assert found.all_seen
        assert all(copy.has_text for copy in found.oldest)
        assert (await one.provider.oldest_copies(subject.sender, NOON - timedelta(hours=1))).oldest == []
    async with standing(subject, other=answers((500, b""))) as one:
        with pytest.raises(ProviderUnavailable):
            await one.provider.oldest_copies(subject.sender, NOON)


@each
async def test_nothing_is_erased_without_a_whole_id(subject: Subject) -> None:
    async with standing(subject, Books(sent=[Sent(1)])) as one:
        for name in ("", "*", "/", "..", "SM", "sms:", "sms:*", "sms: ", "sms:1/2", "sms:1?x", "sms:0", "a2p:", "sms:\u0661"):
            for erase in (one.provider.redact, one.provider.delete):
                with suppress(ProviderUnavailable):
                    assert await erase(name) == "never"
        assert one.server.requests == []


@each
async def test_an_erasure_that_fails_is_tried_again(subject: Subject) -> None:
    name = subject.accepted_id(Sent(1))
    for reply in (subject.too_early, subject.throttled(1)):
        async with standing(subject, other=answers(reply or (200, {}))) as one:
            if reply is not None and one.provider.abilities.deletes:
                assert await one.provider.delete(name) == "later"
    async with standing(subject, other=answers((500, b""))) as one:
        if one.provider.abilities.deletes:
            with pytest.raises(ProviderUnavailable):
                await one.provider.delete(name)


@each
async def test_opt_outs_are_told_as_far_as_the_provider_listens(subject: Subject) -> None:
    words = [
        OptOutWord(PhoneNumber(NUMBER), subject.sender, True, NOON),
        OptOutWord(PhoneNumber(ANOTHER), subject.sender, False, NOON),
    ]
    async with standing(subject) as one:
        able = one.provider.abilities.tells_opt_outs
        assert list(await one.provider.tell_opt_outs(words)) == (["confirmed"] * 2 if able else ["never"] * 2)
        assert list(await one.provider.tell_opt_outs([])) == []
        assert NUMBER[1:] not in "".join(request.target for request in one.server.requests)
    async with standing(subject, other=answers((500, b""))) as one:
        if able:
            with pytest.raises(ProviderUnavailable):
                await one.provider.tell_opt_outs(words)


@each
async def test_opt_outs_are_learned_as_far_as_the_provider_tells(subject: Subject) -> None:
    books = Books(words=[Word(NUMBER), Word(ANOTHER, opted_out=False), Word(THIRD, at=NOON - timedelta(days=1))])
    async with standing(subject, books) as one:
        found = await one.provider.list_opt_outs(subject.sender, NOON)
        able = one.provider.abilities.lists_opt_outs
    said = {(word.to.reveal(), word.opted_out, word.sender, word.account) for word in found}
    assert said == ({(NUMBER, True, subject.sender, "main"), (ANOTHER, False, subject.sender, "main")} if able else set())


# ----------------------------------------------------------------------------------------------------------------- privacy


@each
async def test_nothing_personal_is_logged_shown_or_kept(
    subject: Subject, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("gateway", "twilio", "twilio.http_client", "pyreqwest", "reqwest", "hyper"):
        caplog.set_level(logging.DEBUG, logger=name)
    sent, came = Sent(1, state="undelivered"), Came(11, body=WORDS)
    shown: list[str] = []
    refused = [reply for reply, meant in subject.refusals if isinstance(meant, Refused | OptedOut)][:3]
    for reply in [*refused, (500, b""), (201, b"{")]:
        async with standing(subject, create=answers(reply)) as one:
            shown.append(repr(await one.provider.send([of(subject)])))
            shown.append(repr(one.provider))
    async with standing(subject, script=resets) as one:
        shown.append(repr(await one.provider.send([of(subject)])))
    for other in (
        None,
        answers((500, {"message": NUMBER})),
        answers((200, {"records": [{"from": NUMBER}], "messages": [NUMBER]})),
    ):
        async with standing(subject, Books(sent=[sent], came=[came], words=[Word(NUMBER)]), other=other) as one:
            asks: list[Callable[[Standing], Awaitable[object]]] = [
                *QUESTIONS.values(),
                lambda one: one.provider.hear(subject.came(came)),
                lambda one: one.provider.hear(subject.became(sent)),
                lambda one: one.provider.delete(subject.accepted_id(sent)),
                lambda one: one.provider.list_opt_outs(subject.sender, NOON),
                lambda one: one.provider.tell_opt_outs([OptOutWord(PhoneNumber(NUMBER), subject.sender, True, NOON)]),
                lambda one: one.provider.keep_up("https://gateway.example.com/webhooks/any/main"),
            ]
            for ask in asks:
                try:
                    shown.append(repr(await ask(one)))
                except (ProviderUnavailable, BadWebhook) as fault:
                    shown.append("".join(traceback.format_exception(fault)))
    gc.collect()
    out, err = capfd.readouterr()
    everything = "\n".join([*shown, caplog.text, out, err])
    for secret in (NUMBER[1:], WORDS, "kanarienvogel", "402917", *subject.secrets):
        assert secret not in everything


def test_the_inbound_text_of_the_suite_hides_itself() -> None:
    """What the test above rests on."""
    one = InboundText("main", "x", PhoneNumber(NUMBER), "+15005550006", None, MessageBody(WORDS), None, None)
    assert NUMBER not in repr(replace(one, service="x"))
