"""Twilio told of opt-outs: the adapter against the simulator, and against answers that no simulator gives."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest

from gateway.domain.personal import PhoneNumber
from gateway.flow.provider import OptOutWord
from gateway.providers.http import HttpClient
from gateway.providers.twilio.consents import TwilioConsents, consents_base
from gateway.providers.twilio.provider import Twilio, TwilioAccount
from gateway.simulator.carrier import Carrier
from gateway.simulator.server import running_carrier
from gateway.simulator.twilio.account import TwilioState
from gateway.simulator.twilio.consents import Mode
from tests.contract.carrier_tools import FROM, OTHER, SID, TO, TOKEN, Api, config
from tests.contract.wire import Connection, wire

NOON = datetime(2026, 5, 1, 12, 30, 15, 999, tzinfo=UTC)
SERVICE = "MG" + "0f" * 16


def word(number: str = TO, sender: str = FROM, *, opted_out: bool = True) -> OptOutWord:
    return OptOutWord(PhoneNumber(number), sender, opted_out, NOON)


@asynccontextmanager
async def twilio(**account: Any) -> AsyncIterator[tuple[Twilio, Carrier]]:
    async with running_carrier(config()) as carrier:
        one = Twilio(TwilioAccount("main", SID, account.pop("token", TOKEN), api_base=carrier.url, **account))
        try:
            yield one, carrier
        finally:
            await one.close()


async def test_opt_outs_and_opt_ins_are_set_for_pairs_and_the_carrier_acts_by_them() -> None:
    async with twilio(consents_api=True) as (one, carrier):
        assert one.abilities.tells_opt_outs
        assert await one.tell_opt_outs([word(), word(OTHER, SERVICE)]) == ["confirmed", "confirmed"]
        state = carrier.accounts.get(SID)
        assert isinstance(state, TwilioState)
        assert state.opted_out == {(TO, FROM), (OTHER, SERVICE)}
        assert {told.date for told in carrier.consents.told} == {"2026-05-01T12:30:15Z"}
        status, answer = await Api(carrier.url).create()
        assert (status, answer["code"]) == (400, 21610)

        assert await one.tell_opt_outs([word(opted_out=False)]) == ["confirmed"]
        assert (await Api(carrier.url).create())[0] == 201
        assert carrier.consents.requests == 2


async def test_a_call_has_as_many_words_as_twilio_takes() -> None:
    async with twilio(consents_api=True) as (one, carrier):
        most = one.abilities.opt_outs_per_call
        assert set(await one.tell_opt_outs([word(f"+1202555{n:04d}") for n in range(most)])) == {"confirmed"}
        assert set(await one.tell_opt_outs([word(f"+1202555{n:04d}") for n in range(most + 1)])) == {"later"}
        assert len(carrier.consents.told) == most


async def test_what_is_wrong_with_one_word_is_not_the_others() -> None:
    async with twilio(consents_api=True) as (one, carrier):
        carrier.consents.refused = {OTHER}
        assert await one.tell_opt_outs([word(), word(OTHER), word(sender="A Name")]) == ["confirmed", "refused", "refused"]


@pytest.mark.parametrize("mode", ["busy", "error_before", "reset_after", "hang_after"])
async def test_a_fault_of_the_provider_or_the_network_is_for_later(mode: Mode) -> None:
    async with twilio(consents_api=True, time_limit_seconds=0.5) as (one, carrier):
        carrier.consents.mode = mode
        assert await one.tell_opt_outs([word(), word(OTHER)]) == ["later", "later"]


async def test_credentials_that_are_refused_are_for_later_and_without_the_api_twilio_is_never_told() -> None:
    async with twilio(consents_api=True, token="another") as (one, _):
        assert await one.tell_opt_outs([word()]) == ["later"]
    async with twilio() as (one, carrier):
        assert not one.abilities.tells_opt_outs
        assert await one.tell_opt_outs([word(), word(OTHER)]) == ["never", "never"]
        assert carrier.consents.requests == 0
        assert await one.list_opt_outs(FROM, NOON) == []


@pytest.mark.parametrize(
    "status, body",
    [
        (201, b"{"),
        (201, b"[]"),
        (201, b'{"items": 1}'),
        (201, b'{"items": [{"error_code": 0}]}'),
        (201, b'{"items": [{"correlation_id": "another", "error_code": 0}]}'),
        (201, b'{"items": [{"correlation_id": [], "error_code": 0}]}'),
        (201, b"[" * 100_000),
        (200, b'{"items": []}'),
        (404, b'{"code": 20404}'),
    ],
)
async def test_an_answer_that_says_nothing_of_a_word_is_for_later(status: int, body: bytes) -> None:
    assert await _answered(status, lambda _: body) == ["later"]


@pytest.mark.parametrize(
    "code, messages, told",
    [
        (0, [], "confirmed"),
        (30646, ["INVALID_CONTACT_ID"], "refused"),
        (30646, ["INTERNAL_SERVER_ERROR"], "later"),  # https://www.twilio.com/docs/api/errors/30646: retry the request
        (30646, [], "later"),
        (30646, None, "later"),
        (30001, ["?"], "later"),
        ("0", [], "later"),
    ],
)
async def test_what_the_answer_says_of_a_word(code: object, messages: object, told: str) -> None:
    def answer(correlation_id: str) -> bytes:
        item = {"correlation_id": correlation_id, "error_code": code, "error_messages": messages}
        return json.dumps({"items": [item]}).encode()

    assert await _answered(201, answer) == [told]


async def _answered(status: int, answer: Any) -> list[str]:
    async def script(connection: Connection) -> None:
        request = await connection.read()
        ((name, item),) = parse_qsl(request.body.decode())
        assert (request.method, request.target, name) == ("POST", "/v1/Consents/Bulk", "Items")
        await connection.answer(status, answer(json.loads(item)["correlation_id"]))

    async with wire(script) as server:
        http = HttpClient(time_limit_seconds=5, connections=1)
        try:
            return list(await TwilioConsents(http, server.url, SID, TOKEN).tell([word()]))
        finally:
            await http.close()


@pytest.mark.parametrize(
    "api, consents",
    [
        ("https://api.twilio.com", "https://accounts.twilio.com"),
        ("https://api.dublin.ie1.twilio.com/", "https://accounts.dublin.ie1.twilio.com"),
        ("http://127.0.0.1:9009", "http://127.0.0.1:9009"),
    ],
)
def test_consents_have_a_host_of_their_own(api: str, consents: str) -> None:
    assert consents_base(api) == consents
