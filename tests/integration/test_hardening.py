"""What once broke a promise, or stopped the gateway for good, and must not again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.outcome import Accepted, Outcome, Unknown
from gateway.domain.reports import ListedText, Text
from gateway.flow.conversation import OptIn
from gateway.flow.stop import OptOut
from tests.integration.hands import Hands
from tests.integration.world import Carrier, World, open_world
from tests.support import until


async def test_the_answer_to_a_start_does_not_outlive_a_stop(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        assert await world.receive("START") == "start"
        assert [row["kind"] for row in await world.rows("select kind from queue")] == ["welcome"]
        assert await world.receive("STOP") == "stop"
        async with world.sending():
            await until(lambda: bool(world.carrier.sent))
            await until(lambda: _empty(world))
        assert ["unsubscribed" in text.body.reveal() for text in world.carrier.sent] == [True]


async def test_a_stop_whose_sender_has_left_the_policy_comes_into_force(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        assert await world.receive("STOP", sid="SM" + "9" * 32) == "stop"
        await world.parts.database.execute("delete from queue")
        # as it was found: written by a process that knew the sender, put in force by one that does not
        await world.parts.database.execute(
            "update consents set in_force_at = null, reply = jsonb_build_object('uid', gen_random_uuid(), 'route_id', 999, 'kind',"
            " 'confirmation', 'to_sealed', '', 'body_sealed', '', 'parts', 1, 'expires_at', now(), 'policy', '', 'rule', '')"
        )
        await world.parts.sweep().once()
        assert [row["done"] for row in await world.rows("select in_force_at is not null as done from consents")] == [True]


async def test_what_is_deferred_or_paused_does_not_stop_intake(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        later = (await world.parts.ledger.now() + timedelta(days=2)).isoformat()
        for number in range(3):
            await world.publish(to=f"+1202555010{number}", not_before=later)
        assert await world.admission().waiting(100) == 0
        await world.publish(to="+12025550105")
        assert await world.admission().waiting(100) == 1
        await world.parts.control.pause("tenant", "clinic", "", "test", "")
        assert await world.admission().waiting(100) == 0


async def test_an_answer_that_cannot_be_stored_hurts_no_other(database_url: str, tmp_path: Path) -> None:
    bad = "SM\0" + "b" * 29

    async def answer(text: Text) -> Outcome:
        return Accepted(bad if text.to.reveal().endswith("1") else "SM" + text.to.reveal()[-4:] * 8, 1)

    async with open_world(database_url, tmp_path, Carrier(answer)) as world:
        for number in range(6):
            await world.publish(message_id=f"m{number}", to=f"+1202555010{number}")
        async with world.sending():
            await until(lambda: _all_left(world))
        assert await world.states() == {f"m{number}": "unknown" if number == 1 else "sent" for number in range(6)}


async def test_a_pause_holds_what_was_claimed_before_it(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        taken = await hands.claim()
        assert len(taken) == 1
        await world.parts.control.pause("provider", "", "twilio", "test", "")
        assert await hands.claims.mark(taken) == {}


async def test_an_opt_out_that_fails_keeps_no_other_from_being_put_in_force(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        keys = [ConsentKey(bytes([n]) * 16, "clinic", Scope.TENANT) for n in range(2)]
        for key in keys:
            await world.parts.consents.write(OptOut(key, "api", None, actor="test"))
        await world.parts.database.execute("update consents set reply = '{}' where subject_id = $1", keys[0].subject_id)
        await world.parts.stop.finish_pending()
        rows = await world.rows("select subject_id from consents where in_force_at is not null")
        assert [row["subject_id"] for row in rows] == [keys[1].subject_id]


async def _empty(world: World) -> bool:
    return not await world.rows("select from queue")


async def _all_left(world: World) -> bool:
    return len(world.carrier.sent) == 6 and await _empty(world)


async def test_a_start_that_nobody_was_asked_about_undoes_no_stop_written_meanwhile(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        key = ConsentKey(b"s" * 16, "clinic", Scope.TENANT)
        stated_at = await world.parts.ledger.now()
        await world.parts.stop.opt_out(OptOut(key, "api", stated_at, actor="test"))
        later = stated_at + timedelta(minutes=1)
        assert await world.parts.consents.opt_in(OptIn(key, "text", later, actor="person", proven=False)) == "not_proven"
        assert await world.parts.consents.opt_in(OptIn(key, "text", later, actor="person")) == "granted"


async def test_a_look_that_ends_after_the_deadline_adds_nothing(database_url: str, tmp_path: Path) -> None:
    async def answer(_text: Text) -> Outcome:
        return Unknown("timeout")

    async with open_world(database_url, tmp_path, Carrier(answer)) as world:
        await world.publish(message_id="a")
        async with world.sending():
            await until(lambda: _is_unknown(world))
        await world.shift(60)

        class SettledMeanwhile:
            abilities = world.carrier.abilities

            async def list_sent(self, _to: object, _sender: str, _since: object) -> list[ListedText]:
                await world.shift(7200)
                await world.parts.sweep().once()
                return []

        world.parts.providers = {"main": SettledMeanwhile()}  # type: ignore[dict-item] # all that evidence asks of a provider
        await world.parts.inquiries(world.parts.catch_up()).once()
        steps = await world.rows("select step from audit where uid is not null order by number desc limit 1")
        assert [row["step"] for row in steps] == ["settled"]


async def _is_unknown(world: World) -> bool:
    return (await world.states())["a"] == "unknown"
