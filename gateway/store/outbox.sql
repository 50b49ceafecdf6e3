-- Nothing in a database that is not the one that is meant: what an older one holds was told before, and newer things after it.
-- name: take
select o.id, o.kind, coalesce(o.first_told_at, o.created_at) as created_at, o.tenant, o.uid, o.version, o.state, o.reason, o.final, o.correction, o.provider, o.parts, o.policy,
       o.rule, coalesce(o.subject_id, m.subject_id) as subject_id, o.payload, m.message_id, m.programme, m.category, m.recipient_ref, m.trace,
       o.account, o.sender, o.attempt, coalesce(o.recipient_uid, o.uid) as recipient_uid,
       coalesce(o.recipient_sealed, m.recipient_sealed) as recipient_sealed
  from (select * from outbox where parked is null and (select gateway_lives($2::text, $3::bigint, $4::text)) order by id limit $1) o
  left join messages m on m.uid = o.uid and o.kind = 'status'
 order by o.id

-- Only by who holds the relay's name: a holder that was too slow would take away what the next one has published only in part.
-- What is taken away is counted in the same statement, so each status event exactly once: the row is there to be deleted once.
-- name: remove
with held as (
  select 1 from leaders where name = $2 and holder = $3 and until > (select gateway_now()) for share
), gone as (
  delete from outbox o using unnest($1::bigint[], $4::text[]) as w(id, category)
   where o.id = w.id and exists (select 1 from held)
  returning o.kind, o.created_at, o.first_told_at, o.tenant, o.provider, w.category, o.state, o.reason
)
insert into counts (period, start, tenant, provider, category, state, reason, count)
select 'minute', date_trunc('minute', g.created_at, 'UTC') as start, g.tenant, coalesce(g.provider, '') as provider,
       coalesce(g.category, '') as category, g.state, g.reason, count(*)
  from gone g
 where g.kind = 'status' and g.first_told_at is null
 group by 2, 3, 4, 5, 6, 7
 order by 2, 3, 4, 5, 6, 7
on conflict (period, start, tenant, provider, category, state, reason) do update set count = counts.count + excluded.count

-- name: park
update outbox set parked = $2 where id = any($1::bigint[])
