"""``gateway retention`` and the sweep, on what settings end: found on time and not before, ended, and what cannot be looked at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.app.retention import retention_sweeps, windows_place
from gateway.cli.root import run as run_command
from gateway.flow.retaining import end_all
from tests.integration.dying import Killed, dying
from tests.integration.world import World, environment_for, open_world
from tests.support import free_port, run_apart

DAY = 86_400.0
MINUTE = 60.0
WINDOW, KEPT = 35, 180  # days: message_id_window_days, routing.keep_sender_days
SHIFT = "update clock set shift = shift + make_interval(secs => $1)"
SENDER = "insert into kept_senders values ('\\x01', 'shop', 'offers', '+14155550110', (gateway_now() at time zone 'UTC')::date)"
IDS = """
insert into message_ids
select 'shop', decode(lpad(to_hex(i), 32, '0'), 'hex'), '\\x00',
       (left(uid_floor(gateway_now())::text, 13) || '-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid
  from generate_series(1, $1::int) as i
"""

Cli = Callable[..., tuple[int, Any]]


def environment(database_url: str, folder: Path) -> dict[str, str]:
    """With a broker and a provider that do not answer."""
    nobody = f"127.0.0.1:{free_port()}"
    return environment_for(
        database_url, folder, GATEWAY_KAFKA__SERVERS=nobody, GATEWAY_ACCOUNTS__MAIN__API_BASE=f"http://{nobody}"
    )


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database_url, tmp_path, None, **environment(database_url, tmp_path)) as opened:
        yield opened


@pytest.fixture
def cli(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    for name, value in environment(database_url, tmp_path).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, Any]:
        code = run_command(["retention", *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, json.loads(out) if "--json" in arguments and out else out + err

    return run


async def execute(url: str, statement: str, *arguments: object) -> None:
    session = await asyncpg.connect(url)
    try:
        await session.execute(statement, *arguments)
    finally:
        await session.close()


async def looked(world: World) -> tuple[set[str], set[str]]:
    """The tables of which something is there, and those of which something should be gone."""
    found = await windows_place(world.parts).verify(await world.parts.control.now())
    return {one.data_class for one in found if one.oldest is not None}, {one.data_class for one in found if not one.well}


async def test_both_sides_of_each_window(world: World) -> None:
    place, now = windows_place(world.parts), world.parts.control.now
    await world.parts.database.execute(IDS, 1)
    await world.parts.database.execute(SENDER)
    due = {one.data_class: one.due_at for one in await place.plan(await now())}
    assert set(due) == {"message_ids", "kept_senders"}
    began = await now()
    for table, days in (("message_ids", WINDOW), ("kept_senders", KEPT)):
        at = due[table]
        assert at is not None
        assert days * DAY - MINUTE < (at - began).total_seconds() <= (days + 1) * DAY
        await world.shift((at - await now()).total_seconds() - MINUTE)
        assert await place.run(await now(), 500) == 0
        assert table in (await looked(world))[0]
        await world.shift(2 * MINUTE)
        assert await looked(world) == ({"message_ids", "kept_senders"} if table == "message_ids" else {table}, set())
        await world.shift(10 * MINUTE)  # a sweep that is some minutes late is no fault; more is one
        assert (await looked(world))[1] == {table}
        assert await place.run(await now(), 500) == 1
        assert table not in (await looked(world))[0]
    assert await place.plan(await now()) == []


async def test_two_at_once_end_each_thing_once(world: World) -> None:
    await world.parts.database.execute(IDS, 1201)
    await world.shift((WINDOW + 1) * DAY)
    place, now = windows_place(world.parts), await world.parts.control.now()
    with pytest.raises(Killed), dying(world, 2):
        await end_all(place, now)
    (left,) = await world.rows("select count(*) from message_ids")
    assert 0 < left["count"] < 1201
    assert sum(await asyncio.gather(end_all(place, now), end_all(place, now))) == left["count"]
    assert await looked(world) == (set(), set())


async def test_the_sweep_ends_it_and_shows_what_it_could_not_look_at(world: World) -> None:
    await world.parts.database.execute(IDS, 3)
    await world.shift((WINDOW + 1) * DAY)
    sweep = retention_sweeps(world.parts)["retention windows"]
    assert await world.parts.control.hold("retention windows", world.parts.name, 60)
    await sweep.once()

    def shown(name: str) -> float | None:
        return world.parts.registry.get_sample_value(f"sms_gateway_retention_{name}", {"place": "windows"})

    assert await looked(world) == (set(), set())
    assert (shown("ended_total"), shown("overdue"), shown("oldest_excess_seconds")) == (3, 0, 0)


def test_the_commands_plan_end_and_verify(cli: Cli, database_url: str) -> None:
    code, told = cli("verify", "--skip-providers", "--json")
    assert told["skipped"] == ["main"]
    run_apart(execute(database_url, IDS, 2))
    _, plan = cli("plan", "--json")
    assert [one["data_class"] for one in plan["planned"] if one["place"] == "windows"] == ["message_ids"]
    run_apart(execute(database_url, SHIFT, (WINDOW + 1) * DAY))
    code, told = cli("verify", "--json", "--skip-providers")
    (unwell,) = [one for one in told["found"] if one["place"] == "windows" and not one["well"]]
    assert (code, told["well"]) == (1, False)
    assert (unwell["data_class"], unwell["why"]) == ("message_ids", "message_ids: message_id_window_days is over")
    code, text = cli("verify", "--skip-providers")
    assert code == 1
    assert "are not well, at " in text
    assert "skipped: the provider account main; what is there is not known" in text
    _, ended = cli("run", "--json")
    assert ended["ended"]["windows"] == 2
    _, ended = cli("run", "--json")
    assert ended["ended"]["windows"] == 0
    _, told = cli("verify", "--skip-providers", "--json")
    assert all(one["well"] for one in told["found"] if one["place"] == "windows")


def test_a_place_that_cannot_be_looked_at_is_not_well(cli: Cli, database_url: str) -> None:
    run_apart(execute(database_url, "alter table kept_senders rename to elsewhere"))
    code, told = cli("verify", "--skip-providers", "--json")
    (unwell,) = [one for one in told["found"] if one["place"] == "windows"]
    assert code == 1
    assert unwell["why"].startswith("could not be looked at: ")
    code, told = cli("run", "--json")
    assert code == 1
    assert "windows" in told["failed"]
