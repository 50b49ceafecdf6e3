-- What processes and operators agree on: leaders, shares, routes, pauses, barriers, tokens; and a message's story.

-- name: hold_name
insert into leaders as l (name, holder, until)
values ($1, $2, (select gateway_now()) + make_interval(secs => $3))
on conflict (name) do update set holder = excluded.holder, until = excluded.until
 where l.holder = excluded.holder or l.until <= (select gateway_now())
returning holder

-- name: release_name
delete from leaders where name = $1 and holder = $2

-- Who shares an account's limit; the account's row is locked, so that shares are given out one after another.
-- name: lock_account
insert into paces (account, sender) values ($1, '') on conflict (account, sender) do update set account = excluded.account
returning account

-- name: shares
select worker_id, share from shares where account = $1 and until > (select gateway_now()) order by worker_id

-- name: take_share
insert into shares (account, worker_id, share, until)
values ($1, $2, $3, (select gateway_now()) + make_interval(secs => $4))
on conflict (account, worker_id) do update set share = excluded.share, until = excluded.until

-- name: drop_old_shares
delete from shares where account = $1 and until <= (select gateway_now()) - interval '1 minute'

-- name: give_back_shares
delete from shares where worker_id = $1

-- name: put_routes
insert into routes (tenant, programme, provider, account, sender, per_second)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::double precision[])
on conflict (tenant, programme, account, sender) do update set provider = excluded.provider, per_second = excluded.per_second
 where (routes.provider, routes.per_second) is distinct from (excluded.provider, excluded.per_second)

-- name: routes
select route_id, tenant, programme, provider, account, sender, per_second from routes order by route_id

-- name: put_paces
insert into paces (account, sender) select * from unnest($1::text[], $2::text[]) on conflict do nothing

-- name: pause
insert into pauses (scope, tenant, name, since, actor, why) values ($1, $2, $3, (select gateway_now()), $4, $5)
on conflict do nothing returning since

-- name: resume
delete from pauses where scope = $1 and tenant = $2 and name = $3 returning since

-- name: pauses
select scope, tenant, name, since, actor, why from pauses order by since

-- name: raise_barriers
insert into catch_up (account, raised_at) select account, clock_timestamp() from unnest($1::text[]) as account
on conflict (account) do update set raised_at = clock_timestamp()

-- Since the last complete reading, not since the last text that is stored: one that came after an outage says nothing of it.
-- name: barriers
select c.account, c.raised_at, c.done_at as since from catch_up c where c.raised_at is not null order by c.account

-- name: lower_barrier
update catch_up set raised_at = null, done_at = raised_at + (select shift from clock)
 where account = $1 and raised_at = $2
returning account

-- Accounts without a barrier, and when their lists were last read.
-- name: caught_up
select c.account, gateway_now() as raised_at, c.done_at as since from catch_up c where c.raised_at is null order by c.account

-- name: read_again
update catch_up set done_at = greatest(done_at, $2) where account = $1 and raised_at is null returning account

-- name: create_token
insert into tokens (token_hash, name, tenants, rights, created_at) values ($1, $2, $3, $4, (select gateway_now())) on conflict do nothing returning name

-- name: tokens
select name, tenants, rights, created_at, revoked_at from tokens order by created_at

-- name: revoke_token
update tokens set revoked_at = (select gateway_now()) where name = $1 and revoked_at is null returning name

-- By one right alone: what else a token may do is asked elsewhere.
-- name: find_token
select name, tenants from tokens where token_hash = $1 and revoked_at is null and $2 = any(rights)

-- name: audit
insert into audit_unchained (at, tenant, number, step, rule, actor) values ((select gateway_now()), $1, 0, $2, $3, $4)

-- name: fact
insert into facts (name, value) values ($1, $2) on conflict (name) do update set name = excluded.name returning value

-- name: known_fact
select value from facts where name = $1

-- What became of records that nobody will read.
-- name: note_gap
insert into audit_unchained (at, tenant, number, step, evidence, actor) values ((select gateway_now()), '_system', 0, $1, $2, $3)

-- A message by its producer's id; what it is doing now stands in the queue.
-- name: story
select m.uid, m.tenant, m.programme, m.category, m.message_id, m.recipient_ref, m.recipient_sealed,
       case when q.state in ('claimed', 'marked') then 'sending' else m.state end as state, m.reason, m.final, m.version, m.policy, m.rule,
       m.attempt, m.provider, m.account, coalesce(q.sender, m.sender) as sender, m.provider_message_id, m.code, m.parts, m.expires_at, m.not_before, m.settle_by,
       q.state as queued, q.due_at, q.tries
  from message_ids i join messages m on m.uid = i.uid left join queue q on q.uid = m.uid
 where i.tenant = $1 and i.id_hash = $2

-- name: story_steps
select at, number, step, state, reason, rule, policy, attempt, provider, account, code, evidence, actor
  from audit where uid = $1 order by number, at, id
