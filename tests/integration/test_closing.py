"""Customer accounts that are closed: nothing is taken in or sent any more, a STOP counts, and what is kept until so long after ends."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.app.accounts import Closers, accounts_of, accounts_place
from gateway.app.copies import lost_accounts
from gateway.app.places import keys_place
from gateway.app.retention_rows import rows_of
from gateway.bus.address import BrokerAddress
from gateway.bus.retention import KafkaRetention
from gateway.bus.topics import TopicSpec, apply
from gateway.cli.root import run as gateway_run
from gateway.domain.closing import STILL_WRITTEN
from gateway.domain.consent import Scope
from gateway.domain.errors import Conflict, NotFound
from gateway.domain.events import OptInProof
from gateway.domain.outcome import Accepted
from gateway.domain.personal import PhoneNumber
from gateway.domain.policy_files import find_policies
from gateway.domain.retention import Duration, Span, deadline
from gateway.domain.retention_days import midnight
from gateway.domain.topic_limits import ClosedIn, TopicLimit
from gateway.flow.closing import Closures
from gateway.flow.retention import Found
from gateway.flow.vault import DataClass
from gateway.store.closing import ClosedAccounts
from tests.integration.hands import Hands, settle_by_hand
from tests.integration.test_provider_copies import HOUR, OURS, PEOPLE, Kind, Shop, Unsteady, both, once_live, shop
from tests.integration.test_retention_kafka import DAY_MS, moment, now_ms, put
from tests.integration.test_retention_rows import ALL, GONE, REDUCED, left, move_to, published, readable, run_all, text, today
from tests.integration.world import POLICIES, World, environment_for, open_world
from tests.kafka.server import KafkaServer

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
SEALED: Sequence[DataClass] = ("content", "address", "inbound", "dead_letters")
FILLED = """
enabled: true
providers: [twilio]
programmes:
  visits: {{categories: [service], senders: [{{number: "{number}", account: main}}], help_contact: help@{tenant}.example}}
retention: {{consent_proof: 60mo}}
"""
NUMBERS = {"leadnlead": "+447700900130", "technology-toolbox": "+447700900131"}


@asynccontextmanager
async def the_notices(database_url: str, folder: Path) -> AsyncIterator[World]:
    """The two notices that speak of a closing as they ship, filled in by overlays, with an account in the European Union."""
    policies = folder / "policies"
    policies.mkdir()
    for tenant, number in NUMBERS.items():
        shutil.copy(Path("policies", f"{tenant}.yaml"), policies)
        (policies / f"{tenant}.overlay.yaml").write_text(FILLED.format(tenant=tenant, number=number))
    for tenant, policy in POLICIES.items():  # nobody else's numbers are in the Union
        (policies / f"{tenant}.yaml").write_text(f"enabled: false\n{policy.lstrip()}")
    async with open_world(database_url, folder, GATEWAY_ACCOUNTS__MAIN__REGION="ie1") as world:
        for tenant in NUMBERS:  # as if the provider's place had noted all that is to be erased there
            await world.rows(
                "insert into provider_copies_noted values ('main', $1, 'all', $2, now())", tenant, UUID(int=2**128 - 1)
            )
        yield world


async def close(world: World, tenant: str, at: datetime | None = None) -> datetime:
    return await accounts_of(world.parts).close(tenant, "billing", "the contract ended", "test", at=at)


async def end_waiting(world: World) -> int:
    return await Closures(ClosedAccounts(world.parts.database), world.parts.ledger, world.parts.metrics).end_waiting()


def keys_of(world: World, tenant: str, days: list[date]) -> dict[str, list[bool]]:
    return {one: [readable(world, tenant, one, day) for day in days] for one in SEALED}


async def everywhere(world: World, now: datetime) -> list[Found]:
    """What is not well in the database and the key ring."""
    await world.rows("delete from audit_unchained")  # as if the relay had put it into its chains, and those were published
    places = (rows_of(world.parts), keys_place(world.parts), accounts_place(world.parts))
    return [one for place in places for one in await place.verify(now) if not one.well]


async def run_keys(world: World, now: datetime) -> None:
    place = keys_place(world.parts)
    while await place.run(now, 100):
        pass


# -- the horizons ----------------------------------------------------------------------------------------------------------------------


async def test_as_long_as_the_account_is_open_is_until_then_and_ends_everything_at_once(
    database_url: str, tmp_path: Path
) -> None:
    """leadnlead: texts, numbers, letters and events of three days, in rows and keys, on both sides of the closing."""
    tenant = "leadnlead"
    async with the_notices(database_url, tmp_path) as world:
        other = {"tenant": "technology-toolbox", "to": "+12025550190"}
        days = [await today(world)]
        await text(world, tenant, message_id="first")
        await world.intake().admit("sms.outbound.v1", 0, [world.record(tenant=tenant, message_id="first", body="reused")])
        await move_to(world, midnight(days[0]) + DAY + timedelta(hours=9))
        days.append(await today(world))
        await text(world, tenant, message_id="second")
        await move_to(world, midnight(days[1]) + DAY + timedelta(hours=9))
        days.append(await today(world))
        await text(world, tenant, message_id="third", to="+12025550103")
        await text(world, message_id="other", **other)
        for day in days:
            for data_class in SEALED:
                world.parts.ring.key(tenant, data_class, day)  # also those that nothing is sealed by

        closes = midnight(days[2]) + timedelta(hours=15)
        assert await close(world, tenant, closes) == closes
        world.parts.ring.key(tenant, "content", days[2] + DAY)  # made ahead
        await run_all(world, closes - SECOND)
        await run_keys(world, closes - SECOND)
        assert await left(world, tenant) == dict.fromkeys(ALL, 3)
        assert keys_of(world, tenant, days) == {one: [True] * 3 for one in SEALED}
        assert await everywhere(world, closes - SECOND) == []
        assert len(await world.rows("select from dead_letters where tenant = $1", tenant)) == 1

        # the days before: at once
        assert {one.data_class for one in await everywhere(world, closes) if one.place == "postgresql"} == {
            "content", "address", "events", "dead_letters",
        }  # fmt: skip
        await move_to(world, closes)
        await run_all(world, closes)
        await run_keys(world, closes)
        assert await left(world, tenant) == dict.fromkeys(ALL, 1)
        assert keys_of(world, tenant, days) == {one: [False, False, True] for one in SEALED}
        assert await world.rows("select from dead_letters where tenant = $1", tenant) == []
        assert await everywhere(world, closes) == []

        # the day itself: as soon as all that came before has surely been written
        ends = closes + STILL_WRITTEN
        await run_all(world, ends - SECOND)
        await run_keys(world, ends - SECOND)
        assert await left(world, tenant) == dict.fromkeys(ALL, 1)
        assert {one.place for one in await everywhere(world, ends)} == {"postgresql", "keys", "customer accounts"}
        await move_to(world, ends)
        await run_all(world, ends)
        await run_keys(world, ends)
        while await accounts_place(world.parts).run(ends, 100):
            pass
        assert await left(world, tenant) == REDUCED
        assert keys_of(world, tenant, days) == {one: [False] * 3 for one in SEALED}
        assert await everywhere(world, ends) == []
        assert await left(world, "technology-toolbox") == ALL, "whose day it is too"
        await text(world, message_id="later", **other)

        # what became of messages of that day: with its end
        over = midnight(days[2]) + DAY + STILL_WRITTEN
        await run_all(world, over - SECOND)
        assert await left(world, tenant) == REDUCED
        await move_to(world, over)
        await run_all(world, over)
        assert await left(world, tenant) == GONE
        # a key that was made ahead, and by which nothing was sealed: with its own day
        await run_keys(world, over + DAY - SECOND)
        assert readable(world, tenant, "content", days[2] + DAY)
        await run_keys(world, over + DAY)
        assert not readable(world, tenant, "content", days[2] + DAY)
        assert (await left(world, "technology-toolbox"))["bodies"] == 2
        assert await everywhere(world, over) == []


async def test_a_step_of_the_keys_that_rests_is_woken_by_a_closing_and_no_key_goes_ahead_of_it(
    database_url: str, tmp_path: Path
) -> None:
    """A key that nothing in the database needs may go an hour before its deadline, but for a closing: that may be taken back."""
    tenant = "leadnlead"
    async with the_notices(database_url, tmp_path) as world:
        noon = await move_to(world, midnight(await today(world)) + DAY + timedelta(hours=12))
        yesterday = noon.date() - DAY
        for day in (yesterday, noon.date()):
            world.parts.ring.key(tenant, "inbound", day)
        place = keys_place(world.parts)
        assert await place.run(noon, 100) == 0
        closes = await close(world, tenant, noon + timedelta(minutes=5))
        assert await place.run(noon + SECOND, 100) == 0
        assert await place.run(closes - SECOND, 100) == 0
        assert await place.run(closes, 100) == 1
        assert [readable(world, tenant, "inbound", day) for day in (yesterday, noon.date())] == [False, True]
        assert await place.run(closes + SECOND, 100) == 0
        assert await place.run(closes + STILL_WRITTEN, 100) == 1
        assert not readable(world, tenant, "inbound", noon.date())


async def test_three_months_after_closing_what_is_kept_of_the_customer_goes_and_nothing_else_sooner(
    database_url: str, tmp_path: Path
) -> None:
    """technology-toolbox: 6d for texts and 13mo for events hold as if it were open."""
    tenant = "technology-toolbox"
    async with the_notices(database_url, tmp_path) as world:
        day = await today(world)
        await text(world, tenant)
        control, place = world.parts.control, accounts_place(world.parts)
        subject = world.parts.hasher.subject_id(PhoneNumber("+12025550101"))
        await world.rows("insert into kept_senders values ($1, $2, 'visits', '+447700900131', $3)", subject, tenant, day)
        await world.rows("insert into kept_senders values ($1, 'leadnlead', 'visits', '+447700900130', $2)", subject, day)
        await control.pause("programme", tenant, "visits", "test", "")
        await control.create_token(b"own", "own", [tenant], "test")
        await control.create_token(b"shared", "shared", [tenant, "leadnlead"], "test")
        closes = await close(world, tenant)
        over = deadline(closes, Duration((Span(3, "mo"),)))
        assert over is not None

        await move_to(world, midnight(day) + 6 * DAY)
        await run_all(world, midnight(day) + 6 * DAY - SECOND)
        await run_keys(world, midnight(day) + 6 * DAY - timedelta(hours=2))
        assert await left(world, tenant) == ALL
        assert readable(world, tenant, "content", day)
        await run_all(world, midnight(day) + 6 * DAY)
        assert await left(world, tenant) == REDUCED
        assert not readable(world, tenant, "content", day)

        [planned] = await place.plan(closes)
        assert (planned.tenant, planned.data_class, planned.due_at, planned.count) == (tenant, "customer_account", over, 5)
        assert await place.run(over - SECOND, 100) == 0
        assert all(one.well for one in await place.verify(over - SECOND))
        [found] = await place.verify(over)
        assert (found.well, found.why) == (False, "5 that should be gone since the account is closed")
        assert await place.run(over, 1) == 1, "bounded"
        while await place.run(over, 100):
            pass
        assert all(one.well for one in await place.verify(over))
        [row] = await accounts_of(world.parts).list()
        assert (row["tenant"], row["closed"], row["who"], row["why"]) == (tenant, True, None, None)
        assert [row["tenant"] for row in await world.rows("select tenant from kept_senders")] == ["leadnlead"]
        assert await control.pauses() == []
        assert [(row["name"], row["tenants"]) for row in await control.tokens()] == [("shared", ["leadnlead"])]
        assert await left(world, tenant) == REDUCED, "events go by their own period"


async def test_a_crash_in_any_step_of_what_is_kept_of_the_customer_is_made_good(database_url: str, tmp_path: Path) -> None:
    async with the_notices(database_url, tmp_path) as world:
        tenant, day = "leadnlead", await today(world)
        people = [world.parts.hasher.subject_id(PhoneNumber(f"+1202555010{n}")) for n in range(3)]
        for subject in people:
            await world.rows("insert into kept_senders values ($1, $2, 'visits', '+447700900130', $3)", subject, tenant, day)
        closes = await close(world, tenant)
        place, due = accounts_place(world.parts), closes + STILL_WRITTEN
        assert (await place.run(due - SECOND, 100), await place.left(due - SECOND)) == (0, "")
        assert await place.run(due, 2) == 2
        assert not all(one.well for one in await place.verify(due))
        assert await place.left(due) == "of 1 customers something is due"
        again = accounts_place(world.parts)  # another process
        assert await again.run(due, 100) == 2
        assert await again.run(due, 100) == 0
        assert all(one.well for one in await again.verify(due))
        assert await again.left(due) == ""
        await world.rows("insert into pauses values ('tenant', $1, '', now(), 'x', '')", tenant)  # behind the step's back
        [found] = [one for one in await again.verify(due) if one.tenant == tenant]
        assert not found.well


# -- what comes in, and what goes out ------------------------------------------------------------------------------------------------


async def test_what_comes_in_for_a_closed_account_is_a_dead_letter_without_content(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await close(world, "clinic")
        await world.publish(message_id="late")
        await world.publish(tenant="shop", programme="orders", message_id="of-another")
        assert await world.states() == {"of-another": "accepted"}
        [letter] = await world.rows("select tenant, reason, detail, sealed, length > 0 as long from dead_letters")
        assert letter == {
            "tenant": "_system",
            "reason": "tenant_closed",
            "detail": "tenant: the customer account of clinic is closed",
            "sealed": None,
            "long": True,
        }
        [told] = await world.rows("select payload from outbox where kind = 'dead_letter'")
        event = json.loads(told["payload"])
        assert (event["reason"], event["tenant"], event.get("sealed")) == ("tenant_closed", None, None)
        assert await world.rows("select from message_ids where tenant = 'clinic'") == [], (
            "it may be published again once it is open"
        )
        await accounts_of(world.parts).reopen("clinic", "test")
        await world.publish(message_id="late")
        assert (await world.states())["late"] == "accepted"


async def test_what_waits_is_never_sent_and_is_canceled_and_told(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="on-the-wire", to="+12025550102")
        hands = Hands(world)
        under_way = await hands.claim()
        assert len(await hands.mark(under_way)) == 1
        await world.publish(message_id="claimed", to="+12025550103")
        claimed = await hands.claim()
        await world.publish(message_id="waits")
        later = (await world.parts.ledger.now() + 3 * DAY).isoformat()
        await world.publish(message_id="deferred", not_before=later, to="+12025550104")
        await world.publish(tenant="shop", programme="orders", message_id="of-another", to="+12025550105")
        await close(world, "clinic")
        assert await hands.mark(claimed) == [], "claimed before, and not begun"
        assert await hands.ids(await hands.claim()) == ["of-another"]
        assert await end_waiting(world) == 3
        assert await end_waiting(world) == 0
        for one in under_way:
            await settle_by_hand(world, one, Accepted(world.carrier.new_id(), 1))
        rows = await world.rows("select message_id, state, reason, rule, final from messages where tenant = 'clinic'")
        ended = {row["message_id"]: (row["state"], row["reason"], row["rule"], row["final"]) for row in rows}
        canceled = ("canceled", "account_closed", "account.closed", True)
        assert ended.pop("on-the-wire")[0] == "sent", "what was begun is settled like any other"
        assert ended == dict.fromkeys(("claimed", "waits", "deferred"), canceled)
        told = await world.rows(
            "select count(*) as n from outbox where kind = 'status' and tenant = 'clinic' and state = 'canceled'"
        )
        assert told == [{"n": 3}]


async def test_a_stop_counts_and_nothing_is_answered_told_or_sealed_for_a_closed_account(
    database_url: str, tmp_path: Path
) -> None:
    async with open_world(database_url, tmp_path) as world:
        await text(world, "clinic")
        await close(world, "clinic")
        for data_class in ("content", "address", "inbound"):
            world.parts.ring.key("clinic", data_class, await today(world))
            world.parts.ring.destroy("clinic", data_class, await today(world))  # as if its policy ended everything at once
        await published(world)
        before = await world.rows("select count(*) as n from messages")
        assert await world.receive("Where is it?") == "other"
        assert await world.receive("HELP") == "help"
        assert await world.receive("STOP") == "stop"
        assert await world.receive("STOP", sender="+12025550177") == "stop", "of somebody who was never texted"
        assert await world.rows("select count(*) as n from messages") == before, "no answer"
        kinds = await world.rows("select kind, count(*)::int as n from outbox group by 1 order by 1")
        assert kinds == [{"kind": "consent", "n": 2}], "the opt-outs, and no text"
        outs = await world.rows("select tenant, in_force_at is not null as forced from consents where status = 'out'")
        assert outs == [{"tenant": "clinic", "forced": True}] * 2


async def test_a_closed_account_takes_no_proof_of_an_opt_in_and_every_opt_out(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await close(world, "clinic")
        asked, number = world.parts.requests("api"), PhoneNumber("+12025550101")
        proof = OptInProof(medium="web", at=datetime(2026, 1, 1, tzinfo=UTC))
        granted = await asked.opt_in("clinic", number, Scope.TENANT, "", "test", proof)
        assert (granted.granted, granted.why) == (False, "account_closed")
        assert (await asked.opt_in("shop", number, Scope.TENANT, "", "test", proof)).granted
        assert (await asked.opt_out("clinic", number, Scope.TENANT, "", "test")).in_force
        assert await world.rows("select from consents where tenant = 'clinic' and proof_sealed is not null") == []


# -- who tells it --------------------------------------------------------------------------------------------------------------------


async def test_a_closing_is_noted_once_audited_and_taken_back_while_nothing_dies_of_it(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        accounts, now = accounts_of(world.parts), await world.parts.ledger.now()
        with pytest.raises(NotFound, match="the account of clinic is not closed"):
            await accounts.reopen("clinic", "test")
        with pytest.raises(Conflict, match="more than 366 days ahead"):
            await close(world, "clinic", now + 367 * DAY)
        coming = await close(world, "clinic", now + 5 * DAY)
        with pytest.raises(Conflict, match=re.escape(f"is noted already for {coming.isoformat(timespec='seconds')}")):
            await close(world, "clinic")
        await world.publish(message_id="still-open")
        assert await world.states() == {"still-open": "accepted"}
        assert await end_waiting(world) == 0
        await accounts.reopen("clinic", "test")  # to come

        first = await close(world, "clinic")
        noon = midnight(await today(world)) + DAY + timedelta(hours=12)
        await accounts.reopen("clinic", "test")  # fresh
        await move_to(world, noon)
        second = await close(world, "clinic", noon - 3 * DAY)  # in the past: written to until it was told
        await move_to(world, noon + STILL_WRITTEN / 2 + SECOND)
        with pytest.raises(Conflict, match="can be opened again from midnight, UTC"):
            await accounts.reopen("clinic", "test")
        await move_to(world, midnight(noon.date()) + DAY + SECOND)
        await accounts.reopen("clinic", "test")
        steps = await world.rows("select step, evidence, actor, tenant from audit where step like 'account_%' order by id")
        moments = [coming, coming, first, first, second, second]
        words = ["account_closed", "account_reopened"] * 3
        assert [(row["step"], row["evidence"], row["actor"], row["tenant"]) for row in steps] == [
            (step, at.isoformat(), "test", "clinic") for step, at in zip(words, moments, strict=True)
        ]


async def test_after_a_reopening_texts_are_sealed_and_sent_again(database_url: str, tmp_path: Path) -> None:
    """Also where all of the closing's day has died: a reopening on a later day finds keys of that day."""
    tenant = "leadnlead"
    async with the_notices(database_url, tmp_path) as world:
        await text(world, tenant)
        closes = await close(world, tenant)
        ends = await move_to(world, closes + STILL_WRITTEN)
        await run_all(world, ends)
        assert (await left(world, tenant))["bodies"] == 0
        await text(
            world, "technology-toolbox", to="+12025550190"
        )  # the day's partition has stayed for others, though it was all of it
        await move_to(world, midnight(closes.date()) + 2 * DAY)
        await accounts_of(world.parts).reopen(tenant, "test")
        await text(world, tenant, message_id="back")
        now = await world.parts.ledger.now()
        await run_all(world, now)
        await run_keys(world, now)
        assert (await left(world, tenant))["bodies"] == 1
        assert readable(world, tenant, "content", await today(world))
        assert [one for one in await everywhere(world, now) if one.tenant == tenant] == []


async def test_who_bills_is_known_by_the_right_of_its_token(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        control = world.parts.control
        await control.create_token(b"billing", "billing", None, "test", ["close-accounts"])
        await control.create_token(b"shop", "shop", ["shop"], "test")
        assert await Closers(control).find(b"shop") is None
        assert await control.find(b"billing") is None
        found = await Closers(control).find(b"billing")
        assert found is not None
        assert (found.name, found.tenants) == ("billing", None)
        with pytest.raises(NotFound, match="no policy has this tenant"):
            await close(world, "nobody")
        await control.revoke_token("billing", "test")
        assert await Closers(control).find(b"billing") is None


async def test_the_commands(database_url: str, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_world(database_url, tmp_path):
        pass
    for name, value in environment_for(database_url, tmp_path).items():
        monkeypatch.setenv(name, value)

    def gateway(*arguments: str) -> tuple[int, str, str]:
        code = gateway_run(["tenants", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    async def run(*arguments: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(gateway, *arguments)

    words = ("--who", "billing", "--why", "the contract ended")
    assert (await run("list"))[1].endswith("no account is closed\n")
    code, out, _ = await run("close", "clinic", "--at", "2026-01-31T12:00:00+01:00", *words, "--json")
    assert (code, json.loads(out)) == (0, {"tenant": "clinic", "closed_at": "2026-01-31T11:00:00.000+00:00"})
    code, out, _ = await run("list", "--json")
    [row] = json.loads(out)["closed"]
    assert (row["tenant"], row["closed"], row["who"], row["why"]) == ("clinic", True, "billing", "the contract ended")
    assert "clinic" in (await run("list"))[1]
    for arguments, said, wanted in (
        (("close", "clinic", *words), "noted already for 2026-01-31T11:00:00+00:00", 1),
        (("close", "nobody", *words), "no policy has this tenant: there are clinic, shop", 2),
        (("close", "shop", "--who", " ", "--why", "x"), "--who and --why must say something", 2),
        (("close", "shop", "--who", "x"), "--why", 2),
        (("close", "shop", "--who", "+1 202 555 0101", "--why", "x"), "looks like a telephone number", 2),
        (("close", "shop", "--at", "tomorrow", *words), "--at must be a time with its offset", 2),
        (("close", "shop", "--at", "2026-01-31T12:00:00", *words), "--at must be a time with its offset", 2),
        (("close", "shop", "--at", "2206-01-31T12:00:00Z", *words), "more than 366 days ahead", 1),
        (("reopen", "shop"), "the account of shop is not closed", 1),
    ):
        code, _, err = await run(*arguments)
        assert (code, said in err) == (wanted, True), err
    assert (await run("reopen", "clinic"))[1] == "open again\n"
    assert json.loads((await run("list", "--json"))[1]) == {"closed": []}


# -- the providers' copies, and topics -------------------------------------------------------------------------------------------------


def promised(tenant: str) -> str:
    """What a notice says of texts and events, as its file ships."""
    [kept] = [file.policy.retention for file in find_policies(Path("policies")) if file.policy.tenant == tenant]
    return f"content: {kept.content}, events: {kept.events}"


@both
async def test_with_the_account_the_providers_copies_end(database_url: str, tmp_path: Path, kind: Kind) -> None:
    """leadnlead, at both simulators."""
    async with shop(database_url, tmp_path, kind, promised("leadnlead")) as one:
        await one.text(*PEOPLE)
        await one.be_texted(PEOPLE[0])
        await one.pass_by(400 * 86_400)
        assert await one.run() == 0, "as long as the account is open"
        assert all(found.well for found in await one.found())

        await close(one.world, "shop", await one.world.parts.ledger.now() + timedelta(hours=1))
        await one.pass_by(3600 - 30)
        assert await one.run() == 0
        assert len(one.copies()) == 3
        planned = {plan.due_at for plan in await one.place().plan(await one.world.parts.ledger.now())}
        [due] = planned
        assert due is not None
        await one.pass_by(60)
        assert await one.run() == 3
        assert one.copies() == []
        assert await one.audited() == [("all", "done")] * 3

        # who texts the number of an account that is closed: ten minutes later
        await one.be_texted(PEOPLE[1])
        assert await one.run() == 0
        await one.pass_by(STILL_WRITTEN.total_seconds() + 1)
        assert await one.run() == 1
        assert one.copies() == []
        await one.carrier.inbound(PEOPLE[0], OURS, "Unknown here.", deliver=False)
        await one.pass_by(2 * 3600)
        assert "should be gone" in {found.data_class: found.why for found in await one.found() if not found.well}["address"]


async def test_what_tells_of_a_copy_does_not_die_before_that_is_noted(database_url: str, tmp_path: Path) -> None:
    """A closing comes without the hours ahead in which copies are noted for any other deadline."""
    async with shop(database_url, tmp_path, "twilio", promised("leadnlead")) as one:
        await one.text(*PEOPLE)
        await one.world.rows("update messages set final = true, settle_by = null")
        await published(one.world)
        await one.pass_by(86_400)
        await close(one.world, "shop")
        await one.pass_by(STILL_WRITTEN.total_seconds() + 1)
        await run_all(one.world)
        assert (await left(one.world, "shop"))["bodies"] == 2
        noting = one.place(Unsteady(one.provider, away=True))
        assert await noting.run(await one.world.parts.control.now(), 100) == 0, "noted, and the account does not answer"
        await run_all(one.world)
        assert await left(one.world, "shop") == GONE
        assert len(one.copies()) == 2
        await one.pass_by(600)
        assert await one.run() == 2
        assert one.copies() == []


@both
async def test_a_closing_ends_no_copy_sooner_than_a_period_that_does_not_speak_of_it(
    database_url: str, tmp_path: Path, kind: Kind
) -> None:
    """technology-toolbox, at both simulators: six days."""
    async with shop(database_url, tmp_path, kind, promised("technology-toolbox")) as one:
        await one.text(PEOPLE[0])
        await close(one.world, "shop")
        await one.pass_by(6 * 86_400 - 60)
        assert await one.run() == 0
        assert len(one.copies()) == 1
        await one.pass_by(120)
        assert await one.run() == 1
        assert one.copies() == []


@pytest.mark.parametrize("closed_after", [HOUR, 5 * 86_400])
async def test_the_copies_of_a_closed_account_that_is_not_enabled_any_more_end_with_it(
    database_url: str, tmp_path: Path, closed_after: float
) -> None:
    """Its policy says how long the rest is kept, and the closing begins what it says."""
    async with shop(database_url, tmp_path, retention=promised("leadnlead")) as one:
        await one.text(*PEOPLE)
        async with once_live(one, tmp_path, "0d after closing") as (place,):
            await one.pass_by(closed_after)
            assert await one.run(place) == 0
            assert await place.left(await one.world.parts.control.now()) == ""
            closes = await close(one.world, "shop")
            now = await one.world.parts.control.now()
            assert {plan.due_at for plan in await place.plan(now) if plan.tenant == "shop"} == {closes}
            assert await place.left(now) == "not all copies that are due are noted yet"
            assert await one.run(place) == 2
            assert (one.copies(), await place.left(now)) == ([], "")


async def test_what_a_closed_account_has_at_a_provider_account_that_is_lost_is_noted_and_said_to_be_due(
    database_url: str, tmp_path: Path
) -> None:
    async with shop(database_url, tmp_path, retention=promised("leadnlead")) as one:
        await one.text(*PEOPLE)
        parts = one.world.parts
        others = {alias: account for alias, account in parts.settings.accounts.items() if alias != "copied"}
        lost = lost_accounts(replace(parts, settings=parts.settings.model_copy(update={"accounts": others}), providers={}))
        await one.pass_by(HOUR)
        now = await parts.control.now()
        assert (await lost.run(now, 500), await lost.left(now)) == (0, "")
        assert await notes_of(one) == 0
        await close(one.world, "shop")
        now = await parts.control.now()
        assert await lost.left(now) == "of 1 tenants something is due at accounts that are in no settings any more"
        assert (await lost.run(now, 500), await notes_of(one)) == (0, 2)


async def notes_of(one: Shop) -> int:
    """How many copies are noted to be erased."""
    return len(await one.world.rows("select from provider_copies"))


async def test_a_topic_waits_for_what_a_closed_account_has_in_it_and_no_longer_than_its_settings_say(
    kafka_server: KafkaServer, unique: str
) -> None:
    address = BrokerAddress(kafka_server.bootstrap_servers)
    config = {"retention.ms": str(7 * DAY_MS), "segment.ms": str(DAY_MS), "message.timestamp.after.max.ms": "3600000"}
    await apply(address, [TopicSpec(unique, 1, config)])
    made = moment(now_ms() - 3 * DAY_MS)
    await put(kafka_server.bootstrap_servers, unique, (0, round(made.timestamp() * 1000), b"k", b"anybody's"))
    closed_at = made + DAY
    closed = ClosedIn(unique, "leadnlead", "events", closed_at, closed_at)

    async def closings() -> Sequence[ClosedIn]:
        return [closed]

    forever = TopicLimit(unique, "*", "events")
    place = KafkaRetention(address, [forever], closings)
    _, planned = await place.plan(moment(now_ms()))
    assert planned.due_at is not None
    assert timedelta() < planned.due_at - (closed_at + 8 * DAY + timedelta(hours=1)) <= timedelta(seconds=61)
    assert (planned.tenant, planned.data_class) == ("leadnlead", "events")
    for now, well, said in (
        (planned.due_at - SECOND, True, "the account is closed; a topic cannot end one tenant's records"),
        (planned.due_at, False, "the account is closed, and what was there by then should be gone since"),
    ):
        [found] = [one for one in await place.verify(now) if one.tenant == "leadnlead"]
        assert (found.well, found.why.startswith(said)) == (well, True), found.why
    assert [one.tenant for one in await place.verify(closed_at - SECOND)] == ["*"], "not yet"
    await apply(address, [TopicSpec(unique, 1, {**config, "retention.ms": "-1"})])
    [_, endless] = await place.verify(moment(now_ms()))
    assert not endless.well
    assert "run `gateway topics apply`" in endless.why
