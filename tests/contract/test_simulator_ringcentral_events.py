"""The simulator's RingCentral side: subscriptions and their handshake, events, consents."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.simulator.scripts import NAMED, Script
from gateway.simulator.server import running_carrier
from tests.contract.ringcentral_tools import A2P, ACCOUNT, SMS, TO, RingCentral, config, running_events

INSTANT = "/restapi/v1.0/account/~/extension/~/message-store/instant?type=SMS"
STORE = "/restapi/v1.0/account/~/extension/~/message-store"
A2P_IN = "/restapi/v1.0/account/~/a2p-sms/messages?direction=Inbound"
A2P_OUT = "/restapi/v1.0/account/~/a2p-sms/messages?direction=Outbound"
BATCHES = "/restapi/v1.0/account/~/a2p-sms/batches"
OPT_OUTS = "/restapi/v1.0/account/~/a2p-sms/opt-outs"
CONSENTS = "/restapi/v2/accounts/~/sms/consents"
OTHER = "+12025550124"
EXTENSION = "100200300"


# -- subscriptions --------------------------------------------------------------------------------------------------------------------


async def test_a_subscription_is_made_after_a_handshake_renewed_changed_and_canceled() -> None:
    async with running_events() as sink, running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        status, made = await api.subscribe(sink.url, INSTANT, A2P_OUT, expiresIn=600)
        assert (status, made["status"], sink.greeted) == (200, "Active", 1)
        assert made["deliveryMode"] == {"transportType": "WebHook", "encryption": False, "address": sink.url}, (
            "no verification token"
        )
        assert made["eventFilters"] == [INSTANT.replace("account/~/extension/~", f"account/{ACCOUNT}/extension/{EXTENSION}"),
                                        A2P_OUT.replace("~", ACCOUNT)]  # fmt: skip
        assert (await api.subscription("GET"))[1]["records"] == [made]
        assert (await api.subscription("POST", f"/{made['id']}/renew"))[1]["expirationTime"] > made["expirationTime"]
        _, changed = await api.subscription("PUT", f"/{made['id']}", {"eventFilters": [BATCHES], "expiresIn": 60})
        assert (changed["eventFilters"], changed["expiresIn"] <= 60) == ([BATCHES.replace("~", ACCOUNT)], True)
        assert (await api.subscription("DELETE", f"/{made['id']}"))[0] == 204
        for method, path in (("GET", ""), ("DELETE", ""), ("PUT", ""), ("POST", "/renew")):
            status, told = await api.subscription(method, f"/{made['id']}{path}")
            assert (status, told["errorCode"]) == (404, "CMN-102")


@pytest.mark.parametrize(
    "greeting, code",
    [
        ((500, b"", []), "SUB-522"),
        ((200, b"", []), "SUB-525"),
        ((200, b"", [(b"validation-token", b"another")]), "SUB-525"),
        ((200, b"x" * 1100, None), "SUB-525"),
    ],
)
async def test_without_its_handshake_no_subscription_is_made(greeting: Any, code: str) -> None:
    async with running_events() as sink, running_carrier(config()) as carrier:
        status, body, headers = greeting
        sink.greet = lambda token: (status, body, [(b"validation-token", token)] if headers is None else headers)
        api = RingCentral(carrier.url)
        answered, told = await api.subscribe(sink.url, INSTANT)
        assert (answered, told["errorCode"], sink.greeted) == (400, code, 1)
        assert (await api.subscription("GET"))[1]["records"] == []


async def test_a_webhook_that_is_slow_or_not_there_is_not_reachable() -> None:
    async with running_events() as sink, running_carrier(config(account={"webhook_s": 0.2})) as carrier:
        sink.delay = asyncio.Event()
        api = RingCentral(carrier.url)
        assert (await api.subscribe(sink.url, INSTANT))[1]["errorCode"] == "SUB-521"
        sink.delay.set()
        assert (await api.subscribe("http://127.0.0.1:1/", INSTANT))[1]["errorCode"] == "SUB-521"


@pytest.mark.parametrize(
    "filters, more, status, code",
    [
        ([], {}, 400, "CMN-101"),
        (["/restapi/v1.0/account/~/weather"], {}, 400, "SUB-508"),
        (["nonsense"], {}, 400, "SUB-508"),
        (["/restapi/v1.0/account/~/message-store"], {}, 400, "SUB-508"),
        (["/restapi/v1.0/account/1/a2p-sms/batches"], {}, 403, "SUB-406"),
        (["/restapi/v1.0/account/~/extension/1/message-store"], {}, 403, "SUB-405"),
        ([INSTANT], {"expiresIn": 0}, 400, "CMN-101"),
        ([INSTANT], {"deliveryMode": {"transportType": "WebSocket"}}, 400, "CMN-101"),
    ],
)
async def test_a_subscription_is_refused(filters: list[str], more: dict[str, Any], status: int, code: str) -> None:
    async with running_events() as sink, running_carrier(config()) as carrier:
        answered, told = await RingCentral(carrier.url).subscribe(sink.url, *filters, **more)
        assert (answered, told["errorCode"], sink.greeted) == (status, code, 0)


async def test_a_subscription_expires() -> None:
    now = [1_800_000_000.0]
    async with running_events() as sink, running_carrier(config(), clock=lambda: now[0]) as carrier:
        api = RingCentral(carrier.url)
        _, made = await api.subscribe(sink.url, INSTANT, expiresIn=60)
        now[0] += 60
        assert not (await carrier.inbound(TO, SMS, "Hello")).webhooks
        assert (await api.subscription("GET"))[1]["records"] == []
        status, told = await api.subscription("POST", f"/{made['id']}/renew")
        assert (status, told["errorCode"]) == (404, "SUB-507")


async def test_a_webhook_that_fails_for_long_is_blacklisted_until_it_is_made_anew() -> None:
    now = [1_800_000_000.0]
    async with running_events() as sink, running_carrier(config(), clock=lambda: now[0]) as carrier:
        api = RingCentral(carrier.url)
        _, made = await api.subscribe(sink.url, INSTANT)
        sink.answer = 500
        await carrier.inbound(TO, SMS, "1")
        now[0] += 599
        sink.answer = 200
        await carrier.inbound(TO, SMS, "2")
        sink.answer = 404
        await carrier.inbound(TO, SMS, "3")
        now[0] += 599
        await carrier.inbound(TO, SMS, "4")
        assert (await api.subscription("GET", f"/{made['id']}"))[1]["status"] == "Active", "a success begins it again"
        now[0] += 1
        await carrier.inbound(TO, SMS, "5")
        _, told = await api.subscription("GET", f"/{made['id']}")
        assert (told["status"], told["blacklistedData"]["reason"]) == ("Blacklisted", "Webhook responses with code: [404]")
        sink.answer = 200
        assert not (await carrier.inbound(TO, SMS, "6")).webhooks
        assert len(sink.events) == 5
        assert (await api.subscribe(sink.url, INSTANT))[0] == 200
        assert [one.http for one in (await carrier.inbound(TO, SMS, "7")).webhooks] == [200]


async def test_the_control_api_blacklists_and_expires() -> None:
    async with running_events() as sink, running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        for become, status in (("Blacklisted", 200), ("Expired", 404)):
            _, made = await api.subscribe(sink.url, INSTANT)
            assert (await api.control("/subscription", {"sid": ACCOUNT, "id": made["id"], "become": become}))[0] == 200
            answered, told = await api.subscription("GET", f"/{made['id']}")
            assert (answered, told.get("status", become)) == (status, become)
        _, made = await api.subscribe(sink.url, INSTANT)
        for wrong in ({"id": "x"}, {"id": made["id"], "become": "Happy"}, {"sid": "x"}):
            assert (await api.control("/subscription", {"sid": ACCOUNT, **wrong}))[0] == 400


# -- events ---------------------------------------------------------------------------------------------------------------------------


async def test_a_text_to_the_extension_is_told_at_once_in_its_envelope() -> None:
    async with running_events() as sink, running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        _, made = await api.subscribe(sink.url, INSTANT, A2P_IN)
        result = await carrier.inbound(TO, SMS, "Hello 👋")
        ((headers, event),) = sink.events
        assert headers["verification-token"] == "a-token"
        assert set(event) == {"uuid", "event", "timestamp", "subscriptionId", "ownerId", "body"}
        assert (event["event"], event["subscriptionId"], event["ownerId"]) == (made["eventFilters"][0], made["id"], EXTENSION)
        body = event["body"]
        assert (body["id"], body["subject"], body["direction"], body["messageStatus"]) == (
            result.sid,
            "Hello 👋",
            "Inbound",
            "Received",
        )
        assert (body["from"], body["to"][0]["phoneNumber"]) == ({"phoneNumber": TO}, SMS)
        assert (await api.store(path=f"/{result.sid}"))[1]["subject"] == "Hello 👋"
        again = await carrier.inbound_again(result.sid, repeat=2)
        assert len(again.webhooks) == 2
        assert {one["uuid"] for one in await sink.wait(3)} == {event["uuid"]}, "the same event has the same uuid"


async def test_a_text_to_a_number_for_batches_is_told_by_its_own_event() -> None:
    async with running_events() as sink, running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        await api.subscribe(sink.url, INSTANT, A2P_IN, A2P_OUT)
        await carrier.inbound(TO, A2P, "Hello")
        (event,) = await sink.wait(1)
        assert event["event"] == A2P_IN.replace("~", ACCOUNT)
        assert (event["body"]["text"], event["body"]["from"], event["body"]["to"]) == ("Hello", TO, [A2P])
        assert (await api.a2p(f"/messages/{event['body']['id']}"))[1]["direction"] == "Inbound"


async def test_filters_by_number_take_only_those() -> None:
    async with running_events() as sink, running_carrier(config(account={"a2p_senders": (A2P, OTHER)})) as carrier:
        api = RingCentral(carrier.url)
        await api.subscribe(sink.url, f"{A2P_IN}&to={OTHER}", f"{A2P_OUT}&from={OTHER}")
        await carrier.inbound(TO, A2P, "not told")
        await carrier.inbound(TO, OTHER, "told")
        await api.batch(sender=A2P)
        await api.batch(sender=OTHER)
        await carrier.quiet()
        assert [one["body"]["messageStatus"] for one in await sink.wait(3)] == ["Delivered", "Sent", "Delivered"]


async def test_a_batchs_messages_are_told_status_by_status_and_the_batch_when_it_is_done() -> None:
    async with running_events() as sink, running_carrier(config(scripts={OTHER: NAMED["undelivered"]})) as carrier:
        api = RingCentral(carrier.url)
        await api.subscribe(sink.url, A2P_OUT, BATCHES)
        _, made = await api.batch(TO, OTHER)
        await carrier.quiet()
        told: dict[str, list[str]] = {}
        completed = []
        for event in await sink.wait(5):
            body = event["body"]
            if "batchSize" in body:
                completed.append((body["id"], body["status"], body["processedCount"]))
            else:
                assert body["batchId"] == made["id"]
                told.setdefault(body["to"][0], []).append(body["messageStatus"])
        assert told == {TO: ["Sent", "Delivered"], OTHER: ["Sent", "DeliveryFailed"]}
        assert completed == [(made["id"], "Completed", 2)]


async def test_a_single_smss_status_is_told_as_a_change_of_the_store() -> None:
    async with running_events() as sink, running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        await api.subscribe(sink.url, STORE)
        await api.sms()
        await carrier.quiet()
        assert [one["body"]["changes"] for one in await sink.wait(2)] == [[{"type": "SMS", "newCount": 0, "updatedCount": 1}]] * 2


@pytest.mark.parametrize(
    "script, statuses",
    [
        ("lost", []),
        ("repeated", ["Delivered"] * 3 + ["Sent"] * 3),
        ("reversed", ["Delivered", "Sent"]),
        ("forged", ["Delivered", "Sent"]),
    ],
)
async def test_what_becomes_of_events(script: str, statuses: list[str]) -> None:
    plan = Script(callbacks=script)  # type: ignore[arg-type]  # one of them, by name
    async with running_events() as sink, running_carrier(config(scripts={TO: plan})) as carrier:
        api = RingCentral(carrier.url)
        await api.subscribe(sink.url, A2P_OUT)
        await api.batch()
        await carrier.quiet()
        told = await sink.wait(len(statuses))
        assert sorted(one["body"]["messageStatus"] for one in told) == statuses
        assert len({one["uuid"] for one in told}) == len(set(statuses))
        if script == "reversed":
            assert [one["body"]["messageStatus"] for one in told] == ["Delivered", "Sent"]
        assert all((headers["verification-token"] == "a-token") is (script != "forged") for headers, _ in sink.events)


async def test_late_events_wait_while_the_state_goes_on() -> None:
    async with (
        running_events() as sink,
        running_carrier(config(scripts={TO: Script(callbacks="late", late_ms=600_000)})) as carrier,
    ):
        api = RingCentral(carrier.url)
        await api.subscribe(sink.url, A2P_OUT)
        _, made = await api.batch()
        assert (await api.a2p(f"/batches/{made['id']}"))[1]["status"] == "Completed"
        assert (carrier.stats()["callbacks_waiting"], sink.events) == (2, [])


async def test_a_forged_inbound_is_posted_and_is_in_no_list() -> None:
    async with running_events() as sink, running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        await api.subscribe(sink.url, INSTANT)
        _, told = await api.control("/inbound", {"from": TO, "to": SMS, "body": "STOP", "forged": True})
        assert len(told["webhooks"]) == 1
        ((headers, event),) = sink.events
        assert (headers["verification-token"], event["body"]["subject"]) == ("not a-token", "STOP")
        assert (await api.store(path=f"/{told['sid']}"))[0] == 404
        assert (await api.consents("GET"))[1]["records"] == []
        assert carrier.book.counts["inbound"] == 0


async def test_a_lost_inbound_is_in_the_list_and_told_to_nobody() -> None:
    async with running_events() as sink, running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        await api.subscribe(sink.url, INSTANT)
        result = await carrier.inbound(TO, SMS, "Hello", deliver=False)
        assert [one["id"] for one in (await api.store(direction="Inbound"))[1]["records"]] == [int(result.sid)]
        assert not sink.events


# -- consents -------------------------------------------------------------------------------------------------------------------------


async def test_a_stop_is_a_consent_an_event_and_history() -> None:
    async with running_events() as sink, running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        await api.subscribe(sink.url, OPT_OUTS, CONSENTS)
        await carrier.inbound(TO, A2P, "Stop")
        told = await sink.wait(2)
        assert told[0]["body"] == {"from": A2P, "to": TO, "active": True}
        assert [(one["optStatus"], one["source"]) for one in told[1]["body"]["records"]] == [("OptOut", "Recipient")]
        await carrier.inbound(TO, A2P, "please stop")
        await carrier.inbound(TO, A2P, "START")
        assert (await sink.wait(4))[2]["body"]["active"] is False
        assert (await api.consents("GET"))[1]["records"] == [], "opted out ones, unless asked"
        _, found = await api.consents("POST", "/search", {"to": [TO], "optStatus": "OptIn"})
        assert [(one["from"], one["to"], one["optStatus"]) for one in found["records"]] == [(A2P, TO, "OptIn")]
        _, history = await api.consents("GET", "/history", to=[TO])
        assert [one["optStatus"] for one in history["records"]] == ["OptIn", "OptOut"]
        assert all("createdAt" in one for one in history["records"])


async def test_consents_are_patched_and_those_that_cannot_be_come_back() -> None:
    async with running_events() as sink, running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        await api.subscribe(sink.url, CONSENTS)
        good = {"from": SMS, "to": TO, "optStatus": "OptOut", "source": "Api"}
        status, told = await api.consents("PATCH", body={"records": [{**good, "from": "+12025550177"}, good]})
        assert (status, b"etag" in api.answer.headers) == (200, True)
        assert [(one["from"], one["error"]["parameterName"]) for one in told["failedRecords"]] == [("+12025550177", "from")]
        for name in ("from", "to", "optStatus", "source", "coverage"):
            status, told = await api.consents("PATCH", body={"records": [{**good, "to": OTHER}, {**good, name: "nonsense"}]})
            assert (status, told["errors"][0]["parameterName"]) == (400, f"records[1].{name}")
        assert [one["to"] for one in (await api.consents("GET"))[1]["records"]] == [TO], "of a wrong request nothing is noted"
        await api.sms()
        assert carrier.book.counts["accepted"] == 0
        assert [one["to"] for one in (await sink.wait(1))[0]["body"]["records"]] == [TO]
        assert (await api.consents("PATCH", body={"records": [{**good, "optStatus": "OptIn"}]}))[1] == {}
        await api.sms()
        assert carrier.book.counts["accepted"] == 1


async def test_a_consent_about_every_sender_holds_for_all_until_one_is_told_apart() -> None:
    async with running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        record = {"from": "*", "to": TO, "optStatus": "OptOut", "source": "Api", "coverage": "Account"}
        await carrier.inbound(TO, SMS, "START")  # an earlier word about one sender gives way
        await api.consents("PATCH", body={"records": [record]})
        await api.sms()
        await api.batch()
        assert carrier.book.counts["accepted"] == 0
        await carrier.inbound(TO, A2P, "START")
        await api.sms()
        assert carrier.book.counts["accepted"] == 0
        await api.batch()
        assert carrier.book.counts["accepted"] == 1


@pytest.mark.parametrize("count, status", [(0, 400), (1000, 200), (1001, 400)])
async def test_consents_are_patched_a_thousand_at_a_time(count: int, status: int) -> None:
    async with running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        records = [{"from": SMS, "to": f"+1202555{place:04}", "optStatus": "OptOut", "source": "Api"} for place in range(count)]
        assert (await api.consents("PATCH", body={"records": records}))[0] == status
        if status == 200:
            _, told = await api.consents("GET", perPage=600)
            _, more = await api.consents("GET", perPage=600, pageToken=told["paging"]["nextPageToken"])
            assert len({one["to"] for one in [*told["records"], *more["records"]]}) == count
            assert "nextPageToken" not in more["paging"]
