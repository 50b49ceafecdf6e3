-- name: take
select o.id, o.kind, coalesce(o.first_told_at, o.created_at) as created_at, o.tenant, o.uid, o.version, o.state, o.reason, o.final, o.correction, o.provider, o.parts, o.policy,
       o.rule, coalesce(o.subject_id, m.subject_id) as subject_id, o.payload, m.message_id, m.programme, m.category, m.recipient_ref, m.trace
  from (select * from outbox where parked is null order by id limit $1) o
  left join messages m on m.uid = o.uid and o.kind = 'status'
 order by o.id

-- Only by who holds the relay's name: a holder that was too slow would take away what the next one has published only in part.
-- name: remove
with held as (
  select 1 from leaders where name = $2 and holder = $3 and until > (select gateway_now()) for share
)
delete from outbox where id = any($1::bigint[]) and exists (select 1 from held)

-- name: park
update outbox set parked = $2 where id = any($1::bigint[])
