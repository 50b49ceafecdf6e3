"""The exchange of the key that people are hashed with: each step, and what hangs on a person's id at each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg
import pytest

from gateway.cli.root import run
from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.decide import decide
from gateway.domain.errors import KeyMissing, StoreUnavailable
from gateway.domain.events import ConsentEvent
from gateway.domain.outcome import Accepted, OptedOut, Unknown
from gateway.domain.personal import PhoneNumber
from gateway.domain.restoring import ToldConsent
from gateway.flow.conversation import OptIn
from gateway.flow.holds import Holds
from gateway.flow.people import KNOWN_FOR
from gateway.flow.stop import OptOut
from gateway.store.dispatch import Claims
from gateway.store.holds import HoldTable
from gateway.store.propagations import PropagationStore
from gateway.store.restoring import RestoreStore
from gateway.store.statements import statements
from gateway.store.subject_keys import SubjectKeyTable
from tests.integration.exchange import Exchanging, Process
from tests.integration.hands import Hands
from tests.integration.test_stop_race import Paused, Turns
from tests.integration.world import World, environment_for, open_world, running
from tests.support import until

PERSON, OTHER = "+12025550101", "+12025550102"


def first_of(world: World, number: str = PERSON) -> bytes:
    return world.parts.hasher.subject_id(PhoneNumber(number))


async def ids_in(world: World, table: str) -> list[bytes]:
    return [row["subject_id"] for row in await world.rows(f"select subject_id from {table} where kind = 'outbound' order by uid")]


async def state_of(world: World, message_id: str) -> str:
    return (await world.states())[message_id]


async def consents(world: World) -> list[tuple[int, str, bool]]:
    rows = await world.rows("select key, status, in_force_at is not null as in_force from consents order by scope, key")
    return [(row["key"], row["status"], row["in_force"]) for row in rows]


async def test_a_stop_from_before_the_exchange_holds_after_it_and_start_undoes_it(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        assert await world.receive("STOP") == "stop"
        operator = Exchanging(world)
        await operator.through(2)
        assert await consents(world) == [(1, "out", True), (2, "out", True)]
        await world.publish(message_id="a")
        await world.publish(message_id="b", to=OTHER)
        assert [await state_of(world, name) for name in "ab"] == ["blocked", "accepted"]
        line, other = world.parts.people.line(first_of(world)), world.parts.people.line(first_of(world, OTHER))
        assert await ids_in(world, "messages") == [line[1], other[1]]
        assert await ids_in(world, "queue") == [other[1]]
        await world.shift(10)
        text = world.inbound("START", created_at=await world.parts.consents.now())
        assert await world.parts.replies().receive(text) == "start"
        assert await consents(world) == [(1, "in", False), (2, "in", False)]
        await world.publish(message_id="c")
        assert await state_of(world, "c") == "accepted"


async def test_a_stop_stops_what_waits_under_every_version(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        await Exchanging(world).through(2)
        await world.publish(message_id="b")
        line = world.parts.people.line(first_of(world))
        assert await ids_in(world, "queue") == list(line)
        assert await world.receive("STOP") == "stop"
        assert {await state_of(world, name) for name in "ab"} == {"blocked"}
        assert await consents(world) == [(1, "out", True), (2, "out", True)]


@pytest.mark.parametrize("name", ["a", "b"])
async def test_a_stop_waits_for_what_is_under_way_under_whichever_id(database_url: str, tmp_path: Path, name: str) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        operator, hands = Exchanging(world), Hands(world, lease=600.0)
        claimed = await hands.claim() if name == "a" else []
        await operator.add(2)
        await operator.copy(2)
        await operator.wait()
        await operator.use(2)
        await world.parts.people.look()
        if name == "b":
            await world.rows("delete from queue")
        await world.publish(message_id="b")
        if name == "b":
            claimed = await hands.claim()
        assert await hands.ids(claimed) == [name]
        assert len(await hands.mark(claimed)) == 1
        world.parts.stop._wait = 0.1
        assert await world.receive("STOP") == "stop"
        told = "select uid from outbox where kind = 'consent'"
        assert not await world.rows("select 1 from consents where key = 1 and in_force_at is not null")
        assert not await world.rows(told)
        for _ in range(2):
            await world.parts.stop.finish_pending()
        assert not await world.rows("select 1 from consents where key = 1 and in_force_at is not null")
        await world.rows("update queue set lease_until = gateway_now() - interval '1 second' where state = 'marked'")
        for _ in range(2):  # the later one, then the first
            await world.parts.stop.finish_pending()
        assert await consents(world) == [(1, "out", True), (2, "out", True)]
        assert len(await world.rows(told)) == 1  # told once, of the first


async def test_a_process_that_has_not_heard_of_a_version_writes_under_it_all_the_same(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        late = Process(world, "late")
        await Exchanging(world).through(2)
        await world.publish(message_id="a")
        key = ConsentKey(first_of(world), "clinic", Scope.TENANT)
        result = await late.stop.opt_out(OptOut(key, "api", None, actor="test"))
        assert result is not None
        assert result.in_force
        assert await state_of(world, "a") == "blocked"
        later = Process(world, "later")
        await later.take_in(message_id="b")
        assert await state_of(world, "b") == "blocked"
        granted = await Process(world, "last").consents.opt_in(OptIn(key, "api", await late.consents.now(), actor="test"))
        assert granted == "granted"
        assert await consents(world) == [(1, "in", False), (2, "in", False)]


async def test_a_worker_that_has_not_heard_of_a_version_claims_nothing_until_it_has(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        operator = Exchanging(world)
        await operator.add(2)
        assert await hands.claim() == []
        assert await hands.ids(await hands.claim()) == ["a"]


@pytest.mark.parametrize("category", ["service", "security"])
async def test_lanes_of_both_ids_are_one(database_url: str, tmp_path: Path, category: str) -> None:
    fields: Any = {"tenant": "shop", "programme": "orders"}
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a", category="service", **fields)
        operator, one, two = Exchanging(world), Hands(world, "one", lease=600.0), Hands(world, "two")
        await operator.through(2)
        await world.publish(message_id="b", category=category, **fields)
        await world.publish(message_id="c", category=category, **fields)
        claimed = await one.claim()
        assert await one.ids(claimed) == ["a"]
        assert await two.claim() == []
        assert await one.claim() == []
        await one.send(claimed)
        claimed = await one.claim()
        assert await one.ids(claimed) == ["b"]
        # and the other way round: one that comes late under the old id waits for what is under way under the new
        stale = Process(world, "stale")
        stale.people.look = _nothing  # type: ignore[method-assign] # it never hears
        with patch("gateway.store.intake.require_life_and_keys", _nothing):
            await stale.take_in(message_id="late", category="service" if category == "security" else "security", **fields)
        assert (await ids_in(world, "queue"))[-1] == first_of(world)
        assert await two.claim() == []
        await one.send(claimed)
        assert len(await two.claim()) == 1  # either of them, and not both


async def test_the_lanes_would_cross_without_the_second_look(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        await Exchanging(world).through(2)
        await world.publish(message_id="b")
        hands = Hands(world)
        with patch.object(Claims, "_lanes", _nothing):
            assert sorted(await hands.ids(await hands.claim())) == ["a", "b"]


async def _nothing(*_: object) -> None:
    return None


async def test_the_exchange_ends_when_nothing_waits_under_the_old_key(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        operator, hands = Exchanging(world), Hands(world)
        await operator.through(2)
        await world.publish(message_id="b")
        await operator.wait()
        assert await operator.sweep.move() == 0
        await hands.send(await hands.claim())
        assert await operator.sweep.move() == 1
        await world.parts.people.look()
        assert world.parts.people.keys.settled
        await world.publish(message_id="c")
        assert await operator.sweep.move() == 1  # b's link to the id before
        assert not await world.rows("select 1 from queue where elder is not null")
        await hands.claim()
        assert await hands.ids(await hands.claim()) == []
        await operator.wait()
        await operator.through(3)
        await world.publish(message_id="d", to=OTHER)
        assert (await ids_in(world, "messages"))[-1] == world.parts.people.line(first_of(world, OTHER))[2]
        assert [row["step"] for row in await world.rows("select step from audit where step like 'subject_key%' order by at")] == [
            "subject_key_added",
            "subject_key_used",
            "subject_key_settled",
            "subject_key_added",
            "subject_key_used",
        ]


async def test_each_step_waits_for_the_one_before(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        key = ConsentKey(first_of(world), "clinic", Scope.TENANT)
        await world.parts.stop.opt_out(OptOut(key, "api", None, actor="test"))
        operator = Exchanging(world)
        assert "no version 2" in await operator.table.use(2)
        await operator.add(2)
        assert "wait" in await operator.table.use(2)
        assert "not settled" in await operator.table.add(3, "x")
        await operator.wait()
        assert "copied" in await operator.table.use(2)
        await operator.copy(2)
        await operator.use(2)
        await operator.use(2)  # again
        assert "older" in await operator.table.use(1)
        await operator.sweep.move()
        assert not operator.process.people.keys.settled  # a transaction from before may still take in
        await operator.wait()
        await operator.sweep.move()
        await operator.sweep.move()
        assert "wait" in await operator.table.add(3, "x")
        await operator.wait()
        assert "next version is 3" in await operator.table.add(4, "x")


async def test_copying_may_be_cut_off_anywhere_and_goes_on(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        for n in range(25):
            await world.receive("STOP", sender=f"+1202555{200 + n:04d}")
        operator = Exchanging(world)
        await operator.add(2)
        await operator.process.people.look()
        hashes = operator.process.hasher.next_id
        assert await operator.table.copy(2, hashes, 10) is False
        away = SubjectKeyTable(world.parts.database, "cli:test")  # another process goes on: from the beginning
        await away.copied(2)
        assert (await away.list())[0]["copied_at"] is None
        with patch.object(type(world.parts.database), "transact", _away), pytest.raises(StoreUnavailable):
            await operator.table.copy(2, hashes, 10)
        assert await operator.table.copy(2, hashes, 10) is False
        assert await operator.table.copy(2, hashes, 10) is True
        await operator.table.copied(2)
        assert (await away.list())[0]["copied_at"] is not None
        assert await away.copy(2, hashes, 100) is True
        rows = await world.rows(
            "select key, count(*) as n, count(distinct subject_id) as people from consents group by key order by key"
        )
        assert [tuple(row.values()) for row in rows] == [(1, 25, 25), (2, 25, 25)]


async def _away(*_: object) -> None:
    raise StoreUnavailable("away")


async def test_a_repeated_text_is_the_same_stop_after_the_exchange(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        before, after = "SM" + "a" * 32, "SM" + "b" * 32
        await world.receive("STOP", sid=before)
        await Exchanging(world).through(2)
        await world.receive("STOP", sid=after)
        line = world.parts.people.line(first_of(world))
        rows = await world.rows("select subject_id from inbound order by received_at")
        assert [row["subject_id"] for row in rows] == list(line)
        versions = await world.rows("select version from consents")
        for sid in (before, after):
            assert await world.receive("STOP", sid=sid) == "stop"
        assert await world.rows("select version from consents") == versions


async def test_what_hangs_on_a_person_is_found_under_every_id(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        parts = world.parts
        await world.publish(message_id="a", recipient_ref="patient-7")
        hands = Hands(world)
        (claimed,) = await hands.claim()
        await hands.send([claimed], Accepted("SM" + "1" * 32, 1))
        await Exchanging(world).through(2)
        first = first_of(world)
        last = await parts.consents.last_text(first, "+12125550120")
        assert last is not None
        assert last.recipient_sealed is not None
        assert parts.vault.open_recipient("clinic", last.uid, last.recipient_sealed) == "patient-7"
        named = await parts.ledger.accepted_as("main", "SM" + "1" * 32, first)
        assert named == (claimed.uid, 1)
        await world.publish(message_id="b", recipient_ref="patient-8")
        (later,) = await hands.claim()
        await hands.send([later], Unknown("timeout"))
        await world.publish(message_id="c")
        (third,) = await hands.claim()
        await hands.mark([third])
        assert await parts.watch.rivals(later.uid, first) == 1  # c, that is under way
        assert await parts.watch.claimed_elsewhere(first, ["SM" + "1" * 32]) == {"SM" + "1" * 32}
        last = await parts.consents.last_text(first, "+12125550120")
        assert last is not None
        assert last.recipient_sealed is not None
        assert parts.vault.open_recipient("clinic", last.uid, last.recipient_sealed) == "patient-1"  # c's
        # a pair whose number was not kept finds it in what the person was texted last
        await world.rows(
            "insert into propagations (account, sender, subject_id, due_at) values ('main', '+12125550120', $1, gateway_now())",
            first,
        )
        (pair,) = await PropagationStore(parts.database, parts.people).take("main", 1, 10.0)
        assert pair.number is not None


async def test_a_provider_refuses_and_the_opt_out_is_learned_of_the_person(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="old", not_before=(await world.parts.consents.now() + timedelta(days=2)).isoformat())
        await Exchanging(world).through(2)

        async def answer(_text: Any) -> OptedOut:
            return OptedOut("21610")

        world.carrier.answer = answer
        await world.publish(message_id="new")
        async with world.sending():
            await until(lambda: world.rows("select 1 from consents where key = 1 and in_force_at is not null"))
        assert await consents(world) == [(1, "out", True), (2, "out", True)]
        assert await state_of(world, "old") == "blocked"  # which bears the id before


async def test_a_legal_hold_covers_what_comes_under_later_keys(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        parts, people = world.parts, world.parts.people
        await Holds(HoldTable(parts.database, people)).add("clinic", "a court", "file 1", "test", subject_id=first_of(world))
        late = Process(world, "late").people
        await Exchanging(world).through(2)
        await Holds(HoldTable(parts.database, late)).add("clinic", "a court", "file 2", "test", subject_id=first_of(world, OTHER))
        table = HoldTable(parts.database)
        for number in (PERSON, OTHER):
            copies = [("clinic", one, None) for one in people.line(first_of(world, number))]
            assert await table.held(copies) == set(copies)
        ids = {one for number in (PERSON, OTHER) for one in people.line(first_of(world, number))}
        assert {one for _, one in await table.persons("clinic")} == ids


async def test_the_person_keeps_the_sender_that_was_noted_under_the_old_key(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        insert = "insert into kept_senders (subject_id, tenant, programme, sender, used_on) values ($1, 'shop', 'offers', $2, '2026-11-01')"
        first = first_of(world)
        await world.rows(insert, first, "+14155550110")
        await Exchanging(world).through(2)
        assert list(await world.parts.routing.kept(first, "shop", "offers")) == ["+14155550110"]
        assert list(await world.admission().kept_senders([first])) == [(first, "shop", "offers")]


async def test_a_ring_that_lacks_a_version_is_refused_at_the_start(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await Exchanging(world).through(2)
    (tmp_path / "keys" / "_system" / "subject-2.key").unlink()
    with pytest.raises(KeyMissing, match="_system/subject-2"):
        async with open_world(database_url, tmp_path):
            pass


async def test_a_restored_database_gets_what_people_said_under_every_version(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        parts = world.parts
        await Exchanging(world).through(2)
        said = await parts.consents.now()
        event = ConsentEvent(
            person=parts.hasher.person_key("clinic", first_of(world)), tenant="clinic", scope=Scope.TENANT, name="", status="out",
            version=4, final=True, source="text", recipient_ref=None, stated_at=said, written_at=said, in_force_at=said,
        )  # fmt: skip
        told = ToldConsent(ConsentKey(first_of(world), "clinic", Scope.TENANT), event)
        store = RestoreStore(parts.database, parts.hasher, parts.vault, parts.horizons, "test", Process(world, "late").people)
        assert await store.consents([told]) == {"opt_out": 1}
        assert await consents(world) == [(1, "out", True), (2, "out", True)]
        await world.publish(message_id="a")
        assert await state_of(world, "a") == "blocked"


def test_the_commands(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment_for(database_url, tmp_path).items():
        monkeypatch.setenv(name, value)
    asyncio.run(_with(database_url, "select 1"))

    def command(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = run(["keys", "subject", *arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    code, found = command("list")
    assert code == 0
    assert [(one["version"], one["is"]) for one in found["versions"]] == [(1, "in use")]
    assert command("add") == (0, {"version": 2, "done": True, "why": None})
    code, found = command("add")
    assert (code, found["done"]) == (1, False)
    code, found = command("use", "2")
    assert code == 1
    assert "not every process knows it yet" in found["why"]
    code, found = command("use", "3")
    assert (code, found["why"]) == (1, "there is no version 3")
    asyncio.run(_with(database_url, "update subject_keys set copied_at = gateway_now(), added_at = added_at - interval '91 s'"))
    assert run(["keys", "subject", "use", "2"]) == 0
    assert capsys.readouterr().out == "version 2 is in use\n"
    code, found = command("list")
    assert [(one["version"], one["is"]) for one in found["versions"]] == [(1, "kept"), (2, "in use")]
    assert run(["keys", "subject", "list"]) == 0
    assert run(["keys", "check"]) == 0
    assert run(["keys", "subject", "use", "1"]) == 1
    captured = capsys.readouterr()
    assert captured.err.endswith("version 1 is older than the one in use\n")
    assert (tmp_path / "keys" / "_system" / "subject-2.key").exists()


async def _with(database_url: str, statement: str) -> None:
    session = await asyncpg.connect(database_url)
    try:
        await session.execute(statement)
    finally:
        await session.close()


class Counted(Turns):
    """Counts statements, and lets everybody go on at once."""

    def __init__(self) -> None:
        self.count = 0

    async def pause(self, longest: float = 0.0) -> None:
        self.count += 1


async def test_a_later_version_costs_intake_nothing_and_a_claim_two_statements_while_it_is_exchanged(
    database_url: str, tmp_path: Path
) -> None:
    async with open_world(database_url, tmp_path) as world:
        counted = Counted()
        process = Process(world, "counted", Paused(world.parts.database, counted))
        versions = {policy.tenant: policy.version for policy in world.parts.policies}
        claims = Claims(
            process.database, "w", world.parts.routes, versions, {}, 30, router=world.parts.router, people=process.people
        )

        async def statements_of(number: str) -> tuple[int, int]:
            await process.people.look()
            counted.count = 0
            await process.take_in(message_id=number, to=number)
            taken_in, counted.count = counted.count, 0
            assert len((await claims.claim({"main": 4}, decide, 4)).claimed) == 1
            return taken_in, counted.count

        taken_in, claimed = await statements_of("+12025550110")
        operator = Exchanging(world)
        await operator.through(2)
        assert await statements_of("+12025550111") == (taken_in, claimed + 2)
        await world.rows("delete from queue")
        await operator.wait()
        await operator.sweep.move()
        assert await statements_of("+12025550112") == (taken_in, claimed)


async def test_a_process_learns_of_a_version_by_the_clock_and_gives_no_ids_when_it_cannot(
    database_url: str, tmp_path: Path
) -> None:
    async with open_world(database_url, tmp_path) as world:
        people, first = world.parts.people, first_of(world)
        operator = Exchanging(world)
        await operator.add(2)
        async with running(world.parts.key_watch()):
            await until(lambda: _has(people.line(first), 2))
            people._looked_at -= KNOWN_FOR + 1
            with patch.object(people, "look", _away), pytest.raises(StoreUnavailable):
                await world.parts.consents.last_text(first, "+12125550120")
            await people.look()
            assert await world.parts.consents.last_text(first, "+12125550120") is None


async def _has(line: Sequence[bytes], ids: int) -> bool:
    return len(line) == ids


async def test_who_writes_without_a_version_is_waited_for(database_url: str, tmp_path: Path) -> None:
    """A version is added only once what was being said without it is committed, so that it is copied."""
    async with open_world(database_url, tmp_path) as world:
        operator, reached, go_on = Exchanging(world), asyncio.Event(), asyncio.Event()
        write = statements("consents")["write_opt_out"]

        class Slow(Paused):
            async def transact(self, work: Any) -> Any:
                async def slowly(session: Any) -> Any:
                    return await work(_SlowSession(session, write, reached, go_on))

                return await self._inner.transact(slowly)

        late = Process(world, "late", Slow(world.parts.database, Counted()))
        key = ConsentKey(first_of(world), "clinic", Scope.TENANT)
        said = asyncio.create_task(late.stop.opt_out(OptOut(key, "api", None, actor="test")))
        await asyncio.wait_for(reached.wait(), 5)
        added = asyncio.create_task(operator.add(2))
        await until(lambda: world.rows("select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%facts%'"))
        assert not added.done()
        go_on.set()
        result = await said
        await added
        assert result is not None
        assert result.in_force
        await operator.copy(2)
        assert await consents(world) == [(1, "out", True), (2, "out", True)]


class _SlowSession:
    """Stops before one statement until it may go on."""

    def __init__(self, session: Any, statement: str, reached: asyncio.Event, go_on: asyncio.Event) -> None:
        self._session = session
        self._statement = statement
        self._reached = reached
        self._go_on = go_on

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._session, name)

        async def call(statement: str, *arguments: object) -> Any:
            if statement == self._statement:
                self._reached.set()
                await self._go_on.wait()
            return await method(statement, *arguments)

        return call
