"""The simulator's API against what Twilio's specification and documents say."""

from __future__ import annotations

import asyncio
import json
import random
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from gateway.simulator.config import Account
from gateway.simulator.scripts import NAMED
from gateway.simulator.segments import count_segments
from gateway.simulator.server import running_carrier
from tests.contract.carrier_tools import FROM, OTHER, SID, TO, TOKEN, Api, config

# The properties of `api.v2010.account.message` in spec/json/twilio_api_v2010.json, and which are strings where they are not null.
FIELDS = {
    "body", "num_segments", "direction", "from", "to", "date_updated", "price", "error_message", "uri", "account_sid", "num_media",
    "status", "messaging_service_sid", "sid", "date_sent", "date_created", "error_code", "price_unit", "api_version",
    "subresource_uris",
}  # fmt: skip
SERVICE = "MG" + "0b" * 16
RFC_2822 = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000")


async def test_create_answers_201_with_every_field_of_the_specification() -> None:
    async with running_carrier(config()) as carrier:
        status, made = await Api(carrier.url).create(body='Hello "you" 👋\n')
    assert status == 201
    assert set(made) == FIELDS
    assert re.fullmatch(r"SM[0-9a-f]{32}", made["sid"])
    uri = f"/2010-04-01/Accounts/{SID}/Messages/{made['sid']}"
    assert RFC_2822.fullmatch(made["date_created"])
    assert RFC_2822.fullmatch(made["date_updated"])
    fixed = {name: made[name] for name in FIELDS - {"sid", "date_created", "date_updated"}}
    assert fixed == {
        "body": 'Hello "you" 👋\n',
        "num_segments": "1",
        "direction": "outbound-api",
        "from": FROM,
        "to": TO,
        "price": None,
        "error_message": None,
        "uri": f"{uri}.json",
        "account_sid": SID,
        "num_media": "0",
        "status": "queued",
        "messaging_service_sid": None,
        "date_sent": None,
        "error_code": None,
        "price_unit": "USD",
        "api_version": "2010-04-01",
        "subresource_uris": {"media": f"{uri}/Media.json"},
    }


async def test_a_service_is_accepted_first_and_has_its_sender_when_sent() -> None:
    account = {"services": {SERVICE: (FROM,)}}
    async with running_carrier(config(account=account)) as carrier:
        api = Api(carrier.url)
        _, made = await api.create(MessagingServiceSid=SERVICE)
        assert (made["status"], made["from"], made["num_segments"]) == ("accepted", None, "0")
        assert made["messaging_service_sid"] == SERVICE
        _, later = await api.message("GET", made["sid"])
        assert (later["status"], later["from"], later["num_segments"]) == ("delivered", FROM, "1")
        assert later["price"] == "-0.00790"
        assert (await api.create(MessagingServiceSid="MG" + "0c" * 16))[1]["code"] == 21701


async def test_an_error_is_exactly_code_message_more_info_and_status() -> None:
    async with running_carrier(config()) as carrier:
        status, error = await Api(carrier.url).create(to="")
    assert status == 400
    assert error == {
        "code": 21604,
        "message": "A 'To' phone number is required.",
        "more_info": "https://www.twilio.com/docs/errors/21604",
        "status": 400,
    }


@pytest.mark.parametrize(
    "form, status, code",
    [
        ({"To": ""}, 400, 21604),
        ({"From": ""}, 400, 21603),
        ({"Body": ""}, 400, 21602),
        ({"Body": "x" * 1601}, 400, 21617),
        ({"To": "12025550123"}, 400, 21211),
        ({"To": "+0123456789"}, 400, 21211),
        ({"From": "not a sender!"}, 400, 21212),
        ({"From": "+12025550177"}, 400, 21606),
        ({"From": "+15005550001"}, 400, 21212),
        ({"From": "+15005550007"}, 400, 21606),
        ({"From": "+15005550008"}, 429, 21611),
        ({"To": "+15005550001"}, 400, 21211),
        ({"To": "+15005550002"}, 400, 21612),
        ({"To": "+15005550003"}, 400, 21408),
        ({"To": "+15005550004"}, 400, 21610),
        ({"To": "+15005550009"}, 400, 21614),
        ({"StatusCallback": "not a url"}, 400, 21609),
        ({"StatusCallback": "https://under_score.example/x"}, 400, 21609),
        ({"StatusCallback": "https://a.example:port/x"}, 400, 21609),
        ({"StatusCallback": "https://a.example/x\r\nInjected: yes"}, 400, 21609),
        ({"StatusCallback": "https:///x"}, 400, 21609),
        ({"ValidityPeriod": "0"}, 400, 90014),
        ({"ValidityPeriod": "36001"}, 400, 90007),
        ({"ContentRetention": "discard"}, 400, 30029),
        ({"AddressRetention": "obfuscate"}, 400, 30030),
        ({"From": "+15005550006"}, 201, None),
        ({"Body": "x" * 1600}, 201, None),
        ({"ValidityPeriod": "36000"}, 201, None),
        ({"ScheduleType": "fixed", "SendAt": "soon"}, 201, None),  # without a service both are ignored
    ],
)
async def test_create_is_refused_with_twilios_codes(form: dict[str, str], status: int, code: int | None) -> None:
    async with running_carrier(config(account={"senders": (FROM,)})) as carrier:
        answered, body = await Api(carrier.url).create(**({"to": TO} if "To" not in form else {}), **form)
        assert (answered, body.get("code")) == (status, code)
        assert carrier.book.counts["accepted"] == (1 if status == 201 else 0)
        assert carrier.book.counts["requests"] == 1


async def test_test_credentials_know_the_magic_senders_only_and_send_nothing() -> None:
    async with running_carrier(config(account={"test": True})) as carrier:
        api = Api(carrier.url)
        assert (await api.create())[1]["code"] == 21606
        status, made = await api.create(From="+15005550006", StatusCallback="http://127.0.0.1:1/never")
        assert (status, made["status"]) == (201, "queued")
        assert (await api.create(MessagingServiceSid=SERVICE))[1]["code"] == 20008
        assert (await api.list())[0] == 403
        await carrier.quiet()
        assert carrier.book.counts["callbacks"] == 0


@pytest.mark.parametrize("sid, token", [(SID, "wrong"), ("AC" + "0c" * 16, TOKEN)])
async def test_wrong_credentials_are_401_20003(sid: str, token: str) -> None:
    async with running_carrier(config()) as carrier:
        status, error = await Api(carrier.url, sid, token).create()
        assert (status, error["code"], error["message"]) == (401, 20003, "Authenticate")
        assert not carrier.book.requests


async def test_an_account_cannot_see_another_ones_messages() -> None:
    second = Account("AC" + "0d" * 16, "second")
    async with running_carrier(config(accounts=(Account(SID, TOKEN), second))) as carrier:
        mine, theirs = Api(carrier.url), Api(carrier.url, second.sid, second.token)
        _, made = await mine.create()
        assert (await theirs.message("GET", made["sid"]))[0] == 404
        assert (await theirs.list())[1]["messages"] == []
        theirs.headers = mine.headers
        assert (await theirs.message("GET", made["sid"]))[0] == 401


async def test_unknown_messages_and_paths_are_20404() -> None:
    async with running_carrier(config()) as carrier:
        api = Api(carrier.url)
        for method in ("GET", "POST", "DELETE"):
            status, error = await api.message(method, "SM" + "0" * 32, {"Body": ""} if method == "POST" else None)
            assert (status, error["code"]) == (404, 20404)
        assert (await api.call("GET", "/2010-04-01/Accounts.json"))[0] == 404
        assert (await api.call("PUT", f"/2010-04-01/Accounts/{SID}/Messages.json"))[0] == 405


@pytest.mark.parametrize(
    "body, parts",
    [
        ("x" * 160, 1),
        ("x" * 161, 2),
        ("x" * 306, 2),
        ("x" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("x" * 152 + "€" + "x" * 10, 2),
        ("x" * 152 + "€" + "x" * 152, 3),  # the escape moves on whole
        ("é" * 160, 1),
        ("ю" * 70, 1),
        ("ю" * 71, 2),
        ("👋" * 35, 1),
        ("👋" * 66, 2),
        ("👋" * 67, 3),  # 67 units a part, and no surrogate pair is split
    ],
)
def test_parts(body: str, parts: int) -> None:
    assert count_segments(body) == parts


# -- list ---------------------------------------------------------------------------------------------------------------------------


async def test_list_is_newest_first_and_filters_by_number() -> None:
    async with running_carrier(config()) as carrier:
        api = Api(carrier.url)
        made = [(await api.create(to=to, body=str(place)))[1]["sid"] for place, to in enumerate((TO, OTHER, TO))]
        await carrier.inbound(TO, FROM, "hi", deliver=False)
        _, page = await api.list(To=TO)
        assert [one["sid"] for one in page["messages"]] == [made[2], made[0]]
        assert all(set(one) == FIELDS for one in page["messages"])
        _, page = await api.list(To=FROM)
        assert [(one["direction"], one["from"], one["status"], one["body"]) for one in page["messages"]] == [
            ("inbound", TO, "received", "hi")
        ]
        assert page["messages"][0]["date_sent"] == page["messages"][0]["date_created"]
        _, page = await api.list(From=FROM, To=OTHER)
        assert [one["sid"] for one in page["messages"]] == [made[1]]
        _, page = await api.list()
        assert len(page["messages"]) == 4


async def test_pages_follow_their_uris_and_new_messages_move_nothing() -> None:
    async with running_carrier(config()) as carrier:
        api = Api(carrier.url)
        made = [(await api.create(body=str(place)))[1]["sid"] for place in range(5)]
        _, first = await api.list(To=TO, PageSize="2")
        assert (first["page"], first["page_size"], first["start"], first["end"]) == (0, 2, 0, 1)
        assert first["previous_page_uri"] is None
        assert (
            first["first_page_uri"]
            == first["uri"]
            == f"/2010-04-01/Accounts/{SID}/Messages.json?To=%2B12025550123&PageSize=2&Page=0"
        )
        assert first["next_page_uri"] == f"{first['uri'][:-1]}1&PageToken=PA{made[3]}"
        await api.create(body="later")
        _, second = await api.call("GET", first["next_page_uri"])
        _, third = await api.call("GET", second["next_page_uri"])
        assert [[one["sid"] for one in page["messages"]] for page in (second, third)] == [[made[2], made[1]], [made[0]]]
        assert third["next_page_uri"] is None
        _, back = await api.call("GET", third["previous_page_uri"])
        assert [one["sid"] for one in back["messages"]] == [made[2], made[1]]
        assert (await api.list(PageToken="PASM00"))[0] == 400


async def test_list_filters_by_the_day_and_the_second_of_sending() -> None:
    scripts: dict[str, Any] = {}
    async with running_carrier(config(scripts=scripts)) as carrier:
        api = Api(carrier.url)
        carrier.script(OTHER, "stays_sent")
        _, made = await api.create()
        _, sent = await api.message("GET", made["sid"])
        at = parsedate_to_datetime(sent["date_sent"])
        day, second = timedelta(days=1), timedelta(seconds=1)

        async def count(**query: str) -> int:
            return len((await api.list(**query))[1]["messages"])

        for text in (
            at.strftime("%Y-%m-%d"),
            at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            sent["date_sent"],
            at.strftime("%Y-%m-%d %H:%M:%S.000"),
        ):
            for name in ("DateSent", "DateSent<", "DateSent>"):
                assert await count(**{name: text}) == 1, (name, text)
        assert await count(**{"DateSent>": (at + second).isoformat()}) == 0
        assert await count(**{"DateSent<": (at - second).isoformat()}) == 0
        assert await count(DateSent=(at - day).strftime("%Y-%m-%d")) == 0
        assert await count(**{"DateSent>": (at - day).strftime("%Y-%m-%d"), "DateSent<": (at + day).strftime("%Y-%m-%d")}) == 1
        assert (await api.list(DateSent="yesterday"))[0] == 400


async def test_a_message_that_is_not_sent_yet_is_listed_without_a_date_filter_only() -> None:
    async with running_carrier(config(sent_ms=60_000, final_ms=60_000)) as carrier:
        api = Api(carrier.url)
        await api.create()
        assert len((await api.list(To=TO))[1]["messages"]) == 1
        assert (await api.list(**{"To": TO, "DateSent>": "2000-01-01"}))[1]["messages"] == []


# -- redact, cancel, delete ---------------------------------------------------------------------------------------------------------


async def test_redact_and_delete_a_message_that_is_complete() -> None:
    async with running_carrier(config()) as carrier:
        api = Api(carrier.url)
        _, made = await api.create(body="secret")
        status, redacted = await api.message("POST", made["sid"], {"Body": ""})
        assert (status, redacted["body"], redacted["status"]) == (200, "", "delivered")
        assert (await api.message("DELETE", made["sid"])) == (204, None)
        assert (await api.message("GET", made["sid"]))[0] == 404
        assert (await api.list())[1]["messages"] == []
        assert len(carrier.book.accepted()) == 1, "the book still knows it"


async def test_too_early_is_20009_and_a_bad_combination_30400() -> None:
    async with running_carrier(config(final_ms=60_000)) as carrier:
        api = Api(carrier.url)
        _, made = await api.create()
        for method, form in (("DELETE", None), ("POST", {"Body": ""})):
            status, error = await api.message(method, made["sid"], form)
            assert (status, error["code"]) == (409, 20009)
        for form in ({}, {"Body": "other"}, {"Body": "", "Status": "canceled"}, {"Status": "sent"}):
            assert (await api.message("POST", made["sid"], form))[1]["code"] == 30400
        assert (await api.message("POST", made["sid"], {"Status": "canceled"}))[1]["code"] == 30409


async def test_a_scheduled_message_waits_and_can_be_canceled() -> None:
    async with running_carrier(config()) as carrier:
        api = Api(carrier.url)
        now = datetime.now(UTC)
        form = {"MessagingServiceSid": SERVICE, "ScheduleType": "fixed"}
        for wait in (timedelta(minutes=14), timedelta(days=36)):
            assert (await api.create(SendAt=(now + wait).isoformat(), **form))[1]["code"] == 35114
        _, made = await api.create(SendAt=(now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"), **form)
        assert (made["status"], made["date_sent"]) == ("scheduled", None)
        status, canceled = await api.message("POST", made["sid"], {"Status": "canceled"})
        assert (status, canceled["status"], canceled["date_sent"]) == (200, "canceled", None)
        assert (await api.message("DELETE", made["sid"]))[0] == 204


async def test_retention_of_content_and_address() -> None:
    async with running_carrier(config(account={"redaction": True})) as carrier:
        api = Api(carrier.url)
        _, made = await api.create(body="secret", ContentRetention="discard", AddressRetention="obfuscate")
        assert (made["body"], made["to"]) == ("", "+1202555XXXX")
        assert (await api.list(To=TO))[1]["messages"] == []
        assert carrier.book.accepted(TO)


async def test_a_message_that_waits_longer_than_its_validity_fails() -> None:
    async with running_carrier(config(sent_ms=60_000, final_ms=60_000)) as carrier:
        api = Api(carrier.url)
        _, made = await api.create(ValidityPeriod="1")
        message = carrier.book.messages[made["sid"]]
        assert message.step(message.created_at + 0.9).status == "queued"
        assert (message.step(message.created_at + 1).status, message.step(message.created_at + 1).code) == ("failed", 30036)


# -- through the SDK ----------------------------------------------------------------------------------------------------------------


async def test_the_twilio_sdk_creates_fetches_lists_redacts_and_deletes() -> None:
    def use(url: str) -> None:
        client = Client(SID, TOKEN)
        client.api.base_url = url
        made = [client.messages.create(to=TO, from_=FROM, body=f"number {place}", validity_period=60) for place in range(5)]
        first = str(made[0].sid)
        assert (str(made[0].status), made[0].num_segments, made[0].error_code, made[0].price) == ("queued", "1", None, None)
        assert isinstance(made[0].date_created, datetime)
        fetched = client.messages(first).fetch()
        assert (str(fetched.status), fetched.body) == ("delivered", "number 0")
        since = datetime.now(UTC) - timedelta(minutes=1)
        listed = client.messages.list(to=TO, from_=FROM, date_sent_after=since, page_size=2)
        assert [one.sid for one in listed] == [one.sid for one in reversed(made)]
        assert client.messages.list(date_sent_before=since) == []
        assert not client.messages(first).update(body="").body
        assert client.messages(first).delete()
        with pytest.raises(TwilioRestException) as gone:
            client.messages(first).fetch()
        assert (gone.value.status, gone.value.code) == (404, 20404)
        with pytest.raises(TwilioRestException) as refused:
            client.messages.create(to="+15005550004", from_=FROM, body="x")
        assert (refused.value.status, refused.value.code) == (400, 21610)
        client.http_client.session.close()  # type: ignore[attr-defined] # the SDK's own client has one

    async with running_carrier(config()) as carrier:
        await asyncio.to_thread(use, carrier.url)


# -- the control API ----------------------------------------------------------------------------------------------------------------


async def test_control_scripts_settings_book_and_reset() -> None:
    async with running_carrier(config()) as carrier:
        api = Api(carrier.url)
        assert (await api.control("/script", {"number": TO, "script": {"name": "opted_out", "times": 1}}))[0] == 200
        assert (await api.create())[1]["code"] == 21610
        _, made = await api.create()
        assert (await api.create())[0] == 201
        _, book = await api.control("/book")
        refused, accepted, again = book["requests"]
        assert (refused["answer"], refused["code"], refused["sid"], refused["accepted_at"]) == (400, 21610, None, None)
        assert (accepted["answer"], accepted["sid"], accepted["to"], accepted["from"]) == (201, made["sid"], TO, FROM)
        assert accepted["begun_at"] <= accepted["accepted_at"] <= accepted["ended_at"]
        at = accepted["accepted_at"]
        assert (accepted["state"], accepted["history"]) == ("delivered", [["sent", at], ["delivered", at]])
        assert accepted["body_sha256"] == "185f8db32271fe25f561a6fc938b2e264306ec304eda518007d1764826381969"
        assert book["duplicates"] == [[accepted["number"], again["number"]]]
        _, page = await api.control(f"/book?since={refused['number']}&limit=1")
        assert ([one["number"] for one in page["requests"]], page["next"]) == ([accepted["number"]], accepted["number"])
        _, stats = await api.control("/stats?accepted=2&quiet=1")
        assert (stats["requests"], stats["accepted"], stats["duplicates"], stats["refused_21610"]) == (3, 2, 1, 1)
        assert (await api.control("/account", {"sid": SID, "every_nth_429": 1}))[0] == 200
        assert (await api.create())[1]["code"] == 20429
        assert (await api.control("/reset", {}))[0] == 200
        assert (await api.control("/book"))[1]["requests"] == []
        _, after = await api.create()
        assert after["sid"] != made["sid"], "no identifier is given twice"


async def test_control_changes_what_the_carrier_does_with_all_numbers_for_a_while() -> None:
    async with running_carrier(config(mix=((1.0, NAMED["opted_out"]),))) as carrier:
        api = Api(carrier.url)
        assert (await api.create())[1]["code"] == 21610
        assert (await api.control("/mix", {"mix": [[0, "slow"], [1, {"name": "not_textable"}]]}))[0] == 200
        assert (await api.create())[1]["code"] == 21614
        assert (await api.control("/mix", {"mix": []}))[0] == 200
        assert (await api.create())[0] == 201
        assert (await api.control("/mix", {"mix": None}))[0] == 200
        assert (await api.create())[1]["code"] == 21610


@pytest.mark.parametrize(
    "path, body",
    [
        ("/script", {"number": TO, "script": "no such script"}),
        ("/script", {"number": TO, "script": {"answer": "explode"}}),
        ("/script", {"number": TO, "script": {"what": 1}}),
        ("/script", {"number": TO, "script": {"after_ms": -1}}),
        ("/script", {"script": "slow"}),
        ("/mix", {"mix": [[1.5, "slow"]]}),
        ("/mix", {"mix": [[True, "slow"]]}),
        ("/mix", {"mix": {"slow": 1}}),
        ("/mix", {"mix": [[1, "no such script"]]}),
        ("/account", {"sid": "AC00"}),
        ("/account", {"sid": SID, "token": "other"}),
        ("/inbound", {"from": TO, "to": FROM}),
        ("/inbound", {"from": TO, "to": FROM, "body": 1}),
        ("/inbound", {"from": TO, "to": FROM, "body": "x", "opt_out_type": "MAYBE"}),
        ("/inbound", {"from": TO, "to": FROM, "body": "x"}),  # no inbound URL is known
        ("/inbound", {"sid": "SM00"}),
        ("/stats?accepted=many", None),
    ],
)
async def test_control_refuses_what_it_cannot_do(path: str, body: dict[str, Any] | None) -> None:
    async with running_carrier(config()) as carrier:
        status, answer = await Api(carrier.url).control(path, body)
        assert status == 400
        assert TO not in answer["error"]


async def test_control_takes_json_only_so_that_a_web_page_cannot_drive_it() -> None:
    async with running_carrier(config()) as carrier:
        answer = await Api(carrier.url).client.request(
            "POST", f"{carrier.url}/_carrier/reset", {"Content-Type": "text/plain"}, b"{}"
        )
        assert answer.status == 400
        assert "application/json" in json.loads(answer.body)["error"]


async def test_counts_only_keeps_nothing_and_still_finds_duplicates() -> None:
    async with running_carrier(config(keep="counts")) as carrier:
        api = Api(carrier.url)
        for body in ("one", "two", "one"):
            await api.create(body=body)
        assert not carrier.book.messages
        assert not carrier.book.requests
        assert (carrier.book.counts["accepted"], carrier.book.counts["duplicates"]) == (3, 1)


async def test_the_oldest_messages_go_when_there_are_too_many() -> None:
    async with running_carrier(config(max_messages=3)) as carrier:
        api = Api(carrier.url)
        made = [(await api.create(body=str(place)))[1]["sid"] for place in range(5)]
        assert list(carrier.book.messages) == made[2:]
        assert [one["sid"] for one in (await api.list(To=TO))[1]["messages"]] == made[:1:-1]


async def test_the_seed_fixes_identifiers() -> None:
    sids = []
    for seed in (1, 1, 2, None, None):
        async with running_carrier(config(seed=seed)) as carrier:
            sids.append((await Api(carrier.url).create())[1]["sid"])
    assert sids[0] == sids[1]
    assert len(set(sids)) == 4


@pytest.mark.off_specification
async def test_whatever_is_sent_is_answered_and_never_a_fault() -> None:
    chance = random.Random(1)
    names = [
        "To",
        "From",
        "Body",
        "StatusCallback",
        "ValidityPeriod",
        "ScheduleType",
        "SendAt",
        "MessagingServiceSid",
        "Status",
        "%",
    ]
    values = [
        TO,
        FROM,
        "",
        "x",
        "fixed",
        "-1",
        "9" * 30,
        "\0",
        "%zz",
        "\ud800",
        "2026-01-01",
        "http://[",
        "MG" + "0" * 32,
        "+",
        "\r\n",
    ]
    async with running_carrier(config()) as carrier:
        api = Api(carrier.url)
        _, made = await api.create()
        base = f"/2010-04-01/Accounts/{SID}/Messages"
        for _ in range(300):
            pairs = "&".join(
                f"{quote(chance.choice(names))}={quote(chance.choice(values), errors='replace')}"
                for _ in range(chance.randrange(8))
            )
            noise = chance.randbytes(chance.randrange(40))
            for method, path, body in (
                ("POST", f"{base}.json", pairs.encode() + b"&" + noise),
                ("POST", f"{base}/{made['sid']}.json", pairs.encode()),
                ("GET", f"{base}.json?{pairs}&DateSent%3E={quote(noise)}&PageSize={chance.randrange(-5, 5)}", b""),
                ("POST", "/_carrier/inbound", noise),
            ):
                answer = await api.client.request(method, api.url + path, api.headers, body)
                assert answer.status < 500
