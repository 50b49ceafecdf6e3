-- What a verification of the audit reads: heads, anchors, the chains themselves, and messages' own counters.

-- Every tenant that has a head or a record: a head may have been taken away. The tenants are stepped through, not all records read.
-- name: heads
with recursive found as (
  select min(tenant) as tenant from audit_chain
  union all
  select (select min(c.tenant) from audit_chain c where c.tenant > f.tenant) from found f where f.tenant is not null
), tenants as (
  select tenant from found where tenant is not null union select tenant from audit_heads
)
select t.tenant, coalesce(h.sequence, 0) as sequence, h.hash, coalesce(h.published, 0) as published,
       nullif(h.published_at, '-infinity') > (select gateway_now()) - make_interval(secs => $1) as recent
  from tenants t left join audit_heads h using (tenant)
 order by t.tenant

-- name: anchors
select sequence, hash from audit_anchors where tenant = $1 order by sequence

-- name: first
select min(sequence) as sequence from audit_chain where tenant = $1

-- With ties: another record with the last one's sequence must not be passed over.
-- name: records
select at, tenant, uid, number, step, state, reason, rule, policy, attempt, provider, account, code, evidence, actor, person, sequence,
       previous, chained_at, hash
  from audit_chain
 where tenant = $1 and sequence > $2 and sequence <= $3
 order by sequence
 fetch first $4 rows with ties

-- In one statement, as the chain may grow meanwhile.
-- name: beyond
select min(sequence) as first, max(sequence) as last
  from audit_chain
 where tenant = $1 and sequence > coalesce((select sequence from audit_heads where tenant = $1), 0)

-- name: hashes
select sequence, hash from audit_chain where tenant = $1 and sequence = any($2::bigint[])

-- How many messages there are, by PostgreSQL's own estimate.
-- name: messages
select coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint as messages
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
 where i.inhparent = 'messages'::regclass

-- How many audit records each of the next messages says that it has; the queue counts while a message is in it.
-- name: counters
select m.uid, m.tenant, greatest(m.steps, coalesce(q.steps, 0)) as steps
  from (select uid, tenant, steps from messages where uid > $1 order by uid limit $2) m
  left join queue q using (uid)
 order by m.uid

-- The numbers of the records that there are of these messages, chained or not.
-- name: numbers
select uid, array_agg(number order by number) as numbers from audit where uid > $1 and uid <= $2 group by uid

-- name: unchained
select tenant, count(*) as records from audit_unchained group by tenant
