-- Keys that were destroyed: what a key ring that is restored is held to.

-- name: note
insert into ended_keys (tenant, data_class, day, at) values ($1, $2, $3, (select gateway_now())) on conflict do nothing

-- name: done
update ended_keys set done_at = (select gateway_now()) where tenant = $1 and data_class = $2 and day = $3 and done_at is null

-- name: unfinished
select tenant, data_class, day from ended_keys where done_at is null order by at limit 100

-- name: all
select tenant, data_class, day from ended_keys order by tenant, data_class, day
