-- From the unchained records to each tenant's chain: taken, bound to the head and moved in one transaction, then published.

-- Deleted as they are taken: of two processes that do this at once, each record comes to one. No cursor: ids commit out of order, and
-- what becomes visible late is taken late. The records of one message are in order of its counter: each was committed before the next.
-- name: take
delete from audit_unchained where id = any(array(select id from audit_unchained order by id limit $1))
returning id, at, tenant, uid, number, step, state, reason, rule, policy, attempt, provider, account, code, evidence, actor, subject_id

-- The heads of these chains, made where they are missing, and locked in order until the transaction ends.
-- name: lock_heads
insert into audit_heads as h (tenant, sequence, hash, chained_at, published, published_at)
select tenant, 0, $2::bytea, '-infinity', 0, '-infinity' from unnest($1::text[]) as tenant order by tenant
on conflict (tenant) do update set tenant = excluded.tenant
returning tenant, sequence, hash, greatest(chained_at, (select gateway_now())) as now, published

-- name: insert
insert into audit_chain (at, tenant, uid, number, step, state, reason, rule, policy, attempt, provider, account, code, evidence, actor, person,
                         sequence, previous, chained_at, hash)
select * from unnest($1::timestamptz[], $2::text[], $3::uuid[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                     $10::int[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::bigint[], $18::bytea[],
                     $19::timestamptz[], $20::bytea[])

-- name: move_heads
update audit_heads h set sequence = n.sequence, hash = n.hash, chained_at = n.chained_at
  from unnest($1::text[], $2::bigint[], $3::bytea[], $4::timestamptz[]) as n(tenant, sequence, hash, chained_at)
 where h.tenant = n.tenant

-- What the topic lacks, each tenant's in order; first the chain that has waited longest, so that a busy tenant does not keep others waiting.
-- A cursor serves here: sequences are given under the head's lock, and become visible in order.
-- name: unpublished
select c.at, c.tenant, c.uid, c.number, c.step, c.state, c.reason, c.rule, c.policy, c.attempt, c.provider, c.account, c.code, c.evidence,
       c.actor, c.person, c.sequence, c.previous, c.chained_at, c.hash
  from audit_heads h
 cross join lateral (select * from audit_chain c
                      where c.tenant = h.tenant and c.sequence > h.published and c.chained_at >= h.published_at
                      order by c.sequence limit $1) c
 where h.published < h.sequence and (select gateway_lives($2::text, $3::bigint, $4::text))
 order by h.published_at, c.tenant, c.sequence
 limit $1

-- name: mark_published
update audit_heads h set published = n.sequence, published_at = n.chained_at
  from unnest($1::text[], $2::bigint[], $3::timestamptz[]) as n(tenant, sequence, chained_at)
 where h.tenant = n.tenant and h.published < n.sequence
