"""Every column of every table stands on the data map: the schema is asked, not the migrations read."""

from __future__ import annotations

import asyncpg

from gateway.domain.mapped_tables import TABLES

_COLUMNS = """
select c.relname::text as called, array_agg(a.attname::text order by a.attname) as columns
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'f', 'm') and not c.relispartition
 group by 1
"""


async def test_every_column_of_every_table_is_on_the_map(database_url: str) -> None:
    session = await asyncpg.connect(database_url)
    try:
        there = {row["called"]: sorted(row["columns"]) for row in await session.fetch(_COLUMNS)}
    finally:
        await session.close()
    mapped = {area.name: sorted(area.names) for area in TABLES.areas}
    assert mapped == there, (
        "say in gateway/domain/mapped_tables.py what a new column is of a person, or why it is nothing of anybody"
    )
