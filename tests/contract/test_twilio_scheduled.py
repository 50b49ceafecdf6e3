"""Texts that other systems have scheduled at Twilio: canceled when their person opts out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.domain.errors import ProviderUnavailable
from gateway.domain.personal import PhoneNumber
from gateway.providers.twilio.provider import Twilio, TwilioAccount
from gateway.simulator.carrier import Carrier
from gateway.simulator.server import running_carrier
from tests.contract.carrier_tools import FROM, OTHER, SID, TO, TOKEN, Api, config
from tests.contract.wire import Connection, Received, wire

PERSON = PhoneNumber(TO)
SERVICE, NEIGHBOUR = "MG" + "5" * 32, "MG" + "6" * 32
SECOND = "+12025550101"
LATER = timedelta(hours=1)


@asynccontextmanager
async def at_a_carrier() -> AsyncIterator[tuple[Twilio, Api, Carrier]]:
    account = {"services": {SERVICE: (FROM, SECOND), NEIGHBOUR: ("+12025550102",)}}
    async with running_carrier(config(account=account)) as carrier:
        provider = Twilio(TwilioAccount("main", SID, TOKEN, carrier.url, 5.0, 8))
        try:
            yield provider, Api(carrier.url), carrier
        finally:
            await provider.close()


async def scheduled(api: Api, to: str = TO, service: str = SERVICE, **form: str) -> str:
    """The id of a text that another system has scheduled."""
    at = (datetime.now(UTC) + LATER).strftime("%Y-%m-%dT%H:%M:%SZ")
    status, made = await api.create(to, MessagingServiceSid=service, ScheduleType="fixed", SendAt=at, **form)
    assert (status, made["status"]) == (201, "scheduled")
    return str(made["sid"])


async def status_of(api: Api, sid: str) -> str:
    return str((await api.message("GET", sid))[1]["status"])


async def test_what_a_service_is_to_send_to_the_person_is_canceled_and_nothing_else() -> None:
    async with at_a_carrier() as (provider, api, _):
        theirs = [await scheduled(api), await scheduled(api, body="Another")]
        of_another, by_another = await scheduled(api, OTHER), await scheduled(api, service=NEIGHBOUR)
        _, sent = await api.create(MessagingServiceSid=SERVICE)
        assert await provider.cancel_scheduled(PERSON, [SERVICE]) == 2
        assert [await status_of(api, sid) for sid in theirs] == ["canceled", "canceled"]
        assert [await status_of(api, sid) for sid in (of_another, by_another)] == ["scheduled", "scheduled"]
        assert await status_of(api, sent["sid"]) == "delivered"
        assert await provider.cancel_scheduled(PERSON, [SERVICE]) == 0, "again, and nothing is left"


async def test_what_is_scheduled_from_a_number_is_canceled_by_the_number() -> None:
    async with at_a_carrier() as (provider, api, _):
        named = await scheduled(api, From=FROM)
        other_number = await scheduled(api, From=SECOND)
        assert await provider.cancel_scheduled(PERSON, [FROM]) == 1
        assert (await status_of(api, named), await status_of(api, other_number)) == ("canceled", "scheduled")


async def test_a_service_that_has_texted_the_person_from_the_number_will_do_so_again() -> None:
    async with at_a_carrier() as (provider, api, carrier):
        before = await scheduled(api)
        assert await provider.cancel_scheduled(PERSON, [FROM, SECOND]) == 0, "nothing says which number it will be"
        _, made = await api.create(MessagingServiceSid=SERVICE)
        chosen = carrier.book.messages[made["sid"]].pool_sender
        neighbour = await scheduled(api, service=NEIGHBOUR)
        unused = SECOND if chosen == FROM else FROM
        assert chosen is not None
        assert await provider.cancel_scheduled(PERSON, [unused]) == 0
        assert await provider.cancel_scheduled(PERSON, [chosen]) == 1
        assert (await status_of(api, before), await status_of(api, neighbour)) == ("canceled", "scheduled")


async def test_a_scheduled_text_is_sent_when_it_is_due_unless_it_was_canceled() -> None:
    async with at_a_carrier() as (provider, api, carrier):
        kept, dropped = await scheduled(api, OTHER), await scheduled(api)
        assert await provider.cancel_scheduled(PERSON, [SERVICE]) == 1
        due = carrier.book.clock() + LATER.total_seconds()
        early, late = due - 60, due + 60
        states = [[carrier.book.messages[sid].step(at).status for at in (early, late)] for sid in (kept, dropped)]
        assert states == [["scheduled", "delivered"], ["canceled", "canceled"]]


# ------------------------------------------------------------------------------------------------------------ when it cannot be done


def record(**changed: Any) -> dict[str, Any]:
    return {
        "sid": "SM" + "a" * 32, "to": TO, "from": None, "messaging_service_sid": SERVICE, "status": "scheduled",
        "direction": "outbound-api", "body": "", "num_segments": "0", "date_sent": None,
        "date_created": "Mon, 23 Nov 2026 12:00:00 +0000", **changed,
    }  # fmt: skip


@asynccontextmanager
async def answering(answer: Any, *listed: dict[str, Any]) -> AsyncIterator[tuple[Twilio, list[Received]]]:
    """A Twilio that lists these records and gives this answer to a request to cancel; ``answer`` may be a connection's end."""

    async def script(connection: Connection) -> None:
        while True:
            received = await connection.read()
            if received.method == "GET":
                await connection.answer(200, json.dumps({"messages": listed, "next_page_uri": None}).encode())
            elif callable(answer):
                answer(connection)
                return
            else:
                status, said = answer
                await connection.answer(status, json.dumps(said).encode())

    async with wire(script) as server:
        provider = Twilio(TwilioAccount("main", SID, TOKEN, server.url, 5.0, 8))
        try:
            yield provider, server.requests
        finally:
            await provider.close()


@pytest.mark.parametrize(
    "answer, canceled",
    [
        ((200, record(status="canceled")), 1),
        ((409, {"code": 30409, "message": "This message cannot be canceled", "status": 409}), 0),  # sent meanwhile
        ((404, {"code": 20404, "message": "not found", "status": 404}), 0),  # deleted meanwhile
    ],
    ids=["canceled", "sent meanwhile", "deleted meanwhile"],
)
async def test_an_answer_that_settles_it(answer: Any, canceled: int) -> None:
    async with answering(answer, record()) as (provider, requests):
        assert await provider.cancel_scheduled(PERSON, [SERVICE]) == canceled
    listing, cancel = requests
    assert "DateSent" not in listing.target, "what is not sent yet has no date, and no filter on it finds it"
    assert (cancel.method, cancel.form) == ("POST", {"Status": "canceled"})


@pytest.mark.parametrize(
    "answer",
    [
        (200, record()),  # still scheduled
        (429, {"code": 20429, "message": "Too Many Requests", "status": 429}),
        (401, {"code": 20003, "message": "Authenticate", "status": 401}),
        (400, {"code": 30400, "message": f"Bad parameters for {TO}", "status": 400}),
        (500, {}),
        Connection.rst,
        Connection.fin,
    ],
    ids=["not done", "429", "401", "30400", "500", "reset", "closed"],
)
async def test_an_answer_that_leaves_a_doubt_is_a_reason_to_try_again(answer: Any) -> None:
    async with answering(answer, record()) as (provider, _):
        with pytest.raises(ProviderUnavailable) as caught:
            await provider.cancel_scheduled(PERSON, [SERVICE])
    assert TO not in str(caught.value)
    assert str(caught.value).startswith("Twilio account main: ")


@pytest.mark.parametrize(
    "first, answered",
    [
        (record(sid="SM" + "b" * 32), (400, {"code": 30400, "message": f"Bad parameters for {TO}", "status": 400})),
        (record(sid="SM" + "b" * 32), None),
        (record(sid="nonsense"), None),
    ],
    ids=["refused", "not answered", "without an id"],
)
async def test_a_text_that_cannot_be_canceled_keeps_none_of_the_others(first: dict[str, Any], answered: Any) -> None:
    listed, asked = [first, record()], []

    async def script(connection: Connection) -> None:
        while True:
            received = await connection.read()
            if received.method == "GET":
                await connection.answer(200, json.dumps({"messages": listed, "next_page_uri": None}).encode())
                continue
            asked.append(received.target.rpartition("/")[2])
            if asked[-1].startswith("SM" + "a" * 32):
                await connection.answer(200, json.dumps(record(status="canceled")).encode())
            elif answered is not None:
                await connection.answer(answered[0], json.dumps(answered[1]).encode())
            else:
                connection.rst()
                return

    async with wire(script) as server:
        provider = Twilio(TwilioAccount("main", SID, TOKEN, server.url, 5.0, 8))
        try:
            with pytest.raises(ProviderUnavailable) as caught:
                await provider.cancel_scheduled(PERSON, [SERVICE])
        finally:
            await provider.close()
    assert asked[-1] == "SM" + "a" * 32 + ".json"
    assert TO not in str(caught.value)


async def test_a_list_that_cannot_be_read_is_a_reason_to_try_again() -> None:
    for listed in (record(sid="nonsense"), record(sid="")):
        async with answering((200, {}), listed) as (provider, requests):
            with pytest.raises(ProviderUnavailable):
                await provider.cancel_scheduled(PERSON, [SERVICE])
            assert [request.method for request in requests] == ["GET"]


async def test_nothing_is_asked_of_what_is_not_scheduled_or_not_the_persons() -> None:
    """A request to cancel is one that an operator sees at Twilio: none for each text of the past."""
    states = ("queued", "accepted", "sending", "sent", "delivered", "undelivered", "failed", "canceled", "read")
    others = [*(record(status=state) for state in states), record(to=OTHER), record(messaging_service_sid=NEIGHBOUR)]
    async with answering((200, record(status="canceled")), *others) as (provider, requests):
        assert await provider.cancel_scheduled(PERSON, [SERVICE]) == 0
    assert [request.method for request in requests] == ["GET"]
