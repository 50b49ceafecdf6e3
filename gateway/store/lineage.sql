-- Which life of the database this is.

-- What is on the disk: a crash takes nothing of it back.
-- name: now
select gateway_database() as name, gateway_timeline() as timeline, (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint as place

-- name: lives
select gateway_lives($1::text, $2::bigint, $3::text)

-- Whether its lineage was ever kept outside; and until when something was written that the topics had, as a replay left it.
-- name: fact
select value from facts where name = $1

-- name: note
insert into facts (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value
