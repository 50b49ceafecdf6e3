"""Texts that other systems have scheduled at Twilio, canceled by an opt-out: a real PostgreSQL, Twilio's adapter and its simulator."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.consent import Scope
from gateway.domain.errors import ProviderUnavailable
from gateway.domain.personal import PhoneNumber
from gateway.flow.provider import Abilities, OptOutWord, Told
from gateway.simulator.carrier import Carrier
from tests.contract.carrier_tools import Api
from tests.integration.test_telling import (
    OFFERS,
    ORDERS,
    OTHER,
    PERSON,
    SID,
    VISITS,
    opted_out,
    pairs,
    shop,
    start,
    stop,
    told_all,
    waiting,
)
from tests.integration.world import World

SERVICE = "MG" + "5" * 32
TOLD = pytest.mark.parametrize("told", ["true", "false"], ids=["told as well", "not told"])


async def schedule(carrier: Carrier, sender: str, to: str = PERSON) -> str:
    """Another system schedules a text; its id."""
    at = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    form = {"From": sender, "MessagingServiceSid": SERVICE, "ScheduleType": "fixed", "SendAt": at}
    status, made = await Api(carrier.url, SID, "secret").create(to, **form)
    assert (status, made["status"]) == (201, "scheduled")
    return str(made["sid"])


def states(carrier: Carrier, *sids: str) -> list[str]:
    return [carrier.book.messages[sid].step(carrier.book.clock()).status for sid in sids]


def canceled(world: World) -> float:
    return float(world.parts.metrics.scheduled_canceled_total.labels(account="main")._value.get())


def environment(told: str) -> dict[str, str]:
    return {"GATEWAY_ACCOUNTS__MAIN__CONSENTS_API": told}


@TOLD
async def test_an_opt_out_cancels_what_is_scheduled_from_the_senders_in_its_reach(
    database_url: str, tmp_path: Path, told: str
) -> None:
    async with shop(database_url, tmp_path, **environment(told)) as (world, carrier, clock):
        theirs = [await schedule(carrier, sender) for sender in (OFFERS, ORDERS)]
        others = [await schedule(carrier, VISITS), await schedule(carrier, OFFERS, OTHER)]
        await stop(world)
        await clock.telling().tell()
        assert states(carrier, *theirs, *others) == ["canceled", "canceled", "scheduled", "scheduled"]
        assert canceled(world) == 2
        assert await waiting(world) == 0
        assert {row["number_sealed"] for row in (await pairs(world)).values()} == {None}
        assert opted_out(carrier) == ({(PERSON, OFFERS), (PERSON, ORDERS)} if told == "true" else set())


@TOLD
async def test_so_does_a_stop_that_the_provider_took_itself(database_url: str, tmp_path: Path, told: str) -> None:
    async with shop(database_url, tmp_path, **environment(told)) as (world, carrier, clock):
        text = await schedule(carrier, OFFERS)
        assert await world.receive("STOP", to=OFFERS, replied="STOP") == "stop"
        await told_all(clock)
        assert states(carrier, text) == ["canceled"]


async def test_an_opt_out_that_leaves_a_use_of_the_sender_cancels_nothing(database_url: str, tmp_path: Path) -> None:
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
    senders: [{number: "+14155550110", account: main}]
    help_contact: help@shop.example
""")
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        text = await schedule(carrier, OFFERS)
        await stop(world, scope=Scope.PROGRAMME, name="offers")
        await told_all(clock)
        assert states(carrier, text) == ["scheduled"]
        await stop(world, scope=Scope.PROGRAMME, name="orders")
        await told_all(clock)
        assert states(carrier, text) == ["canceled"]


async def test_who_is_back_before_it_is_canceled_gets_what_is_scheduled(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path) as (world, carrier, clock):
        text = await schedule(carrier, OFFERS)
        await stop(world)
        await clock.pass_by(60)
        await start(world)
        await told_all(clock)
        assert states(carrier, text) == ["scheduled"]


class Failing:
    """An account that is away for some requests to cancel, and does not always say when it has done what it was asked."""

    def __init__(self, real: Any, failures: int, *, acting: bool) -> None:
        self.real, self.failures, self.acting = real, failures, acting
        self.asked: list[frozenset[str]] = []

    @property
    def abilities(self) -> Abilities:
        abilities: Abilities = self.real.abilities
        return abilities

    async def tell_opt_outs(self, words: Sequence[OptOutWord]) -> Sequence[Told]:
        told: Sequence[Told] = await self.real.tell_opt_outs(words)
        return told

    async def cancel_scheduled(self, to: PhoneNumber, senders: Collection[str]) -> int:
        self.asked.append(frozenset(senders))
        if len(self.asked) <= self.failures:
            if self.acting:
                await self.real.cancel_scheduled(to, senders)
            raise ProviderUnavailable("Twilio account main: nothing was sent: refused")
        count: int = await self.real.cancel_scheduled(to, senders)
        return count


@TOLD
@pytest.mark.parametrize("acting", [False, True], ids=["not done", "done, not answered"])
async def test_it_is_tried_again_until_it_is_confirmed(database_url: str, tmp_path: Path, told: str, acting: bool) -> None:
    async with shop(database_url, tmp_path, **environment(told)) as (world, carrier, clock):
        text = await schedule(carrier, OFFERS)
        await stop(world)
        failing = Failing(world.parts.providers["main"], failures=2, acting=acting)
        telling = clock.telling()
        telling._tellers = {"main": failing}
        await telling.tell()
        assert await waiting(world) == 2, "told or not, the pair waits, and its number is kept"
        assert all(row["number_sealed"] for row in (await pairs(world)).values())
        assert states(carrier, text) == ["canceled" if acting else "scheduled"]
        await told_all(clock, telling)
        assert states(carrier, text) == ["canceled"]
        assert failing.asked == [frozenset({OFFERS, ORDERS})] * 3, "one list for all senders of an account"
        assert await waiting(world) == 0


async def test_an_account_of_which_nothing_can_be_asked_keeps_no_number(database_url: str, tmp_path: Path) -> None:
    settings = {"GATEWAY_ACCOUNTS__MAIN__CANCEL_SCHEDULED": "false", **environment("false")}
    async with shop(database_url, tmp_path, **settings) as (world, carrier, clock):
        text = await schedule(carrier, OFFERS)
        await stop(world)
        assert await pairs(world) == {}
        await clock.telling().tell()
        assert states(carrier, text) == ["scheduled"]


async def test_an_account_that_is_told_and_cancels_nothing_is_only_told(database_url: str, tmp_path: Path) -> None:
    async with shop(database_url, tmp_path, GATEWAY_ACCOUNTS__MAIN__CANCEL_SCHEDULED="false") as (world, carrier, clock):
        text = await schedule(carrier, OFFERS)
        await stop(world)
        await told_all(clock)
        assert opted_out(carrier) == {(PERSON, OFFERS), (PERSON, ORDERS)}
        assert states(carrier, text) == ["scheduled"]
