-- What a restored database lacks is written into it, from what the topics have. Each may be done again.

-- name: lock_consent
select status, version, stated_at from consents where subject_id = $1 and tenant = $2 and scope = $3 and name = $4 for update

-- As it was told: an opt-out that was told is in force. A proof and a confirmation are in no topic.
-- name: put_consent
insert into consents as c (subject_id, tenant, scope, name, status, version, source, stated_at, written_at, in_force_at, key)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
on conflict (subject_id, tenant, scope, name) do update
   set status = excluded.status, version = greatest(excluded.version, c.version + (c.status <> excluded.status)::int), source = excluded.source,
       stated_at = excluded.stated_at, written_at = excluded.written_at, in_force_at = excluded.in_force_at, reply = null,
       proof_sealed = case when excluded.status = 'out' and gateway_holds(c.tenant, c.subject_id) then c.proof_sealed end

-- A later word of the database's own: an opt-out is put in force anew, by the sweep, which tells it.
-- name: raise_version
update consents
   set version = greatest(version, $5), in_force_at = case when $6 then null else in_force_at end
 where subject_id = $1 and tenant = $2 and scope = $3 and name = $4
returning status, version, source, stated_at, written_at, in_force_at

-- What the topic has already, or something later: published now it would be the last word under its key.
-- name: drop_told_consents
delete from outbox where kind = 'consent' and subject_id = $1 and rule = $2 and version <= $3

-- name: versions
select m.uid, m.version, m.state from unnest($1::uuid[]) as w(uid) join messages m on m.uid = w.uid

-- name: out_of_queue
delete from queue where uid = any(array(select uid from queue where uid = any($1::uuid[]) order by uid for update))

-- name: drop_told_states
delete from outbox o using unnest($1::uuid[], $2::int[]) as told(uid, version)
 where o.kind = 'status' and o.uid = told.uid and o.version <= told.version

-- name: states
update messages m
   set state = t.state, reason = t.reason, final = t.final, version = t.version, correction = t.correction, changed_at = t.at,
       policy = coalesce(t.policy, m.policy), rule = coalesce(t.rule, m.rule), provider = coalesce(t.provider, m.provider),
       account = coalesce(t.account, m.account), sender = coalesce(t.sender, m.sender), attempt = coalesce(t.attempt, m.attempt),
       parts = coalesce(t.parts, m.parts), check_at = null,
       settle_by = case when t.final then null else (select gateway_now()) + make_interval(secs => t.wait) end
  from unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::int[], $6::boolean[], $7::timestamptz[], $8::text[], $9::text[],
              $10::text[], $11::text[], $12::text[], $13::int[], $14::int[], $15::double precision[])
    as t(uid, state, reason, final, version, correction, at, policy, rule, provider, account, sender, attempt, parts, wait)
 where m.uid = t.uid

-- Messages that the database never heard of: what their events say, without number, person and text. A name whose key is destroyed stays away.
-- name: absent
insert into messages (uid, tenant, programme, category, kind, message_id, recipient_sealed, state, reason, final, version, steps, policy,
                      rule, expires_at, attempt, provider, account, sender, parts, changed_at, correction, settle_by)
select t.uid, t.tenant, t.programme, t.category, 'outbound', t.message_id, t.recipient_sealed, t.state, t.reason, t.final, t.version, 0,
       coalesce(t.policy, ''), coalesce(t.rule, ''), t.at, coalesce(t.attempt, 0), t.provider, t.account, t.sender, coalesce(t.parts, 1),
       t.at, t.correction, case when t.final then null else (select gateway_now()) + make_interval(secs => t.wait) end
  from unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::int[], $6::boolean[], $7::timestamptz[], $8::text[], $9::text[],
              $10::text[], $11::text[], $12::text[], $13::int[], $14::int[], $15::double precision[], $16::text[], $17::text[],
              $18::text[], $19::text[], $20::bytea[])
    as t(uid, state, reason, final, version, correction, at, policy, rule, provider, account, sender, attempt, parts, wait, tenant,
         programme, category, message_id, recipient_sealed)
on conflict do nothing

-- By an empty digest any content is the same: the producer that publishes it again is told what became of it.
-- name: absent_ids
insert into message_ids (tenant, id_hash, content_digest, uid)
select tenant, id_hash, ''::bytea, uid from unnest($1::text[], $2::bytea[], $3::uuid[]) as t(tenant, id_hash, uid) on conflict do nothing

-- The first day that messages are kept of: what is older than that ended by its time.
-- name: first_day
select min(to_date(substring(c.relname from 'messages_(\d{8})$'), 'YYYYMMDD')) as day
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
 where i.inhparent = to_regclass('messages')

-- name: ensure_day
select ensure_day($1::date)

-- Records that the restored database had not chained yet, and that stand in the chain that the topic has.
-- name: chained_before
delete from audit_unchained u
 using unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::int[], $5::text[]) as c(tenant, at, uid, number, step)
 where u.tenant = c.tenant and u.at = c.at and u.number = c.number and u.step = c.step and u.uid is not distinct from c.uid

-- name: anchor
insert into audit_anchors (tenant, sequence, hash, at, why) values ($1, $2, $3, (select gateway_now()), 'restored') on conflict do nothing

-- A message's own counter of records goes on from the last that was told.
-- name: steps
with told as materialized (
  select uid, max(number) as number from unnest($1::uuid[], $2::int[]) as t(uid, number) group by uid
), queued as (
  update queue q set steps = greatest(q.steps, told.number) from told where q.uid = told.uid
)
update messages m set steps = greatest(m.steps, told.number) from told where m.uid = told.uid

-- What could have been sent since: its time had come, and nothing was told of it.
-- name: doubtful
select uid from queue where due_at <= (select gateway_now()) and uid > $1 order by uid limit $2

-- name: note_ended
insert into ended_keys (tenant, data_class, day, at, done_at)
select tenant, data_class, day, (select gateway_now()), (select gateway_now())
  from unnest($1::text[], $2::text[], $3::date[]) as k(tenant, data_class, day)
on conflict (tenant, data_class, day) do nothing
returning day
