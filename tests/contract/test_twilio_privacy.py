"""What Twilio keeps: retention asked for with each text, and copies that are emptied or deleted afterwards."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from gateway.domain.errors import ProviderUnavailable
from gateway.domain.outcome import Accepted, Later, Outcome
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import Text
from gateway.flow.provider import Erasure
from gateway.providers.twilio.provider import Twilio, TwilioAccount
from gateway.simulator.carrier import Carrier
from gateway.simulator.server import running_carrier
from tests.contract.carrier_tools import FROM, SID, TO, TOKEN, Api, config
from tests.contract.wire import Connection, Wire, wire

PERSON = PhoneNumber(TO)
TEXT = Text(UUID(int=7), 1, "main", FROM, PERSON, MessageBody("secret"), "https://gateway.example/status")
MESSAGE = "SM" + "a" * 32

Ask = Callable[[Twilio, str], Awaitable[Erasure]]


async def redact(provider: Twilio, sid: str) -> Erasure:
    return await provider.redact(sid)


async def delete(provider: Twilio, sid: str) -> Erasure:
    return await provider.delete(sid)


BOTH = pytest.mark.parametrize("ask", [redact, delete], ids=["redact", "delete"])


@asynccontextmanager
async def at_a_carrier(account: dict[str, Any] | None = None, **changed: Any) -> AsyncIterator[tuple[Twilio, Carrier]]:
    pace = {name: changed.pop(name) for name in ("sent_ms", "final_ms") if name in changed}
    async with running_carrier(config(account=account, **pace)) as carrier:
        provider = Twilio(TwilioAccount("main", SID, TOKEN, carrier.url, 5.0, 8, **changed))
        try:
            yield provider, carrier
        finally:
            await provider.close()


@asynccontextmanager
async def over(script: Callable[[Connection], Awaitable[None]]) -> AsyncIterator[tuple[Twilio, Wire]]:
    async with wire(script) as server:
        provider = Twilio(TwilioAccount("main", SID, TOKEN, server.url, 2.0, 8))
        try:
            yield provider, server
        finally:
            await provider.close()


async def sent(provider: Twilio) -> Outcome:
    (outcome,) = await provider.send([TEXT])
    return outcome


# ------------------------------------------------------------------------------------------------------------ retention


@pytest.mark.parametrize(
    "account, form",
    [
        ({}, {}),
        ({"content_retention": "discard"}, {"ContentRetention": "discard"}),
        ({"address_retention": "obfuscate"}, {"AddressRetention": "obfuscate"}),
        (
            {"content_retention": "retain", "address_retention": "retain"},
            {"ContentRetention": "retain", "AddressRetention": "retain"},
        ),
    ],
    ids=["left to the account", "discard", "obfuscate", "retain"],
)
async def test_retention_is_asked_for_with_each_text(account: dict[str, Any], form: dict[str, str]) -> None:
    async def script(connection: Connection) -> None:
        await connection.read()
        await connection.answer(201, json.dumps({"sid": MESSAGE, "num_segments": "1"}).encode())

    async with wire(script) as server:
        provider = Twilio(TwilioAccount("main", SID, TOKEN, server.url, 5.0, 8, **account))
        assert await sent(provider) == Accepted(MESSAGE, 1)
        await provider.close()
    asked = server.requests[0].form
    assert {name: value for name, value in asked.items() if name.endswith("Retention")} == form


@pytest.mark.parametrize(
    "account, shown", [({"content_retention": "discard"}, [("", TO)]), ({"address_retention": "obfuscate"}, [])]
)
async def test_what_twilio_forgets_is_no_evidence_and_the_abilities_say_so(
    account: dict[str, Any], shown: list[tuple[str, str]]
) -> None:
    async with at_a_carrier({"redaction": True}, **account) as (provider, _):
        assert isinstance(await sent(provider), Accepted)
        listed = await provider.list_sent(PERSON, FROM, datetime.now(UTC) - timedelta(minutes=1))
        assert [(text.body.reveal(), text.to.reveal()) for text in listed] == shown
        assert not provider.abilities.lists_sent
    async with at_a_carrier(content_retention="retain") as (provider, _):
        assert provider.abilities.lists_sent


@pytest.mark.parametrize(
    "account, code",
    [({"content_retention": "discard"}, "30029"), ({"address_retention": "obfuscate"}, "30030")],
    ids=["content", "address"],
)
async def test_an_account_without_message_redaction_waits_for_an_operator(account: dict[str, Any], code: str) -> None:
    async with at_a_carrier(**account) as (provider, carrier):
        assert await sent(provider) == Later(Reason.CONFIGURATION, code, holds="account", operator=True)
        assert carrier.book.accepted() == []


# ------------------------------------------------------------------------------------------------------------ copies that are there


async def test_a_copy_is_emptied_and_deleted() -> None:
    async with at_a_carrier() as (provider, carrier):
        outcome = await sent(provider)
        assert isinstance(outcome, Accepted)
        copy, api = carrier.book.messages[outcome.provider_message_id], Api(carrier.url)
        assert await redact(provider, copy.sid) == "done"
        assert (copy.body, copy.to) == ("", TO)
        assert await redact(provider, copy.sid) == "done", "once more changes nothing"
        assert await delete(provider, copy.sid) == "done"
        assert (await api.message("GET", copy.sid))[0] == 404
        assert (await redact(provider, copy.sid), await delete(provider, copy.sid)) == ("done", "done"), "it is gone"


@BOTH
async def test_a_copy_that_is_not_final_goes_later(ask: Ask) -> None:
    async with at_a_carrier(sent_ms=60_000, final_ms=60_000) as (provider, carrier):
        outcome = await sent(provider)
        assert isinstance(outcome, Accepted)
        assert await ask(provider, outcome.provider_message_id) == "later"
        assert carrier.book.messages[outcome.provider_message_id].body == "secret"


@BOTH
async def test_a_copy_that_twilio_does_not_have_is_gone(ask: Ask) -> None:
    async with at_a_carrier() as (provider, _):
        assert await ask(provider, MESSAGE) == "done"


@BOTH
@pytest.mark.parametrize(
    "status, code, erasure",
    [
        (429, 20429, "later"),
        (409, 20009, "later"),
        (400, 20009, "later"),
        (404, 20404, "done"),
        (401, 20003, None),
        (400, 30400, None),
        (500, 20500, None),
        (503, None, None),
    ],
)
async def test_every_answer_has_its_meaning(ask: Ask, status: int, code: int | None, erasure: Erasure | None) -> None:
    said = json.dumps({"code": code, "message": f"of {TO}", "status": status}).encode() if code is not None else b"<html>"

    async def script(connection: Connection) -> None:
        await connection.read()
        await connection.answer(status, said)

    async with over(script) as (provider, server):
        if erasure is not None:
            assert await ask(provider, MESSAGE) == erasure
        else:
            with pytest.raises(ProviderUnavailable) as caught:
                await ask(provider, MESSAGE)
            assert TO not in str(caught.value)
    assert len(server.requests) == 1


@BOTH
@pytest.mark.parametrize("end", [Connection.rst, Connection.fin], ids=["reset", "closed"])
async def test_a_request_without_an_answer_is_asked_again_by_who_asked(ask: Ask, end: Callable[[Connection], None]) -> None:
    async def script(connection: Connection) -> None:
        await connection.read()
        end(connection)

    async with over(script) as (provider, server):
        with pytest.raises(ProviderUnavailable):
            await ask(provider, MESSAGE)
    assert len(server.requests) == 1


@BOTH
@pytest.mark.parametrize("sid", ["", "/", "SM", "SM" + "a" * 31, MESSAGE + ".json", "..", "MG" + "a" * 32])
async def test_what_is_no_messages_id_is_never_asked_for(ask: Ask, sid: str) -> None:
    """An empty id would make the address of the whole list."""

    async def script(connection: Connection) -> None:
        await connection.read()

    async with over(script) as (provider, server):
        with pytest.raises(ProviderUnavailable, match="no message's id"):
            await ask(provider, sid)
    assert server.connections == 0
