"""How the simulator misbehaves, seen from the client's side of a real connection."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import pytest

from gateway.simulator.book import Book
from gateway.simulator.http_client import NoAnswer
from gateway.simulator.scripts import NAMED, SUFFIXES, Script
from gateway.simulator.server import running_carrier
from tests.contract.carrier_tools import FROM, OTHER, SID, TO, Api, config

REQUEST = (
    f"POST /2010-04-01/Accounts/{SID}/Messages.json HTTP/1.1\r\nHost: x\r\nAuthorization: {{auth}}\r\n"
    f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {{size}}\r\n\r\n"
)


async def raw_create(url: str, *, wait: float = 5.0) -> bytes:
    """Send a create request on a bare connection and read until its end. Raises ConnectionResetError on a RST."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = f"To=%2B{TO[1:]}&From=%2B{FROM[1:]}&Body=Hello".encode()
    writer.write(REQUEST.format(auth=Api(url).headers["Authorization"], size=len(body)).encode() + body)
    try:
        return await asyncio.wait_for(reader.read(), wait)
    finally:
        writer.close()


@pytest.mark.parametrize("script, accepted", [("reset_before", 0), ("reset_after", 1)])
async def test_a_reset_is_a_real_rst(script: str, accepted: int) -> None:
    async with running_carrier(config(scripts={TO: NAMED[script]})) as carrier:
        with pytest.raises(ConnectionResetError):
            await raw_create(carrier.url)
        assert carrier.book.counts["accepted"] == accepted
        assert carrier.book.requests[0].ending == "reset"
        assert carrier.book.requests[0].answer is None


@pytest.mark.parametrize("script, accepted", [("hang_before", 0), ("hang_after", 1), ("hang_after_silent", 1)])
async def test_a_hang_lasts_until_the_client_gives_up(script: str, accepted: int) -> None:
    async with running_carrier(config(scripts={TO: NAMED[script]})) as carrier:
        with pytest.raises(NoAnswer, match="read"):
            await Api(carrier.url, within=0.5).create()
        await carrier.quiet()
        assert carrier.book.counts["accepted"] == accepted
        assert carrier.book.requests[0].ending == "hung"
        listed = (await Api(carrier.url).list(To=TO))[1]["messages"]
        assert len(listed) == accepted


async def test_a_hang_does_not_hold_up_the_carriers_end() -> None:
    began = time.monotonic()
    async with running_carrier(config(scripts={TO: NAMED["hang_after"]})) as carrier:
        create = asyncio.create_task(Api(carrier.url, within=30).create())
        await carrier.book.wait_for(lambda book: book.counts["accepted"] == 1)
    with pytest.raises(NoAnswer):
        await create
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("script, status, accepted", [("error_before", 500, 0), ("error_after", 502, 1)])
async def test_5xx_before_and_after_acceptance(script: str, status: int, accepted: int) -> None:
    async with running_carrier(config(scripts={TO: NAMED[script]})) as carrier:
        assert (await Api(carrier.url).create())[0] == status
        assert carrier.book.counts["accepted"] == accepted


async def test_a_broken_and_a_cut_answer_come_after_acceptance() -> None:
    async with running_carrier(config(scripts={TO: NAMED["broken_answer"], OTHER: NAMED["cut_answer"]})) as carrier:
        api = Api(carrier.url)
        with pytest.raises(json.JSONDecodeError):
            await api.create()
        with pytest.raises(NoAnswer, match="read"):
            await api.create(to=OTHER)
        assert carrier.book.counts["accepted"] == 2


async def test_busy_twice_then_accepted() -> None:
    script = Script(answer="refuse", times=2, status=429, code=20429, message="Too Many Requests", retry_after=1)
    async with running_carrier(config(scripts={TO: script})) as carrier:
        api = Api(carrier.url)
        answers = [await api.create() for _ in range(3)]
        assert [(status, body.get("code")) for status, body in answers] == [(429, 20429), (429, 20429), (201, None)]
        carrier.script(TO, None)
        assert (await api.create())[0] == 201


async def test_slow_accepts_at_once_and_answers_late() -> None:
    async with running_carrier(config(scripts={TO: Script(after_ms=300)})) as carrier:
        create = asyncio.create_task(Api(carrier.url).create())
        await carrier.book.wait_for(lambda book: book.counts["accepted"] == 1)
        assert not create.done()
        status, made = await create
        assert (status, made["status"]) == (201, "queued")
        request = carrier.book.requests[0]
        assert request.ended_at is not None
        assert request.accepted_at is not None
        assert request.ended_at - request.accepted_at >= 0.29


@pytest.mark.parametrize(
    "script, state, code", [("undelivered", "undelivered", 30003), ("failed", "failed", 30008), ("stays_sent", "sent", None)]
)
async def test_fates(script: str, state: str, code: int | None) -> None:
    async with running_carrier(config(scripts={TO: NAMED[script]})) as carrier:
        api = Api(carrier.url)
        _, made = await api.create()
        _, message = await api.message("GET", made["sid"])
        assert (message["status"], message["error_code"], message["error_message"] is None) == (state, code, code is None)


async def test_statuses_follow_the_clock() -> None:
    async with running_carrier(config(sent_ms=1_000, final_ms=2_000)) as carrier:
        await Api(carrier.url).create()
        message = next(iter(carrier.book.messages.values()))
        at = message.created_at
        assert [message.step(at + after).status for after in (0, 0.9, 1, 1.9, 2, 99)] == [
            "queued", "queued", "sent", "sent", "delivered", "delivered",
        ]  # fmt: skip
        assert (message.sent_at(at + 0.5), message.sent_at(at + 5)) == (None, at + 1)


async def test_concurrency_above_the_limit_is_429_20429() -> None:
    async with running_carrier(config(account={"concurrency": 2, "latency_ms": 200})) as carrier:
        api = Api(carrier.url)
        answers = await asyncio.gather(*(api.create(body=str(place)) for place in range(5)))
        assert sorted(status for status, _ in answers) == [201, 201, 429, 429, 429]
        assert {body["code"] for status, body in answers if status == 429} == {20429}
        assert (await api.create())[0] == 201


async def test_latency_delays_acceptance() -> None:
    async with running_carrier(config(account={"latency_ms": 200})) as carrier:
        await Api(carrier.url).create()
        request = carrier.book.requests[0]
        assert request.accepted_at is not None
        assert request.accepted_at - request.begun_at >= 0.19


async def test_begun_at_is_the_first_byte_and_not_the_end_of_the_request() -> None:
    async with running_carrier(config()) as carrier:
        host, port = carrier.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = f"To=%2B{TO[1:]}&From=%2B{FROM[1:]}&Body=Hello".encode()
        head = REQUEST.format(auth=Api(carrier.url).headers["Authorization"], size=len(body)).encode()
        writer.write(head[:1])
        await writer.drain()
        # A second connection's exchange orders the two writes without a pause: the server has read the byte before it answers.
        await Api(carrier.url).control("/stats")
        middle = time.time()
        writer.write(head[1:] + body)
        assert b"201 Created" in await reader.readline()
        writer.close()
        request = carrier.book.requests[0]
        assert request.accepted_at is not None
        assert request.begun_at < middle < request.accepted_at


async def test_every_nth_create_is_429() -> None:
    async with running_carrier(config(account={"every_nth_429": 3})) as carrier:
        api = Api(carrier.url)
        assert [(await api.create(body=str(place)))[0] for place in range(7)] == [201, 201, 429, 201, 201, 429, 201]


async def test_the_mix_depends_on_seed_and_number_and_not_on_order() -> None:
    numbers = [f"+1202555{place:04d}" for place in range(1000, 1060)]
    mix = ((0.3, NAMED["opted_out"]), (0.2, NAMED["error_before"]))

    async def fates(order: list[str], seed: int) -> dict[str, int]:
        async with running_carrier(config(mix=mix, seed=seed)) as carrier:
            api = Api(carrier.url)
            statuses = await asyncio.gather(*(api.create(to=number) for number in order))
            return dict(zip(order, (status for status, _ in statuses), strict=True))

    first = await fates(numbers, 7)
    assert await fates(numbers[::-1], 7) == first
    assert await fates(numbers, 8) != first
    assert set(first.values()) == {201, 400, 500}


async def test_the_last_digits_choose_a_script_where_that_is_on() -> None:
    assert [SUFFIXES[f"55501{last}"] for last in (81, 83, 91, 93)] == ["undelivered", "opted_out", "hang_after", "hang_before"]
    assert len(SUFFIXES) == 20
    for on, code in ((True, 21610), (False, None)):
        async with running_carrier(config(suffixes=on)) as carrier:
            assert (await Api(carrier.url).create(to="+13125550183"))[1].get("code") == code
            assert (await Api(carrier.url).create(to="+443125550183"))[0] == 201


async def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_carrier(config()) as carrier:
        host, port = carrier.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(REQUEST.format(auth=Api(carrier.url).headers["Authorization"], size=100).encode() + b"To=%2B12")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await carrier.quiet()
        assert (await Api(carrier.url).create())[0] == 201
    assert TO not in caplog.text
    assert "Hello" not in caplog.text


async def test_too_large_a_request_is_413() -> None:
    async with running_carrier(config()) as carrier:
        assert (await Api(carrier.url).create(body="x" * (1 << 20)))[0] == 413


async def test_nothing_personal_is_logged_whatever_happens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_carrier(config(scripts={TO: NAMED["undelivered"], OTHER: NAMED["reset_after"]})) as carrier:
        api = Api(carrier.url)
        await api.create(body="canary", StatusCallback="http://127.0.0.1:1/x")
        with pytest.raises(NoAnswer):
            await api.create(to=OTHER, body="canary")
        await api.create(to="+15005550004", body="canary")
        await api.list(To=TO)
        await carrier.quiet()
        carrier.book.open = lambda *_, **__: 1 / 0  # type: ignore[assignment] # a fault of the simulator's own
        assert (await api.create(body="canary"))[1]["code"] == 20500
        shown = repr(list(carrier.book.requests)) + repr(carrier.book.messages)
    for text in (caplog.text, shown):
        assert "canary" not in text
        assert TO not in text
    assert "ZeroDivisionError" in caplog.text


async def test_wait_for_gives_up() -> None:
    with pytest.raises(TimeoutError):
        await Book(keep=True, limit=1).wait_for(lambda _: False, within=0.01)
