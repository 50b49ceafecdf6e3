"""The key ring as a place: which days' keys may live, what the net destroys, and what it leaves and reports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import asyncpg
import pytest

from gateway.app.places import keys_place
from gateway.crypto.days import LivingKeys
from gateway.crypto.keyring import KeyRing
from gateway.domain.ids import new_uid
from gateway.domain.retention_days import Terms
from gateway.flow.keys import DayKey
from gateway.flow.retention import Found
from gateway.flow.retention_keys import KeyRetention
from gateway.flow.vault import SYSTEM_TENANT, DataClass
from gateway.store.keys import KeyDatabase
from tests.integration.world import POLICIES, World, open_world
from tests.rings import masters

DAY = date(2026, 3, 2)
MIDNIGHT = datetime.combine(DAY, time.min, UTC)
DAYS = timedelta(days=1)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def alive(world: World) -> set[DayKey]:
    return {key for key in LivingKeys(world.parts.ring).living() if key.day == DAY}


def make(world: World, tenant: str, *classes: DataClass, day: date = DAY) -> list[DayKey]:
    for data_class in classes:
        world.parts.ring.key(tenant, data_class, day)
    return [DayKey(tenant, data_class, day) for data_class in classes]


def key_file(folder: Path, key: DayKey) -> Path:
    [file] = folder.rglob(f"{key.tenant}/{key.data_class}/{key.day}*")
    return file


async def found(place: KeyRetention, tenant: str, now: datetime) -> dict[str, Found]:
    return {one.data_class: one for one in await place.verify(now) if one.tenant == tenant}


async def test_each_class_of_each_tenant_has_its_horizon_and_a_key_dies_in_the_hour_before(
    database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "policies").mkdir()
    shop = POLICIES["shop"] + "retention: {content: 14d, address: 6d, dead_letters: 1mo, consent_proof: 60mo}\n"
    (tmp_path / "policies" / "shop.yaml").write_text(shop)
    async with open_world(database_url, tmp_path) as world:
        keys = make(world, "shop", "content", "address", "dead_letters", "inbound", "consent")
        make(world, "shop", "content", day=DAY + DAYS)
        make(world, SYSTEM_TENANT, "address")
        place = keys_place(world.parts)
        ends = {
            "address": MIDNIGHT + 6 * DAYS,
            "content": MIDNIGHT + 14 * DAYS,
            "inbound": MIDNIGHT + 14 * DAYS,
            "dead_letters": datetime(2026, 4, 2, tzinfo=UTC),
            "consent": datetime(2031, 3, 3, tzinfo=UTC),  # from the day's end
        }
        planned = {(one.tenant, one.data_class): one for one in await place.plan(MIDNIGHT)}
        [late_plan] = [
            one for one in await place.plan(MIDNIGHT + 15 * DAYS) if (one.tenant, one.data_class) == ("shop", "content")
        ]
        assert late_plan.count == 2
        assert {name: planned["shop", name].due_at for name in ends} == ends
        assert planned["shop", "content"].count == 1
        assert planned[SYSTEM_TENANT, "address"].due_at == MIDNIGHT + 6 * DAYS  # the strictest tenant's
        left = set(keys) | {DayKey(SYSTEM_TENANT, "address", DAY)}
        for at in sorted(set(ends.values())):
            dying = {key for key in left if ends[key.data_class] == at}
            assert await keys_place(world.parts).run(at - HOUR - SECOND, 100) in (
                0,
                1,
            )  # 1: the next day's, long before the last of these
            assert alive(world) == left
            assert all(one.well for name, one in (await found(place, "shop", at - SECOND)).items() if ends[name] >= at)
            late = await found(place, "shop", at)
            assert {name for name, one in late.items() if not one.well} >= {
                key.data_class for key in dying if key.tenant == "shop"
            }
            assert "should be destroyed" in late[next(key.data_class for key in dying)].why
            assert await keys_place(world.parts).run(at - HOUR, 100) == len(dying)
            left -= dying
            assert alive(world) == left
            assert all(one.well for one in (await found(place, "shop", at)).values())
        assert await keys_place(world.parts).run(at, 100) == 0
        ended = await world.rows("select count(*) filter (where done_at is not null) as done, count(*) as noted from ended_keys")
        assert ended == [{"done": 7, "noted": 7}]


async def test_a_key_that_something_is_sealed_by_is_reported_and_never_destroyed(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="m")
        place = keys_place(world.parts)
        later = (await world.parts.ledger.now()) + 31 * DAYS
        late = await found(place, "clinic", later)
        assert {name: one.well for name, one in late.items()} == {"content": False, "address": False}
        assert all("still sealed by it" in one.why for one in late.values())
        assert await keys_place(world.parts).run(later, 100) == 0
        assert await found(place, "clinic", later) == late
        await world.parts.database.execute("delete from bodies")
        assert await keys_place(world.parts).run(later, 100) == 0  # the producer's name of the person is under it, too
        await world.parts.database.execute("update messages set recipient_sealed = null")
        assert await keys_place(world.parts).run(later, 100) == 1
        assert (await found(place, "clinic", later)).keys() == late.keys() - {"content"}
        await world.parts.database.execute("update messages set to_sealed = null")
        assert await keys_place(world.parts).run(later, 100) == 1
        assert await found(place, "clinic", later) == {}


async def test_every_place_in_the_database_keeps_its_key(database_url: str, tmp_path: Path) -> None:
    """One row each, of a day long gone; with the row goes the reason to keep."""
    uid = new_uid(MIDNIGHT + 23 * HOUR)
    rows: dict[tuple[str, DataClass], tuple[str, str, Sequence[object]]] = {
        ("clinic", "dead_letters"): (
            "dead_letters",
            (
                "insert into dead_letters (topic, partition, record_offset, uid, at, tenant, reason, detail, length, sha256, sealed)"
                " values ('t', 0, 0, $1, now(), 'clinic', 'r', '', 1, '', '\\x01')"
            ),
            [uid],
        ),
        ("clinic", "inbound"): (
            "outbox",
            "insert into outbox (kind, tenant, uid, version, payload) values ('inbound', 'clinic', $1, 1, '\\x01')",
            [uid],
        ),
        (SYSTEM_TENANT, "consent"): (
            "consents",
            (
                "insert into consents (subject_id, tenant, scope, status, version, source, stated_at, written_at, proof_sealed, proof_uid)"
                " values ('', '*', 'all', 'in', 1, 'api', now(), now(), '\\x01', $1)"
            ),
            [uid],
        ),
        ("shop", "address"): (
            "propagations",
            (
                "insert into propagations (account, sender, subject_id, number_tenant, number_uid, number_sealed)"
                " values ('main', '+1', '', 'shop', $1, '\\x01')"
            ),
            [uid],
        ),
        ("shop", "content"): (
            "consents",
            (
                "insert into consents (subject_id, tenant, scope, status, version, source, stated_at, written_at, reply)"
                " values ('', 'shop', 'tenant', 'out', 1, 'text', now(), now(), jsonb_build_object('uid', $1::uuid))"
            ),
            [uid],
        ),
    }
    async with open_world(database_url, tmp_path) as world:
        place, late = keys_place(world.parts), MIDNIGHT + 3000 * DAYS
        for (tenant, data_class), (table, insert, arguments) in rows.items():
            await world.parts.database.execute(insert, *arguments)
            [key] = make(world, tenant, data_class)
            [beside] = make(world, tenant, data_class, day=DAY - DAYS)
            assert await keys_place(world.parts).run(late, 100) >= 1
            assert key in alive(world), table
            assert beside not in LivingKeys(world.parts.ring).living()
            [one] = [one for one in await place.verify(late) if (one.tenant, one.data_class) == (tenant, data_class)]
            assert one.well == (data_class == "consent"), table  # a proof is kept while the opt-in stands
            await world.parts.database.execute(f"delete from {table}")
            assert await keys_place(world.parts).run(late, 100) == 1, table
            assert key not in alive(world), table


async def test_one_whose_time_nobody_knows_is_reported_and_left(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    for tenant, kept in (("undecided", "content: UNSET"), ("lasting", "content: {forever: why}"), ("past", "content: 2d")):
        text = POLICIES["clinic"].replace("tenant: clinic", f"tenant: {tenant}").replace("+12125550120", "+12125550121")
        (tmp_path / "policies" / f"{tenant}.yaml").write_text(f"{text}enabled: false\nretention: {{{kept}}}\n")
    async with open_world(database_url, tmp_path) as world:
        for tenant in ("undecided", "lasting", "past", "who is %this/"):
            make(world, tenant, "content")
        place, late = keys_place(world.parts), MIDNIGHT + 1000 * DAYS
        assert {one.tenant: (one.well, one.why) for one in await place.verify(late)} == {
            "undecided": (False, "retention.content of undecided is UNSET"),
            "lasting": (True, ""),
            "past": (False, "1 keys that should be destroyed"),
            "who is %this/": (False, "no policy says how long it is kept"),
        }
        assert await keys_place(world.parts).run(late, 100) == 1
        assert {key.tenant for key in alive(world)} == {"undecided", "lasting", "who is %this/"}
        assert {one.tenant: one.due_at for one in await place.plan(late)} == dict.fromkeys(
            ("undecided", "lasting", "who is %this/")
        )


async def test_the_step_is_bounded_the_oldest_go_first_and_what_is_needed_holds_none_up(
    database_url: str, tmp_path: Path
) -> None:
    async with open_world(database_url, tmp_path) as world:
        for number in range(7):
            make(world, "shop", "dead_letters", day=DAY + number * DAYS)
        await world.parts.database.execute(
            "insert into dead_letters (topic, partition, record_offset, uid, at, tenant, reason, detail, length, sha256, sealed)"
            " values ('t', 0, 0, $1, now(), 'shop', 'r', '', 1, '', '\\x01')",
            new_uid(MIDNIGHT),
        )
        late = MIDNIGHT + 1000 * DAYS
        assert [await keys_place(world.parts).run(late, 2) for _ in range(4)] == [2, 2, 2, 0]
        assert [key.day for key in LivingKeys(world.parts.ring).living()] == [DAY]


async def test_a_step_with_nothing_to_do_rests_for_less_than_the_hour_ahead(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        make(world, "shop", "content")
        place, over = keys_place(world.parts), MIDNIGHT + 30 * DAYS - HOUR
        assert [await place.run(over + after, 10) for after in (-SECOND, timedelta(minutes=9), timedelta(minutes=10))] == [
            0,
            0,
            1,
        ]


@pytest.mark.parametrize("where", ["folder", "postgresql"])
async def test_a_key_put_back_by_hand_after_its_end_is_found(
    database_url: str, empty_database_url: str, tmp_path: Path, where: str
) -> None:
    """What the sweep has ended and noted, it believes to be gone. The ring itself is asked."""
    async with open_world(database_url, tmp_path) as world:
        if where == "postgresql":
            world.parts.ring = KeyRing(KeyDatabase(empty_database_url, seconds=30), masters())
        [key] = make(world, "shop", "content")
        put_back = await (kept_file(tmp_path, key) if where == "folder" else kept_row(empty_database_url))
        place, late = keys_place(world.parts), MIDNIGHT + 1000 * DAYS
        assert await keys_place(world.parts).run(late, 10) == 1
        assert await found(place, "shop", late) == {}
        await put_back()
        assert not (await found(place, "shop", late))["content"].well
        assert await keys_place(world.parts).run(late, 10) == 1
        assert key not in alive(world)
        if where == "postgresql":
            world.parts.ring.place.close()


async def kept_file(folder: Path, key: DayKey) -> Callable[[], Awaitable[None]]:
    """What puts the key back as it is now."""
    file = key_file(folder, key)
    content = file.read_bytes()

    async def put_back() -> None:
        file.write_bytes(content)

    return put_back


async def kept_row(url: str) -> Callable[[], Awaitable[None]]:
    """The same, of all keys of a ring in PostgreSQL."""
    rows = await executed(url, "select name, wrapped from key_ring where wrapped is not null")

    async def put_back() -> None:
        for row in rows:
            await executed(url, "update key_ring set wrapped = $2, destroyed_at = null where name = $1", *row.values())

    return put_back


async def executed(url: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    session = await asyncpg.connect(url)
    try:
        rows: list[asyncpg.Record] = await session.fetch(statement, *arguments)
        return rows
    finally:
        await session.close()


async def test_a_proof_that_an_opt_out_left_behind_keeps_no_key(database_url: str, tmp_path: Path) -> None:
    proof = """
        insert into consents (subject_id, tenant, scope, status, version, source, stated_at, written_at, proof_sealed, proof_uid)
        values ('', 'shop', 'tenant', $2, 1, 'api', now(), now(), '\\x01', $1)
    """
    async with open_world(database_url, tmp_path) as world:
        place, late = keys_place(world.parts), MIDNIGHT + 3000 * DAYS
        [key] = make(world, "shop", "consent")
        await world.parts.database.execute(proof, new_uid(MIDNIGHT), "in")
        assert (await found(place, "shop", late))["consent"].well  # the opt-in stands
        await world.parts.database.execute("update consents set status = 'out'")
        assert not (await found(place, "shop", late))["consent"].well
        assert await keys_place(world.parts).run(late, 100) == 1
        assert key not in alive(world)


async def test_the_systems_keys_end_with_its_rows_also_where_no_policy_sets_an_end(database_url: str, tmp_path: Path) -> None:
    """As leman's: for ever, until somebody asks. What belongs to no tenant ends by what holds where none says else."""
    (tmp_path / "policies").mkdir()
    for tenant in ("shop", "clinic"):
        text = POLICIES[tenant] + "retention: {content: {forever: why}, events: {forever: why}, consent_proof: 72mo}\n"
        (tmp_path / "policies" / f"{tenant}.yaml").write_text(text)
    async with open_world(database_url, tmp_path) as world:
        classes: tuple[DataClass, ...] = ("content", "address", "dead_letters", "inbound", "consent")
        make(world, SYSTEM_TENANT, *classes)
        make(world, "shop", "content")
        due = {(one.tenant, one.data_class): one.due_at for one in await keys_place(world.parts).plan(MIDNIGHT)}
        assert due["shop", "content"] is None
        terms = Terms(world.parts.policies)
        for name in ("content", "address", "dead_letters"):
            assert due[SYSTEM_TENANT, name] == terms.due(SYSTEM_TENANT, name, DAY) == MIDNIGHT + 30 * DAYS
        assert due[SYSTEM_TENANT, "inbound"] == MIDNIGHT + 30 * DAYS
        assert due[SYSTEM_TENANT, "consent"] == datetime(2032, 3, 3, tzinfo=UTC)  # of proofs the longest
        at = MIDNIGHT + 30 * DAYS
        assert all(one.well for one in (await found(keys_place(world.parts), SYSTEM_TENANT, at - SECOND)).values())
        late = await found(keys_place(world.parts), SYSTEM_TENANT, at)
        assert {name for name, one in late.items() if not one.well} == {"content", "address", "dead_letters", "inbound"}
        assert late["address"].not_before == MIDNIGHT
        assert await keys_place(world.parts).run(at - HOUR - SECOND, 10) == 0
        assert await keys_place(world.parts).run(at - HOUR, 10) == 4
        assert {(key.tenant, key.data_class) for key in alive(world)} == {("shop", "content"), (SYSTEM_TENANT, "consent")}
