-- Counts of status events, on their way from the relay's removal (outbox.sql) to the outbox.

-- What is left of the periods that are over, whole periods of tenants, at most $4 of them. Over is what ended $3 seconds ago, and as
-- long before the oldest status event that is still to be published. $2: how long the period is, in seconds.
-- name: take
with horizon as materialized (
  select least((select gateway_now()), (select created_at from outbox where parked is null and kind = 'status' order by id limit 1))
         - make_interval(secs => $2::float8 + $3::float8) as latest
), due as materialized (
  select distinct start, tenant
    from counts
   where period = $1 and start <= (select latest from horizon)
   order by start, tenant
   limit $4
)
delete from counts c using due d
 where c.period = $1 and c.start = d.start and c.tenant = d.tenant
returning c.tenant, c.period, c.start, nullif(c.provider, '') as provider, nullif(c.category, '') as category, c.state, c.reason, c.count

-- What is too small waits in the next longer period.
-- name: wait
insert into counts (period, start, tenant, provider, category, state, reason, count)
select period, start, tenant, coalesce(provider, ''), coalesce(category, ''), state, reason, count
  from unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[])
    as c(period, start, tenant, provider, category, state, reason, count)
 order by period, start, tenant, 4, 5, state, reason
on conflict (period, start, tenant, provider, category, state, reason) do update set count = counts.count + excluded.count

-- name: tell
insert into outbox (kind, created_at, tenant, uid, version, payload)
select 'metrics', (select gateway_now()), tenant, uid, 1, payload
  from unnest($1::uuid[], $2::text[], $3::bytea[]) as c(uid, tenant, payload)
