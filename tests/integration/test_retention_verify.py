"""``verify`` sees whatever is hidden from the sweep: every column with a period on the data map, and what lies beside; keys put back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from gateway.app.accounts import accounts_place
from gateway.app.retention import windows_place
from gateway.app.retention_rows import rows_of
from gateway.domain.ids import new_uid
from gateway.domain.mapped_tables import TABLES
from gateway.domain.retention_days import midnight
from tests.integration.test_retention_rows import SECOND, kept, move_to, run_all, text, today
from tests.integration.world import World

PERIODS: Final = "{content: 4d, address: 12d, dead_letters: 8d, events: 40d, consent_proof: 20d}"
OVER: Final[Mapping[str, timedelta]] = {  # by what ends it: of that age it should be gone, and nothing that another key ends
    "retention.content": timedelta(days=6),
    "retention.address": timedelta(days=14),
    "retention.dead_letters": timedelta(days=10),
    "retention.events": timedelta(days=50),
    "retention.consent_proof": timedelta(days=30),
    "retention.customer_account": timedelta(days=1),  # since it was closed
    "message_id_window_days": timedelta(days=40),
    "routing.keep_sender_days": timedelta(days=190),
}

# An old row of each table, with no more in it than must be.
MESSAGE: Final = """
insert into messages (uid, tenant, programme, category, kind, state, reason, final, version, steps, policy, rule, expires_at, parts)
values ($1, 'shop', 'visits', 'service', 'outbound', 'sent', 'accepted', true, 1, 1, 'x', 'x', $2, 1)
"""
ROWS: Final[Mapping[str, str]] = {
    "messages": MESSAGE,
    "bodies": MESSAGE.replace("insert", "with m as (insert", 1)
    + " returning uid) insert into bodies (uid, sealed) select uid, 'x' from m",
    "queue": """
        insert into queue (uid, route_id, tenant, programme, category, kind, subject_id, sender, state, due_at, expires_at, attempt, tries,
                           steps, parts)
        select $1, route_id, tenant, programme, 'service', 'outbound', 'x', sender, 'waiting', $2, $2, 0, 0, 1, 1
          from routes where tenant = 'shop' limit 1
    """,
    "message_ids": "insert into message_ids (tenant, id_hash, content_digest, uid) values ('shop', $2::timestamptz::text::bytea, 'x', $1)",
    "consents": """
        insert into consents (subject_id, tenant, scope, name, status, version, source, stated_at, written_at, proof_uid)
        values ('x', 'shop', 'tenant', '', 'out', 2, 'api', $2, $2, $1)
    """,
    "provider_copies": """
        insert into provider_copies (account, provider_message_id, tenant, uid, made_at, part) values ('main', 'x', 'shop', $1, $2, 'text')
    """,
    "inbound": """
        insert into inbound (account, provider_message_id, received_at, fate, tenant, subject_id)
        values ('main', $1::uuid::text, $2, 'other', 'shop', 'x')
    """,
    "audit_unchained": "insert into audit_unchained (at, tenant, uid, number, step, actor) values ($2, 'shop', $1, 1, 'x', 'x')",
    "audit_chain": """
        insert into audit_chain (tenant, sequence, chained_at, at, uid, number, step, actor, previous, hash)
        values ('shop', 1, $2, $2, $1, 1, 'x', 'x', 'x', 'x')
    """,
    "dead_letters": """
        insert into dead_letters (topic, partition, record_offset, uid, at, tenant, reason, detail, length, sha256)
        values ('t', 0, 1, $1, $2, 'shop', 'nul', '', 1, 'x')
    """,
    "closed_accounts": "insert into closed_accounts (tenant, closed_at, noted_at, noted_by) values ('shop', $2, $2, $1::uuid::text)",
    "kept_senders": "insert into kept_senders values ('x', 'shop', 'visits', '+12125550130', $2::timestamptz::date) returning $1::uuid",
}
# What has no period on the map, as it is on its way, or a second thing of a table: as which class, after how many days, and where it lies.
COPY: Final = ROWS["provider_copies"].replace("'text'", "'all'")
BESIDE: Final[Mapping[str, tuple[str, int, str]]] = {
    "a person's text on its way": (
        "content",
        6,
        "insert into outbox (kind, tenant, uid, version, created_at) values ('inbound', 'shop', $1, 1, $2)",
    ),
    "an event on its way": (
        "events",
        50,
        "insert into outbox (kind, tenant, uid, version, created_at) values ('status', 'shop', $1, 1, $2)",
    ),
    "a number that a provider is owed": (
        "address",
        14,
        (
            "insert into propagations (account, sender, subject_id, number_tenant, number_uid, number_sealed)"
            " select 'main', 's', 'x', 'shop', $1, 'x' where $2::timestamptz < now()"
        ),
    ),
    "a provider's copy": ("address", 14, COPY),
    "a copy that a provider may have": ("address", 22, COPY.replace("'main', 'x'", "'main', null")),
    "what a hold kept that is released": (
        "held",
        1,
        (
            "with h as (insert into legal_holds (id, tenant, who, why, added_at, added_by, released_at)"
            " values ($1, 'shop', 'a court', 'file 7', $2, 'cli:test', now()) returning id)"
            " insert into held (hold, thing, name, sealed) select id, 'content', 'x', 'x' from h"
        ),
    ),
}
TABLES_OF_THEM: Final = (*ROWS, "outbox", "propagations", "held", "legal_holds")
VALUES: Final[Mapping[str, str]] = {
    "bytea": "'x'",
    "jsonb": "'{}'",
    "timestamp with time zone": "now()",
    "text": "'x'",
    "integer": "1",
}


TYPE: Final = "select format_type(atttypid, null) as type from pg_attribute where attrelid = $1::text::regclass and attname = $2"


def groups() -> Iterator[tuple[str, str, list[str]]]:
    """Of each table of the data map: the columns that end by the same key."""
    for area in TABLES.areas:
        keys = {held.until.key for held in area.held.values()}
        for key in sorted(keys & OVER.keys()):
            yield area.name, key, [name for names, held in area.held.items() if held.until.key == key for name in names.split()]


async def hide(world: World, statement: str, age: timedelta) -> None:
    """Put something that old where no sweep has been."""
    then = await world.parts.ledger.now() - age
    await world.rows("select ensure_day($1)", then.date())
    await world.rows(statement, new_uid(then), then)


async def clear(world: World) -> None:
    for table in TABLES_OF_THEM:
        await world.rows(f"delete from {table}")


async def unwell(world: World) -> set[str]:
    """The classes of the shop's of which something is not well; of what settings end, the tables."""
    now = await world.parts.ledger.now()
    places = (rows_of(world.parts), windows_place(world.parts), accounts_place(world.parts))
    found = [one for place in places for one in await place.verify(now)]
    assert {one.tenant for one in found if not one.well} <= {"shop", "*"}
    return {one.data_class for one in found if not one.well}


async def test_verify_finds_every_column_that_the_data_map_gives_a_period(database_url: str, tmp_path: Path) -> None:
    """Each alone, in an old row that holds no more than it must; where that row is found already, all its columns are found with it."""
    async with kept(database_url, tmp_path, shop=PERIODS) as world:
        await clear(world)
        assert await unwell(world) == set()
        for table, key, columns in groups():
            wanted = key.removeprefix("retention.") if key.startswith("retention.") else table
            await hide(world, ROWS[table], OVER[key])
            if wanted not in await unwell(world):
                for column in columns:
                    (of,) = await world.rows(TYPE, table, column)
                    await world.rows(f"update {table} set {column} = {VALUES[of['type']]}")
                    assert wanted in await unwell(world), f"{table}.{column}"
                    await world.rows(f"update {table} set {column} = null")
                assert wanted not in await unwell(world), table
            await clear(world)
        assert await unwell(world) == set()


async def test_verify_finds_what_lies_beside(database_url: str, tmp_path: Path) -> None:
    async with kept(database_url, tmp_path, shop=PERIODS) as world:
        await clear(world)
        for what, (data_class, days, statement) in BESIDE.items():
            await hide(world, statement, timedelta(days=days))
            assert await unwell(world) == {data_class}, what
            await clear(world)


def test_every_period_of_the_data_map_is_looked_for() -> None:
    keys = {held.until.key for _, _, held in TABLES.rows() if not held.until.key.startswith("none: ")}
    assert keys == OVER.keys() | {"retention.suppression"}


async def test_a_copy_that_a_legal_hold_keeps_at_a_provider_may_stay_noted(database_url: str, tmp_path: Path) -> None:
    async with kept(database_url, tmp_path, shop=PERIODS) as world:
        await clear(world)
        await hide(world, COPY, timedelta(days=14))
        (copy,) = await world.rows("select uid from provider_copies")
        hold = "insert into legal_holds (id, tenant, uid, who, why, added_at, added_by) values ($1, 'shop', $1, 'a court', 'file 7', now(), 'x')"
        await world.rows(hold, copy["uid"])
        assert await unwell(world) == set()
        await world.rows("update legal_holds set released_at = now()")
        assert await unwell(world) == {"address"}


async def test_a_column_that_a_later_version_adds_is_emptied_with_the_content(database_url: str, tmp_path: Path) -> None:
    """What stays of a message is a list of what may: nobody has to think of a new column for it to end."""
    async with kept(database_url, tmp_path, shop="{content: 2d, events: 9d}", other="{content: 9d, events: 9d}") as world:
        await world.rows("alter table messages add column later text")
        for tenant in ("shop", "other"):
            await text(world, tenant)
        await world.rows("update messages set later = 'what was added for a person'")
        await run_all(world, await move_to(world, midnight(await today(world)) + timedelta(days=2) - SECOND))
        assert [row["later"] for row in await world.rows("select later from messages")] == ["what was added for a person"] * 2
        await world.shift(2)
        assert "content" in await unwell(world)
        await run_all(world)
        rows = await world.rows("select tenant, later from messages order by tenant")
        assert rows == [{"tenant": "other", "later": "what was added for a person"}, {"tenant": "shop", "later": None}]
        assert "content" not in await unwell(world)
