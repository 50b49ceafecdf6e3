-- The key ring in a PostgreSQL of its own: wrapped keys by name. This is not in the gateway's own schema, and no migration makes it.

-- name: table
select to_regclass('key_ring') is not null

-- A destroyed key's row stays, without the key: its name is used up.
-- name: make_table
create table if not exists key_ring (
  name text collate "C" primary key,
  wrapped bytea,
  made_at timestamptz not null default now(),
  destroyed_at timestamptz
)

-- Which server it is: the same for a standby and whatever was copied as files, another for each that was made anew.
-- name: system
select system_identifier::text from pg_control_system()

-- name: read
select wrapped from key_ring where name = $1

-- Of several who make it at once one wins; what it made is read by a statement of its own.
-- name: create
insert into key_ring (name, wrapped) values ($1, $2) on conflict (name) do nothing

-- Never over a key that was destroyed meanwhile: that would bring it back.
-- name: replace
update key_ring set wrapped = $3 where name = $1 and wrapped = $2 returning name

-- name: destroy
with before as materialized (select wrapped is not null as there from key_ring where name = $1)
insert into key_ring as k (name, wrapped, destroyed_at) values ($1, null, now())
on conflict (name) do update set wrapped = null, destroyed_at = coalesce(k.destroyed_at, now())
returning coalesce((select there from before), false)

-- name: entries
select name, wrapped from key_ring where name > $1 order by name limit $2

-- The old version of the row holds the wrapped key until the page is cleaned.
-- name: vacuum
vacuum (index_cleanup off, truncate off) key_ring
