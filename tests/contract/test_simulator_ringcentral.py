"""The simulator's RingCentral side against what RingCentral's specification and documents say: tokens, sending, lists, limits."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.simulator.scripts import NAMED, Script
from gateway.simulator.server import running_carrier
from tests.contract import carrier_tools
from tests.contract.ringcentral_tools import A2P, ACCOUNT, SMS, TO, RingCentral, config

OTHER = "+12025550124"
THIRD = "+12025550125"
ABROAD = "+447700900123"


# -- tokens ---------------------------------------------------------------------------------------------------------------------------


async def test_a_jwt_gives_a_token_that_opens_the_api() -> None:
    async with running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        status, told = await api.token()
        assert (status, told["token_type"], told["expires_in"]) == (200, "bearer", 3600)
        assert {"access_token", "scope", "owner_id", "session_id", "refresh_token", "refresh_token_expires_in"} <= set(told)
        assert (await api.store())[0] == 200


@pytest.mark.parametrize(
    "secret, form, status, error, code",
    [
        ("wrong", {}, 401, "invalid_client", "OAU-146"),
        (None, {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "no"}, 400, "invalid_grant", "OAU-213"),
        (None, {"grant_type": "refresh_token", "refresh_token": "no"}, 400, "invalid_grant", "OAU-213"),
        (None, {"grant_type": "password"}, 400, "unsupported_grant_type", "OAU-250"),
    ],
)
async def test_a_token_is_refused(secret: str | None, form: dict[str, str], status: int, error: str, code: str) -> None:
    async with running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        answered, told = await api.token(**form) if secret is None else await api.token(secret=secret, **form)
    assert (answered, told["error"], told["errors"][0]["errorCode"]) == (status, error, code)


async def test_a_refresh_token_serves_once_and_ends_what_it_came_with() -> None:
    async with running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        _, first = await api.token()
        status, second = await api.token(grant_type="refresh_token", refresh_token=first["refresh_token"])
        assert (status, (await api.store())[0]) == (200, 200)
        api.bearer = first["access_token"]
        assert (await api.store())[1]["errors"][0]["errorCode"] == "OAU-213"
        again, _ = await api.token(grant_type="refresh_token", refresh_token=first["refresh_token"])
        assert (again, second["access_token"] == first["access_token"]) == (400, False)


async def test_what_opens_nothing_is_401_by_its_code() -> None:
    now = [1_800_000_000.0]
    async with running_carrier(config(account={"token_s": 60}), clock=lambda: now[0]) as carrier:
        api = RingCentral(carrier.url)
        await api.token()
        now[0] += 59
        assert (await api.store())[0] == 200
        now[0] += 1
        status, told = await api.store()
        assert (status, told["errorCode"], told["errors"][0]["errorCode"]) == (401, "TokenExpired", "OAU-128")
        await api.token()
        assert (await api.control("/tokens", {"sid": ACCOUNT, "revoke": True})) == (200, {"revoked": 2})
        status, told = await api.store()
        assert (status, told["errorCode"], told["errors"][0]["errorCode"]) == (401, "TokenInvalid", "OAU-213")
        api.bearer = "made-up"
        status, told = await api.store()
        assert (status, told["errors"][0]["errorCode"]) == (401, "OAU-129")
        status, told = await api.send("GET", "/restapi/v1.0/subscription", {})
        assert (status, told["errorCode"]) == (401, "AGW-401")
        status, told = await api.send("GET", "/restapi/v1.0/subscription", {"Authorization": "Basic eA=="})
        assert (status, told["errorCode"]) == (401, "AGW-402")


async def test_the_token_endpoint_can_fail() -> None:
    async with running_carrier(config(account={"token_error": 503})) as carrier:
        assert (await RingCentral(carrier.url).token())[0] == 503


# -- single SMS -----------------------------------------------------------------------------------------------------------------------


async def test_a_single_sms_is_queued_then_delivered_and_found_in_the_store() -> None:
    async with running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        status, made = await api.sms(text="Hello 👋")
        assert (status, made["messageStatus"], made["subject"], made["direction"]) == (200, "Queued", "Hello 👋", "Outbound")
        assert (made["from"]["phoneNumber"], made["to"][0]["phoneNumber"]) == (SMS, TO)
        assert isinstance(made["id"], int)
        _, later = await api.store(path=f"/{made['id']}")
        assert (later["messageStatus"], later["smsSendingAttemptsCount"]) == ("Delivered", 1)
        _, listed = await api.store(messageType="SMS", direction="Outbound", phoneNumber=TO)
        assert [one["id"] for one in listed["records"]] == [made["id"]]
        assert (await api.a2p("/messages"))[1]["records"] == []
        assert carrier.book.counts["accepted"] == 1


@pytest.mark.parametrize(
    "changes, status, code",
    [
        ({"text": "x" * 1001}, 400, "CMN-101"),
        ({"text": "👋" * 501}, 400, "CMN-101"),
        ({"text": ""}, 400, "CMN-101"),
        ({"to": "nobody"}, 400, "CMN-101"),
        ({"to": ABROAD}, 403, "MSG-240"),
        ({"sender": A2P}, 403, "MSG-242"),
        ({"sender": "+12025550177"}, 400, "MSG-245"),
        ({"text": "x" * 1000}, 200, None),
        ({"text": "👋" * 500}, 200, None),
    ],
)
async def test_a_single_sms_is_refused_with_ringcentrals_codes(changes: dict[str, str], status: int, code: str | None) -> None:
    async with running_carrier(config()) as carrier:
        answered, told = await RingCentral(carrier.url).sms(**changes)
        assert (answered, told.get("errorCode")) == (status, code)
        assert carrier.book.counts["accepted"] == (1 if status == 200 else 0)
        if code:
            assert told["errors"][0]["errorCode"] == code
            assert carrier.book.requests[0].code == code


@pytest.mark.parametrize(
    "code, status", [("SMS-RC-413", "SendingFailed"), ("SMS-UP-413", "SendingFailed"), ("SMS-CAR-413", "DeliveryFailed")]
)
async def test_who_is_opted_out_gets_a_message_that_fails_and_no_error(code: str, status: str) -> None:
    async with running_carrier(config(account={"opted_out_code": code})) as carrier:
        api = RingCentral(carrier.url)
        await carrier.inbound(TO, SMS, " stop ")
        await carrier.inbound(TO, A2P, "UNSUBSCRIBE")
        answered, made = await api.sms()
        assert (answered, made["messageStatus"]) == (200, "Queued")
        _, later = await api.store(path=f"/{made['id']}")
        assert (later["messageStatus"], later["deliveryErrorCode"]) == (status, code)
        assert (await api.batch())[0] == 201
        (sent,) = (await api.a2p("/messages", direction="Outbound"))[1]["records"]
        assert (sent["messageStatus"], sent["errorCode"]) == (status, code)
        assert carrier.book.counts["accepted"] == 0
        assert carrier.book.counts[f"refused_{code}"] == 2
        await carrier.inbound(TO, SMS, "Unstop")
        await api.sms()
        assert carrier.book.counts["accepted"] == 1


async def test_opted_out_is_one_pair_of_numbers() -> None:
    async with running_carrier(config(account={"senders": (SMS, OTHER)})) as carrier:
        api = RingCentral(carrier.url)
        await carrier.inbound(TO, SMS, "STOP")
        await api.sms()
        assert carrier.book.counts["accepted"] == 0
        await api.sms(sender=OTHER)
        assert carrier.book.counts["accepted"] == 1


# -- batches --------------------------------------------------------------------------------------------------------------------------


async def test_a_batch_has_an_outcome_for_each_message_and_tells_of_rejected_ones_once() -> None:
    async with running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        status, made = await api.batch(TO, "+4088070206", OTHER, text="Hi")
        assert (status, made["from"], made["batchSize"], made["processedCount"], made["status"]) == (201, A2P, 2, 0, "Processing")
        assert made["rejected"] == [
            {"index": 2, "to": ["+4088070206"], "errorCode": "SMS-RC-410", "description": "The recipient number is invalid"}
        ]
        _, later = await api.a2p(f"/batches/{made['id']}")
        assert (later["status"], later["processedCount"], later["rejected"]) == ("Completed", 2, [])
        _, simple = await api.a2p("/messages", batchId=made["id"])
        assert {one["to"][0]: one["messageStatus"] for one in simple["records"]} == {TO: "Delivered", OTHER: "Delivered"}
        assert all(one["batchId"] == made["id"] and isinstance(one["id"], int) and "text" not in one for one in simple["records"])
        _, detailed = await api.a2p("/messages", batchId=made["id"], view="Detailed", phoneNumber=[OTHER])
        assert [one["text"] for one in detailed["records"]] == ["Hi"]
        _, whole = await api.a2p(f"/messages/{detailed['records'][0]['id']}")
        assert (whole["id"], whole["text"]) == (str(detailed["records"][0]["id"]), "Hi")
        _, listed = await api.a2p("/batches")
        assert [one["id"] for one in listed["records"]] == [made["id"]]
        assert (carrier.book.counts["requests"], carrier.book.counts["accepted"]) == (3, 2)
        assert carrier.book.counts["refused_SMS-RC-410"] == 1


async def test_a_message_of_a_batch_may_have_a_text_of_its_own() -> None:
    async with running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        messages = [{"to": [TO], "text": "Own"}, {"to": [OTHER]}]
        body = {"from": A2P, "text": "Common", "messages": messages}
        status, made = await api.call("POST", "/restapi/v1.0/account/~/a2p-sms/batches", body)
        _, told = await api.a2p("/messages", batchId=made["id"], view="Detailed")
        assert (status, {one["to"][0]: one["text"] for one in told["records"]}) == (201, {TO: "Own", OTHER: "Common"})


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"from": SMS, "text": "x", "messages": [{"to": [TO]}]},
        {"from": A2P, "text": "x", "messages": []},
        {"from": A2P, "messages": [{"to": [TO]}]},
        {"from": A2P, "text": "x" * 1001, "messages": [{"to": [TO]}]},
        {"from": A2P, "text": "x", "messages": [{"to": [TO, OTHER]}]},
        {"from": A2P, "text": "x", "messages": [{"to": TO}]},
    ],
)
async def test_a_batch_that_is_wrong_as_a_whole_sends_nothing(body: Any) -> None:
    async with running_carrier(config()) as carrier:
        status, told = await RingCentral(carrier.url).call("POST", "/restapi/v1.0/account/~/a2p-sms/batches", body)
        assert (status, told["errors"][0]["errorCode"] in {"CMN-101", "CMN-103"}) == (400, True)
        assert carrier.book.counts["accepted"] == 0


async def test_scripts_decide_each_messages_fate() -> None:
    fates = {TO: NAMED["undelivered"], OTHER: NAMED["not_textable"], THIRD: Script(fate="failed", fate_code="SMS-UP-430")}
    async with running_carrier(config(scripts=fates)) as carrier:
        api = RingCentral(carrier.url)
        _, made = await api.batch(TO, OTHER, THIRD, "+12025550126")
        assert [(one["index"], one["errorCode"]) for one in made["rejected"]] == [(2, "SMS-RC-410")]
        _, told = await api.a2p("/messages", batchId=made["id"])
        assert {one["to"][0][-3:]: (one["messageStatus"], one.get("errorCode")) for one in told["records"]} == {
            "123": ("DeliveryFailed", "SMS-CAR-412"),
            "125": ("SendingFailed", "SMS-UP-430"),
            "126": ("Delivered", None),
        }


async def test_chance_decides_once_on_a_batch_and_for_each_message_on_its_fate() -> None:
    numbers = [f"+1202555{place:04}" for place in range(1000, 1200)]
    async with running_carrier(config(mix=((0.2, NAMED["reset_after"]), (0.3, NAMED["undelivered"])))) as carrier:
        api = RingCentral(carrier.url)
        ends = []
        for start in range(0, 200, 10):
            try:
                ends.append((await api.batch(*numbers[start : start + 10]))[0])
            except Exception:  # noqa: BLE001 -- whatever a client makes of a reset
                ends.append(0)
        assert set(ends) == {0, 201}
        assert 1 <= ends.count(0) <= 12, "a fifth of the batches, not of the batches that have one such message"
        assert carrier.book.counts["accepted"] == 200
        states = [one.message.step(carrier.book.clock()).status for one in carrier.book.requests if one.message]
        assert 20 <= states.count("undelivered") <= 100


# -- lists ----------------------------------------------------------------------------------------------------------------------------


async def test_lists_go_page_by_page() -> None:
    async with running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        for place in range(5):
            await api.sms(text=f"single {place}")
        await api.batch(*[f"+120255510{place:02}" for place in range(5)])
        subjects, page = [], 1
        while True:
            _, told = await api.store(perPage=2, page=page)
            subjects += [one["subject"] for one in told["records"]]
            assert told["paging"]["totalElements"] == 5
            if "nextPage" not in told["navigation"]:
                break
            page += 1
        assert (page, subjects) == (3, [f"single {place}" for place in reversed(range(5))])
        people: list[str] = []
        query: dict[str, Any] = {"perPage": 2}
        while True:
            _, told = await api.a2p("/messages", **query)
            people += [one["to"][0] for one in told["records"]]
            if "nextPageToken" not in told["paging"]:
                break
            query["pageToken"] = told["paging"]["nextPageToken"]
        assert people == [f"+120255510{place:02}" for place in reversed(range(5))]


async def test_lists_filter_by_time_and_direction_and_reach_back_a_day_unless_told() -> None:
    async with running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        await carrier.inbound(TO, SMS, "old", age=2 * 24 * 3600)
        await carrier.inbound(TO, SMS, "new")
        await api.sms(text="ours")

        async def subjects(**query: str) -> list[str]:
            return [one["subject"] for one in (await api.store(**query))[1]["records"]]

        assert await subjects() == ["ours", "new"]
        assert await subjects(direction="Inbound", dateFrom="2020-01-01T00:00:00Z") == ["new", "old"]
        assert await subjects(direction="Inbound", dateFrom="2020-01-01T00:00:00Z", dateTo="2020-01-02T00:00:00Z") == []
        for wrong in ({"dateFrom": "yesterday"}, {"direction": "Sideways"}, {"page": "0"}):
            status, told = await api.store(**wrong)
            assert (status, told["errors"][0]["parameterName"]) == (400, next(iter(wrong)))


async def test_a_message_is_deleted_then_purged_and_no_identifier_deletes_everything() -> None:
    async with running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        made = [(await api.sms(text=f"{place}"))[1]["id"] for place in range(4)]
        assert (await api.store("DELETE", f"/{made[0]}"))[0] == 204
        assert (await api.store(path=f"/{made[0]}"))[1]["availability"] == "Deleted"
        assert len((await api.store())[1]["records"]) == 3
        assert (await api.store("DELETE", f"/{made[0]}"))[0] == 204
        status, told = await api.store(path=f"/{made[0]}")
        assert (status, told["errorCode"]) == (404, "CMN-102")
        assert (await api.store("DELETE", f"/{made[1]}", purge="true"))[0] == 204
        assert (await api.store(path=f"/{made[1]}"))[0] == 404
        assert (await api.store("DELETE", "/", purge="true"))[0] == 204, "an empty identifier is none"
        assert (await api.store())[1]["records"] == []
        assert {(await api.store(path=f"/{one}"))[0] for one in made} == {404}


async def test_another_account_and_an_unknown_path_are_not_found() -> None:
    async with running_carrier(config()) as carrier:
        api = RingCentral(carrier.url)
        for path, code in (("account/1/a2p-sms/messages", "CMN-102"), ("account/~/nothing", "CMN-120")):
            status, told = await api.call("GET", f"/restapi/v1.0/{path}")
            assert (status, told["errorCode"]) == (404, code)
        assert (await api.call("GET", f"/restapi/v1.0/account/{ACCOUNT}/a2p-sms/messages"))[0] == 200


# -- limits ---------------------------------------------------------------------------------------------------------------------------


async def test_a_group_has_a_limit_and_every_call_renews_the_penalty() -> None:
    now = [1_800_000_000.0]
    async with running_carrier(config(account={"rates": {"Light": 2, "Auth": 5}}), clock=lambda: now[0]) as carrier:
        api = RingCentral(carrier.url)
        assert (await api.a2p("/messages"))[0] == 200
        assert {name: value for name, value in api.answer.headers.items() if name.startswith(b"x-rate")} == {
            b"x-rate-limit-group": b"light",
            b"x-rate-limit-limit": b"2",
            b"x-rate-limit-remaining": b"1",
            b"x-rate-limit-window": b"60",
        }
        assert (await api.batch())[0] == 201
        status, told = await api.a2p("/messages")
        assert (status, told["errorCode"], api.answer.headers[b"retry-after"]) == (429, "CMN-301", b"60")
        now[0] += 59
        assert (await api.batch())[0] == 429, "the penalty begins again with each call"
        now[0] += 59
        assert (await api.batch())[0] == 429
        assert (await api.sms())[0] == 200, "another group"
        now[0] += 60
        assert (await api.batch())[0] == 201
        assert carrier.book.counts["requests"] == 3, "what the limit stops is not in the book"


async def test_a_429_may_tell_nothing_and_the_token_endpoint_has_its_own_limit() -> None:
    async with running_carrier(config(account={"rates": {"Auth": 1}, "retry_after": False})) as carrier:
        api = RingCentral(carrier.url)
        assert (await api.token())[0] == 200
        status, told = await api.token()
        assert (status, told["errorCode"], b"retry-after" in api.answer.headers) == (429, "CMN-301", False)
        assert (await api.store())[0] == 200
        assert b"x-rate-limit-group" not in api.answer.headers


# -- one carrier ----------------------------------------------------------------------------------------------------------------------


async def test_one_carrier_is_both_and_has_one_book() -> None:
    both = config(accounts=(*carrier_tools.config().accounts, *config().accounts))
    async with running_carrier(both) as carrier:
        assert (await carrier_tools.Api(carrier.url).create())[0] == 201
        api = RingCentral(carrier.url)
        assert (await api.sms())[0] == 200
        assert (await api.batch(TO, OTHER))[0] == 201
        assert [one.account for one in carrier.book.accepted()] == [carrier_tools.SID, ACCOUNT, ACCOUNT, ACCOUNT]
        _, book = await api.control("/book")
        assert [bool(one["batch"]) for one in book["requests"]] == [False, False, True, True]
        assert (await api.batch(TO))[0] == 201
        duplicates = [{one.account for one in group} for group in carrier.book.duplicates()]
        assert duplicates == [{carrier_tools.SID, ACCOUNT}, {ACCOUNT}], "whichever way the same text has come"
        assert (await api.control("/reset", {}))[0] == 200
        assert (await api.store())[0] == 401


async def test_identifiers_are_whole_numbers_that_a_seed_fixes() -> None:
    async with running_carrier(config()) as first, running_carrier(config()) as second, running_carrier(config(seed=2)) as third:
        made = [(await RingCentral(one.url).sms())[1]["id"] for one in (first, second, third)]
    assert made[0] == made[1] != made[2]
    assert all(0 < one < 1 << 53 for one in made)
