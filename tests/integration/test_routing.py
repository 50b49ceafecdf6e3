"""Several ways out: who is texted by which sender, what happens when an account fails, and a STOP in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from gateway.app.wiring import open_parts
from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.decide import decide
from gateway.domain.errors import PolicyError
from gateway.domain.outcome import Accepted, Later, Outcome, Unknown
from gateway.domain.personal import PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import Text
from gateway.flow.claims import Claimed
from gateway.flow.level import Level
from gateway.flow.rerouting import Rerouting
from gateway.flow.rescue import Rescue
from gateway.flow.stop import OptOut
from gateway.simulator.process import carrier_process
from tests.integration.hands import Hands, settle_by_hand, told
from tests.integration.world import Carrier, World, open_world, settings_for
from tests.support import free_port, until

ONE, OTHER = "+14155550130", "+14155550131"
NEWS = """
tenant: news
name: The News
providers: [twilio]
region: US
opt_out: {scope: sender}
programmes:
  daily:
    categories: [service]
    help_contact: help@news.example
    senders: [{number: "+14155550130", account: main}, {number: "+14155550131", account: spare, weight: 0}]
"""
SPARE = {
    "GATEWAY_ACCOUNTS__SPARE__ACCOUNT_SID": "AC" + "1" * 32,
    "GATEWAY_ACCOUNTS__SPARE__AUTH_TOKEN": "secret",
}
PERSON = "+12025550101"
_ids = count()
DOWN = Later(Reason.UNREACHABLE, "connect", holds="account")


@asynccontextmanager
async def news(database_url: str, folder: Path, policy: str = NEWS, **more: str) -> AsyncIterator[tuple[World, Carrier]]:
    """A gateway with two accounts, ``main`` and ``spare``; the carrier of the second comes with it."""
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / "news.yaml").write_text(policy)
    async with open_world(database_url, folder, None, **SPARE, **more) as world:
        spare = Carrier(account="spare")
        world.parts.providers = {"main": world.carrier, "spare": spare}  # type: ignore[dict-item] # a provider is what answers like one
        yield world, spare


async def publish(world: World, to: str = PERSON, *, sender: str | None = None, level: Level | None = None) -> str:
    record = world.record(tenant="news", programme="daily", message_id=f"n{next(_ids)}", to=to, sender=sender)
    await world.intake(level=level).admit("sms.outbound.v1", 0, [record])
    rows = await world.rows("select message_id from messages where tenant = 'news' order by uid desc limit 1")
    return str(rows[0]["message_id"])


async def looked(world: World) -> Level:
    level = world.level()
    await level.look()
    return level


class Both(Hands):
    """A worker by hand, with room in both accounts."""

    async def claim(self, room: int = 100, most: int = 100) -> list[Claimed]:
        return list((await self.claims.claim({"main": room, "spare": room}, decide, most)).claimed)


async def refuse(world: World, claimed: Claimed, outcome: Outcome = DOWN) -> None:
    """As if the provider had answered so, and the worker had written it down."""
    settling = world.parts.dispatch(_Open())._settling
    await settle_with(world, claimed, outcome)
    await settling.heed(claimed, outcome, None)


class _Open:
    open = True

    def shut(self) -> None:
        """Never."""


async def settle_with(world: World, claimed: Claimed, outcome: Outcome) -> None:
    instead = (claimed.instead.route_id, claimed.instead.sender) if claimed.instead is not None else None
    change = await settle_by_hand(world, claimed, outcome, wait=0.0, instead=instead)
    assert change is not None


async def senders(world: World) -> list[str]:
    return [row["sender"] for row in await world.rows("select sender from queue order by uid")]


def subject(world: World, number: str = PERSON) -> bytes:
    return world.parts.hasher.subject_id(PhoneNumber(number))


async def ill(world: World, account: str = "main") -> None:
    assert await world.parts.routing.open_breaker(account, 60.0, 120.0, tried=False)


# -- another account -------------------------------------------------------------------------------------------------------------


async def test_what_one_account_surely_did_not_take_goes_by_the_other_as_a_new_attempt(database_url: str, tmp_path: Path) -> None:
    async def answer(_text: Text) -> Outcome:
        return DOWN

    async with news(database_url, tmp_path) as (world, spare):
        world.carrier.answer = answer
        name = await publish(world, to=PERSON)
        async with world.sending():
            await until(lambda: spare.sent, 20)
            await until(lambda: world.rows("select 1 where not exists (select from queue)"), 20)
        assert [(text.sender, text.attempt) for text in (*world.carrier.sent, *spare.sent)] == [(ONE, 1), (OTHER, 2)]
        steps = await world.rows(
            "select a.step, a.attempt, a.account, a.rule, a.evidence from audit a join messages m using (uid)"
            " where m.message_id = $1 order by a.number", name
        )  # fmt: skip
        assert [(row["step"], row["attempt"], row["account"]) for row in steps] == [
            ("decided", None, None), ("claimed", 1, "main"), ("put_back", 1, "main"), ("claimed", 2, "spare"), ("sent", 2, "spare"),
        ]  # fmt: skip
        assert (steps[2]["rule"], steps[2]["evidence"]) == ("routing.failover", f"next by {OTHER}")
        assert [row["account"] for row in await world.rows("select account from messages where tenant = 'news'")] == ["spare"]
        assert world.parts.registry.get_sample_value("sms_gateway_rerouted_total", {"account": "main"}) == 1


@pytest.mark.parametrize(
    "outcome, sender",
    [
        (Unknown("timeout"), None),
        (Later(Reason.RATE_LIMITED, "14107"), None),  # it speaks of this message alone
        (DOWN, ONE),  # the event asks for it
    ],
)
async def test_nothing_else_goes_another_way(database_url: str, tmp_path: Path, outcome: Outcome, sender: str | None) -> None:
    async with news(database_url, tmp_path) as (world, _):
        await publish(world, to=PERSON, sender=sender)
        hands = Both(world)
        (claimed,) = await hands.claim()
        await hands.mark([claimed])
        await refuse(world, claimed, outcome)
        assert await senders(world) == ([] if isinstance(outcome, Unknown) else [ONE])
        if outcome.__class__ is Later and outcome.holds == "message":
            return  # it may be moved as what has not been tried may
        await ill(world)
        await world.shift(1)
        assert await Rerouting(world.parts.routing, world.parts.router, world.parts.routes, world.parts.metrics).move() == 0
        assert await senders(world) == ([] if isinstance(outcome, Unknown) else [ONE])
        assert await hands.claim() == []


async def test_what_waits_for_an_account_that_is_ill_is_moved_and_told_in_the_audit(database_url: str, tmp_path: Path) -> None:
    async with news(database_url, tmp_path) as (world, _):
        rerouting = Rerouting(world.parts.routing, world.parts.router, world.parts.routes, world.parts.metrics)
        for n in range(101, 106):
            await publish(world, to=f"+12025550{n}")
        await publish(world, to=PERSON, sender=ONE)
        assert await rerouting.move() == 0  # all is well
        await ill(world)
        await world.parts.control.raise_barriers(["main"])
        assert await rerouting.move() == 0  # what people texted there is still to be read: a STOP may be among it
        (barrier,) = await world.parts.control.raised()
        assert await world.parts.control.lower(barrier)
        assert await rerouting.move(3) == 3
        assert await rerouting.move() == 2
        assert await senders(world) == [OTHER] * 5 + [ONE]
        moved = await world.rows("select account, rule, evidence, number from audit where step = 'rerouted'")
        assert {tuple(row.values()) for row in moved} == {("spare", "routing.failover", f"main {ONE}", 2)}
        hands = Both(world)
        claimed = await hands.claim()
        assert sorted((one.account, one.attempt) for one in claimed) == [("spare", 1)] * 5
        await hands.send(claimed)


async def test_a_killed_worker_between_two_attempts_loses_and_doubles_nothing(database_url: str, tmp_path: Path) -> None:
    async with news(database_url, tmp_path) as (world, spare):
        await publish(world, to=PERSON)
        first = Both(world, "first")
        (claimed,) = await first.claim()
        await first.mark([claimed])
        await settle_with(world, claimed, DOWN)  # and it dies before it could hold the account
        second = Both(world, "second")
        (again,) = await second.claim()
        assert (again.account, again.attempt, again.instead is not None) == ("spare", 2, True)
        await world.shift(11)  # it dies before its mark
        rescue = Rescue(world.parts.watch, world.parts.ledger, world.parts.metrics, world.parts.horizons)
        assert await rescue.claims() == 1
        assert await settle_by_hand(world, claimed, DOWN) is None  # the first one's answer, late and once more
        async with world.sending():
            await until(lambda: spare.sent, 20)
        assert [(text.sender, text.attempt) for text in spare.sent] == [(OTHER, 3)]
        assert world.carrier.sent == []


# -- STOP ------------------------------------------------------------------------------------------------------------------------


async def stop_sender(world: World, sender: str) -> None:
    """An opt-out of one sender alone, as the API may write it."""
    key = ConsentKey(subject(world), "news", Scope.SENDER, sender)
    await world.parts.stop.opt_out(OptOut(key, "api", None, actor="test"))


@pytest.mark.parametrize("to", [ONE, OTHER])
async def test_a_stop_to_either_sender_between_two_attempts_ends_the_message(database_url: str, tmp_path: Path, to: str) -> None:
    async with news(database_url, tmp_path) as (world, _):
        name = await publish(world, to=PERSON)
        hands = Both(world)
        (claimed,) = await hands.claim()
        await hands.mark([claimed])
        await settle_with(world, claimed, DOWN)
        assert await senders(world) == [OTHER]
        text = replace(world.inbound("STOP", sender=PERSON, to=to), account="main" if to == ONE else "spare")
        await world.parts.replies().receive(text)
        assert (await told(world, name))[-1][0] == "blocked"
        assert [one for one in await hands.claim() if one.category == "service" and one.attempt > 1] == []
        assert [row["scope"] for row in await world.rows("select scope from consents")] == ["programme"]


async def test_a_stop_while_the_request_runs_that_is_then_refused_ends_it_too(database_url: str, tmp_path: Path) -> None:
    """The STOP looks, finds it marked by the one sender, and waits; the refusal gives it the other sender, and the claim reads the STOP."""
    async with news(database_url, tmp_path) as (world, _):
        name = await publish(world, to=PERSON)
        hands = Both(world)
        (claimed,) = await hands.claim()
        await hands.mark([claimed])
        stop = asyncio.create_task(stop_sender(world, OTHER))
        await until(lambda: world.rows("select 1 from consents where in_force_at is not null"))
        await stop
        await settle_with(world, claimed, DOWN)
        assert await hands.claim() == []
        assert (await told(world, name))[-1][0] == "blocked"


@pytest.mark.parametrize("stopped", [ONE, OTHER])
async def test_an_opt_out_from_one_sender_is_not_got_round_by_another(database_url: str, tmp_path: Path, stopped: str) -> None:
    async with news(database_url, tmp_path) as (world, _):
        before = await publish(world, to=PERSON)
        await stop_sender(world, stopped)
        await publish(world, to=PERSON)
        assert await Both(world).claim() == []
        states = [row["state"] for row in await world.rows("select state from messages where tenant = 'news'")]
        assert states == ["blocked", "blocked"], before
        other = OTHER if stopped == ONE else ONE
        await publish(world, to=PERSON, sender=other)  # asked for by name, it is another matter
        (claimed,) = await Both(world).claim()
        assert claimed.sender == other


async def test_the_alarm_goes_by_the_sender_of_the_request(database_url: str, tmp_path: Path) -> None:
    """A message that waited for one sender and goes by another is no request after a STOP to the first."""
    async with news(database_url, tmp_path) as (world, _):
        await publish(world)
        hands = Both(world)
        (claimed,) = await hands.claim()
        await hands.mark([claimed])
        await settle_with(world, claimed, DOWN)
        (claimed,) = await hands.claim()
        await stop_sender(world, ONE)
        begun_at = await world.parts.ledger.now()
        assert await hands.claims.sends_after_stop([(claimed.uid, begun_at, claimed.sender)]) == 0
        assert await hands.claims.sends_after_stop([(claimed.uid, begun_at, ONE)]) == 1


async def test_a_start_undoes_a_stop_and_what_the_api_wrote_for_that_sender(database_url: str, tmp_path: Path) -> None:
    async with news(database_url, tmp_path) as (world, _):
        await publish(world, to=PERSON)
        await world.receive("STOP", sender=PERSON, to=ONE)
        await stop_sender(world, ONE)
        now = await world.parts.ledger.now()
        await world.shift(30)
        world.carrier.created["SM" + "9" * 32] = now.replace(year=now.year + 1)
        assert await world.receive("START", sender=PERSON, to=ONE, sid="SM" + "9" * 32) == "start"
        assert {row["status"] for row in await world.rows("select status from consents")} == {"in"}


# -- a person's sender -----------------------------------------------------------------------------------------------------------


async def test_a_person_keeps_the_sender_through_an_outage_and_a_change_of_weights(database_url: str, tmp_path: Path) -> None:
    async with news(database_url, tmp_path) as (world, _):
        await publish(world, to=PERSON)
        assert await senders(world) == [ONE]
        await ill(world)
        await publish(world, level=await looked(world), to=PERSON)
        await publish(world, level=await looked(world), to="+12025550102")
        assert await senders(world) == [ONE, OTHER, OTHER]
    changed = NEWS.replace("account: main", "account: main, weight: 0").replace("spare, weight: 0", "spare, weight: 9")
    async with news(database_url, tmp_path, changed) as (world, _):
        await world.rows("update paces set breaker = 'closed', hold_until = '-infinity' returning 1")
        for number in (PERSON, "+12025550102", "+12025550103"):
            await publish(world, level=await looked(world), to=number)
        assert (await senders(world))[3:] == [ONE, OTHER, OTHER]
    alone = NEWS.replace('{number: "+14155550130", account: main}, ', "").replace(", weight: 0", "")
    async with news(database_url, tmp_path, alone) as (world, _):
        await publish(world, to=PERSON)  # the sender is not the programme's any more
        assert (await senders(world))[-1] == OTHER


async def test_a_persons_sender_is_forgotten_when_nobody_texts_them_for_long(database_url: str, tmp_path: Path) -> None:
    async with news(database_url, tmp_path) as (world, _):
        await publish(world, to=PERSON)
        await publish(world, to="+12025550102")
        await world.rows("update kept_senders set used_on = used_on - 200 returning 1")
        await publish(world, to=PERSON)
        assert await world.parts.routing.forget_senders(180) == 1
        assert [row["subject_id"] for row in await world.rows("select subject_id from kept_senders")] == [subject(world)]


# -- what the policy forbids -----------------------------------------------------------------------------------------------------


async def test_a_forbidden_way_is_refused_at_the_start_at_intake_and_at_the_claim(database_url: str, tmp_path: Path) -> None:
    async with news(database_url, tmp_path) as (world, _):
        await publish(world, to=PERSON)  # waits by main
    australia = NEWS.replace("region: US", "region: US\nregions: [au]")
    with pytest.raises(PolicyError, match=r"^news.yaml: programmes.daily.senders: nothing may leave by it: .*twilio in us"):
        async with news(database_url, tmp_path, australia):
            pass
    async with news(database_url, tmp_path, australia, GATEWAY_ACCOUNTS__SPARE__REGION="au1") as (world, _):
        assert await Both(world).claim() == []
        asked = await publish(world, to=PERSON, sender=ONE)
        await publish(world, to=PERSON)
        rows = await world.rows("select state, reason, rule, message_id = $1 as asked from messages order by uid", asked)
        assert [(row["state"], row["reason"], row["rule"]) for row in rows] == [
            ("blocked", "region_not_allowed", "routing.region_not_allowed"),
            ("blocked", "region_not_allowed", "routing.region_not_allowed"),
            ("accepted", "allowed", "default.allowed"),
        ]
        assert [one.account for one in await Both(world).claim()] == ["spare"]


async def test_countries_decide_and_are_kept_only_where_they_do(database_url: str, tmp_path: Path) -> None:
    routes = (
        NEWS
        + "    routes: [{name: britain, countries: [GB], accounts: [spare]}, {name: us, countries: [US], accounts: [main]}]\n"
    )
    async with news(database_url, tmp_path, routes) as (world, _):
        for number in (PERSON, "+447700900123", "+819012345678"):
            await publish(world, to=number)
        await world.publish()
        rows = await world.rows(
            "select q.sender, q.country, m.reason from messages m left join queue q using (uid) order by m.uid"
        )
        assert [tuple(row.values()) for row in rows] == [
            (ONE, "US", "allowed"),
            (OTHER, "GB", "allowed"),
            (None, None, "no_route"),
            ("+12125550120", None, "allowed"),
        ]


# -- the breaker -----------------------------------------------------------------------------------------------------------------


async def test_an_account_that_fails_is_left_alone_tried_by_one_request_and_used_again(database_url: str, tmp_path: Path) -> None:
    """With one account there is no other way: what waits, waits, and the requests that fail are few."""
    works = False

    async def answer(_text: Text) -> Outcome:
        return Accepted(world.carrier.new_id(), 1) if works else DOWN

    settings_of = {"GATEWAY_ROUTING__OPEN_FIRST_SECONDS": "30", "GATEWAY_DISPATCH__BACKOFF_MOST_SECONDS": "1"}
    async with open_world(database_url, tmp_path, Carrier(answer), **settings_of) as world:

        async def level() -> float | None:
            await world.parts.watch.measure(world.parts.metrics)
            return world.parts.registry.get_sample_value("sms_gateway_breaker_state", {"account": "main"})

        await world.intake().admit("sms.outbound.v1", 0, [world.record(to=f"+1202555{n:04d}") for n in range(100, 160)])
        assert await level() == 0
        async with world.sending():
            await until(lambda: world.rows("select 1 from paces where breaker = 'open'"), 20)
            await until(lambda: world.rows("select 1 where not exists (select from queue where state <> 'waiting')"), 20)
            assert await level() == 2
            failed = len(world.carrier.sent)
            await world.shift(31)  # the hold is over: one request tries it, and fails
            await until(lambda: world.rows("select 1 from paces where opens = 2"), 20)
            assert len(world.carrier.sent) == failed + 1
            held = await world.rows(
                "select extract(epoch from hold_until - gateway_now())::float8 as seconds from paces where sender = ''"
            )
            assert 50 < held[0]["seconds"] <= 60  # twice as long
            works = True
            await world.shift(61)
            await until(lambda: world.rows("select 1 where not exists (select from queue)"), 20)
            assert await level() == 0
        assert set((await world.states()).values()) == {"sent"}


async def test_two_workers_at_once_try_an_account_by_one_request(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path, GATEWAY_DATABASE_POOL="12") as world:
        await world.intake().admit("sms.outbound.v1", 0, [world.record(to=f"+1202555{n:04d}") for n in range(100, 120)])
        await ill(world)
        workers = [Hands(world, f"w{n}") for n in range(4)]
        assert await asyncio.gather(*(worker.claim() for worker in workers)) == [[]] * 4
        await world.shift(61)
        claims = await asyncio.gather(*(worker.claim() for worker in workers))
        tried = [one for claimed in claims for one in claimed]
        assert [one.tries_account for one in tried] == [True]
        assert [await worker.claim() for worker in workers] == [[]] * 4  # while it runs
        await world.shift(21)  # nobody heard of it again
        assert len(await workers[0].claim()) == 1
        assert await world.parts.routing.close_breaker("main")
        assert len(await workers[0].claim()) == 18
        assert not await world.parts.routing.close_breaker("main")


async def test_a_late_answer_neither_closes_nor_opens_an_account_for_longer(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await ill(world)
        assert not await world.parts.routing.open_breaker("main", 60.0, 120.0, tried=False)
        assert not await world.parts.routing.open_breaker("main", 60.0, 120.0, tried=True)  # no try is due
        assert not await world.parts.routing.close_breaker("main")
        breaker = world.parts.breaker()
        for _ in range(30):
            await breaker.heard("main", [DOWN])
        assert await world.rows("select opens from paces where sender = ''") == [{"opens": 1}]


def test_settings_of_accounts_have_a_region(tmp_path: Path) -> None:
    settings = settings_for("postgresql://x/y", tmp_path, **SPARE, GATEWAY_ACCOUNTS__SPARE__REGION="au1")
    assert {alias: account.place for alias, account in settings.accounts.items()} == {"main": "us", "spare": "au"}


# -- and all of it with the simulated carrier ----------------------------------------------------------------------------------------


async def test_two_accounts_of_the_simulated_carrier_of_which_one_is_down_and_comes_back(
    database_url: str, tmp_path: Path
) -> None:
    main, spare, token, port = "AC" + "a" * 32, "AC" + "b" * 32, "simulated", free_port()
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "news.yaml").write_text(NEWS)
    async with carrier_process(["--account", f"{spare}:{token}"]) as there:
        settings = settings_for(
            database_url,
            tmp_path,
            GATEWAY_PUBLIC_URL=f"http://127.0.0.1:{free_port()}",
            GATEWAY_ACCOUNTS__MAIN__ACCOUNT_SID=main,
            GATEWAY_ACCOUNTS__MAIN__AUTH_TOKEN=token,
            GATEWAY_ACCOUNTS__MAIN__API_BASE=f"http://127.0.0.1:{port}",
            GATEWAY_ACCOUNTS__SPARE__ACCOUNT_SID=spare,
            GATEWAY_ACCOUNTS__SPARE__AUTH_TOKEN=token,
            GATEWAY_ACCOUNTS__SPARE__API_BASE=there.url,
            GATEWAY_ROUTING__OPEN_FIRST_SECONDS="300",
            GATEWAY_ROUTING__OPEN_MOST_SECONDS="300",
        )
        async with open_parts(settings, "test") as parts:
            world = World(parts, Carrier())
            for n in range(101, 141):
                await publish(world, f"+12025550{n}")
            async with world.sending():
                await until(lambda: world.rows("select 1 from paces where breaker = 'open'"), 30)
                sweep = Rerouting(parts.routing, parts.router, parts.routes, parts.metrics)

                async def emptied() -> bool:
                    await sweep.move()
                    return not await world.rows("select 1 from queue")

                await until(emptied, 30)
                assert (await there.stats())["accepted"] == 40
                assert {row["account"] for row in await world.rows("select account from messages")} == {"spare"}
                async with carrier_process(["--account", f"{main}:{token}", "--port", str(port)]) as back:
                    await publish(world, "+12025550150", sender=ONE)
                    await publish(world, "+12025550151", sender=ONE)
                    await world.shift(301)
                    await until(lambda: world.rows("select 1 where not exists (select from queue)"), 30)
                    assert (await back.stats())["accepted"] == 2
                assert await world.rows("select breaker from paces where account = 'main' and sender = ''") == [
                    {"breaker": "closed"}
                ]
            assert await world.rows("select 1 from messages where state <> 'sent'") == []


async def test_what_an_account_refuses_stays_there_while_what_people_texted_to_it_is_to_be_read(
    database_url: str, tmp_path: Path
) -> None:
    """A STOP may be in the list of the account that failed: what was under way when the list came to be read does not get round that."""
    async with news(database_url, tmp_path) as (world, _):
        name = await publish(world)
        hands = Both(world)
        (claimed,) = await hands.claim()
        assert claimed.instead is not None
        await hands.mark([claimed])
        await world.parts.control.raise_barriers(["main"])
        await refuse(world, claimed)
        assert await senders(world) == [ONE]
        assert await hands.claim() == []
        steps = await world.rows(
            "select a.step, a.rule, a.evidence from audit a join messages m using (uid) where m.message_id = $1 order by a.number desc",
            name,
        )
        assert tuple(steps[0].values()) == ("put_back", None, None)
        await ill(world)
        await world.shift(2)
        (barrier,) = await world.parts.control.raised()
        assert await world.parts.control.lower(barrier)
        assert await Rerouting(world.parts.routing, world.parts.router, world.parts.routes, world.parts.metrics).move() == 1
        assert await senders(world) == [OTHER]
