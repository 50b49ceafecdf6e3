"""Messaging services: texts by a service, evidence of them, and what people text to its numbers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from gateway.domain.outcome import Accepted
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reports import Text
from gateway.providers.twilio.provider import Twilio, TwilioAccount
from gateway.simulator.server import running_carrier
from tests.contract.carrier_tools import FROM, SID, TO, TOKEN, config
from tests.contract.wire import Connection, wire

PERSON = PhoneNumber(TO)
SERVICE, NEIGHBOUR = "MG" + "5" * 32, "MG" + "6" * 32
SECOND, ALONE = "+12025550101", "+12025550109"
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


async def test_a_text_by_a_service_is_listed_by_it_and_what_is_texted_to_its_numbers_is_found() -> None:
    account = {"services": {SERVICE: (FROM, SECOND), NEIGHBOUR: (ALONE,)}}
    async with running_carrier(config(account=account)) as carrier:
        provider = Twilio(TwilioAccount("main", SID, TOKEN, carrier.url, 5.0, 8))
        since = datetime.now(UTC) - timedelta(minutes=1)
        text = Text(UUID(int=7), 1, "main", SERVICE, PERSON, MessageBody("Hello"), "https://gateway.example/status")
        (outcome,) = await provider.send([text])
        assert isinstance(outcome, Accepted)
        listed = await provider.list_sent(PERSON, SERVICE, since)
        assert [(one.provider_message_id, one.sender) for one in listed] == [(outcome.provider_message_id, SERVICE)]
        assert await provider.list_sent(PERSON, NEIGHBOUR, since) == []
        for number in (FROM, SECOND, ALONE):
            await carrier.inbound(TO, number, "STOP", deliver=False)
        found = await provider.list_inbound(SERVICE, since)
        assert {(one.to, one.service) for one in found} == {(FROM, SERVICE), (SECOND, SERVICE)}
        await provider.close()


@asynccontextmanager
async def listing(*records: dict[str, Any]) -> AsyncIterator[Twilio]:
    async def script(connection: Connection) -> None:
        while True:
            await connection.read()
            await connection.answer(200, json.dumps({"messages": records, "next_page_uri": None}).encode())

    async with wire(script) as server:
        provider = Twilio(TwilioAccount("main", SID, TOKEN, server.url, 5.0, 8))
        try:
            yield provider
        finally:
            await provider.close()


def record(place: int, direction: str, sender: str, to: str, service: str | None) -> dict[str, Any]:
    return {
        "sid": f"SM{place:032}", "direction": direction, "from": sender, "to": to, "messaging_service_sid": service, "body": "STOP",
        "status": "received", "num_segments": "1", "date_created": "Mon, 23 Nov 2026 12:00:00 +0000",
    }  # fmt: skip


@pytest.mark.parametrize("sender, found", [(SERVICE, [1, 2, 4, 7]), (NEIGHBOUR, [3]), (FROM, [1, 2, 3, 4])])
async def test_a_stop_whose_record_names_no_service_is_found_by_what_the_service_has_sent(sender: str, found: list[int]) -> None:
    records = (
        record(9, "outbound-api", FROM, "+12025550177", SERVICE),
        record(8, "outbound-api", ALONE, TO, None),
        record(7, "inbound", "+12025550177", ALONE, SERVICE),  # says nothing of the service's numbers: only what it sent does
        record(1, "inbound", TO, FROM, None),
        record(2, "inbound", TO, FROM, SERVICE),
        record(3, "inbound", TO, FROM, NEIGHBOUR),
        record(4, "inbound", TO, FROM, ""),
        record(5, "inbound", TO, SECOND, None),
    )
    async with listing(*records) as provider:
        texts = await provider.list_inbound(sender, NOON)
    assert sorted(int(text.provider_message_id[2:]) for text in texts) == found
    if sender == SERVICE:
        assert {text.service for text in texts} == {SERVICE}, "so that the STOP counts for the service"
