"""The simulator's RingCentral side under each fault that a script may ask for: what the client sees, and what was accepted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.simulator.http_client import NoAnswer
from gateway.simulator.scripts import NAMED, Script
from gateway.simulator.server import running_carrier
from tests.contract.ringcentral_tools import TO, RingCentral, config

OTHER = "+12025550124"


async def send(api: RingCentral, kind: str) -> tuple[int, Any]:
    return await (api.sms() if kind == "sms" else api.batch(OTHER, TO))


@pytest.mark.parametrize("kind, whole", [("sms", 1), ("batch", 2)])
@pytest.mark.parametrize(
    "script, status, code, accepts",
    [
        (NAMED["busy_twice"], 429, "CMN-301", False),
        (NAMED["queue_full"], 429, "MSG-305", False),
        (Script(answer="refuse", status=503, code="CMN-201", message="Service Temporary Unavailable"), 503, "CMN-201", False),
        (NAMED["error_before"], 500, "CMN-203", False),
        (Script(answer="error_before", status=503), 503, "CMN-201", False),
        (NAMED["error_after"], 502, None, True),
        (Script(answer="error_after", status=500), 500, "CMN-203", True),
    ],
)
async def test_an_error_is_one_of_the_whole_request(
    script: Script, status: int, code: str | None, accepts: bool, kind: str, whole: int
) -> None:
    async with running_carrier(config(scripts={TO: script})) as carrier:
        answered, told = await send(RingCentral(carrier.url), kind)
        assert (answered, told.get("errorCode")) == (status, code)
        assert carrier.book.counts["accepted"] == (whole if accepts else 0)
        assert carrier.book.counts["requests"] == whole
        refused = whole if script.answer == "refuse" else 0
        assert (carrier.book.counts["refused"], carrier.book.counts["errors"]) == (refused, whole - refused)


@pytest.mark.parametrize("kind, whole", [("sms", 1), ("batch", 2)])
@pytest.mark.parametrize("script, ending", [("reset_before", "reset"), ("reset_after", "reset"), ("cut_answer", "reset")])
async def test_a_connection_ends_before_or_after_acceptance(script: str, ending: str, kind: str, whole: int) -> None:
    async with running_carrier(config(scripts={TO: NAMED[script]})) as carrier:
        with pytest.raises(NoAnswer):
            await send(RingCentral(carrier.url), kind)
        assert carrier.book.counts["accepted"] == (0 if script == "reset_before" else whole)
        await carrier.book.wait_for(lambda book: {one.ending for one in book.requests} == {ending})


@pytest.mark.parametrize("kind, whole", [("sms", 1), ("batch", 2)])
@pytest.mark.parametrize("script", ["hang_before", "hang_after", "hang_after_silent"])
async def test_silence_lasts_until_the_client_gives_up(script: str, kind: str, whole: int) -> None:
    async with running_carrier(config(scripts={TO: NAMED[script]})) as carrier:
        api = RingCentral(carrier.url)
        await api.token()
        sending = asyncio.create_task(send(api, kind))
        await carrier.book.wait_for(lambda book: book.counts["requests"] == whole)
        assert {one.ending for one in carrier.book.requests} == {""}
        sending.cancel()
        await carrier.book.wait_for(lambda book: {one.ending for one in book.requests} == {"hung"})
        assert carrier.book.counts["accepted"] == (0 if script == "hang_before" else whole)


@pytest.mark.parametrize("kind, status", [("sms", 200), ("batch", 201)])
async def test_an_answer_may_be_broken(kind: str, status: int) -> None:
    async with running_carrier(config(scripts={TO: NAMED["broken_answer"]})) as carrier:
        api = RingCentral(carrier.url)
        with pytest.raises(json.JSONDecodeError):
            await send(api, kind)
        assert api.answer.status == status
        assert carrier.book.accepted(TO)


@pytest.mark.parametrize("kind", ["sms", "batch"])
async def test_a_slow_answer_tells_of_what_was_accepted_at_once(kind: str) -> None:
    async with running_carrier(config(scripts={TO: Script(after_ms=300)})) as carrier:
        api = RingCentral(carrier.url)
        await api.token()
        sending = asyncio.create_task(send(api, kind))
        await carrier.book.wait_for(lambda book: bool(book.accepted(TO)))
        assert not sending.done()
        _, told = await sending
        assert (told.get("messageStatus") or told["status"]) in {"Queued", "Processing"}


async def test_what_a_batchs_script_says_holds_as_often_as_it_says() -> None:
    async with running_carrier(config(scripts={TO: NAMED["busy_twice"]})) as carrier:
        api = RingCentral(carrier.url)
        assert [(await api.batch(OTHER, TO))[0] for _ in range(3)] == [429, 429, 201]
        assert carrier.book.counts["accepted"] == 2


async def test_an_account_takes_so_many_requests_and_refuses_every_nth() -> None:
    async with running_carrier(config(account={"every_nth_429": 2, "latency_ms": 1})) as carrier:
        api = RingCentral(carrier.url)
        assert [(await send(api, kind))[0] for kind in ("sms", "batch", "batch", "sms")] == [200, 429, 201, 429]


async def test_opted_out_by_script_is_a_failing_message_for_a_while() -> None:
    async with running_carrier(config(scripts={TO: Script(answer="refuse", code=21610, status=400, times=1)})) as carrier:
        api = RingCentral(carrier.url)
        _, made = await api.batch(OTHER, TO)
        assert (made["batchSize"], made["rejected"]) == (2, [])
        _, told = await api.a2p("/messages", batchId=made["id"], phoneNumber=TO)
        assert told["records"][0]["errorCode"] == "SMS-RC-413"
        await api.batch(TO)
        assert [one.to for one in carrier.book.accepted()] == [OTHER, TO]
