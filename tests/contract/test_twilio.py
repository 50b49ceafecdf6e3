"""What is Twilio's own; what it has in common with others is in conformance/."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from gateway.domain.errors import BadWebhook, ProviderUnavailable
from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Refused, Unknown
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import Text
from gateway.providers.http import HttpClient
from gateway.providers.twilio import provider as twilio_module
from gateway.providers.twilio.errors import error_table, outcome_of_refusal
from gateway.providers.twilio.provider import Twilio, TwilioAccount
from gateway.providers.twilio.transport import TwilioRefused, TwilioTransport
from gateway.providers.twilio.webhooks import form_is_signed, inbound_of, receipt_of
from tests.contract.wire import Connection, Received, Wire, wire

ACCOUNT = "AC" + "0" * 32
TOKEN = "the-auth-token"
NUMBER = "+15005550199"  # the canary
WORDS = "Your order 4711 is on its way — reply STOP to end"
SENDER = "+15005550006"
SERVICE = "MG" + "5" * 32
SID = "SM" + "a" * 32
CALLBACK = "https://gateway.example.com/webhooks/twilio/main/status/token"
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TEXT = Text(UUID(int=7), 1, "main", SENDER, PhoneNumber(NUMBER), MessageBody(WORDS), CALLBACK)

Reply = tuple[int, object] | tuple[int, object, str]


def message(sid: str = SID, **changed: object) -> dict[str, object]:
    """A message as Twilio's API shows it."""
    return {
        "account_sid": ACCOUNT,
        "api_version": "2010-04-01",
        "body": WORDS,
        "date_created": format_datetime(NOON),
        "date_sent": None,
        "date_updated": format_datetime(NOON),
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "from": SENDER,
        "messaging_service_sid": None,
        "num_media": "0",
        "num_segments": "2",
        "price": None,
        "price_unit": "USD",
        "sid": sid,
        "status": "queued",
        "subresource_uris": {"media": f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{sid}/Media.json"},
        "to": NUMBER,
        "uri": f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{sid}.json",
    } | changed


def refusal(code: int, status: int = 400) -> dict[str, object]:
    words = f"The 'To' number {NUMBER} is wrong"
    return {"code": code, "message": words, "more_info": f"https://www.twilio.com/docs/errors/{code}", "status": status}


@asynccontextmanager
async def twilio(reply: Callable[[Received], Reply], **changed: Any) -> AsyncIterator[tuple[Twilio, Wire]]:
    """A Twilio over a server that answers by ``reply``."""

    async def script(connection: Connection) -> None:
        while True:
            status, said, *headers = reply(await connection.read())
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            await connection.answer(status, body, *headers)

    async with over(script, **changed) as both:
        yield both


@asynccontextmanager
async def over(script: Callable[[Connection], Awaitable[None]], **changed: Any) -> AsyncIterator[tuple[Twilio, Wire]]:
    async with wire(script) as server:
        account = replace(TwilioAccount("main", ACCOUNT, TOKEN, server.url, 5.0, 8), **changed)
        provider = Twilio(account)
        try:
            yield provider, server
        finally:
            await provider.close()


async def sent(provider: Twilio, text: Text) -> Outcome:
    (outcome,) = await provider.send([text])
    return outcome


async def outcome_of(*reply: Any) -> Outcome:
    """What ``send`` makes of one answer; it is asked for once, whatever it is."""
    async with twilio(lambda _: reply) as (provider, server):
        outcome = await sent(provider, TEXT)
    assert len(server.requests) == 1
    return outcome


# ------------------------------------------------------------------------------------------------------------ the request


async def test_a_text_goes_out_as_twilio_wants_it() -> None:
    async with twilio(lambda _: (201, message())) as (provider, server):
        assert await sent(provider, TEXT) == Accepted(SID, 2)
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json")
    assert request.form == {"To": NUMBER, "From": SENDER, "Body": WORDS, "StatusCallback": CALLBACK + "#rc=5&rp=all"}
    assert request.header("authorization") == ["Basic " + base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()]
    assert request.header("content-type") == ["application/x-www-form-urlencoded"]
    assert len(request.header("user-agent")) == 1


async def test_a_messaging_service_is_named_as_one() -> None:
    async with twilio(lambda _: (201, message(messaging_service_sid=SERVICE, num_segments="0"))) as (provider, server):
        assert await sent(provider, replace(TEXT, sender=SERVICE)) == Accepted(SID, None)
    assert server.requests[0].form == {
        "To": NUMBER,
        "MessagingServiceSid": SERVICE,
        "Body": WORDS,
        "StatusCallback": CALLBACK + "#rc=5&rp=all",
    }


async def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TWILIO_EDGE": "dublin",
        "TWILIO_REGION": "ie1",
        "TWILIO_ACCOUNT_SID": "x",
        "HTTP_PROXY": "http://[::1]:9",
    }.items():
        monkeypatch.setenv(name, value)
    assert await outcome_of(201, message()) == Accepted(SID, 2)


async def test_an_address_may_have_a_path() -> None:
    async with twilio(lambda _: (201, message())) as (provider, server):
        other = Twilio(TwilioAccount("main", ACCOUNT, TOKEN, f"{server.url}/carrier/", 5.0, 8))
        assert await sent(other, TEXT) == Accepted(SID, 2)
        await other.close()
        assert provider.name == "twilio"
    assert server.requests[0].target == f"/carrier/2010-04-01/Accounts/{ACCOUNT}/Messages.json"


# ------------------------------------------------------------------------------------------------------------ the outcomes


# What this table must never lose, whatever becomes of the other one: written out by hand.
@pytest.mark.parametrize(
    "code,outcome",
    [
        (21610, OptedOut("21610")),
        (20003, Later(Reason.CONFIGURATION, "20003", holds="account", operator=True)),
        (21606, Later(Reason.CONFIGURATION, "21606", holds="sender", operator=True)),
        (21663, Later(Reason.CONFIGURATION, "21663", holds="sender", operator=True)),
        (30034, Later(Reason.CONFIGURATION, "30034", holds="sender", operator=True)),
        (21608, Later(Reason.CONFIGURATION, "21608", holds="message", operator=True)),
        (21408, Refused(Reason.REGION_NOT_ENABLED, "21408")),
        *[(code, Refused(Reason.NOT_TEXTABLE, str(code))) for code in (21211, 21612, 21614, 21635, 30004, 30005, 30006)],
        *[(code, Later(Reason.QUEUE_FULL, str(code), holds="sender")) for code in (21611, 30001, 63017)],
        (63038, Later(Reason.QUEUE_FULL, "63038", holds="account")),
        *[(code, Refused(Reason.REFUSED, str(code))) for code in (30450, 30610, 30640, 99999)],
    ],
)
def test_the_codes_that_matter(code: int, outcome: Outcome) -> None:
    assert outcome_of_refusal(400, code, None) == outcome


@pytest.mark.parametrize(
    "reply,outcome",
    [
        ((429, refusal(20429, 429), "Retry-After: 3\r\n"), Later(Reason.RATE_LIMITED, "20429", wait=3.0, holds="account")),
        ((429, b"slow down"), Later(Reason.RATE_LIMITED, "http_429", holds="account")),
        (
            (429, b"", "Date: Mon, 23 Nov 2026 12:00:00 GMT\r\nRetry-After: Mon, 23 Nov 2026 12:00:30 GMT\r\n"),
            Later(Reason.RATE_LIMITED, "http_429", wait=30.0, holds="account"),
        ),
        ((429, b"", "Retry-After: soon\r\n"), Later(Reason.RATE_LIMITED, "http_429", holds="account")),
        ((429, b"", "Retry-After: -1\r\n"), Later(Reason.RATE_LIMITED, "http_429", holds="account")),
        ((401, refusal(20003, 401)), Later(Reason.CONFIGURATION, "20003", holds="account", operator=True)),
        ((401, b"<html>"), Later(Reason.CONFIGURATION, "http_401", holds="account", operator=True)),
        ((404, b"<html>"), Later(Reason.CONFIGURATION, "http_404", holds="account", operator=True)),
        ((403, b"<html>"), Refused(Reason.REFUSED, "http_403")),
        ((400, b"<html>"), Refused(Reason.REFUSED, "http_400")),
        ((400, {"code": "21610"}), Refused(Reason.REFUSED, "http_400")),
        ((400, {"code": True}), Refused(Reason.REFUSED, "http_400")),
        ((413, b""), Refused(Reason.REFUSED, "http_413")),
        ((400, {"type": "t", "title": "t", "status": 400, "code": 21610}), OptedOut("21610")),
        ((408, refusal(21610, 408)), Unknown("http_408")),
        ((409, refusal(20409, 409)), Unknown("http_409")),
        ((425, b""), Later(Reason.UNREACHABLE, "http_425", holds="account")),
        ((503, refusal(21610, 503), "Retry-After: 3\r\n"), Unknown("http_503")),
        ((304, b""), Unknown("http_304")),
        ((201, message("SMx")), Unknown("unreadable_answer")),
        ((201, message(date_created="Mon, 99 Nov 2026 99:00:00 +0000")), Unknown("unreadable_answer")),
        ((200, message()), Accepted(SID, 2)),
        ((201, message("MM" + "b" * 32, num_segments=None)), Accepted("MM" + "b" * 32, None)),
        ((201, {"sid": SID}), Accepted(SID, None)),
    ],
    ids=lambda value: None if isinstance(value, tuple) else str(value)[:60],
)
async def test_every_answer_has_its_outcome(reply: Reply, outcome: Outcome) -> None:
    assert await outcome_of(*reply) == outcome


@given(st.integers(100, 999), st.none() | st.integers(1, 99999) | st.sampled_from([row.code for row in error_table()]))
def test_only_a_4xx_is_ever_proof_that_nothing_was_sent(status: int, code: int | None) -> None:
    outcome = outcome_of_refusal(status, code, None)
    assert isinstance(outcome, Unknown) == (not 400 <= status <= 499 or status in {408, 409})
    assert not isinstance(outcome, Accepted)


# -------------------------------------------------------------------------------------------------------------- the lists


def pages(*listed: list[dict[str, object]]) -> Callable[[Received], Reply]:
    """Twilio's pages, in order, each with the address of the next."""

    def reply(request: Received) -> Reply:
        query = parse_qs(urlsplit(request.target).query)
        number = int(query.get("Page", ["0"])[0])
        more = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json?PageSize=1000&Page={number + 1}&PageToken=PA{number}"
        last = number + 1 == len(listed)
        return 200, {
            "end": 0,
            "first_page_uri": "x",
            "next_page_uri": None if last else more,
            "page": number,
            "page_size": 1000,
            "previous_page_uri": None,
            "messages": listed[number],
            "start": 0,
            "uri": "x",
        }

    return reply


def sid(number: int) -> str:
    return f"SM{number:032x}"


def at(seconds: float) -> str:
    return format_datetime(NOON + timedelta(seconds=seconds))


async def test_what_was_sent_is_listed_over_all_pages_with_what_twilio_says_of_it() -> None:
    listed = (
        [
            message(sid(1), status="delivered", date_created=at(5)),
            message(sid(2), date_created=at(-1)),
            message(sid(3), direction="inbound"),
        ],
        [message(sid(4), status="undelivered", error_code=30003, date_created=at(0)), message(sid(5), to="+15005550198")],
        [message(sid(6), status="sending", num_segments="0", body=""), message(sid(7), **{"from": "+15005550005"})],
    )
    async with twilio(pages(*listed)) as (provider, server):
        found = await provider.list_sent(PhoneNumber(NUMBER), SENDER, NOON + timedelta(milliseconds=900))
    assert [(text.provider_message_id, text.state, text.code, text.parts) for text in found] == [
        (sid(1), "delivered", None, 2),
        (sid(4), "undelivered", "30003", 2),
        (sid(6), None, None, None),
    ]
    assert found[0].to == PhoneNumber(NUMBER)
    assert found[0].sender == SENDER
    assert [text.body.reveal() for text in found] == [WORDS, WORDS, ""]
    assert [text.created_at for text in found] == [NOON + timedelta(seconds=5), NOON, NOON]
    assert parse_qs(urlsplit(server.requests[0].target).query) == {
        "To": [NUMBER],
        "From": [SENDER],
        "DateSent>": ["2026-11-22T12:00:00Z"],
        "PageSize": ["1000"],
    }
    assert [request.method for request in server.requests] == ["GET"] * 3
    assert all(request.header("authorization") for request in server.requests)


async def test_what_a_service_sent_is_found_by_the_service() -> None:
    listed = [
        message(sid(1), messaging_service_sid=SERVICE),
        message(sid(2)),
        message(sid(3), messaging_service_sid="MG" + "6" * 32),
    ]
    async with twilio(pages(listed)) as (provider, server):
        found = await provider.list_sent(PhoneNumber(NUMBER), SERVICE, NOON)
    assert [(text.provider_message_id, text.sender) for text in found] == [(sid(1), SERVICE)]
    assert "From" not in parse_qs(urlsplit(server.requests[0].target).query)


@pytest.mark.parametrize(
    "status,state",
    [
        *[(status, None) for status in ("queued", "accepted", "scheduled", "sending", "receiving", "brand-new", None)],
        *[(status, "sent") for status in ("sent", "partially_delivered")],
        *[(status, "delivered") for status in ("delivered", "read")],
        *[(status, "undelivered") for status in ("undelivered", "failed", "canceled")],
    ],
)
async def test_a_status_is_the_same_in_lists_and_in_receipts(status: str | None, state: str | None) -> None:
    async with twilio(pages([message(status=status)])) as (provider, _):
        assert [text.state for text in await provider.list_sent(PhoneNumber(NUMBER), SENDER, NOON)] == [state]
        form = [("MessageSid", SID), ("AccountSid", ACCOUNT), ("MessageStatus", str(status))]
        assert receipt_of("main", ACCOUNT, form, UUID(int=7), 1).state == state


def inbound(number: int, seconds: float = 0, **changed: object) -> dict[str, object]:
    both = {
        "direction": "inbound",
        "from": NUMBER,
        "to": SENDER,
        "status": "received",
        "date_created": at(seconds),
        "body": "STOP",
    }
    return message(sid(number), **(both | changed))


async def test_what_people_sent_us_is_listed_oldest_first() -> None:
    listed = (
        [inbound(8, 9), inbound(1, 9), inbound(2, 3, messaging_service_sid=SERVICE), inbound(3, -60), message(sid(4))],
        [inbound(5, 6, date_created=None), inbound(6, 6, **{"from": "40404"}), inbound(7, 6, **{"from": "whatsapp:" + NUMBER})],
    )
    async with twilio(pages(*listed)) as (provider, server):
        found = await provider.list_inbound(SENDER, NOON)
    assert [(text.provider_message_id, text.created_at, text.service) for text in found] == [
        (sid(5), None, None),
        (sid(2), NOON + timedelta(seconds=3), SERVICE),
        (sid(1), NOON + timedelta(seconds=9), None),
        (sid(8), NOON + timedelta(seconds=9), None),  # the newest stands first in Twilio's list
    ]
    assert {(text.sender, text.to, text.body, text.account, text.replied) for text in found} == {
        (PhoneNumber(NUMBER), SENDER, MessageBody("STOP"), "main", None)
    }
    assert parse_qs(urlsplit(server.requests[0].target).query)["To"] == [SENDER]


async def test_what_people_sent_to_a_service_is_found_by_the_service() -> None:
    async with twilio(pages([inbound(1), inbound(2, messaging_service_sid=SERVICE)])) as (provider, server):
        assert [text.provider_message_id for text in await provider.list_inbound(SERVICE, NOON)] == [sid(2)]
    assert "To" not in parse_qs(urlsplit(server.requests[0].target).query)


@pytest.mark.parametrize(
    "reply",
    [
        (200, {"messages": [message("no sid")]}),
        (200, {"messages": [message(date_created="no date")]}),
        (200, {"messages": [message(date_created="Mon, 99 Nov 2026 99:00:00 +0000")]}),
        (200, {"messages": [7]}),
    ],
    ids=str,
)
async def test_a_list_that_cannot_be_read_whole_is_no_list(reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with twilio(lambda _: reply) as (provider, _):
        with pytest.raises(ProviderUnavailable) as fault:
            await provider.list_sent(PhoneNumber(NUMBER), SENDER, NOON)
    assert "account main" in str(fault.value)
    text = "".join(traceback.format_exception(fault.value)) + caplog.text
    assert not any(secret in text for secret in (NUMBER, NUMBER[1:], WORDS, TOKEN))
    assert fault.value.__context__ is None


async def test_a_page_that_leads_elsewhere_is_not_followed() -> None:
    async with (
        twilio(lambda _: (200, {"messages": []})) as (_, elsewhere),
        twilio(lambda _: (200, {"meta": {"key": "messages", "next_page_url": elsewhere.url}, "messages": []})) as (provider, _),
    ):
        with pytest.raises(ProviderUnavailable):
            await provider.list_inbound(SENDER, NOON)
        assert elsewhere.connections == 0


async def test_a_list_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twilio_module, "PAGES", 7)
    endless = {"messages": [], "next_page_uri": f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json?Page=1"}
    async with twilio(lambda _: (200, endless)) as (provider, server):
        with pytest.raises(ProviderUnavailable, match="does not end"):
            await provider.list_inbound(SENDER, NOON)
    assert len(server.requests) == 8


# -------------------------------------------------------------------------------------------------------------- signatures


class Form(dict[str, list[str]]):
    """A form as the SDK's validator wants it."""

    def getlist(self, name: str) -> list[str]:
        return self[name]


@pytest.fixture(scope="module")
def vector() -> tuple[str, list[tuple[str, str]], str]:
    """Twilio's own example: https://www.twilio.com/docs/usage/security#validating-requests, token 12345."""
    form = [
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+14158675310"),
        ("Digits", "1234"),
        ("From", "+14158675310"),
        ("To", "+18005551212"),
    ]
    return "https://example.com/myapp.php?foo=1&bar=2", form, "L/OH5YylLD5NRKLltdqwSvS0BnU="


def test_twilios_own_example_verifies_and_nothing_near_it(vector: tuple[str, list[tuple[str, str]], str]) -> None:
    url, form, signature = vector
    assert form_is_signed("12345", url, form, signature)
    assert form_is_signed("12345", url, form[::-1], signature)
    assert form_is_signed("12345", url, [*form, form[0]], signature)  # a value that stands twice counts once
    assert form_is_signed("12345", url.replace("example.com", "example.com:443"), form, signature)
    assert form_is_signed("12345", url + "#rc=5&rp=all", form, signature)
    for other in ("", "x", signature[:-1], signature.lower(), "é", "\ud800", signature + "="):
        assert not form_is_signed("12345", url, form, other)
    assert not form_is_signed("12345", url + "&", form, signature)
    assert not form_is_signed("12345", url.replace("https", "http"), form, signature)
    assert not form_is_signed("12345", url.replace("example.com", "example.com:8443/"), form, signature)
    assert not form_is_signed("12345", "https://example.com:nonsense/", form, signature)
    assert not form_is_signed("12345", url, form[1:], signature)
    assert not form_is_signed("12345", url, [*form, ("To", "+18005551213")], signature)
    assert not form_is_signed("12345", url, [*form, ("\ud800", "\ud800")], signature)


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
forms = st.dictionaries(names, st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=3), max_size=8)
urls = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["example.com", "gateway.example.co.uk", "127.0.0.1"]),
    st.sampled_from(["", ":443", ":80", ":8443"]),
    st.sampled_from(["/", "/webhooks/twilio/main/inbound", "/a%20b/ü"]),
    st.sampled_from(["", "?a=b", "?a=b&c=%C3%BC&bodySHA256=x"]),
)


@given(urls, urls, forms, forms)
def test_signatures_are_judged_as_the_sdk_judges_them(url: str, signed_url: str, form: Form, signed_form: Form) -> None:
    sdk = RequestValidator(TOKEN)
    for of_url, of_form in ((url, form), (signed_url, form), (url, signed_form)):
        signature = sdk.compute_signature(of_url, Form(of_form))
        ours = form_is_signed(TOKEN, url, [(name, one) for name, many in form.items() for one in many], signature)
        assert ours == sdk.validate(url, Form(form), signature)
    assert form_is_signed(TOKEN, url, [(n, v) for n, vs in form.items() for v in vs], sdk.compute_signature(url, Form(form)))


# --------------------------------------------------------------------------------------------------------------- webhooks

INBOUND = {
    "ToCountry": "US",
    "MessageSid": SID,
    "SmsSid": SID,
    "AccountSid": ACCOUNT,
    "MessagingServiceSid": SERVICE,
    "From": NUMBER,
    "To": SENDER,
    "Body": "Stop",
    "NumMedia": "0",
    "NumSegments": "1",
    "OptOutType": "STOP",
    "SomethingNew": "",
}
RECEIPT = {
    "MessageSid": SID,
    "SmsStatus": "undelivered",
    "MessageStatus": "undelivered",
    "ErrorCode": "30003",
    "AccountSid": ACCOUNT,
    "From": SENDER,
    "To": NUMBER,
    "ApiVersion": "2010-04-01",
    "SomethingNew": "x",
}


def without(form: dict[str, str], name: str) -> list[tuple[str, str]]:
    return [pair for pair in form.items() if pair[0] != name]


def test_an_inbound_text_is_read() -> None:
    text = inbound_of("main", ACCOUNT, list(INBOUND.items()))
    assert (text.account, text.provider_message_id, text.sender, text.to) == ("main", SID, PhoneNumber(NUMBER), SENDER)
    assert (text.service, text.body, text.replied, text.created_at) == (SERVICE, MessageBody("Stop"), "STOP", None)
    least = [(name, INBOUND[name]) for name in ("MessageSid", "AccountSid", "From", "To")]
    text = inbound_of("main", ACCOUNT, [*least, ("Body", "")])
    assert (text.service, text.body, text.replied) == (None, MessageBody(""), None)
    assert inbound_of("main", ACCOUNT, [*least, ("Body", ""), ("OptOutType", "MAYBE")]).replied is None


def test_a_receipt_is_read() -> None:
    receipt = receipt_of("main", ACCOUNT, list(RECEIPT.items()), UUID(int=9), 3)
    assert (receipt.account, receipt.uid, receipt.attempt) == ("main", UUID(int=9), 3)
    assert (receipt.provider_message_id, receipt.state, receipt.code) == (SID, "undelivered", "30003")
    assert receipt_of("main", ACCOUNT, without(RECEIPT, "ErrorCode"), UUID(int=9), 3).code is None
    assert receipt_of("main", ACCOUNT, list((RECEIPT | {"ErrorCode": NUMBER}).items()), UUID(int=9), 3).code is None


@pytest.mark.parametrize("missing", ["MessageSid", "AccountSid", "From", "To", "Body"])
def test_an_inbound_text_without_a_needed_field_is_bad(missing: str) -> None:
    with pytest.raises(BadWebhook, match=missing):
        inbound_of("main", ACCOUNT, without(INBOUND, missing))


@pytest.mark.parametrize("missing", ["MessageSid", "AccountSid", "MessageStatus"])
def test_a_receipt_without_a_needed_field_is_bad(missing: str) -> None:
    with pytest.raises(BadWebhook, match=missing):
        receipt_of("main", ACCOUNT, without(RECEIPT, missing), UUID(int=9), 3)


@pytest.mark.parametrize(
    "changed",
    [
        {"AccountSid": "AC" + "1" * 32},
        {"MessageSid": "SM1"},
        {"MessageSid": SID + "\n"},
        {"From": "40404"},
        {"From": "TWILIO"},
        {"From": "whatsapp:+15005550199"},
        {"From": "+0005550199"},
        {"From": "+1500555\u0660199"},
        {"From": NUMBER + "\n"},
        {"From": ""},
        {"To": ""},
        {"To": SENDER + "\0"},
        {"To": "\ud800"},
    ],
    ids=ascii,
)
def test_an_inbound_text_that_is_not_ours_or_not_a_persons_is_bad(changed: dict[str, str]) -> None:
    with pytest.raises(BadWebhook) as fault:
        inbound_of("main", ACCOUNT, list((INBOUND | changed).items()))
    assert not any(value and value in str(fault.value) for value in changed.values())


def test_a_field_that_stands_twice_is_bad_unless_it_says_the_same() -> None:
    inbound_of("main", ACCOUNT, [*INBOUND.items(), ("From", NUMBER)])
    with pytest.raises(BadWebhook, match="twice"):
        inbound_of("main", ACCOUNT, [*INBOUND.items(), ("From", "+15005550198")])


any_form = st.lists(
    st.tuples(st.sampled_from([*INBOUND, *RECEIPT]) | st.text(max_size=5), st.sampled_from([SID, ACCOUNT, NUMBER]) | st.text())
)


@given(any_form)
def test_a_form_is_read_or_is_bad(form: list[tuple[str, str]]) -> None:
    for read in (
        lambda: inbound_of("main", ACCOUNT, form),
        lambda: receipt_of("main", ACCOUNT, form, UUID(int=1), 1),
    ):
        with suppress(BadWebhook):
            read()


# ---------------------------------------------------------------------------------------------------------------- privacy


async def test_the_sdk_keeps_and_shows_nothing_of_a_request() -> None:
    async with twilio(lambda _: (201, message())) as (provider, _):
        await sent(provider, TEXT)
        transport = provider._messages._version.domain.twilio.http_client
        assert (transport._test_only_last_request, transport._test_only_last_response) == (None, None)
    assert TOKEN not in repr(TwilioAccount("main", ACCOUNT, TOKEN))


async def test_the_sdks_transport_is_silent_and_speaks_only_to_its_api(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with twilio(lambda _: (403, b"")) as (_, server):
        http = HttpClient(time_limit_seconds=5, connections=1)
        transport = TwilioTransport(http, server.url)
        with pytest.raises(TwilioRefused) as fault:
            await transport.request("GET", f"{server.url}/x", params={"To": NUMBER})
        assert NUMBER not in str(fault.value)
        await http.close()
    assert [record for record in caplog.records if record.name != "asyncio"] == []
