"""What operators do: pause and resume, cancel, and hear a message's story."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.domain.errors import NotFound
from gateway.domain.outcome import Accepted, Later, Unknown
from gateway.domain.reasons import Reason
from tests.integration.hands import Hands, settle_by_hand, told
from tests.integration.world import open_world
from tests.support import until


@pytest.mark.parametrize(
    "scope, tenant, name, left",
    [
        ("all", "", "", []),
        ("tenant", "shop", "", ["clinic"]),
        ("tenant", "clinic", "", ["offers", "orders"]),
        ("programme", "shop", "offers", ["clinic", "orders"]),
        ("programme", "clinic", "offers", ["clinic", "offers", "orders"]),  # another tenant's
        ("provider", "", "twilio", []),
        ("provider", "", "other", ["clinic", "offers", "orders"]),
    ],
)
async def test_a_pause_is_in_effect_at_the_next_claim(
    database_url: str, tmp_path: Path, scope: str, tenant: str, name: str, left: list[str]
) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="clinic")
        await world.publish(message_id="orders", tenant="shop", programme="orders", to="+12025550102")
        await world.publish(message_id="offers", tenant="shop", programme="offers", to="+12025550103")
        control = world.parts.control
        assert await control.pause(scope, tenant, name, "test", "a reason")
        assert not await control.pause(scope, tenant, name, "test", "")
        assert [pause["why"] for pause in await control.pauses()] == ["a reason"]
        hands = Hands(world)
        assert sorted(await hands.ids(await hands.claim())) == left
        assert await control.resume(scope, tenant, name, "test")
        assert not await control.resume(scope, tenant, name, "test")
        assert sorted([*left, *await hands.ids(await hands.claim())]) == ["clinic", "offers", "orders"]
        steps = await world.rows("select step, rule, actor from audit where step in ('paused', 'resumed') order by id")
        assert [(row["step"], row["rule"], row["actor"]) for row in steps] == [
            ("paused", f"{scope}:{name}", "test"), ("resumed", f"{scope}:{name}", "test"),
        ]  # fmt: skip


async def test_dispatch_heeds_a_pause_and_a_resume_at_once(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.parts.control.pause("all", "", "", "test", "")
        async with world.sending():
            await world.publish(message_id="a")
            assert await world.receive("HELP") == "help"
            with pytest.raises(AssertionError):
                await until(lambda: world.carrier.sent, 0.3)
            await world.parts.control.resume("all", "", "", "test")
            await until(lambda: len(world.carrier.sent) == 2, 5)  # within a second where nothing else runs


async def test_what_no_request_has_begun_for_can_be_cancelled(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        hands = Hands(world)
        await world.publish(message_id="marked")
        await hands.mark(await hands.claim())
        await world.publish(message_id="claimed", to="+12025550102")
        claimed = await hands.claim()
        await world.publish(message_id="waiting", to="+12025550103")
        operate = world.parts.operate
        done = {name: await operate.cancel("clinic", name, "cli") for name in ("marked", "claimed", "waiting")}
        assert done == {"marked": False, "claimed": True, "waiting": True}
        assert await hands.mark(claimed) == []
        assert not await operate.cancel("clinic", "waiting", "cli")
        assert await told(world, "waiting") == [("accepted", 1, False, False), ("canceled", 2, True, False)]
        assert await world.rows("select actor, rule from audit where step = 'canceled' limit 1") == [
            {"actor": "cli", "rule": "operator.canceled"}
        ]
        with pytest.raises(NotFound):
            await operate.cancel("shop", "waiting", "cli")  # another tenant's
        assert await hands.claim() == []


async def test_a_message_tells_its_story(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        for outcome in (Later(Reason.RATE_LIMITED, "20429"), Accepted("SM" + "1" * 32, 1)):
            claimed = await hands.claim()
            await hands.mark(claimed)
            story = await world.parts.operate.find("clinic", "a")
            assert story is not None
            assert (story["state"], story["queued"]) == ("sending", "marked")
            await settle_by_hand(world, claimed[0], outcome, wait=0.0)
        story = await world.parts.operate.find("clinic", "a")
        assert story is not None
        assert [step["step"] for step in story["steps"]] == ["decided", "claimed", "put_back", "claimed", "sent"]
        assert [step.get("attempt") for step in story["steps"]] == [None, 1, 1, 2, 2]
        assert (story["state"], story["rule"], story["provider"], story["attempt"]) == ("sent", "default.allowed", "twilio", 2)
        shown = json.dumps(story)
        assert "2025550101" not in shown
        assert "visit is" not in shown
        assert "sealed" not in shown
        assert await world.parts.operate.find("clinic", "b") is None
        assert await world.parts.operate.find("shop", "a") is None


async def test_a_story_says_why_a_message_was_blocked(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.receive("STOP")
        await world.publish(message_id="a")
        story = await world.parts.operate.find("clinic", "a")
        assert story is not None
        assert (story["state"], story["reason"], story["rule"], story["final"]) == (
            "blocked", "opted_out", "consent.opted_out.tenant", True,
        )  # fmt: skip
        await world.publish(message_id="b", to="+12025550102")
        hands = Hands(world)
        claimed = [one for one in await hands.claim() if await hands.ids([one]) == ["b"]]
        await hands.send(claimed, Unknown("timeout"))
        story = await world.parts.operate.find("clinic", "b")
        assert story is not None
        assert (story["state"], story["reason"], story["code"], story["final"]) == ("unknown", "no_answer", "timeout", False)
