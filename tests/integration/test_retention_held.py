"""Nothing ends in a database that may lack what was written to it: not by the clock, and not by command."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.app.restoring import release
from gateway.app.retention import retention_places, retention_sweeps
from gateway.cli.root import run as run_command
from gateway.domain.errors import DatabaseHeld
from gateway.domain.retention_days import midnight
from gateway.flow.retaining import end_all
from tests.integration.dumps import dump, restore
from tests.integration.test_lineage import keep
from tests.integration.test_retention_rows import SECOND, kept, move_to, readable, text, today
from tests.integration.world import World, environment_for
from tests.support import free_port

SHOP = "{content: 2d}"


async def swept(world: World) -> None:
    """Each place's sweep, once."""
    for name, sweep in retention_sweeps(world.parts).items():
        assert await world.parts.control.hold(name, world.parts.name, 60)
        await sweep.once()


async def test_in_a_restored_database_nothing_ends_before_it_is_released(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A message that waits there was sent: it must not be ended as one that never was. Nor may the text go that a hold is to keep."""
    file, nobody = tmp_path / "dump", f"127.0.0.1:{free_port()}"
    async with kept(database_url, tmp_path, shop=SHOP) as world:
        await text(world, "shop", message_id="settled")
        await world.publish(tenant="shop", message_id="waits", to="+12025550102")
        await dump(database_url, file)
        await text(world, "shop", message_id="another", to="+12025550103")  # sends what waits, too
        assert (await world.states())["waits"] == "sent"
        day = await today(world)
    await restore(database_url, file)
    for name, value in environment_for(database_url, tmp_path, GATEWAY_ACCOUNTS__MAIN__API_BASE=f"http://{nobody}").items():
        monkeypatch.setenv(name, value)
    async with kept(database_url, tmp_path) as world:
        assert world.parts.lineage.held
        await world.rows("update queue set expires_at = expires_at + interval '30 days'")
        await move_to(world, midnight(day) + timedelta(days=2) + SECOND)
        there = ("select uid, state, version, final from messages order by uid", "select uid from bodies order by uid")
        before = [await world.rows(statement) for statement in there]

        await swept(world)
        assert await asyncio.to_thread(run_command, ["retention", "run"]) == 1
        said = capsys.readouterr().err
        assert "held: the database is not the one" in said
        assert "failed: " not in said, "it is refused at once, and not place by place"
        assert [await world.rows(statement) for statement in there] == before
        assert readable(world, "shop", "content", day)
        overdue = world.parts.registry.get_sample_value("sms_gateway_retention_overdue", {"place": "postgresql"})
        assert overdue is not None, "it is looked at all the same"
        assert overdue > 0

        await release(world.parts, "test", incomplete=True)
        await swept(world)
        assert (await world.states())["waits"] == "expired"


async def test_a_run_stops_where_the_database_goes_back_meanwhile(database_url: str, tmp_path: Path) -> None:
    async with kept(database_url, tmp_path, shop=SHOP) as world:
        await text(world, "shop")
        day = await today(world)
        now = await move_to(world, midnight(day) + timedelta(days=2) + SECOND)
        (rows,) = [place for place in retention_places(world.parts) if place.name == "postgresql"]
        keep(world, name="0" * 32)
        with pytest.raises(DatabaseHeld):
            await end_all(rows, now, may=world.parts.lineage.require)
        assert readable(world, "shop", "content", day)
