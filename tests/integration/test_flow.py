"""The way of a message through the gateway, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.domain.outcome import Accepted, Later, OptedOut, Refused, Unknown
from gateway.domain.reasons import Reason
from gateway.domain.reports import Receipt, Text
from tests.integration.world import Carrier, World, open_world
from tests.support import until


async def test_a_message_is_sent_once_and_told(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        async with world.sending():
            await until(lambda: _is(world, "a", "sent"))
        assert [text.to.reveal() for text in world.carrier.sent] == ["+12025550101"]
        row = (await world.rows("select uid, attempt, provider_message_id from messages"))[0]
        receipts = world.parts.receipts()
        receipt = Receipt("main", row["uid"], row["attempt"], row["provider_message_id"], "delivered", None)
        assert await receipts.receive(receipt) == "changed"
        assert await receipts.receive(receipt) == "repeated"
        told = await world.rows("select state, version, final from outbox where kind = 'status' order by id")
        assert [(row["state"], row["version"], row["final"]) for row in told] == [
            ("accepted", 1, False), ("sent", 2, False), ("delivered", 3, True),
        ]  # fmt: skip
        steps = await world.rows("select number, step from audit where uid is not null order by number")
        assert [(row["number"], row["step"]) for row in steps] == [(1, "decided"), (2, "claimed"), (3, "sent"), (4, "delivered")]
        assert await world.rows("select * from queue") == []


async def test_a_stop_blocks_what_waits_and_is_confirmed_once(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        assert await world.receive("STOP", sid="SM" + "1" * 32) == "stop"
        assert await world.states() == {"a": "blocked"}
        assert await world.receive("Stop.", sid="SM" + "1" * 32) == "stop"
        assert await world.receive("stop") == "stop"
        await world.publish(message_id="b")
        assert (await world.states())["b"] == "blocked"
        async with world.sending():
            await until(lambda: _sent(world, 1))
        assert "unsubscribed" in world.carrier.sent[0].body.reveal()
        assert len(await world.rows("select * from outbox where kind = 'consent'")) == 1


async def test_a_later_outcome_waits_and_is_tried_again(database_url: str, tmp_path: Path) -> None:
    answers: list[Later | Accepted] = [Later(Reason.RATE_LIMITED, "20429", wait=0.01), Accepted("SM" + "a" * 32, 1)]

    async def answer(_text: object) -> Later | Accepted:
        return answers.pop(0)

    async with open_world(database_url, tmp_path, Carrier(answer), GATEWAY_DISPATCH__BACKOFF_FIRST_SECONDS="0.01") as world:
        await world.publish(message_id="a")
        async with world.sending():
            await until(lambda: _is(world, "a", "sent"))
        assert len(world.carrier.sent) == 2


async def test_an_unknown_outcome_is_never_sent_again(database_url: str, tmp_path: Path) -> None:
    async def answer(_text: object) -> Unknown:
        return Unknown("timeout")

    async with open_world(database_url, tmp_path, Carrier(answer)) as world:
        await world.publish(message_id="a")
        async with world.sending():
            await until(lambda: _is(world, "a", "unknown"))
            await world.shift(3600 * 2)
            sweep = world.parts.sweep()
            await sweep.once()
        assert len(world.carrier.sent) == 1
        assert (await world.rows("select final, reason from messages"))[0] == {"final": True, "reason": "no_evidence"}


async def test_a_refusal_ends_and_an_opt_out_is_learned(database_url: str, tmp_path: Path) -> None:
    async def answer(text: Text) -> Refused | OptedOut:
        return OptedOut("21610") if text.to.reveal().endswith("1") else Refused(Reason.NOT_TEXTABLE, "21614")

    async with open_world(database_url, tmp_path, Carrier(answer)) as world:
        await world.publish(message_id="a")
        await world.publish(message_id="b", to="+12025550102")
        async with world.sending():
            await until(lambda: _is(world, "a", "blocked"))
            await until(lambda: _is(world, "b", "failed"))
            await until(lambda: world.rows("select * from consents where in_force_at is not null and source = 'provider'"))
        await world.publish(message_id="c")
        assert (await world.states())["c"] == "blocked"


async def _is(world: World, message_id: str, state: str) -> bool:
    return (await world.states()).get(message_id) == state


async def _sent(world: World, count: int) -> bool:
    await asyncio.sleep(0)
    return len(world.carrier.sent) >= count
