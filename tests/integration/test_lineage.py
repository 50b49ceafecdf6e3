"""A database that went back behind what was written to it is held: nothing is taken in, claimed, marked or told, and a STOP is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.domain.decide import decide
from gateway.domain.errors import DatabaseHeld
from gateway.domain.lineage import Lineage
from gateway.store.chain import Chains
from gateway.store.database import Database
from gateway.store.lineage import LineageStore
from gateway.store.outbox import Outbox
from tests.integration.world import OpenGate, World, open_world


def is_held(world: World) -> bool:
    return world.parts.lineage.held


def keep(world: World, **changed: object) -> None:
    """Have the key ring remember another database than this one."""
    raw = world.parts.ring.lineage()
    assert raw is not None
    kept = Lineage.decode(raw)
    told = {"name": kept.name, "timeline": kept.timeline, "place": kept.place, **changed}
    assert world.parts.ring.keep_lineage(raw, Lineage(**told).encode())  # type: ignore[arg-type] # names of its fields


@pytest.mark.parametrize(
    "changed, why",
    [
        ({"name": "0" * 32}, "restored from a dump"),
        ({"timeline": 77}, "failed over"),
        ({"place": 2**60}, "its files were put back"),
    ],
)
async def test_a_database_that_is_not_what_it_was_takes_in_sends_and_tells_nothing(
    database_url: str, tmp_path: Path, changed: dict[str, object], why: str
) -> None:
    async with open_world(database_url, tmp_path) as world:
        assert not is_held(world)
        await world.publish(message_id="before")
        claims = world.parts.dispatch(OpenGate())._claims
        taken = await claims.claim({"main": 10}, decide, 10)
        assert len(taken.claimed) == 1
        await world.publish(message_id="waits", to="+12025550102")
        keep(world, **changed)
        await world.parts.lineage.look()
        assert is_held(world)
        with pytest.raises(DatabaseHeld, match=why):
            await world.parts.lineage.check()
        assert (world.parts.registry.get_sample_value("sms_gateway_held_seconds") or 0) > 0

        assert await claims.mark(taken.claimed) == {}
        assert not (await claims.claim({"main": 10}, decide, 10)).claimed
        with pytest.raises(DatabaseHeld):
            await world.publish(message_id="new")
        assert await Outbox(world.parts.database).take(10) == []
        with pytest.raises(DatabaseHeld):
            await Chains(world.parts.database).chain(10, lambda *_: pytest.fail("not to be bound"))
        assert await world.receive("STOP") == "stop"
        assert (await world.rows("select status, in_force_at is not null as holds from consents")) == [
            {"status": "out", "holds": True}
        ]

        await world.parts.lineage.release()
        assert not is_held(world)
        await world.publish(message_id="new")
        assert await Outbox(world.parts.database).take(10)
        assert (
            len((await claims.claim({"main": 10}, decide, 10)).claimed) == 2
        )  # the other person's, and the confirmation of the STOP


async def test_statements_notice_by_themselves_before_anybody_has_looked(database_url: str, tmp_path: Path) -> None:
    """A failover in the middle of the work: what the process believes is old, and the statements compare."""
    async with open_world(database_url, tmp_path) as world:
        await world.publish()
        expected = world.parts.database.expected
        world.parts.database.expected = expected._replace(timeline=(expected.timeline or 0) + 1)
        claims = world.parts.dispatch(OpenGate())._claims
        assert not (await claims.claim({"main": 10}, decide, 10)).claimed


async def test_a_promoted_standby_may_be_trusted_and_a_restore_may_not(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path, GATEWAY_TRUST_FAILOVER="true") as world:
        keep(world, timeline=77)
        await world.parts.lineage.look()
        assert not is_held(world)
        keep(world, name="1" * 32)
        await world.parts.lineage.look()
        assert is_held(world)


async def test_how_far_the_database_has_come_moves_on_while_it_is_not_held(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        before = world.parts.ring.lineage()
        await world.publish()
        await world.parts.lineage.move()
        after = world.parts.ring.lineage()
        assert before is not None
        assert after is not None
        assert Lineage.decode(after).place > Lineage.decode(before).place
        keep(world, name="0" * 32)
        held = world.parts.ring.lineage()
        await world.parts.lineage.move()
        assert world.parts.ring.lineage() == held


async def test_a_ring_that_lost_it_beside_a_database_that_was_kept_is_held(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path):
        pass
    (tmp_path / "keys" / "_system" / "lineage.key").unlink()
    async with open_world(database_url, tmp_path) as world:
        assert is_held(world)
        await world.parts.lineage.release()
    async with open_world(database_url, tmp_path) as world:
        assert not is_held(world)


async def test_another_database_of_one_server_is_another_one(database_url: str, empty_database_url: str) -> None:
    async def name(url: str) -> str:
        database = await Database(url, sessions=1).open()
        try:
            return (await LineageStore(database).now()).name
        finally:
            await database.close()

    from gateway.store.migrate import migrate

    await migrate(empty_database_url)
    assert await name(database_url) != await name(empty_database_url)
    assert await name(database_url) == await name(database_url)
