"""Rows that die on time: both sides of each horizon, what stands in the way, crashes between any two statements, and what verify finds."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.app.places import keys_place
from gateway.app.retention_rows import holds_of, rows_of
from gateway.cli.root import run as gateway_run
from gateway.domain.errors import GatewayError, KeyDestroyed, KeyMissing, KeyRingAway, KeyUnreadable
from gateway.domain.ids import new_uid
from gateway.domain.outcome import Accepted
from gateway.domain.personal import PhoneNumber
from gateway.domain.policy import Policies
from gateway.domain.policy_files import find_policies
from gateway.domain.policy_retention import RetentionClass
from gateway.domain.retention_days import Terms, midnight
from gateway.flow.holds import hold_key
from gateway.flow.rescue import Rescue
from gateway.flow.retaining import end_all
from gateway.flow.retention import Found
from gateway.flow.retention_ending import DayEnding
from gateway.store.chain import Chains
from gateway.store.database import _SESSION
from gateway.store.retention import RetentionTables, other_columns
from gateway.store.statements import statements
from tests.integration.audited import chain_of, open_topic, verify
from tests.integration.dying import Killed, dying
from tests.integration.hands import Hands, told
from tests.integration.world import World, environment_for, open_world, until

SECOND = timedelta(seconds=1)
POLICY = """
tenant: {tenant}
name: A tenant
languages: [en]
providers: [twilio]
region: US
opt_out: {{scope: tenant}}
retention: {retention}
programmes:
  visits:
    categories: [service]
    senders: [{{number: "{number}", account: main}}]
    help_contact: help@{tenant}.example
"""
FIVE = ("leatherscin", "leadmark", "leadnlead", "leman", "technology-toolbox")


@asynccontextmanager
async def kept(database_url: str, folder: Path, **periods: str) -> AsyncIterator[World]:
    """A world of tenants with these periods; each has sent a text, settled and told, on the store's today."""
    policies = folder / "policies"
    if not policies.exists():
        policies.mkdir()
        for number, (tenant, retention) in enumerate(periods.items()):
            policy = POLICY.format(tenant=tenant, retention=retention, number=f"+1212555013{number}")
            (policies / f"{tenant}.yaml").write_text(policy)
    async with open_world(database_url, folder) as world:
        yield world


async def text(world: World, tenant: str, **more: Any) -> None:
    """A text of a tenant's that was sent, is final, and whose events are told."""
    await world.publish(tenant=tenant, message_id=more.pop("message_id", f"m-{tenant}"), **more)
    hands = Hands(world)
    await hands.send(await hands.claim(), Accepted(world.carrier.new_id(), 1))
    await world.rows("update messages set final = true, settle_by = null where state = 'sent'")
    await published(world)


async def published(world: World) -> None:
    """As if the relay had published everything."""
    await world.rows("delete from outbox where parked is null")


async def move_to(world: World, moment: datetime) -> datetime:
    """Move the store's clock to this moment; returns it."""
    await world.shift((moment - await world.parts.ledger.now()).total_seconds())
    await world.parts.watch.ensure_days()
    return moment


async def run_all(world: World, now: datetime | None = None, most: int = 1000) -> None:
    """Run until nothing is left, at the store's time, or at this moment to the second: its clock goes on."""
    rows = rows_of(world.parts)
    while await rows.run(now or await world.parts.ledger.now(), most) >= most:
        pass


async def today(world: World) -> date:
    return (await world.parts.ledger.now()).astimezone(UTC).date()


def readable(world: World, tenant: str, data_class: Any, day: date) -> bool:
    try:
        return world.parts.ring.place.read(f"{tenant}/{data_class}/{day.isoformat()}") is not None
    except KeyDestroyed:
        return False


async def left(world: World, tenant: str) -> dict[str, int]:
    """How many rows of a tenant hold what."""
    (row,) = await world.rows(
        "select count(b.uid)::int as bodies, count(m.to_sealed)::int as numbers, count(m.recipient_sealed)::int as recipients,"
        " count(m.subject_id)::int as persons, count(m.uid)::int as messages"
        " from messages m left join bodies b using (uid) where m.tenant = $1",
        tenant,
    )
    return row


async def unwell(world: World) -> list[Found]:
    return [one for one in await rows_of(world.parts).verify(await world.parts.ledger.now()) if not one.well]


ALL = {"bodies": 1, "numbers": 1, "recipients": 1, "persons": 1, "messages": 1}
REDUCED = {"bodies": 0, "numbers": 0, "recipients": 0, "persons": 0, "messages": 1}
GONE = {"bodies": 0, "numbers": 0, "recipients": 0, "persons": 0, "messages": 0}


async def test_of_the_five_notices_each_horizon_that_is_given_has_two_sides(database_url: str, tmp_path: Path) -> None:
    """A second before its day is over a row stands, a second after it does not; what a notice keeps without end, or leaves open, stays."""
    async with kept(database_url, tmp_path, **dict.fromkeys(FIVE, "{}")) as world:
        for name in FIVE:
            await text(world, name, to=f"+1202555{100 + FIVE.index(name):04d}")
        for name in FIVE:  # as they ship: not enabled, and with what they leave open
            shutil.copy(Path("policies", f"{name}.yaml"), tmp_path / "policies")
        world.parts.policies = Policies((), [one.policy for one in find_policies(tmp_path / "policies")])  # as after a new start
        terms, day = Terms(world.parts.policies.everybody), await today(world)
        assert await unwell(world) != []  # of two of them nobody has said how long
        content = terms.due("technology-toolbox", "content", day)
        events = terms.due("technology-toolbox", "events", day)
        assert content == midnight(day) + timedelta(days=6)
        assert events is not None
        assert {name for name in FIVE if terms.due(name, "content", day)} == {"technology-toolbox"}
        for due, before, after in ((content, ALL, REDUCED), (events, REDUCED, GONE)):
            await run_all(world, await move_to(world, due - SECOND))
            assert await left(world, "technology-toolbox") == before
            await move_to(world, due + SECOND)
            assert "technology-toolbox" in {one.tenant for one in await unwell(world)}  # nothing has run yet
            await run_all(world)
            assert await left(world, "technology-toolbox") == after
            await published(world)
        assert not readable(world, "technology-toolbox", "content", day)
        assert not readable(world, "technology-toolbox", "address", day)
        found = await rows_of(world.parts).verify(await world.parts.ledger.now())
        assert {one.tenant for one in found if not one.well and one.data_class != "events"} == {"leatherscin", "leadmark"}
        for name in FIVE[:-1]:
            assert await left(world, name) == ALL, name
            assert readable(world, name, "content", day)
        counts = await world.rows("select tenant, state, count from message_counts")
        assert counts == [{"tenant": "technology-toolbox", "state": "sent", "count": 1}]


async def test_a_day_is_dropped_once_it_is_over_for_all_and_of_one_tenant_ends_before(database_url: str, tmp_path: Path) -> None:
    periods = {"short": "{content: 2d, events: 20d}", "long": "{content: 9d, events: 20d}"}
    async with kept(database_url, tmp_path, **periods) as world:
        for tenant in periods:
            await text(world, tenant)
        day = await today(world)
        suffix = f"{day:%Y%m%d}"
        await move_to(world, midnight(day) + timedelta(days=2, seconds=1))
        await run_all(world, most=1)
        assert (await left(world, "short"), await left(world, "long")) == (REDUCED, ALL)
        assert (readable(world, "short", "content", day), readable(world, "long", "content", day)) == (False, True)
        assert await world.rows("select 1 from pg_class where relname = $1", f"bodies_{suffix}")
        await move_to(world, midnight(day) + timedelta(days=9, seconds=1))
        await run_all(world)
        assert await left(world, "long") == REDUCED
        assert not await world.rows("select 1 from pg_class where relname = $1", f"bodies_{suffix}")
        await move_to(world, midnight(day) + timedelta(days=20, seconds=1))
        await run_all(world)
        assert not await world.rows("select 1 from pg_class where relname = $1", f"messages_{suffix}")
        assert not await world.rows("select 1 from ended_days where done_at is null and data_class <> 'audit'")
        assert [one for one in await unwell(world) if one.data_class != "events"] == []


async def test_what_is_not_settled_is_ended_and_told_before_it_dies_and_what_is_marked_is_waited_for(
    database_url: str, tmp_path: Path
) -> None:
    async with kept(database_url, tmp_path, shop="{content: 2d}") as world:
        hands = Hands(world, lease=10 * 86_400)
        await world.publish(tenant="shop", message_id="marked", to="+12025550101")
        await hands.mark(await hands.claim())
        await world.publish(tenant="shop", message_id="claimed", to="+12025550102")
        claimed = await hands.claim()
        await world.publish(tenant="shop", message_id="waits", to="+12025550103")
        await published(world)
        day = await today(world)
        await world.rows("update queue set expires_at = expires_at + interval '30 days'")
        await move_to(world, midnight(day) + timedelta(days=2) + SECOND)
        await run_all(world)
        assert await world.states() == {"marked": "sending", "claimed": "expired", "waits": "expired"}
        for name in ("claimed", "waits"):
            assert await told(world, name) == [("expired", 2, True, False)]
        (step,) = await world.rows(
            "select a.reason, a.rule, a.actor from audit a join messages m using (uid) where m.message_id = 'waits' and a.number = 2"
        )
        assert step == {"reason": "retention", "rule": "retention.content", "actor": "retention"}
        assert await hands.mark(claimed) == []  # its worker has lost it
        assert readable(world, "shop", "content", day)  # what is marked is still to be settled with it
        parts = world.parts
        await world.rows("update queue set lease_until = gateway_now() - interval '1 second'")

        assert await Rescue(parts.watch, parts.ledger, parts.metrics, parts.horizons).claims() == 1
        await run_all(world)
        assert readable(world, "shop", "content", day)  # the events of all this are to be told first
        assert (await told(world, "marked"))[-1] == ("unknown", 3, True, False)
        await published(world)
        await run_all(world)
        assert not readable(world, "shop", "content", day)
        assert (await left(world, "shop"))["bodies"] == 0


async def test_killed_after_any_statement_nothing_is_half_dead_and_nothing_dead_that_should_live(
    database_url: str, tmp_path: Path
) -> None:
    """Each attempt gets one statement further than the one before, and its process's memory is lost."""
    periods = {"short": "{content: 2d, events: 4d}", "long": "{content: 9d, events: 20d}"}
    async with kept(database_url, tmp_path, **periods) as world:
        for tenant in periods:
            await text(world, tenant)
        await world.publish(tenant="short", message_id="waits", to="+12025550177")
        await published(world)
        await rows_add_hold(world, "short", "+12025550101")
        day = await today(world)
        for days, tenants in ((2, ["short"]), (9, ["short", "long"])):
            await move_to(world, midnight(day) + timedelta(days=days) + SECOND)
            for after in range(1, 400):
                died = True
                with suppress(Killed), dying(world, after):
                    await rows_of(world.parts).run(midnight(day) + timedelta(days=days) + SECOND, 2)
                    died = False
                if days == 2:
                    assert await left(world, "long") == ALL
                    assert readable(world, "long", "content", day)
                bodies = await world.rows(
                    "select count(*) as n from bodies b join messages m using (uid) where m.tenant = 'short'"
                )
                if not readable(world, "short", "content", day):
                    assert not await world.rows("select 1 from queue where tenant = 'short'")  # ended and told before
                    assert await world.rows("select 1 from held where thing = 'content'")  # and kept for the hold
                    assert not await world.rows("select 1 from messages where tenant = 'short' and not final")
                else:
                    assert days == 2
                    assert bodies[0]["n"] >= 2
                await published(world)
                if not died and not [
                    one for one in await unwell(world) if one.tenant in tenants and one.data_class in ("content", "address")
                ]:
                    break
            else:
                raise AssertionError("it never comes to an end")
        assert not [one for one in await unwell(world) if one.data_class in ("content", "address")]


async def rows_add_hold(world: World, tenant: str, number: str | None = None, **more: Any) -> Any:

    subject = world.parts.hasher.subject_id(PhoneNumber(number)) if number is not None else None
    return await holds_of(world.parts).add(tenant, "a court", "file 7", "cli:test", subject_id=subject, **more)


async def test_two_at_once_do_no_harm(database_url: str, tmp_path: Path) -> None:
    periods = {"short": "{content: 2d, events: 4d}", "long": "{content: 3d, events: 20d}"}
    async with kept(database_url, tmp_path, **periods) as world, kept(database_url, tmp_path) as other:
        for number in range(12):
            await text(world, "short", message_id=f"s{number}", to=f"+1202555{200 + number:04d}")
        await text(world, "long")
        day = await today(world)
        for days in (2, 3, 4):
            now = await move_to(world, midnight(day) + timedelta(days=days) + SECOND)
            for _ in range(12):
                await asyncio.gather(*(rows_of(one.parts).run(now, 3) for one in (world, other, world, other)))
                await published(world)
            assert [one for one in await unwell(world) if one.data_class in ("content", "address")] == []
        assert await left(world, "short") == GONE
        assert await left(world, "long") == REDUCED
        (count,) = await world.rows("select sum(count)::int as n from message_counts")
        assert count["n"] == 12


async def test_a_hold_keeps_under_its_own_key_what_it_covers_until_it_is_released(database_url: str, tmp_path: Path) -> None:

    async with kept(database_url, tmp_path, shop="{content: 2d, events: 3d}") as world:
        await text(world, "shop", message_id="held", to="+12025550101", body="held text")
        await text(world, "shop", message_id="other", to="+12025550102", body="other text")
        person = await rows_add_hold(world, "shop", "+12025550101")
        everything = await rows_add_hold(world, "shop", until=(await world.parts.ledger.now()) + timedelta(days=5))
        day = await today(world)
        await move_to(world, midnight(day) + timedelta(days=3) + SECOND)
        await run_all(world)
        await published(world)
        await run_all(world)
        assert await left(world, "shop") == GONE
        assert not readable(world, "shop", "content", day)
        key = hold_key(person)
        kept_rows = await world.rows("select thing, sealed from held where hold = $1 order by thing", person)
        assert [row["thing"] for row in kept_rows] == ["address", "content", "events"]
        opened = [world.parts.vault.open_payload(key.tenant, "content", person, row["sealed"]).decode() for row in kept_rows]

        assert base64.b64decode(json.loads(opened[0])["number"]) == b"+12025550101"
        assert json.loads(base64.b64decode(json.loads(opened[1])["body"])) == ["held text", {}]
        assert json.loads(opened[1])["record"]["recipient_ref"] == "patient-1"
        assert json.loads(opened[2])["record"]["message_id"] == "held"
        assert len(json.loads(opened[2])["audit"]) == 3
        said = [one.why for one in await rows_of(world.parts).verify(await world.parts.ledger.now()) if one.data_class == "held"]
        assert said == [f"kept by legal hold {person}", f"kept by legal hold {everything}"]
        (all_of_it,) = await world.rows("select count(*)::int as n from held where hold = $1 and thing = 'content'", everything)
        assert all_of_it["n"] == 2
        await holds_of(world.parts).release(person, "cli:test")
        assert [one.tenant for one in await unwell(world) if one.data_class == "held"] == ["shop"]
        await run_all(world, most=2)
        assert not await world.rows("select 1 from held where hold = $1", person)
        assert not readable(world, key.tenant, "content", key.day)
        assert await world.rows("select 1 from held where hold = $1", everything)
        await move_to(world, midnight(day) + timedelta(days=6))
        await run_all(world)
        assert not await world.rows("select 1 from held")
        steps = await world.rows("select step from audit where step like 'hold%' order by at, id")
        assert [row["step"] for row in steps] == ["hold_added"] * 2 + ["hold_released", "hold_ended", "hold_ended"]


async def test_a_text_that_cannot_be_kept_now_is_not_taken_along_by_the_events(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 2d}") as world:
        await text(world, "shop", to="+12025550101")
        hold = await rows_add_hold(world, "shop", "+12025550101")
        await move_to(world, midnight(await today(world)) + timedelta(days=2) + SECOND)
        now = await world.parts.ledger.now()
        rows = rows_of(world.parts)
        decide = rows._days._store.decide

        async def not_the_text(thing: Any, *rest: Any) -> bool:
            return thing != "content" and await decide(thing, *rest)

        with monkeypatch.context() as meanwhile:  # as if a hold were being added
            meanwhile.setattr(rows._days._store, "decide", not_the_text)
            await end_all(rows, now)
        assert (await left(world, "shop"))["bodies"] == 1
        await run_all(world)
        await published(world)
        await run_all(world)
        assert await left(world, "shop") == GONE
        things = {row["thing"] for row in await world.rows("select thing from held where hold = $1", hold)}
        assert things == {"content", "address", "events"}


@pytest.mark.parametrize(
    "fault", [KeyRingAway("away"), KeyUnreadable("its master key is missing"), KeyMissing("in no backup")], ids=repr
)
async def test_what_a_hold_covers_waits_for_a_key_that_may_come_back(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: GatewayError
) -> None:
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 9d}") as world:
        await text(world, "shop", to="+12025550101")
        hold = await rows_add_hold(world, "shop", "+12025550101")
        day = await today(world)
        await move_to(world, midnight(day) + timedelta(days=2) + SECOND)

        def refuse(*_: object) -> bytes:
            raise fault

        with monkeypatch.context() as away:
            away.setattr(world.parts.vault, "open_payload", refuse)
            with pytest.raises(type(fault)):
                await run_all(world)
        assert (await left(world, "shop"))["bodies"] == 1
        assert readable(world, "shop", "content", day)
        await run_all(world)
        (row,) = await world.rows("select sealed from held where hold = $1 and thing = 'content'", hold)
        opened = json.loads(world.parts.vault.open_payload(hold_key(hold).tenant, "content", hold, row["sealed"]))
        assert opened["body"] is not None


async def test_a_hold_that_is_being_added_is_waited_for_before_a_day_is_decided(database_url: str, tmp_path: Path) -> None:
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 9d}") as world:
        await text(world, "shop")
        day = await today(world)
        await move_to(world, midnight(day) + timedelta(days=2) + SECOND)
        adding = await asyncpg.connect(database_url)
        try:
            async with adding.transaction():
                hold = new_uid(await world.parts.ledger.now())
                await adding.execute(
                    statements("holds")["add"], hold, "shop", None, None, "a court", "file 7", "cli:test", None, None
                )
                running = asyncio.create_task(run_all(world))
                waits = "select 1 from pg_locks where relation = 'legal_holds'::regclass and not granted"
                await until(lambda: world.rows(waits), what="the decision waits")
            await running
        finally:
            await adding.close()
        await run_all(world)
        things = await world.rows("select thing from held where hold = $1 order by thing", hold)
        assert [row["thing"] for row in things] == ["address", "content"]
        assert not readable(world, "shop", "content", day)


async def test_a_partition_that_somebody_reads_is_dropped_later_and_intake_goes_on(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_SESSION, "lock_timeout", "300ms")
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 9d}") as world:
        await text(world, "shop")
        day = await today(world)
        await move_to(world, midnight(day) + timedelta(days=2) + SECOND)
        dumping = await asyncpg.connect(database_url)
        try:
            async with dumping.transaction():
                await dumping.execute("select 1 from bodies limit 1")
                await run_all(world)
                assert await world.rows("select 1 from pg_inherits where inhdetachpending")
                assert await world.rows("select 1 from pg_class where relname = $1", f"bodies_{day:%Y%m%d}")
                assert not readable(world, "shop", "content", day)  # whoever restores what is dumped reads nothing
                await world.publish(tenant="shop", message_id="meanwhile")
        finally:
            await dumping.close()
        await run_all(world)
        assert not await world.rows("select 1 from pg_class where relname = $1", f"bodies_{day:%Y%m%d}")


def test_holds_by_command(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment_for(database_url, tmp_path).items():
        monkeypatch.setenv(name, value)

    def gateway(*arguments: str, given: str = "") -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        return gateway_run(["holds", *arguments]), capsys.readouterr().out

    why = ("--tenant", "shop", "--who", "a court", "--why", "file 7")
    code, person = gateway("add", *why, "--person", given="+12025550101\n")
    assert code == 0
    assert gateway("add", *why, "--until", "2020-01-01T00:00:00Z")[0] == 2
    assert gateway("add", *why, "--until", "tomorrow")[0] == 2
    assert gateway("add", *why, "--person", "--message", person.strip())[0] == 2
    assert gateway("add", "--tenant", "shop", "--who", " ", "--why", "x")[0] == 2
    code, shown = gateway("list", "--json")
    (row,) = json.loads(shown)["holds"]
    assert (code, row["id"], row["of"], row["who"]) == (0, person.strip(), "a person", "a court")
    assert "5550101" not in shown
    assert gateway("release", person.strip())[0] == 0
    assert gateway("release", person.strip())[0] == 1


async def test_a_hold_lets_nobody_be_texted_who_is_opted_out(database_url: str, tmp_path: Path) -> None:
    async with kept(database_url, tmp_path, shop="{content: 2d}") as world:
        await world.receive("STOP", to="+12125550130")
        await rows_add_hold(world, "shop", "+12025550101")
        await world.publish(tenant="shop", message_id="m")
        assert await world.states() == {"m": "blocked"}


async def test_the_chains_end_with_the_events_and_verify_from_their_anchors(
    database_url: str, tmp_path: Path, broker: str, unique: str
) -> None:
    periods = {"short": "{content: 2d, events: 3d}", "long": "{content: 2d, events: 5d}"}
    async with kept(database_url, tmp_path, **periods) as world, open_topic(world, broker, unique) as publisher:
        for tenant in periods:
            await text(world, tenant)
        chain = chain_of(world, publisher)
        day = await today(world)
        chained = "select count(*)::int as n from audit_chain where chained_at < $1 and tenant = $2"
        tomorrow = midnight(day + timedelta(days=1))

        await Chains(world.parts.database).chain(100, chain._bind)
        await move_to(world, midnight(day) + timedelta(days=3) + SECOND)
        await run_all(world)
        await published(world)
        await run_all(world)
        assert await left(world, "short") == GONE
        assert (await world.rows(chained, tomorrow, "short"))[0]["n"] > 0  # the topic lacks it
        assert "audit records: older than they may be" in {one.why for one in await unwell(world)}
        while await chain.once():
            pass
        await run_all(world, most=2)
        assert (await world.rows(chained, tomorrow, "short"))[0]["n"] == 0
        assert (await world.rows(chained, tomorrow, "long"))[0]["n"] > 0
        while await chain.once():
            pass
        assert (await verify(world)).whole
        await move_to(world, midnight(day) + timedelta(days=5) + SECOND)
        await run_all(world)
        while await chain.once():
            pass
        await run_all(world)
        assert not await world.rows("select 1 from pg_class where relname = $1", f"audit_chain_{day:%Y%m%d}")
        assert (await verify(world)).whole
        assert await unwell(world) == []


MESSAGE = """
insert into messages (uid, tenant, programme, category, kind, state, reason, final, version, steps, policy, rule, expires_at, parts, to_sealed,
                      recipient_ref)
values ($1, 'shop', 'visits', 'service', 'outbound', 'sent', 'accepted', true, 1, 1, 'x', 'x', now(), 1, {number}, {recipient})
"""
OLD: dict[str, tuple[RetentionClass, str]] = {
    "queue": (
        "content",
        """
        insert into queue (uid, route_id, tenant, programme, category, kind, subject_id, sender, state, due_at, expires_at, attempt, tries,
                           steps, parts)
        select $1, route_id, tenant, programme, 'service', 'outbound', 'x', sender, 'waiting', now(), now(), 0, 0, 1, 1
          from routes where tenant = 'shop' limit 1
        """,
    ),
    "dead letters": (
        "dead_letters",
        """
        insert into dead_letters (topic, partition, record_offset, uid, at, tenant, reason, detail, length, sha256)
        values ('t', 0, 1, $1, now(), 'shop', 'nul', '', 1, 'x')
        """,
    ),
    "texts on their way": ("content", "insert into outbox (kind, tenant, uid, version) values ('inbound', 'shop', $1, 1)"),
    "owed numbers": (
        "address",
        """
        insert into propagations (account, sender, subject_id, number_tenant, number_uid, number_sealed)
        values ('main', 's', 'x', 'shop', $1, 'x')
        """,
    ),
    "unchained": (
        "events",
        """
        insert into audit_unchained (at, tenant, uid, number, step, actor) values (now() - interval '30 days', 'shop', $1, 1, 'x', 'x')
        """,
    ),
    "events on their way": (
        "events",
        """
        insert into outbox (kind, tenant, uid, version, created_at) values ('status', 'shop', $1, 1, now() - interval '30 days')
        """,
    ),
    "texts": (
        "events",
        """
        insert into inbound (account, provider_message_id, received_at, fate, tenant, subject_id)
        values ('main', $1::uuid::text, now() - interval '30 days', 'other', 'shop', 'x')
        """,
    ),
    "bodies": ("content", "insert into bodies (uid, sealed) values ($1, 'x')"),
    "messages": ("events", MESSAGE.format(number="null", recipient="null")),
    "numbers": ("address", MESSAGE.format(number="'x'", recipient="null")),
    "recipients": ("content", MESSAGE.format(number="null", recipient="'ref'")),
    "chain": (
        "events",
        """
        insert into audit_chain (tenant, sequence, chained_at, at, uid, number, step, actor, previous, hash)
        values ('shop', 1, now() - interval '30 days', now(), $1, 1, 'x', 'x', 'x', 'x')
        """,
    ),
}
TABLES = ("queue", "dead_letters", "outbox", "propagations", "audit_unchained", "inbound", "bodies", "messages", "audit_chain")


async def test_the_plan_has_all_that_is_due_in_each_table_and_how_much(database_url: str, tmp_path: Path) -> None:
    """Whatever verify finds too old the plan says to be due; what is not due yet has its moment."""
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 5d}") as world:
        now = await world.parts.ledger.now()
        assert {one.count for one in await rows_of(world.parts).plan(now) if one.due_at is not None} == {None}
        long_ago, fresh = datetime.now(UTC) - timedelta(days=30), new_uid(now)
        await world.rows("select ensure_day($1)", long_ago.date())
        for what, (data_class, statement) in OLD.items():
            if what == "bodies":  # whose message is gone: nobody knows whose it was
                continue
            await world.rows(statement, new_uid(long_ago))
            due = {(one.tenant, one.data_class): one for one in await rows_of(world.parts).plan(now) if one.due_at == now}
            planned = due["shop", "audit" if what == "chain" else data_class]
            assert planned.count == 1, what
            for table in TABLES:
                await world.rows(f"delete from {table}")
            assert not [one for one in await rows_of(world.parts).plan(now) if one.due_at == now], what
        terms, today_ = Terms(world.parts.policies), await today(world)
        for what in ("queue", "dead letters", "texts on their way", "owed numbers"):
            data_class, statement = OLD[what]
            await world.rows(statement, fresh)
            found = [one for one in await rows_of(world.parts).plan(now) if (one.data_class, one.count) == (data_class, 1)]
            assert [one.due_at for one in found] == [terms.due("shop", data_class, today_)], what
            for table in TABLES:
                await world.rows(f"delete from {table}")


async def test_the_plan_has_proofs_and_what_holds_keep(database_url: str, tmp_path: Path) -> None:
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 9d}") as world:
        await text(world, "shop", to="+12025550101")
        now = await world.parts.ledger.now()
        await world.rows(
            "insert into consents (subject_id, tenant, scope, status, version, source, stated_at, written_at, proof_sealed, proof_uid)"
            " values ('', '*', 'all', 'in', 1, 'api', now(), now(), 'x', $1)",
            new_uid(now),
        )
        until = now + timedelta(days=30)
        standing = await rows_add_hold(world, "shop")
        ending = await rows_add_hold(world, "shop", until=until)
        day = await today(world)
        now = await move_to(world, midnight(day) + timedelta(days=2) + SECOND)
        (due,) = [one for one in await rows_of(world.parts).plan(now) if (one.data_class, one.due_at) == ("content", now)]
        assert due.count == 1
        await run_all(world)
        planned = await rows_of(world.parts).plan(now)
        proofs, *held = [one for one in planned if one.data_class in ("consent_proof", "held")]
        assert (proofs.tenant, proofs.due_at, proofs.count) == ("_system", None, 1)
        assert [(one.due_at, one.count, one.how) for one in held] == [
            (None, 2, f"legal hold {standing} keeps it, until it is released"),
            (until, 2, f"legal hold {ending} keeps it"),
        ]
        await holds_of(world.parts).release(standing, "cli:test")
        held = [one for one in await rows_of(world.parts).plan(now) if one.data_class == "held"]
        assert [(one.due_at, one.how) for one in held] == [
            (now, f"legal hold {standing} keeps it no more: it goes"),
            (until, f"legal hold {ending} keeps it"),
        ]


async def test_dead_letters_and_numbers_that_are_owed_die_on_their_day(database_url: str, tmp_path: Path) -> None:
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 5d}") as world:
        await world.intake().admit("sms.outbound.v1", 0, [world.record(tenant="shop", message_id="x" * 4000)])
        await published(world)
        day = await today(world)
        (letter,) = await world.rows("select uid, tenant, sealed from dead_letters")
        owner = letter["tenant"]
        due = Terms(world.parts.policies).due(owner, "dead_letters", day)
        assert due is not None
        number = new_uid(midnight(day) + timedelta(hours=1))
        await world.rows(
            "insert into propagations (account, sender, subject_id, number_tenant, number_uid, number_sealed)"
            " values ('main', 's', 'x', '_system', $1, 'x')",
            number,
        )
        await run_all(world, await move_to(world, due - SECOND))
        assert await world.rows("select 1 from dead_letters")
        assert await world.rows("select 1 from propagations where number_sealed is not null")
        await move_to(world, due + SECOND)
        await run_all(world)
        assert not await world.rows("select 1 from dead_letters")
        assert not await world.rows("select 1 from propagations where number_sealed is not null")
        with pytest.raises(KeyMissing):
            world.parts.ring.place.read(f"{owner}/dead_letters/{day.isoformat()}")


LETTER = """
insert into dead_letters (topic, partition, record_offset, uid, at, tenant, reason, detail, length, sha256)
values ('t', 0, $2, $1, now(), 'shop', 'nul', '', 1, 'x')
"""
NUMBER = """
insert into propagations (account, sender, subject_id, number_tenant, number_uid, number_sealed)
values ('main', $2::int::text, 'x', 'shop', $1, 'x')
"""


async def test_what_lies_apart_of_many_days_that_are_over_ends_in_one_step(database_url: str, tmp_path: Path) -> None:
    """After an outage of some days, or with a shorter policy. A step that is bounded goes on where it was."""
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 5d}") as world:
        now = await world.parts.ledger.now()
        for days in range(20, 27):
            for number in range(2):
                await world.rows(LETTER, new_uid(now - timedelta(days=days)), 2 * days + number)
            await world.rows(NUMBER, new_uid(now - timedelta(days=days)), days)
        letters, numbers = "select 1 from dead_letters", "select 1 from propagations where number_sealed is not null"
        assert await rows_of(world.parts).run(now, 5) == 5
        assert len(await world.rows(letters)) + len(await world.rows(numbers)) > 0
        await rows_of(world.parts).run(now, 1000)
        assert (await world.rows(letters), await world.rows(numbers)) == ([], [])
        assert await unwell(world) == []


async def test_a_day_that_something_stands_in_the_way_of_is_left_and_said(database_url: str, tmp_path: Path) -> None:
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 9d}") as world:
        await text(world, "shop")
        await world.publish(tenant="shop", message_id="untold", to="+12025550102")
        day, rows = await today(world), rows_of(world.parts)
        now = await move_to(world, midnight(day) + timedelta(days=2) + SECOND)
        assert await rows.left(now - 2 * SECOND) == ""
        await end_all(rows, now)
        assert await rows.left(now) == "1 days of tenants are due and wait: what is to be settled, told or chained first"
        assert (await keys_place(world.parts).left(now)).startswith("2 keys are due: something in the database")
        await published(world)
        await end_all(rows, now)
        assert (await rows.left(now), await keys_place(world.parts).left(now)) == ("", "")


async def test_a_message_never_dies_before_its_text_and_number_are_decided(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stood in the way of a text may be told by the time that its message is looked at, in the same step."""
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 2d}") as world:
        await world.publish(tenant="shop", message_id="waits")
        await published(world)
        hold = await rows_add_hold(world, "shop")
        day = await today(world)
        now = await move_to(world, midnight(day) + timedelta(days=2) + SECOND)
        decide_all = DayEnding.decide_all

        async def told_at_once(self: DayEnding, *arguments: Any) -> int:
            done = await decide_all(self, *arguments)
            await published(world)
            return done

        monkeypatch.setattr(DayEnding, "decide_all", told_at_once)
        await run_all(world, now)
        assert (await left(world, "shop"))["bodies"] == 1
        await run_all(world, now)
        await run_all(world, now)
        assert await left(world, "shop") == GONE
        kept_rows = await world.rows("select thing from held where hold = $1 and thing <> 'audit' order by thing", hold)
        assert [row["thing"] for row in kept_rows] == ["address", "content", "events"]
        assert not readable(world, "shop", "content", day)


async def test_a_message_that_somebody_empties_meanwhile_is_waited_for(database_url: str, tmp_path: Path) -> None:
    """Another run is at the same rows: to judge them again after the wait must not look for their bodies (PostgreSQL 18 crashes)."""
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 4d}") as world:
        await text(world, "shop")
        day = await today(world)
        emptied = (await other_columns(world.parts.database))["emptied"]
        session = await asyncpg.connect(database_url)
        try:
            async with session.transaction():
                await session.execute(f"update messages set {emptied}")
                tables = RetentionTables(world.parts.database)
                after = midnight(day + timedelta(days=1))
                step = asyncio.create_task(tables.step("content", "shop", midnight(day), after, None, 10))
                await until(lambda: _waits_for_a_lock(world))
            assert await step is None
        finally:
            await session.close()
        assert (await left(world, "shop"))["bodies"] == 0


async def _waits_for_a_lock(world: World) -> bool:
    return bool(await world.rows("select 1 from pg_locks where not granted"))
