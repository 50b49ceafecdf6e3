"""A restore from a dump: the gateway is held, and the replay makes good what was lost. What a dump holds is in test_dumps.py."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.app.audit import verify_audit
from gateway.app.kafka import broker_address, relay_publisher
from gateway.app.places import keys_place
from gateway.app.restoring import release, replay
from gateway.app.retention_rows import rows_of
from gateway.cli.root import run as gateway_run
from gateway.crypto.days import LivingKeys
from gateway.crypto.keyring import day_name
from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.errors import DatabaseHeld, GatewayError, KeyDestroyed
from gateway.flow.keys import DayKey
from gateway.flow.retaining import end_all
from gateway.store.consents import tell_consent
from gateway.store.lineage import LineageStore
from tests.integration.dumps import dump, restore
from tests.integration.dying import Killed, dying
from tests.integration.processes import environment_on
from tests.integration.test_relay import emptied
from tests.integration.test_retention_keys import key_file
from tests.integration.world import POLICIES, Carrier, World, open_world, running, until
from tests.support import run_apart

LIMIT_SECONDS = 30.0
HELD = "the database is not the one that was written to last: it was restored from a dump, or is another one"
STEPS_AT_LEAST = 10  # of a replay, from the look at which database it is until it is noted as complete
COMES_BACK = DayKey("clinic", "content", date(2020, 1, 2))
KNOWN, NEW, NEVER = "+12025550101", "+12025550102", "+12025550103"


@pytest.fixture
async def on_broker(
    database_url: str, tmp_path: Path, broker: str, unique: str, request: pytest.FixtureRequest
) -> dict[str, str]:
    """The settings of a gateway with topics of its own. The embedded broker has no producers that repeat nothing."""
    durable = str(bool(request.config.getoption("--kafka"))).lower()
    return await environment_on(
        database_url, tmp_path, broker, unique, GATEWAY_KAFKA__IDEMPOTENT=durable, GATEWAY_KAFKA__SPOOL="false"
    )


@asynccontextmanager
async def publishing(world: World) -> AsyncIterator[None]:
    """Its events and its audit go out, until all that is there has."""
    publisher = relay_publisher(world.parts.settings)
    await publisher.start(LIMIT_SECONDS)
    try:
        async with running(world.parts.relay(publisher)), running(world.parts.chain(publisher)):
            yield
            await emptied(world, LIMIT_SECONDS)
            await until(lambda: all_told(world), LIMIT_SECONDS, "audit published")
    finally:
        await publisher.stop()


async def all_told(world: World) -> bool:
    return not await world.rows(
        "select 1 where exists (select from audit_unchained) or exists (select from audit_heads where published < sequence)"
    )


async def settled(world: World, *wanted: str) -> None:
    async def there() -> bool:
        states = await world.states()
        return all(states.get(one) not in (None, "accepted", "sending") for one in wanted)

    await until(there, LIMIT_SECONDS, "settled")


async def lose(database_url: str, folder: Path, carrier: Carrier, settings: dict[str, str], file: Path) -> list[UUID]:
    """A dump, and what happens after it: published, sent, stopped, a key destroyed; another comes back. Returns what was sent."""
    async with open_world(database_url, folder, carrier, **settings) as world:
        world.parts.ring.key(*dataclasses.astuple(COMES_BACK))
        file_of_key = key_file(folder, COMES_BACK)
        key = file_of_key.read_bytes()
        await world.parts.key_ending().destroy(COMES_BACK)
        async with publishing(world):
            await world.publish(message_id="waits", to=KNOWN)
            await world.publish(message_id="stopped", to=NEW, not_before=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
        await dump(database_url, file)
        async with publishing(world):
            async with world.sending():
                await settled(world, "waits")
                await world.publish(message_id="after", to=NEVER)
                await settled(world, "after")
            for person in (KNOWN, NEW, NEVER):
                assert await world.receive("STOP", sender=person) == "stop"
            await world.publish(message_id="told", to=NEVER)
            await world.parts.key_ending().destroy(DayKey("clinic", "content", date(2020, 1, 1)))
        sent = [text.uid for text in carrier.sent]
        # one that is accepted, told, and in no queue once the database is restored; nobody can say whether it was sent
        async with publishing(world):
            await world.publish(message_id="in-doubt", tenant="shop", programme="orders", to=NEVER)
    file_of_key.write_bytes(key)  # as from an old backup of the ring
    assert Counter(sent).most_common(1)[0][1] == 1
    return sent


async def replay_whole(world: World) -> None:
    """All of it at once, and a second time, which finds nothing to do."""
    done = await replay(world.parts, "test")
    assert done.faults == []
    # confirmations of the STOPs were queued after the dump, and are in no topic of states
    assert (done.opt_outs, done.opt_ins, done.keys_noted, done.keys_destroyed) == (3, 0, 1, 1)
    assert (done.came_on, done.not_known, done.ended_unknown) == (2, 3, 1)
    again = await replay(world.parts, "test")
    assert (again.opt_outs, again.came_on, again.not_known, again.audit_records, again.ended_unknown) == (0, 0, 0, 0, 0)


async def replay_killed(world: World) -> None:
    """Killed after each of its statements, each attempt one further than the one before: held until one is complete, nothing goes back."""
    before: dict[str, int] = {}
    for after in range(1, 100):
        with suppress(Killed), dying(world, after):
            done = await replay(world.parts, "test")
            assert done.faults == []
            break
        versions = {row["message_id"]: row["version"] for row in await world.rows("select message_id, version from messages")}
        assert {name: version for name, version in before.items() if versions[name] < version} == {}
        before = versions
        assert {row["status"] for row in await world.rows("select status from consents")} <= {"out"}
        if await LineageStore(world.parts.database).replayed() is None:
            with pytest.raises(GatewayError, match="no replay was completed"):
                await release(world.parts, "test")
        with pytest.raises(DatabaseHeld):
            await world.publish(message_id="after", to=NEVER)
    else:
        raise AssertionError("it never comes to an end")
    assert after > STEPS_AT_LEAST


@pytest.mark.parametrize("replayed", [replay_whole, replay_killed], ids=["whole", "killed"])
async def test_the_drill(
    database_url: str, tmp_path: Path, on_broker: dict[str, str], replayed: Callable[[World], Awaitable[None]]
) -> None:
    """Published, sent and stopped after the dump; restored: held; replayed; released. Nobody is texted twice, or after a STOP."""
    carrier, file = Carrier(), tmp_path / "dump"
    sent = await lose(database_url, tmp_path, carrier, on_broker, file)
    await restore(database_url, file)
    async with open_world(database_url, tmp_path, carrier, **on_broker) as world:
        parts = world.parts
        with pytest.raises(DatabaseHeld, match="restored"):
            await parts.lineage.check()
        with pytest.raises(DatabaseHeld):
            await world.publish(message_id="after", to=NEVER)
        with pytest.raises(GatewayError, match="no replay was completed"):
            await release(parts, "test")
        await replayed(world)
        with pytest.raises(KeyDestroyed):
            parts.ring.place.read(day_name(*dataclasses.astuple(COMES_BACK)))
        await release(parts, "test")
        assert not parts.lineage.held
        await parts.catch_up().finish()

        states = await world.states()
        assert states == {"waits": "sent", "stopped": "blocked", "after": "sent", "told": "blocked", "in-doubt": "unknown"}
        async with publishing(world), world.sending():
            await world.publish(message_id="after", to=NEVER)
            await world.publish(message_id="waits", to=KNOWN)
            for number, person in enumerate((KNOWN, NEW, NEVER)):
                await world.publish(message_id=f"later-{number}", to=person)
            await world.publish(message_id="fresh", to="+12025550104")
            await settled(world, "fresh", "later-0", "later-1", "later-2")
        assert {name: state for name, state in (await world.states()).items() if name.startswith("later")} == {
            "later-0": "blocked",
            "later-1": "blocked",
            "later-2": "blocked",
        }
        assert (await world.states())["after"] == "sent"
        assert await world.rows("select 1 from dead_letters") == []
        assert Counter(text.uid for text in carrier.sent).most_common(1)[0][1] == 1
        assert [text.uid for text in carrier.sent][: len(sent)] == sent
        assert len(carrier.sent) == len(sent) + 1
        report = await verify_audit(parts.database, broker_address(parts.settings), parts.settings.kafka.topics.audit)
        assert [str(one) for one in report.findings] == []


async def test_a_person_who_spoke_while_it_was_held_is_heeded(
    database_url: str, tmp_path: Path, on_broker: dict[str, str]
) -> None:
    """A START that was lost comes back behind a STOP that was said after it, and readers are told of that by a version they heed."""
    file = tmp_path / "dump"
    async with open_world(database_url, tmp_path, None, **on_broker) as world:
        async with publishing(world):
            await world.publish(to=KNOWN)
        await dump(database_url, file)
        async with publishing(world):
            await world.receive("STOP", sender=KNOWN)
            await world.shift(60)
            await world.parts.database.execute(
                "update consents set status = 'in', version = 2, stated_at = gateway_now(), source = 'text'"
            )
            [row] = await world.rows("select * from consents")

            async def work(session: Any) -> None:
                key = ConsentKey(row["subject_id"], row["tenant"], Scope(row["scope"]), row["name"])
                await tell_consent(session, key, row, "in", world.parts.hasher.person_key, world.parts.people)

            await world.parts.database.transact(work)
    await restore(database_url, file)
    async with open_world(database_url, tmp_path, None, **on_broker) as world:
        await world.shift(120)
        assert await world.receive("STOP", sender=KNOWN) == "stop"
        done = await replay(world.parts, "test")
        assert (done.faults, done.opt_ins, done.told_again) == ([], 0, 1)
        await release(world.parts, "test")
        await world.parts.stop.finish_pending()
        [row] = await world.rows("select status, version, in_force_at is not null as holds from consents")
        assert row == {"status": "out", "version": 3, "holds": True}


def test_the_drill_by_command(
    database_url: str,
    tmp_path: Path,
    on_broker: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As an operator does it, past a deadline: what the dump brings back dies again with the next run, and nothing is left that may not be."""
    (tmp_path / "policies" / "clinic.yaml").write_text(POLICIES["clinic"] + "retention: {content: 2d}\n")
    carrier, file = Carrier(), tmp_path / "dump"
    for name, value in on_broker.items():
        monkeypatch.setenv(name, value)

    def gateway(*arguments: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = gateway_run([*arguments])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in arguments else out, err

    async def before() -> None:
        async with open_world(database_url, tmp_path, carrier, **on_broker) as world:
            async with publishing(world):
                await world.publish(message_id="waits", to=KNOWN)
                await world.publish(message_id="stopped", to=NEW, not_before=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
            await dump(database_url, file)
            async with publishing(world):
                async with world.sending():
                    await settled(world, "waits")
                assert await world.receive("STOP", sender=NEW) == "stop"
            await past_the_deadline(world)
            for _ in range(2):  # what is ended is told, and then it dies
                async with publishing(world):
                    for place in (rows_of(world.parts), keys_place(world.parts)):
                        await end_all(place, await world.parts.ledger.now())
            assert not any(key.data_class == "content" for key in LivingKeys(world.parts.ring).living())
        await restore(database_url, file)

    async def past_the_deadline(world: World) -> None:
        await world.shift(timedelta(days=3).total_seconds())
        await world.parts.watch.ensure_days()

    async def later() -> None:
        async with open_world(database_url, tmp_path, carrier, **on_broker) as world:
            await past_the_deadline(world)

    def unwell() -> set[tuple[str, str]]:
        _, told, _ = gateway("retention", "verify", "--skip-providers", "--json")
        found = [one for one in told["found"] if not one["well"]]
        return {(one["place"], one["data_class"]) for one in found if one["place"] in ("postgresql", "keys", "windows")}

    run_apart(before())
    run_apart(later())
    assert gateway("restore", "status", "--json")[:2] == (1, {"held": True, "why": HELD})
    code, _, said = gateway("restore", "release")
    assert code == 1
    assert "no replay was completed" in said
    code, done, _ = gateway("restore", "replay", "--json")
    assert (code, done["faults"], done["opt_outs"], done["came_on"]) == (0, [], 1, 2)
    assert gateway("restore", "status")[:2] == (1, f"held: {HELD}\n")  # until somebody lets it go
    assert gateway("restore", "release")[:2] == (0, "released\n")
    assert gateway("restore", "status")[:2] == (0, "not held\n")
    code, _, said = gateway("restore", "replay")
    assert code == 1
    assert "not held" in said
    assert unwell() == {("postgresql", "content"), ("postgresql", "address")}
    code, _, said = gateway("retention", "run", "--json")
    assert code == 0, said
    assert unwell() == set()

    async def after() -> None:
        async with open_world(database_url, tmp_path, carrier, **on_broker) as world:
            assert await world.states() == {"waits": "sent", "stopped": "blocked"}
            assert not await world.rows("select 1 from messages where to_sealed is not null union all select 1 from bodies")

    run_apart(after())
