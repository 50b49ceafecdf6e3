-- Routing: which senders a person has, which accounts are ill, and what waits for one of those.

-- name: kept_senders
select subject_id, tenant, programme, sender, used_on from kept_senders where subject_id = any($1::bytea[])

-- Sorted, so that two batches never wait for each other in a circle.
-- name: keep_senders
insert into kept_senders (subject_id, tenant, programme, sender, used_on)
select *, ((select gateway_now()) at time zone 'UTC')::date from unnest($1::bytea[], $2::text[], $3::text[], $4::text[])
on conflict (subject_id, tenant, programme, sender) do update set used_on = excluded.used_on

-- name: forget_senders
delete from kept_senders where (subject_id, tenant, programme, sender) in (
  select subject_id, tenant, programme, sender from kept_senders
   where used_on < ((select gateway_now()) at time zone 'UTC')::date - $1::int order by used_on limit $2)

-- Accounts whose breaker is open, and what is held for longer than $1 seconds: a shorter hold is waited out.
-- name: ill
select account, sender from paces
 where breaker = 'open' or hold_until > (select gateway_now()) + make_interval(secs => $1)

-- What waits for an ill way and may leave by another; the gateway's own answers leave by the sender that was texted. Nothing moves
-- away from an account whose texts are still to be read: a STOP may be among them. Rows that somebody has locked are skipped.
-- name: lock_waiting
select q.uid, q.tenant, q.programme, q.category, q.subject_id, q.country, q.route_id
  from unnest($1::int[]) as ill(route_id)
 cross join lateral (
   select * from queue q
    where q.route_id = ill.route_id and q.state = 'waiting' and q.due_at <= (select gateway_now()) and q.any_sender and q.kind = 'outbound'
    order by q.due_at, q.uid
    limit $2
      for update skip locked) q
  join routes r on r.route_id = q.route_id
 where not exists (select 1 from catch_up c where c.account = r.account and c.raised_at is not null)
 limit $2

-- Only what waits is given another sender, in a transaction of its own: docs/protocol.md says why a claim must not.
-- name: move
with moved as materialized (
  select * from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[]) as m(uid, route_id, sender, provider, account, way)
), changed as (
  update queue q set route_id = m.route_id, sender = m.sender, steps = q.steps + 1
    from moved m where q.uid = m.uid and q.state = 'waiting'
  returning q.uid, q.tenant, q.steps, q.attempt
)
insert into audit_unchained (at, tenant, uid, number, step, rule, attempt, provider, account, evidence, actor)
select (select gateway_now()), c.tenant, c.uid, c.steps, 'rerouted', 'routing.failover', c.attempt, m.provider, m.account, m.way, $7
  from changed c join moved m using (uid)

-- An account's breaker opens, or opens again after a try ($4); each time for twice as long. Nothing comes back when another was first,
-- or when no try is under way.
-- name: open_breaker
update paces p
   set breaker = 'open', opens = case when p.breaker = 'open' then p.opens + 1 else 1 end, trying_until = '-infinity', hold_reason = 'breaker',
       hold_until = greatest(p.hold_until, (select gateway_now()) + make_interval(secs =>
         least($3::float8, $2::float8 * 2 ^ least(20, case when p.breaker = 'open' then p.opens else 0 end))))
 where p.account = $1 and p.sender = '' and (p.breaker = 'closed' or $4 and p.trying_until > '-infinity')
returning p.opens

-- name: close_breaker
update paces set breaker = 'closed', opens = 0, trying_until = '-infinity'
 where account = $1 and sender = '' and breaker = 'open' and trying_until > '-infinity'
returning account

-- How each account stands: 0 closed, 1 to be tried, 2 open.
-- name: breakers
select account, case when breaker = 'closed' then 0 when hold_until > (select gateway_now()) then 2 else 1 end as level
  from paces where sender = '' order by account

-- What an operator asks of accounts.
-- name: accounts
select p.account, p.sender, p.breaker, p.opens, greatest(p.hold_until, 'epoch') as hold_until,
       case when p.hold_until > (select gateway_now()) then p.hold_reason end as hold_reason,
       p.hold_until > (select gateway_now()) as held
  from paces p order by p.account, p.sender

-- name: under_way_by_account
select r.account, count(*) filter (where q.state = 'marked') as marked, count(*) filter (where q.state = 'claimed') as claimed,
       count(*) filter (where q.state = 'waiting') as waiting
  from queue q join routes r using (route_id) group by r.account

-- name: raised
select account, raised_at from catch_up where raised_at is not null
