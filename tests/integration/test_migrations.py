"""Migrations: each file runs once, whoever starts at the same moment, and the schema is the same."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from urllib.parse import urlsplit

import asyncpg
import pytest

from gateway.domain.errors import StoreRefused, StoreUnavailable
from gateway.domain.ids import new_uid, uid_floor
from gateway.store.migrate import DAYS_AHEAD, migrate
from gateway.store.statements import statements
from tests.support import free_port

_SCHEMA = """
select 'column' as kind, c.relname || '.' || a.attname as name,
       format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '') as what
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
union all
select 'index', indexname, indexdef from pg_indexes where schemaname = 'public'
union all
select 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) from pg_constraint where connamespace = 'public'::regnamespace
union all
select 'bound', oid::regclass::text, pg_get_expr(relpartbound, oid) from pg_class where relnamespace = 'public'::regnamespace and relispartition
union all
select 'options', oid::regclass::text, reloptions::text from pg_class where relnamespace = 'public'::regnamespace and reloptions is not null
union all
select 'function', proname, prosrc from pg_proc where pronamespace = 'public'::regnamespace
 order by 1, 2, 3
"""


async def schema(url: str) -> list[tuple[str, str, str]]:
    session = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await session.fetch(_SCHEMA)]
    finally:
        await session.close()


async def scalar(url: str, statement: str) -> object:
    session = await asyncpg.connect(url)
    try:
        return await session.fetchval(statement)
    finally:
        await session.close()


def numbered() -> list[str]:
    folder = files("gateway.store").joinpath("migrations")
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))


async def test_each_file_runs_once_and_a_second_time_changes_nothing(empty_database_url: str, database_url: str) -> None:
    assert await migrate(empty_database_url) == numbered()
    first = await schema(empty_database_url)
    assert await migrate(empty_database_url) == []
    assert await schema(empty_database_url) == first
    assert await schema(database_url) == first


async def test_processes_that_start_together_migrate_once(empty_database_url: str, database_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(6)))
    assert sorted(applied, reverse=True) == [numbered(), [], [], [], [], []]
    assert await schema(empty_database_url) == await schema(database_url)
    assert await scalar(empty_database_url, "select count(*) from clock") == 1


async def test_a_migration_that_fails_leaves_nothing(empty_database_url: str) -> None:
    session = await asyncpg.connect(empty_database_url)
    await session.execute("create table queue (taken integer)")  # in the way of ours
    await session.close()
    with pytest.raises(StoreRefused):
        await migrate(empty_database_url)
    assert {name.split(".")[0] for kind, name, _ in await schema(empty_database_url) if kind == "column"} == {"queue"}
    session = await asyncpg.connect(empty_database_url)
    await session.execute("drop table queue")
    await session.close()
    assert await migrate(empty_database_url) == numbered()


async def test_files_are_numbered_without_a_gap() -> None:
    assert [name[:4] for name in numbered()] == [f"{place + 1:04d}" for place in range(len(numbered()))]


async def test_there_is_a_partition_for_every_day_of_two_weeks(database_url: str) -> None:
    session = await asyncpg.connect(database_url)
    try:
        today = datetime.now(UTC)
        for days in range(-1, DAYS_AHEAD + 1):
            moment = today + timedelta(days=days)
            midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
            for at in (midnight, midnight + timedelta(days=1) - timedelta(milliseconds=1)):
                uid = new_uid(at)
                table = await session.fetchval("insert into bodies values ($1, '') returning tableoid::regclass::text", uid)
                assert table == f"bodies_{midnight:%Y%m%d}"
        for table in ("messages", "audit_chain"):
            count = await session.fetchval("select count(*) from pg_inherits where inhparent = $1::text::regclass", table)
            assert count == DAYS_AHEAD + 2
    finally:
        await session.close()


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Pacific/Kiritimati"])
async def test_days_are_utc_days_whatever_the_sessions_zone(empty_database_url: str, database_url: str, zone: str) -> None:
    name = urlsplit(empty_database_url).path[1:]
    session = await asyncpg.connect(empty_database_url)
    await session.execute(f"alter database \"{name}\" set timezone to '{zone}'")
    await session.close()
    await migrate(empty_database_url)

    def days(found: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
        return [(name, what) for kind, name, what in found if kind == "bound" and name.startswith(("messages_", "bodies_"))]

    assert days(await schema(empty_database_url)) == days(await schema(database_url))


async def test_both_floors_of_an_uid_are_the_same(database_url: str) -> None:
    session = await asyncpg.connect(database_url)
    try:
        for moment in (datetime(2026, 5, 1, 12, 30, 1, 999_999, tzinfo=UTC), datetime(2199, 12, 31, tzinfo=UTC)):
            floor = await session.fetchval("select uid_floor($1)", moment)
            assert floor == uid_floor(moment)
            assert floor <= new_uid(moment)
    finally:
        await session.close()


async def test_without_postgresql_it_says_so() -> None:
    with pytest.raises(StoreUnavailable):
        await migrate(f"postgresql://nobody:secret@127.0.0.1:{free_port()}/nothing")


@pytest.mark.parametrize(
    "chapter", ["audit", "chain", "consents", "control", "counts", "dispatch", "intake", "ledger", "outbox", "watch"]
)
async def test_every_statement_can_be_prepared(database_url: str, chapter: str) -> None:
    """A name that is misspelt in SQL is found here, not on the day when the statement first runs."""
    session = await asyncpg.connect(database_url)
    try:
        for name, statement in statements(chapter).items():
            try:
                await session.prepare(statement)
            except asyncpg.PostgresError as fault:
                pytest.fail(f"{chapter}.sql, {name}: {fault}")
    finally:
        await session.close()


def test_the_schema_needs_no_extension() -> None:
    """Managed PostgreSQL has few of them."""
    text = "".join(files("gateway.store").joinpath("migrations", name).read_text() for name in numbered())
    assert "create extension" not in text.lower()
