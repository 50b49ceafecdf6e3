"""Catch-up: what people texted while our web was away is applied before anything is claimed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.errors import ProviderUnavailable
from gateway.domain.reports import InboundText
from gateway.flow.catch_up import CatchUp
from tests.integration.hands import Hands
from tests.integration.world import Carrier, World, open_world
from tests.support import until

CLINIC, OFFERS, SERVICE = "+12125550120", "+14155550110", "MG" + "a" * 32


def missed(world: World, body: str, ago: timedelta, **more: Any) -> InboundText:
    """A text that only the provider's list tells of."""
    text = replace(world.inbound(body, **more), created_at=datetime.now(UTC) - ago)
    world.carrier.inbound.append(text)
    assert text.created_at is not None
    world.carrier.created[text.provider_message_id] = text.created_at
    return text


async def claims(world: World) -> list[str]:
    hands = Hands(world)
    return sorted(await hands.ids(await hands.claim()))


async def test_nothing_is_claimed_while_the_list_is_not_read(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        catch_up = world.parts.catch_up()
        world.carrier.away = True
        assert not await catch_up.ensure()
        assert not catch_up.open or await world.parts.control.raised()
        assert await claims(world) == []
        world.carrier.away = False
        assert await until(catch_up.ensure)
        assert catch_up.open
        assert await claims(world) == ["a"]


async def test_a_missed_stop_is_in_force_before_the_first_claim(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="stopped")
        await world.publish(message_id="other", to="+12025550102")
        missed(world, "STOP", timedelta(hours=2))
        assert await world.parts.catch_up().ensure()
        rows = await world.rows("select status, stated_at, in_force_at is not null as in_force from consents")
        assert [(row["status"], row["in_force"]) for row in rows] == [("out", True)]
        assert abs(rows[0]["stated_at"] - (datetime.now(UTC) - timedelta(hours=2))) < timedelta(minutes=1)
        assert (await world.states())["stopped"] == "blocked"
        assert (
            await world.rows("select from messages where kind <> 'outbound'") == []
        )  # two hours late, it is confirmed to nobody
        assert "stopped" not in await claims(world)


async def test_a_text_that_arrives_first_after_an_outage_hides_none_before_it(database_url: str, tmp_path: Path) -> None:
    """The web is up before the list is read: a fresh text is stored, and says nothing about the hours without a web."""
    async with open_world(database_url, tmp_path) as world:
        assert await world.parts.catch_up().ensure()
        await world.publish(message_id="a")
        await world.shift(6 * 3600)  # an outage of six hours
        now = await world.parts.ledger.now()
        text = replace(world.inbound("STOP"), created_at=now - timedelta(hours=3))
        world.carrier.inbound.append(text)
        assert await world.receive("Hello?", sender="+12025550155") == "other"
        assert await world.parts.catch_up().ensure()
        assert (await world.states())["a"] == "blocked"


async def test_what_is_stored_is_not_applied_again(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        stop = missed(world, "STOP", timedelta(minutes=30))
        start = missed(world, "START", timedelta(minutes=20))
        help_ = missed(world, "HELP", timedelta(minutes=10))
        for text in (stop, start, help_):
            await world.parts.replies().receive(replace(text, created_at=None))  # their webhooks did come
        before = await world.rows("select * from consents")
        answers = await world.rows("select count(*) as n from messages")
        assert await world.parts.catch_up().ensure()
        assert await world.rows("select * from consents") == before
        assert await world.rows("select count(*) as n from messages") == answers


async def test_missed_texts_are_applied_in_the_order_they_were_texted(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        missed(world, "START", timedelta(minutes=10))
        missed(world, "STOP", timedelta(minutes=20))
        missed(world, "STOP", timedelta(minutes=10), to=OFFERS, sender="+12025550102")
        missed(world, "START", timedelta(minutes=20), to=OFFERS, sender="+12025550102")
        assert await world.parts.catch_up().ensure()
        rows = await world.rows("select tenant, status from consents order by tenant")
        assert [(row["tenant"], row["status"]) for row in rows] == [("clinic", "in"), ("shop", "out")]


async def test_other_missed_texts_reach_the_tenant(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        missed(world, "I am late", timedelta(minutes=10))
        missed(world, "HELP", timedelta(minutes=9))
        missed(world, "HELP", timedelta(minutes=61))
        assert await world.parts.catch_up().ensure()
        assert len(await world.rows("select * from outbox where kind = 'inbound'")) == 1
        assert [row["kind"] for row in await world.rows("select kind from messages where kind <> 'outbound'")] == ["help"]


async def test_a_barrier_that_is_raised_again_meanwhile_stands(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        control = world.parts.control
        await control.raise_barriers(["main"])
        (barrier,) = await control.raised()
        await control.raise_barriers(["main"])  # another process has missed something else
        assert not await control.lower(barrier)
        (again,) = await control.raised()
        assert await control.lower(again)
        assert await control.raised() == []


async def test_the_sweep_takes_away_a_barrier_whose_process_died(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        missed(world, "STOP", timedelta(minutes=5), sender="+12025550102")
        await world.parts.control.raise_barriers(["main"])
        assert await claims(world) == []
        await world.parts.inquiries(world.parts.catch_up()).once()
        assert await claims(world) == ["a"]
        assert len(await world.rows("select * from consents")) == 1


async def test_a_text_that_could_not_be_stored_makes_a_catch_up_needed(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        catch_up = world.parts.catch_up()
        assert await catch_up.ensure()
        listed = world.carrier.list_inbound
        calls = 0

        async def counting(to: str, since: datetime) -> list[InboundText]:
            nonlocal calls
            calls += 1
            return await listed(to, since)

        world.carrier.list_inbound = counting  # type: ignore[method-assign] # the same, counted
        assert await catch_up.ensure()
        assert calls == 0
        catch_up.shut()
        missed(world, "STOP", timedelta(seconds=1))
        assert await catch_up.ensure()
        assert calls == len({route.sender for route in world.parts.routes})
        assert len(await world.rows("select * from consents where in_force_at is not null")) == 1


async def test_lists_are_read_from_the_last_complete_reading_on(database_url: str, tmp_path: Path) -> None:
    class Broken(Carrier):
        """One of its senders cannot be listed."""

        broken = True
        asked: list[datetime]

        async def list_inbound(self, to: str, since: datetime) -> list[InboundText]:
            self.asked = [*getattr(self, "asked", []), since]
            if self.broken and to == OFFERS:
                raise ProviderUnavailable("away")
            return await super().list_inbound(to, since)

    carrier = Broken()
    async with open_world(database_url, tmp_path, carrier) as world:
        catch_up = world.parts.catch_up()
        assert not await catch_up.ensure()
        start = await world.parts.ledger.now()
        assert all(abs(since - (start - timedelta(days=3))) < timedelta(minutes=1) for since in carrier.asked)
        carrier.broken, carrier.asked = False, []
        assert await until(catch_up.ensure)
        assert all(
            since < start - timedelta(days=2) for since in carrier.asked
        )  # what was not read to its end counts for nothing
        await world.shift(5 * 3600)
        carrier.asked = []
        assert await world.parts.catch_up().ensure()
        assert all(abs(since - (start - timedelta(minutes=10))) < timedelta(minutes=1) for since in carrier.asked)


async def test_a_long_life_keeps_what_has_to_be_listed_short(database_url: str, tmp_path: Path) -> None:
    """Now and then the lists are read although nothing is known to be missing; nobody is held up by it."""
    asked: list[datetime] = []

    class Noting(Carrier):
        async def list_inbound(self, to: str, since: datetime) -> list[InboundText]:
            asked.append(since)
            return await super().list_inbound(to, since)

    async with open_world(database_url, tmp_path, Noting()) as world:
        catch_up = world.parts.catch_up()
        await catch_up.refresh()  # nothing to do yet
        assert asked == []
        assert await catch_up.ensure()
        await world.publish(message_id="a")
        for _ in range(4):
            await world.shift(3600)
            await catch_up.refresh()
        now = await world.parts.ledger.now()
        text = replace(world.inbound("STOP", sender="+12025550102"), created_at=now - timedelta(seconds=5))
        world.carrier.inbound.append(text)
        asked.clear()
        await catch_up.refresh()
        assert all(now - since < timedelta(minutes=15) for since in asked)
        assert len(await world.rows("select * from consents where in_force_at is not null")) == 1
        assert await claims(world) == ["a"]


async def test_dispatch_sends_nothing_to_who_stopped_during_the_outage(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        for n in range(20):
            await world.publish(message_id=f"m{n}", to=f"+1202555{100 + n:04d}")
        for n in range(0, 20, 2):
            missed(world, "STOP", timedelta(minutes=n + 1), sender=f"+1202555{100 + n:04d}")
        await world.parts.control.raise_barriers(["main"])
        async with world.sending():
            assert await world.parts.catch_up().ensure()
            await until(lambda: world.rows("select 1 where not exists (select from queue)"))
        outbound = [text for text in world.carrier.sent if "visit" in text.body.reveal()]
        assert {int(text.to.reveal()[-4:]) % 2 for text in outbound} == {1}
        assert len(outbound) == 10


class Two(Carrier):
    """Counts how often it is asked."""

    asked = 0

    async def list_inbound(self, to: str, since: datetime) -> list[InboundText]:
        self.asked += 1
        return await super().list_inbound(to, since)


async def test_an_account_whose_list_cannot_be_read_holds_up_no_other(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        other = Two(account="other", away=True)
        world.parts.providers = {"main": world.carrier, "other": other}  # type: ignore[dict-item] # carriers of the tests are no Twilio
        control, parts = world.parts.control, world.parts
        catch_up = CatchUp(control, parts.providers, {"main": [CLINIC], "other": [OFFERS]}, parts.replies(), timedelta(days=1))
        assert not await catch_up.ensure()
        (barrier,) = await control.raised()
        assert barrier.account == "other"
        assert catch_up.open  # the barrier says it
        assert await claims(world) == ["a"]
        for _ in range(5):
            assert not await catch_up.ensure()
        assert await control.raised() == [barrier]  # not raised again
        assert other.asked == 1  # nor asked without a pause
        catch_up.shut(["other"])  # what is missed there is in no other's list
        assert not await catch_up.ensure()
        assert [one.account for one in await control.raised()] == ["other"]
        other.away = False
        assert await until(catch_up.ensure)
        assert await control.raised() == []


async def test_an_account_that_allows_fewer_calls_than_it_has_senders_is_read_in_the_end(
    database_url: str, tmp_path: Path
) -> None:
    class Rated(Carrier):
        """Two lists a minute."""

        left = 2

        async def list_inbound(self, to: str, since: datetime) -> list[InboundText]:
            if self.left == 0:
                raise ProviderUnavailable("too many calls")
            self.left -= 1
            return await super().list_inbound(to, since)

    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        rated = Rated()
        stop = replace(world.inbound("STOP"), created_at=datetime.now(UTC) - timedelta(minutes=10))
        rated.inbound.append(stop)
        senders = ["+12125550121", "+12125550122", "+12125550123", "+12125550124", stop.to]
        control, parts = world.parts.control, world.parts
        catch_up = CatchUp(control, {"main": rated}, {"main": senders}, parts.replies(), timedelta(days=1))
        for _ in range(2):
            assert not await catch_up.ensure()
            assert await claims(world) == []
            rated.left = 2
            catch_up._waits.clear()
        assert await catch_up.ensure()
        assert await control.raised() == []
        assert (await world.states())["a"] == "blocked"


async def test_a_list_that_cannot_be_understood_keeps_the_barrier_and_ends_nothing(database_url: str, tmp_path: Path) -> None:
    class Odd(Carrier):
        odd = True

        async def list_inbound(self, to: str, since: datetime) -> list[InboundText]:
            if self.odd:
                raise ValueError("a bug")
            return await super().list_inbound(to, since)

    carrier = Odd()
    async with open_world(database_url, tmp_path, carrier) as world:
        catch_up = world.parts.catch_up()
        assert not await catch_up.ensure()
        assert await world.parts.control.raised()
        carrier.odd = False
        assert await until(catch_up.ensure)


async def test_a_text_that_can_never_be_heeded_is_passed_over_and_its_stop_is_written(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        await world.publish(message_id="b", to="+12025550102")
        missed(world, "half a character \ud83d", timedelta(minutes=9))
        missed(world, "STOP", timedelta(minutes=8))
        missed(world, "STOP", timedelta(minutes=7), sender="+12025550102")

        async def broken(*_: object) -> None:
            raise ValueError("a bug")

        replies = world.parts.replies()
        heed = replies._heed

        async def heeded(heard: Any) -> Any:
            return await (broken() if heard.text.sender.reveal() == "+12025550101" and heard.word else heed(heard))

        replies._heed = heeded  # type: ignore[method-assign] # a fault in the middle
        parts = world.parts
        catch_up = CatchUp(parts.control, parts.providers, {"main": [CLINIC]}, replies, timedelta(days=1))
        assert await catch_up.ensure()
        rows = await world.rows("select in_force_at is not null as in_force from consents where status = 'out'")
        assert rows == [{"in_force": True}] * 2
        assert set((await world.states()).values()) == {"blocked"}
        assert parts.registry.get_sample_value("sms_gateway_replies_total", {"kind": "passed_over"}) == 2


async def test_lists_are_looked_at_soon_without_holding_anything_up(database_url: str, tmp_path: Path) -> None:
    carrier = Two()
    async with open_world(database_url, tmp_path, carrier) as world:
        catch_up = world.parts.catch_up()
        assert await catch_up.ensure()
        carrier.asked = 0
        missed(world, "STOP", timedelta(seconds=1))
        for _ in range(3):
            catch_up.look_soon()
            assert await catch_up.ensure()
        assert carrier.asked == 0  # calm
        assert await world.parts.control.raised() == []

        async def looked() -> bool:
            assert await catch_up.ensure()
            return carrier.asked > 0

        await until(looked)
        assert len(await world.rows("select * from consents where in_force_at is not null")) == 1
        asked = carrier.asked
        assert await catch_up.ensure()
        assert carrier.asked == asked


@pytest.mark.parametrize("senders", [(CLINIC, SERVICE), (SERVICE, CLINIC)], ids=["number first", "service first"])
async def test_a_text_that_is_listed_for_a_number_and_its_service_counts_for_both(
    database_url: str, tmp_path: Path, senders: tuple[str, str]
) -> None:
    async with open_world(database_url, tmp_path) as world:
        stop = missed(world, "STOP", timedelta(hours=2))
        heeded: list[InboundText] = []

        class Lists:
            async def list_inbound(self, to: str, _since: datetime) -> list[InboundText]:
                return [replace(stop, service=SERVICE if to == SERVICE else None)]

        class Heeding:
            async def receive(self, text: InboundText, **_: str) -> None:
                heeded.append(text)

        catch_up = CatchUp(
            world.parts.control,
            {"main": Lists()},
            {"main": senders},
            Heeding(),  # type: ignore[arg-type] # what is heeded is looked at, and nothing else
            timedelta(days=3),
        )
        assert await catch_up.ensure()
        assert [text.service for text in heeded] == [SERVICE]
