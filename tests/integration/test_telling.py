"""Opt-outs told to provider accounts, on a real PostgreSQL: to Twilio's simulator, through Twilio's adapter."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.app.providers import open_providers
from gateway.app.telling import telling_times
from gateway.domain.consent import EVERY_TENANT, ConsentKey, Scope
from gateway.domain.errors import (
    CannotOpen,
    GatewayError,
    KeyDestroyed,
    KeyMissing,
    KeyRingAway,
    KeyUnreadable,
    StoreUnavailable,
)
from gateway.domain.events import OptInProof
from gateway.domain.personal import PhoneNumber
from gateway.domain.telling import Holding
from gateway.flow.provider import OptOutWord, Told
from gateway.flow.stop import OptOut
from gateway.flow.telling import Settled, Telling
from gateway.providers.twilio.provider import Twilio
from gateway.simulator.carrier import Carrier
from gateway.simulator.config import Account, CarrierConfig
from gateway.simulator.server import running_carrier
from gateway.simulator.twilio.account import TwilioState
from gateway.simulator.twilio.consents import Mode
from gateway.store.propagations import PropagationStore
from tests.integration.world import World, environment_for, open_world, settings_for, until

SID = "AC" + "0" * 32
PERSON, OTHER = "+12025550101", "+12025550102"
OFFERS, ORDERS, VISITS = "+14155550110", "+14155550111", "+12125550120"
LEASE = 35.0


@asynccontextmanager
async def shop(database_url: str, folder: Path, **more: str) -> AsyncIterator[tuple[World, Carrier, Clock]]:
    """A gateway whose Twilio account can be told, and that account's carrier."""
    async with running_carrier(CarrierConfig(accounts=(Account(SID, "secret", keeps_opt_outs=True),))) as carrier:
        settings = {"GATEWAY_ACCOUNTS__MAIN__CONSENTS_API": "true", "GATEWAY_ACCOUNTS__MAIN__API_BASE": carrier.url, **more}
        async with open_world(database_url, folder, None, **settings) as world:
            providers = world.parts.providers = open_providers(world.parts.settings)
            try:
                yield world, carrier, Clock(world)
            finally:
                for provider in providers.values():
                    await provider.close()


class Clock:
    """The time of the store and of the tellings made by it, moved together."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seconds = 0.0

    async def pass_by(self, seconds: float) -> None:
        await self.world.shift(seconds)
        self.seconds += seconds

    def telling(self) -> Telling:
        """As another process would make it."""
        parts = self.world.parts
        return Telling(
            PropagationStore(parts.database),
            {
                alias: provider
                for alias, provider in parts.providers.items()
                if provider.abilities.tells_opt_outs or provider.abilities.cancels_scheduled
            },
            parts.policies.sender_map(),
            parts.vault,
            parts.metrics,
            telling_times(parts.settings),
            now=lambda: self.seconds + asyncio.get_running_loop().time(),
        )


async def told_all(clock: Clock, telling: Telling | None = None) -> None:
    """Tell until nothing waits, letting as much time pass as that takes."""
    telling = telling or clock.telling()
    for _ in range(40):
        await telling.tell()
        if not await waiting(clock.world):
            return
        await clock.pass_by(LEASE + 1)
    raise AssertionError("something still waits")


async def waiting(world: World) -> int:
    return sum(count for count, _ in (await PropagationStore(world.parts.database).waiting()).values())


async def pairs(world: World) -> dict[str, dict[str, Any]]:
    rows = await world.rows("select * from propagations order by sender")
    return {row["sender"]: row for row in rows}


async def stop(world: World, *, number: str = PERSON, scope: Scope = Scope.TENANT, name: str = "", tenant: str = "shop") -> None:
    await world.parts.requests("api").opt_out(tenant, PhoneNumber(number), scope, name, "test")


async def start(world: World, *, number: str = PERSON, scope: Scope = Scope.TENANT, name: str = "", tenant: str = "shop") -> None:
    at = await world.parts.control.now()
    proof = OptInProof(medium="web", at=at)
    granted = await world.parts.requests("api").opt_in(tenant, PhoneNumber(number), scope, name, "test", proof)
    assert granted.granted


def opted_out(carrier: Carrier) -> set[tuple[str, str]]:
    state = carrier.accounts.get(SID)
    assert isinstance(state, TwilioState)
    return state.opted_out


def words(carrier: Carrier, number: str = PERSON) -> list[tuple[str, str]]:
    return [(told.sender, told.status) for told in carrier.consents.told if told.contact == number]


async def test_an_opt_out_and_what_undoes_it_is_told_of_every_sender_in_reach(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await stop(world)
        before = await pairs(world)
        assert {sender: row["number_sealed"] is not None for sender, row in before.items()} == {OFFERS: True, ORDERS: True}
        assert all(PERSON.encode() not in bytes(row["number_sealed"]) for row in before.values())

        await clock.telling().tell()
        assert opted_out(carrier) == {(PERSON, OFFERS), (PERSON, ORDERS)}
        assert carrier.consents.requests == 1  # many words, one call
        said = datetime.fromisoformat(carrier.consents.told[0].date)
        (stated,) = {row["stated_at"] for row in await world.rows("select stated_at from consents")}
        assert said == stated.replace(microsecond=0)
        after = await pairs(world)
        assert [(row["holds"], row["due_at"], row["number_sealed"], row["number_uid"]) for row in after.values()] == [
            ("out", None, None, None)
        ] * 2

        await clock.pass_by(60)
        await start(world)
        await clock.telling().tell()
        assert opted_out(carrier) == set()
        assert [row["holds"] for row in (await pairs(world)).values()] == ["in", "in"]
        assert await waiting(world) == 0


async def test_what_a_person_texts_is_told_but_not_to_the_provider_that_heard_it_as_a_stop(
    database_url: str, tmp_path: Path
) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        assert await world.receive("STOP", to=OFFERS, replied="STOP") == "stop"
        await told_all(clock)
        assert (await pairs(world))[OFFERS]["holds"] == "out"
        assert words(carrier) == []

        assert await world.receive("stop", to=ORDERS) == "stop"  # here nothing says that the provider took it for one
        await told_all(clock)
        assert words(carrier) == [(ORDERS, "opt-out")]


async def test_a_stop_whose_webhook_comes_after_that_of_a_later_start_is_told(database_url: str, tmp_path: Path) -> None:
    """The provider has heard START last, and nobody can tell so from the webhook: what holds here is told there."""
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await stop(world)
        await clock.telling().tell()
        await clock.pass_by(60)
        await start(world)  # as the provider heard it, by text
        await clock.telling().tell()
        assert opted_out(carrier) == set()
        await clock.pass_by(60)
        assert await world.receive("STOP", to=OFFERS, replied="STOP") == "stop"  # late: the provider has forgotten it
        await told_all(clock)
        assert (PERSON, OFFERS) in opted_out(carrier)


@pytest.mark.parametrize("known", [True, False])
async def test_a_start_that_undoes_nothing_here_has_undone_the_opt_out_there(
    database_url: str, tmp_path: Path, *, known: bool
) -> None:
    """Nobody can tell whether it was said after the STOP; the provider has taken it, and is told of the STOP again."""
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        assert await world.receive("STOP", to=OFFERS, replied="STOP") == "stop"
        await told_all(clock)
        assert words(carrier) == []
        at = await world.parts.control.now() if known else None
        assert await world.receive("START", to=OFFERS, replied="START", created_at=at) == "start"
        assert [row["status"] for row in await world.rows("select status from consents")] == ["out"]
        await told_all(clock)
        assert words(carrier) == [(OFFERS, "opt-out")]
        assert (await pairs(world))[OFFERS]["number_sealed"] is None


async def test_a_stop_that_comes_after_a_start_which_undid_nothing_is_told(database_url: str, tmp_path: Path) -> None:
    """Said before it, for all that a webhook tells: the provider may have heard START last."""
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        assert await world.receive("START", to=OFFERS, replied="START") == "start"
        await told_all(clock)
        assert words(carrier) == []
        assert [row["due_at"] for row in (await pairs(world)).values()] == [None]
        assert await world.receive("STOP", to=OFFERS, replied="STOP") == "stop"
        await told_all(clock)
        assert words(carrier) == [(OFFERS, "opt-out")]


async def test_a_start_that_leaves_another_opt_out_standing_has_undone_that_one_there(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await world.parts.requests("api").opt_out(None, PhoneNumber(PERSON), Scope.ALL, "", "test")
        await told_all(clock)
        before = words(carrier)
        assert (OFFERS, "opt-out") in before
        assert await world.receive("START", to=OFFERS, replied="START") == "start"
        assert await waiting(world) == 1
        await told_all(clock)
        assert words(carrier)[len(before) :] == [(OFFERS, "opt-out")]


async def test_an_opt_out_of_one_programme_is_not_told_of_a_sender_that_another_uses(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "shop.yaml").write_text("""
tenant: shop
name: The Shop
providers: [twilio]
programmes:
  offers:
    categories: [marketing]
    senders: [{number: "+14155550110", account: main}]
    help_contact: help@shop.example
  orders:
    categories: [service]
    senders: [{number: "+14155550110", account: main}, {number: "+14155550111", account: main}]
    help_contact: help@shop.example
""")
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await stop(world, scope=Scope.PROGRAMME, name="offers")
        await told_all(clock)
        assert words(carrier) == []
        assert (await pairs(world))[OFFERS]["number_sealed"] is None

        await stop(world, scope=Scope.PROGRAMME, name="orders")
        await told_all(clock)
        assert sorted(words(carrier)) == [(OFFERS, "opt-out"), (ORDERS, "opt-out")]
        await clock.pass_by(60)
        await start(world, scope=Scope.PROGRAMME, name="offers")
        await told_all(clock)
        assert words(carrier)[2:] == [(OFFERS, "opt-in")]


async def test_a_provider_that_is_away_for_long_loses_no_word_and_is_asked_seldom(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        telling = clock.telling()
        carrier.consents.mode = "error_before"
        await stop(world)
        others = [f"+1202555{number:04d}" for number in range(110, 140)]
        for minute in range(30):
            await stop(world, number=others[minute], tenant="clinic")
            for _ in range(6):
                await telling.tell()
                await clock.pass_by(10)
        assert 5 < carrier.consents.requests < 25  # however many more have to be told
        await telling.measure()
        count, oldest = (await PropagationStore(world.parts.database).waiting())["main"]
        assert (count, oldest >= 1800) == (2 + len(others), True)
        gauge = world.parts.registry.get_sample_value("sms_gateway_opt_outs_untold_oldest_seconds", {"account": "main"})
        assert gauge == pytest.approx(oldest, abs=5)

        carrier.consents.mode = "answer"
        await told_all(clock, telling)
        assert opted_out(carrier) == {(PERSON, OFFERS), (PERSON, ORDERS), *((other, VISITS) for other in others)}
        labels = {"account": "main", "result": "confirmed"}
        assert world.parts.registry.get_sample_value("sms_gateway_opt_outs_told_total", labels) == 2 + len(others)


async def test_a_word_that_the_provider_took_and_never_answered_is_told_again(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        carrier.consents.mode = "reset_after"
        await stop(world)
        await clock.telling().tell()
        assert opted_out(carrier) == {(PERSON, OFFERS), (PERSON, ORDERS)}
        assert await waiting(world) == 2
        carrier.consents.mode = "answer"
        await told_all(clock)
        assert opted_out(carrier) == {(PERSON, OFFERS), (PERSON, ORDERS)}
        assert len(words(carrier)) == 4


async def test_one_that_is_killed_between_told_and_confirmed_leaves_its_words_to_the_next(
    database_url: str, tmp_path: Path
) -> None:
    """kill -9 of a real process while the provider has the request and has not answered."""
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await stop(world)
        carrier.consents.mode = "hang_after"
        script = (
            "import asyncio, os; from gateway.app.process import run_process; from gateway.settings import load;"
            " asyncio.run(run_process(load(os.environ), 'sweep'))"
        )
        environment = environment_for(
            database_url,
            tmp_path,
            GATEWAY_ACCOUNTS__MAIN__CONSENTS_API="true",
            GATEWAY_ACCOUNTS__MAIN__API_BASE=carrier.url,
            GATEWAY_ADMIN_PORT="0",
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, env=environment)
        try:
            await carrier.book.wait_for(lambda _: len(carrier.consents.told) == 2, within=30)
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        assert {row["said"] for row in (await pairs(world)).values()} == {"out"}

        carrier.consents.mode = "answer"
        await clock.telling().tell()
        assert carrier.consents.requests == 1  # until the lease is over nobody knows that it was killed
        await clock.pass_by(LEASE + 1)
        await clock.telling().tell()
        assert [(row["holds"], row["said"], row["due_at"]) for row in (await pairs(world)).values()] == [("out", None, None)] * 2
        assert words(carrier) == [(OFFERS, "opt-out"), (ORDERS, "opt-out")] * 2


async def test_a_start_is_not_told_while_a_stop_may_still_be_on_its_way(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        carrier.consents.mode = "reset_after"
        await stop(world)
        telling = clock.telling()
        await telling.tell()
        carrier.consents.mode = "answer"
        await clock.pass_by(10)
        await start(world)
        await clock.telling().tell()  # by another process, which has not seen it fail
        assert {status for _, status in words(carrier)} == {"opt-out"}
        await clock.pass_by(LEASE)
        await clock.telling().tell()
        assert opted_out(carrier) == set()
        assert await waiting(world) == 0


@pytest.mark.parametrize("said, ends", [((stop, start), []), ((stop, start, stop), [OFFERS, ORDERS]), ((start, stop, start), [])])
async def test_of_words_that_come_before_any_was_told_the_last_is(
    database_url: str, tmp_path: Path, said: Sequence[Callable[[World], Awaitable[None]]], ends: list[str]
) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        for word in said:
            await word(world)
            await clock.pass_by(1)
        await told_all(clock)
        assert sorted(sender for _, sender in opted_out(carrier)) == ends
        assert len(words(carrier)) == 2  # one for each sender: what came between is told to nobody


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_said_and_whatever_fails_the_account_ends_with_the_last_word(
    database_url: str, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    modes: list[Mode] = ["answer", "answer", "busy", "error_before", "reset_after"]
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        tellings = [clock.telling(), clock.telling()]
        for _ in range(25):
            carrier.consents.mode = chance.choice(modes)
            scope, name = chance.choice([(Scope.TENANT, ""), (Scope.PROGRAMME, "offers"), (Scope.SENDER, ORDERS)])
            await chance.choice([stop, stop, start])(world, scope=scope, name=name) if chance.random() < 0.6 else None
            await asyncio.gather(*(one.tell() for one in tellings[: chance.randrange(3)]))
            await clock.pass_by(chance.choice([1, 8, 20, 60]))
        carrier.consents.mode = "answer"
        await told_all(clock, tellings[0])
        subject_id = world.parts.hasher.subject_id(PhoneNumber(PERSON))
        consents = await world.parts.consents.consents(subject_id)
        out = {consent.key for consent in consents if consent.status == "out"}
        programmes = {OFFERS: "offers", ORDERS: "orders"}
        wanted = {
            sender
            for sender, programme in programmes.items()
            if {
                ConsentKey(subject_id, "shop", Scope.TENANT),
                ConsentKey(subject_id, "shop", Scope.PROGRAMME, programme),
                ConsentKey(subject_id, "shop", Scope.SENDER, sender),
            }
            & out
        }
        assert {sender for _, sender in opted_out(carrier)} == wanted
        assert all(row["number_sealed"] is None for row in (await pairs(world)).values())


async def test_who_lost_a_pair_to_another_settles_it_no_more(database_url: str, tmp_path: Path) -> None:
    """A process slept with an answer in its hands; meanwhile the word has changed, and another has told the new one."""
    async with shop(database_url, tmp_path) as (world, _, clock):
        await stop(world)
        store = PropagationStore(world.parts.database)
        slept = await store.take("main", 10, LEASE)
        await store.say("main", [(pair, "out") for pair in slept])
        await clock.pass_by(LEASE + 1)
        await start(world)
        await told_all(clock)
        await store.settle("main", [Settled(pair, "out", "confirmed") for pair in slept])
        assert [(row["holds"], row["due_at"]) for row in (await pairs(world)).values()] == [("in", None)] * 2


async def test_a_word_that_changes_between_taking_and_saying_is_not_said(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as (world, _, clock):
        await stop(world)
        store = PropagationStore(world.parts.database)
        taken = await store.take("main", 10, LEASE)
        await clock.pass_by(1)
        await start(world)
        assert await store.say("main", [(pair, "out") for pair in taken]) == []
        assert len(await store.take("main", 10, LEASE)) == 2  # and is due at once


async def test_a_word_that_changes_while_the_provider_is_asked_is_told_next(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await stop(world)
        inner = world.parts.providers["main"]

        class Meanwhile(Asked):
            async def tell_opt_outs(self, words: Sequence[OptOutWord]) -> Sequence[Told]:
                if not self.calls:
                    await clock.pass_by(1)
                    await start(world)
                self.calls += 1
                return await inner.tell_opt_outs(words)

        world.parts.providers = {"main": Meanwhile()}  # type: ignore[dict-item] # of a provider only this is asked
        telling = clock.telling()
        await telling.tell()
        assert len(opted_out(carrier)) == 2
        after = {(row["holds"], row["said"], row["number_sealed"] is None) for row in (await pairs(world)).values()}
        assert after == {(None, "out", False)}  # the person may have said it to the provider, after us
        await clock.pass_by(1)  # the next call, not the next lease
        await telling.tell()
        assert opted_out(carrier) == set()
        assert await waiting(world) == 0


async def test_a_start_that_the_provider_hears_after_what_it_is_told_is_not_covered_by_the_answer(
    database_url: str, tmp_path: Path
) -> None:
    """It undoes nothing here; there it undoes what was told just before, and the answer to that comes last."""
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await stop(world)
        inner = world.parts.providers["main"]

        class Meanwhile(Asked):
            async def tell_opt_outs(self, words: Sequence[OptOutWord]) -> Sequence[Told]:
                told = await inner.tell_opt_outs(words)
                if not self.calls:
                    opted_out(carrier).discard((PERSON, OFFERS))
                    at = await world.parts.control.now()  # not surely later than the STOP
                    assert await world.receive("START", to=OFFERS, replied="START", created_at=at) == "start"
                self.calls += 1
                return told

        world.parts.providers = {"main": Meanwhile()}  # type: ignore[dict-item] # of a provider only this is asked
        await told_all(clock, clock.telling())
        assert [row["status"] for row in await world.rows("select status from consents where scope = 'tenant'")] == ["out"]
        assert (PERSON, OFFERS) in opted_out(carrier)


async def test_one_that_was_held_up_after_taking_asks_nothing(database_url: str, tmp_path: Path) -> None:
    """Its request could arrive after the lease, and after what another has told since."""
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await stop(world)

        class Slow(PropagationStore):
            async def say(self, *arguments: Any) -> Any:
                clock.seconds += 6
                return await super().say(*arguments)

        telling = clock.telling()
        telling._store = Slow(world.parts.database)
        await telling.tell()
        assert carrier.consents.requests == 0
        await told_all(clock)
        assert len(opted_out(carrier)) == 2


async def test_what_a_provider_refuses_is_counted_and_its_number_is_gone(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        carrier.consents.refused = {PERSON}
        await stop(world)
        await stop(world, number=OTHER, tenant="clinic")
        await told_all(clock)
        assert [(row["refused"], row["number_sealed"]) for row in (await pairs(world)).values()] == [
            (None, None),
            ("refused", None),
            ("refused", None),
        ]
        environment = environment_for(database_url, tmp_path, GATEWAY_ACCOUNTS__MAIN__CONSENTS_API="true")
        code, told = await command(environment, "--json")
        assert code == 0
        level = {"account": "main", "can_be_told": True, "confirmed": 1, "waiting": 0, "oldest": None, "refused": {"refused": 2}}
        assert json.loads(told) == {"accounts": [{**level, "older_left": 3}], "late": False}

        carrier.consents.refused = set()
        await clock.pass_by(60)
        await start(world)  # a new word is tried anew
        await stop(world)
        assert await waiting(world) == 2
        await clock.pass_by(1000)
        code, told = await command(environment)
        assert code == 1
        assert re.search(r"^main +yes +1 +2 +100\d s +3 +-$", told, re.MULTILINE)
        assert (await command(environment, "--older-than", "2000"))[0] == 0
        await told_all(clock)
        assert (PERSON, OFFERS) in opted_out(carrier)


async def command(environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "consent", "propagation", *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, told.decode()


async def test_without_a_number_nothing_is_told_and_with_a_text_on_record_its_number_is(
    database_url: str, tmp_path: Path
) -> None:
    """An opt-out of a hash alone, as from a spool or a list of hashes."""
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        subject_id = world.parts.hasher.subject_id(PhoneNumber(PERSON))
        key = ConsentKey(subject_id, EVERY_TENANT, Scope.ALL)
        await world.parts.stop.opt_out(OptOut(key, "import", None, actor="test"))
        await told_all(clock)
        assert {row["refused"] for row in (await pairs(world)).values()} == {"no_number"}
        assert words(carrier) == []

        await world.publish(to=PERSON)
        await world.parts.stop.opt_out(OptOut(key, "import", None, actor="test"))
        await told_all(clock)
        assert opted_out(carrier) == {(PERSON, sender) for sender in (OFFERS, ORDERS, VISITS)}


@pytest.mark.parametrize(
    "fault, waits",
    [
        (KeyRingAway("away"), True),
        (KeyUnreadable("its master key is missing"), True),
        (KeyMissing("not in the backup that was restored"), True),
        (KeyDestroyed("its day is over"), False),
        (CannotOpen("changed"), False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_number_whose_key_may_come_back_is_waited_for(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: GatewayError, *, waits: bool
) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await stop(world)

        def refuse(*_: object) -> PhoneNumber:
            raise fault

        with monkeypatch.context() as away:
            away.setattr(world.parts.vault, "open_number", refuse)
            await clock.telling().tell()
            assert words(carrier) == []
            assert {row["refused"] for row in (await pairs(world)).values()} == {None if waits else "no_number"}
        assert await waiting(world) == (2 if waits else 0)
        await told_all(clock)
        assert opted_out(carrier) == ({(PERSON, OFFERS), (PERSON, ORDERS)} if waits else set())


async def test_accounts_that_cannot_be_told_keep_no_number(database_url: str, tmp_path: Path) -> None:
    settings = {"GATEWAY_ACCOUNTS__MAIN__CONSENTS_API": "false", "GATEWAY_ACCOUNTS__MAIN__CANCEL_SCHEDULED": "false"}
    async with shop(database_url, tmp_path, **settings) as (world, carrier, clock):
        await stop(world)
        await world.receive("STOP", to=VISITS)
        await world.parts.requests("api").opt_out(None, PhoneNumber(OTHER), Scope.ALL, "", "test")
        assert await pairs(world) == {}
        assert not (tmp_path / "keys" / "_system" / "address").exists()  # nor is one sealed
        await clock.telling().tell()
        assert carrier.consents.requests == 0


async def test_an_account_that_is_told_no_more_is_owed_nothing_until_it_can_be_again(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await world.publish(to=PERSON, tenant="shop", programme="orders")
        await stop(world)
        parts = world.parts
        none = Telling(PropagationStore(parts.database), {}, {}, parts.vault, parts.metrics, telling_times(parts.settings))
        await none.tell()
        assert [(row["refused"], row["number_sealed"]) for row in (await pairs(world)).values()] == [("cannot_be_told", None)] * 2
        await told_all(clock)
        assert opted_out(carrier) == {(PERSON, OFFERS), (PERSON, ORDERS)}


UNTOLD = {"GATEWAY_ACCOUNTS__MAIN__CONSENTS_API": "false", "GATEWAY_ACCOUNTS__MAIN__CANCEL_SCHEDULED": "false"}


async def looked_through(clock: Clock, telling: Telling, rounds: int = 1) -> None:
    """Tell until the standing opt-outs have been looked through so often, and nothing waits."""
    for _ in range(200):
        await telling.tell()
        done = await clock.world.rows("select from older_opt_outs where rounds < $1", rounds)
        if not done and not await waiting(clock.world):
            return
        await clock.pass_by(1)
    raise AssertionError("they are still looked through")


@pytest.mark.parametrize("read", [3, 1000])
async def test_an_account_that_comes_to_be_told_is_told_of_what_was_said_before(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, read: int
) -> None:
    monkeypatch.setattr("gateway.store.propagations._OLDER_READ", read)
    people = [f"+120255501{number:02}" for number in range(40)]
    async with shop(database_url, tmp_path, **UNTOLD) as (world, _, clock):
        for number, person in enumerate(people):
            await world.publish(message_id=f"m{number}", tenant="shop", programme="orders", to=person)
            if number % 2 == 0:  # what was said first stands first
                await start(world, number=person, scope=Scope.PROGRAMME, name="offers")
            await stop(world, number=person)
            if number % 3 == 0:  # of one programme twice
                await stop(world, number=person, scope=Scope.PROGRAMME, name="orders")
        await clock.pass_by(60)
        await start(world, number=people[7])
        await stop(world, number=OTHER.replace("0102", "0199"))  # to whom no text is on record
        assert await pairs(world) == {}

    async with shop(database_url, tmp_path) as (world, carrier, clock):
        telling = clock.telling()
        await telling.tell()
        assert 0 < await waiting(world) <= 25  # no more than a call takes
        await world.publish(tenant="shop", programme="orders", to="+12025550198")
        await stop(world, number="+12025550198")
        for _ in range(2):
            await telling.tell()
            await clock.pass_by(1)
        assert words(carrier, "+12025550198")  # it waits for none of the others
        await looked_through(clock, telling)
        told = {person for person in people if person != people[7]} | {"+12025550198"}
        assert opted_out(carrier) == {(person, sender) for person in told for sender in (OFFERS, ORDERS)}
        assert len(carrier.consents.told) == 2 * len(told)
        rows = await world.rows("select refused, count(*) from propagations where refused is not null group by 1")
        assert [(row["refused"], row["count"]) for row in rows] == [("no_number", 2)]

        # What is held, or was refused, stays as it is.
        await world.parts.database.execute("update older_opt_outs set rounds = 0, next_at = gateway_now()")
        await looked_through(clock, telling)
        assert len(carrier.consents.told) == 2 * len(told)


async def test_what_a_process_of_the_old_settings_writes_meanwhile_is_found_an_hour_later(
    database_url: str, tmp_path: Path
) -> None:
    async with shop(database_url, tmp_path, **UNTOLD) as (old, _, _), shop(database_url, tmp_path) as (world, carrier, clock):
        telling = clock.telling()
        await looked_through(clock, telling)
        await old.publish(tenant="shop", programme="orders", to=PERSON)
        await stop(old)
        await looked_through(clock, telling)
        assert words(carrier) == []
        assert await PropagationStore(world.parts.database).older_left() == {"main": 3}
        await clock.pass_by(3600)
        await looked_through(clock, telling, rounds=2)
        assert opted_out(carrier) == {(PERSON, OFFERS), (PERSON, ORDERS)}
        assert await PropagationStore(world.parts.database).older_left() == {}


async def test_a_pair_that_was_only_noted_to_cancel_what_was_scheduled_is_told_once_it_can_be(
    database_url: str, tmp_path: Path
) -> None:
    async with shop(database_url, tmp_path, GATEWAY_ACCOUNTS__MAIN__CONSENTS_API="false") as (world, carrier, clock):
        await world.publish(tenant="shop", programme="orders", to=PERSON)
        await stop(world)
        await told_all(clock)
        assert {row["due_at"] for row in (await pairs(world)).values()} == {None}
        assert await world.rows("select from older_opt_outs") == []
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await looked_through(clock, clock.telling())
        assert sorted(words(carrier)) == [(OFFERS, "opt-out"), (ORDERS, "opt-out")]


async def test_a_sender_that_comes_back_to_an_account_is_looked_through_anew(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        telling = clock.telling()
        await looked_through(clock, telling)
        uses = dict(telling._uses)
        elsewhere = clock.telling()
        elsewhere._uses = {sender: use for sender, use in uses.items() if sender != OFFERS}
        await elsewhere.tell()
        await world.publish(tenant="shop", programme="orders", to=PERSON)
        await stop(world)
        await told_all(clock, elsewhere)
        assert words(carrier) == [(ORDERS, "opt-out")]
        await looked_through(clock, clock.telling())
        assert sorted(words(carrier)) == [(OFFERS, "opt-out"), (ORDERS, "opt-out")]


async def test_of_a_sender_that_has_gone_to_another_account_the_old_one_is_told_no_more(
    database_url: str, tmp_path: Path
) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await stop(world)
        parts = world.parts
        uses = dict(parts.policies.sender_map())
        del uses[OFFERS]
        uses[ORDERS] = replace(uses[ORDERS], account="other")
        telling = clock.telling()
        telling._uses = uses
        await told_all(clock, telling)
        assert [(row["refused"], row["number_sealed"]) for row in (await pairs(world)).values()] == [("not_a_sender", None)] * 2
        assert carrier.consents.requests == 0


async def test_an_account_that_fails_keeps_no_other_waiting_and_store_faults_are_borne(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await stop(world)
        telling = clock.telling()
        broken = Broken()
        telling._tellers = {"broken": broken, **telling._tellers}
        telling._uses = {**telling._uses, OFFERS: replace(telling._uses[OFFERS], account="broken")}
        await telling._store.choose(["broken", "main"], [])
        telling._chosen = True
        await world.parts.database.execute("update propagations set account = 'broken' where sender = $1", OFFERS)
        await telling.tell()
        assert opted_out(carrier) == {(PERSON, ORDERS)}
        assert broken.calls == 1
        assert (await pairs(world))[OFFERS]["said"] == "out"
        await telling.tell()
        assert broken.calls == 1  # not before its time

        class Away(PropagationStore):
            async def take(self, account: str, most: int, lease: float) -> Any:
                raise StoreUnavailable("away")

        telling._store = Away(world.parts.database)
        await clock.pass_by(600)
        assert await telling.tell() == 0


class Asked:
    """An account of which this is asked, and no more."""

    calls = 0

    @property
    def abilities(self) -> Any:
        return replace(Twilio.abilities, tells_opt_outs=True, cancels_scheduled=False)

    async def cancel_scheduled(self, *_: object) -> int:
        raise AssertionError


class Broken(Asked):
    """An account whose every call ends in a fault of the program."""

    async def tell_opt_outs(self, words: Sequence[OptOutWord]) -> Sequence[Told]:
        self.calls += 1
        raise ZeroDivisionError


async def test_a_refusal_for_an_opt_out_that_is_about_to_be_undone_is_not_learned(database_url: str, tmp_path: Path) -> None:
    """21610 comes of the opt-out that we told; the person has opted in since."""
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await stop(world)
        await told_all(clock)
        await clock.pass_by(60)
        await start(world)
        subject_id = world.parts.hasher.subject_id(PhoneNumber(PERSON))
        async with world.sending():
            await world.publish(message_id="early", tenant="shop", programme="orders", to=PERSON)
            await until(lambda: settled(world, "early"))
        assert (await world.states())["early"] == "blocked"
        assert {one.status for one in await world.parts.consents.consents(subject_id)} == {"in"}

        await told_all(clock)
        async with world.sending():
            await world.publish(message_id="late", tenant="shop", programme="orders", to=PERSON)
            await until(lambda: settled(world, "late"))
        assert (await world.states())["late"] == "sent"

        await carrier.inbound(PERSON, ORDERS, "STOP", opt_out_type="STOP", deliver=False)  # and now at the carrier alone
        async with world.sending():
            await world.publish(message_id="last", tenant="shop", programme="orders", to=PERSON)
            await until(lambda: settled(world, "last"))
        assert "out" in {one.status for one in await world.parts.consents.consents(subject_id)}
        assert await world.parts.consents.holding("main", ORDERS, subject_id) == Holding("out", None, open=True, refused=False)
        await told_all(clock)
        assert words(carrier)[-1] == (ORDERS, "opt-in")  # the carrier holds it: it is not told


async def settled(world: World, message_id: str) -> bool:
    return (await world.states()).get(message_id) not in (None, "accepted", "sending")


async def test_a_stop_is_written_at_once_while_pairs_are_taken_and_told(database_url: str, tmp_path: Path) -> None:
    """Nothing is held while the provider thinks."""
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        await stop(world)
        carrier.consents.mode = "hang_after"
        telling = asyncio.create_task(clock.telling().tell())
        await carrier.book.wait_for(lambda _: len(carrier.consents.told) == 2)
        async with asyncio.timeout(2):
            await stop(world)
        assert not telling.done()
        await carrier.close()
        await telling


def test_the_lease_outlasts_what_one_telling_may_take(database_url: str, tmp_path: Path) -> None:
    times = telling_times(settings_for(database_url, tmp_path))
    assert times.lease == LEASE
    assert times.lease - times.begin >= 5
