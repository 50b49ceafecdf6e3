-- What intake makes durable, all of a batch in one transaction.

-- Sorted, so that two batches never wait for each other in a circle. What is there already stays.
-- name: claim_ids
insert into message_ids (tenant, id_hash, content_digest, uid)
select * from unnest($1::text[], $2::bytea[], $3::bytea[], $4::uuid[])
on conflict do nothing
returning uid

-- In a statement of its own: in the same one, a race returned neither the new row nor the old.
-- name: first_ones
select w.uid, i.uid as first_uid, i.content_digest in (w.content_digest, ''::bytea) as same
  from unnest($1::text[], $2::bytea[], $3::bytea[], $4::uuid[]) as w(tenant, id_hash, content_digest, uid)
  join message_ids i on i.tenant = w.tenant and i.id_hash = w.id_hash

-- name: insert
with new as materialized (
  select n.* from unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bytea[], $9::bytea[],
    $10::bytea[], $11::text[], $12::text[], $13::boolean[], $14::text[], $15::text[], $16::timestamptz[],
    $17::timestamptz[], $18::timestamptz[], $19::text[], $20::int[], $21::int[], $22::text[],
    $23::boolean[], $24::text[], $25::bytea[]
  ) as n(uid, tenant, programme, category, kind, message_id, recipient_sealed, subject_id, to_sealed,
         body_sealed, state, reason, final, policy, rule, expires_at,
         not_before, due_at, trace, parts, route_id, sender,
         any_sender, country, elder)
), recorded as (
  insert into messages (uid, tenant, programme, category, kind, message_id, recipient_sealed, subject_id, to_sealed, state, reason,
                        final, version, steps, policy, rule, expires_at, not_before, trace, parts, sender, changed_at)
  select uid, tenant, programme, category, kind, message_id, recipient_sealed, subject_id, to_sealed, state, reason,
         final, 1, 1, policy, rule, expires_at, not_before, trace, parts, sender, (select gateway_now())
    from new
), kept as (
  insert into bodies (uid, sealed) select uid, body_sealed from new
), queued as (
  insert into queue (uid, route_id, tenant, programme, category, kind, subject_id, sender, state, due_at, expires_at, attempt, tries,
                     steps, parts, any_sender, country, elder)
  select uid, route_id, tenant, programme, category, kind, subject_id, sender, 'waiting', due_at, expires_at, 0, 0, 1, parts,
         any_sender, country, elder
    from new where route_id is not null
), audited as (
  insert into audit_unchained (at, tenant, uid, number, step, state, reason, rule, policy, actor)
  select (select gateway_now()), tenant, uid, 1, 'decided', state, reason, rule, policy, $26 from new
)
insert into outbox (kind, created_at, tenant, uid, version, state, reason, final, correction, parts, policy, rule)
select 'status', (select gateway_now()), tenant, uid, 1, state, reason, final, false, parts, policy, rule
  from new where kind = 'outbound'

-- The first one's state, told once more for who published it again: the same event, by its id and all that it says.
-- name: tell_again
insert into outbox (kind, created_at, tenant, uid, version, state, reason, final, correction, provider, parts, policy, rule,
                    first_told_at, account, sender, attempt)
select 'status', (select gateway_now()), m.tenant, m.uid, m.version, m.state, m.reason, m.final, m.correction, m.provider, m.parts,
       m.policy, m.rule, coalesce(m.changed_at, (select gateway_now())), m.account, case when m.provider is not null then m.sender end,
       nullif(m.attempt, 0)
  from unnest($1::uuid[]) as wanted(uid) join messages m on m.uid = wanted.uid

-- name: dead_letters
with new as materialized (
  select n.* from unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::int[], $9::bytea[],
                         $10::smallint[], $11::bytea[], $12::uuid[], $13::bytea[])
    as n(uid, topic, partition, record_offset, tenant, reason, detail, length, sha256, form, sealed, replay_of, event)
), kept as (
  insert into dead_letters (topic, partition, record_offset, uid, at, tenant, reason, detail, length, sha256, form, sealed, replay_of)
  select topic, partition, record_offset, uid, (select gateway_now()), tenant, reason, detail, length, sha256, form, sealed, replay_of
    from new
  on conflict do nothing
  returning uid, tenant, reason
), audited as (
  insert into audit_unchained (at, tenant, uid, number, step, reason, actor)
  select (select gateway_now()), tenant, uid, 1, 'dead_lettered', reason, $14 from kept
)
insert into outbox (kind, created_at, tenant, uid, version, payload)
select 'dead_letter', (select gateway_now()), tenant, uid, 1, event from new join kept using (uid, tenant)

-- What could be sent now: what is deferred or paused waits for something else than dispatch.
-- name: waiting
select count(*)
  from (select 1
          from routes r
          join queue q on q.route_id = r.route_id and q.state = 'waiting' and q.due_at <= (select gateway_now())
         where not exists (
           select 1 from pauses p
            where p.scope = 'all' or p.scope = 'tenant' and p.tenant = r.tenant
               or p.scope = 'programme' and p.tenant = r.tenant and p.name = r.programme or p.scope = 'provider' and p.name = r.provider)
         limit $1) as waiting
