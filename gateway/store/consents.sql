-- Opt-outs and opt-ins, and the texts of people that change them.

-- name: of
select subject_id, tenant, scope, name, status, version, stated_at, in_force_at
  from consents where subject_id = any($1::bytea[])

-- A text's id, once: nothing comes back when it was there before.
-- name: note_inbound
insert into inbound (account, provider_message_id, received_at, created_at, fate, tenant, subject_id,
                     opt_out_tenant, opt_out_scope, opt_out_name)
values ($1, $2, (select gateway_now()), $3, $4, $5, $6, $7, $8, $9)
on conflict do nothing
returning received_at

-- name: inbound
select fate, opt_out_tenant, opt_out_scope, opt_out_name, subject_id from inbound where account = $1 and provider_message_id = $2

-- Step 1 of STOP. Of an opt-out that stands already only the moment moves on: a START must be later than the last STOP.
-- The proof of what it undoes goes, but for a legal hold, which retention seals it anew for.
-- name: write_opt_out
insert into consents as c (subject_id, tenant, scope, name, status, version, source, stated_at, written_at, reply, key)
values ($1, $2, $3, $4, 'out', 1, $5, coalesce($6, (select gateway_now())), (select gateway_now()), $7, $8)
on conflict (subject_id, tenant, scope, name) do update
   set status = 'out', version = c.version + (c.status = 'in')::int,
       source = case when c.status = 'in' then excluded.source else c.source end,
       stated_at = greatest(c.stated_at, excluded.stated_at),
       written_at = case when c.status = 'in' then excluded.written_at else c.written_at end,
       in_force_at = case when c.status = 'in' then null else c.in_force_at end,
       reply = case when c.status = 'in' then excluded.reply else c.reply end,
       proof_sealed = case when c.status = 'out' or gateway_holds(c.tenant, c.subject_id) then c.proof_sealed end
returning version, in_force_at

-- name: opt_out_of
select version, status, in_force_at from consents where subject_id = $1 and tenant = $2 and scope = $3 and name = $4

-- Step 2 of STOP: what waits, and what is claimed and unmarked. It waits for claims that are being committed; what they marked
-- meanwhile no longer matches and is for step 3.
-- name: lock_stoppable
select q.uid, q.tenant, q.state, q.attempt, q.tries, q.steps, r.provider, r.account, q.sender, q.worker_id, q.marked_at,
       false as lease_over, false as expired
  from queue q join routes r using (route_id)
 where q.subject_id = $1 and q.kind in ('outbound', 'welcome') and q.state in ('waiting', 'claimed')
   and ($3 = 'all' or q.tenant = $2 and ($3 = 'tenant' or $3 = 'programme' and q.programme = $4 or $3 = 'sender' and q.sender = $4))
 order by q.uid
   for update of q

-- Step 3 of STOP, a statement of its own: requests that may still begin or run.
-- name: under_way
select count(*)
  from queue q
 where q.subject_id = $1 and q.kind in ('outbound', 'welcome') and q.state = 'marked' and q.lease_until > (select gateway_now())
   and ($3 = 'all' or q.tenant = $2 and ($3 = 'tenant' or $3 = 'programme' and q.programme = $4 or $3 = 'sender' and q.sender = $4))

-- Under the first version last: $6 are the person's ids under the others. Its row is the one that is told.
-- name: put_in_force
update consents c
   set in_force_at = clock_timestamp() + (select shift from clock), reply = null
  from (select subject_id, tenant, scope, name, reply from consents
         where subject_id = $1 and tenant = $2 and scope = $3 and name = $4 and version = $5 and status = 'out' and in_force_at is null
           for update) before
 where (c.subject_id, c.tenant, c.scope, c.name) = (before.subject_id, before.tenant, before.scope, before.name)
   and not exists (select 1 from consents l
                    where l.subject_id = any($6::bytea[]) and (l.tenant, l.scope, l.name) = ($2, $3, $4)
                      and l.status = 'out' and l.in_force_at is null)
returning c.version, c.source, c.stated_at, c.written_at, c.in_force_at, c.key, before.reply

-- name: written_only
select subject_id, tenant, scope, name, version from consents
 where status = 'out' and in_force_at is null order by written_at limit $1

-- An opt-in, and the opt-outs that it undoes: locked, to be looked at again.
-- name: lock_consents
select subject_id, tenant, scope, name, status, version, stated_at, in_force_at
  from consents where subject_id = any($1::bytea[]) order by subject_id, tenant, scope, name for update

-- Nothing comes back when an opt-out stands that was written since the person's rows were locked: there may have been none to lock.
-- name: write_opt_in
insert into consents as c (subject_id, tenant, scope, name, status, version, source, stated_at, written_at, proof_sealed, proof_uid, key)
values ($1, $2, $3, $4, 'in', 1, $5, $6, (select gateway_now()), $7, $8, $10)
on conflict (subject_id, tenant, scope, name) do update
   set status = 'in', version = c.version + 1, source = excluded.source, stated_at = excluded.stated_at,
       written_at = excluded.written_at, in_force_at = null, reply = null,
       proof_sealed = excluded.proof_sealed, proof_uid = excluded.proof_uid
 where c.status = 'in' or (c.stated_at < excluded.stated_at and excluded.source <> 'import' and $9)
returning version, written_at

-- name: last_text
select tenant, programme, uid, recipient_sealed, recipient_ref from messages
 where subject_id = any($1::bytea[]) and sender = $2 and kind = 'outbound' order by uid desc limit 1

-- The producers' own names for a person, in each tenant that has texted them.
-- name: recipients
select distinct on (tenant) tenant, uid, recipient_sealed, recipient_ref from messages
 where subject_id = any($1::bytea[]) and kind = 'outbound' and ($2 = '*' or tenant = $2)
 order by tenant, uid desc

-- name: outbox_payload
insert into outbox (kind, tenant, uid, version, subject_id, payload, rule, created_at)
values ($1, $2, $3, $4, $5, $6, $7, (select gateway_now()))

-- With the person's name as the last message to them has it, sealed: whoever publishes it opens that, and no opt-out waits for a key.
-- name: outbox_consent
insert into outbox (kind, tenant, uid, version, subject_id, payload, rule, recipient_uid, recipient_sealed, created_at)
values ('consent', $1, $2, $3, $4, $5, $6, $7, $8, (select gateway_now()))

-- name: audit
insert into audit_unchained (at, tenant, uid, number, step, state, reason, rule, policy, evidence, actor, subject_id)
values ((select gateway_now()), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
