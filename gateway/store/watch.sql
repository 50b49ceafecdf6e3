-- What rescue, evidence and the sweep look for. What they find is judged again under the lock.

-- name: leases_over
select uid from queue where state <> 'waiting' and lease_until <= (select gateway_now()) order by lease_until limit $1

-- name: expired
select uid from queue where expires_at <= (select gateway_now()) and state = 'waiting' order by expires_at limit $1

-- name: news_over
select uid from messages where settle_by <= (select gateway_now()) order by settle_by limit $1

-- name: doubts
select m.uid, m.tenant, m.account, m.sender, m.to_sealed, b.sealed as body_sealed, m.begun_at, m.settle_by
  from messages m join bodies b on b.uid = m.uid
 where m.check_at <= (select gateway_now()) and m.state = 'unknown' and m.begun_at is not null and m.settle_by is not null
 order by m.check_at
 limit $1

-- An unknown outcome has rivals while other messages to the same person by the same sender are as open as it: a text in the
-- provider's list could be theirs.
-- name: rivals
select (select count(*) from messages r
         where r.subject_id = any($2::bytea[]) and r.uid <> m.uid and r.state = 'unknown' and r.account = m.account and r.sender = m.sender
           and r.begun_at between m.begun_at - interval '2 minutes' and m.begun_at + interval '2 minutes')
       + (select count(*) from queue q where q.subject_id = any($2::bytea[]) and q.uid <> m.uid and q.state = 'marked' and q.sender = m.sender)
       as rivals
  from messages m where m.uid = $1

-- Of the same person's messages: those that went out in one request share the request's id.
-- name: claimed_elsewhere
select distinct provider_message_id from messages
 where provider_message_id = any($2::text[]) and subject_id = any($1::bytea[])

-- How deep the queue is, and how long its oldest has waited, by state.
-- name: queue_levels
select state, count(*) as messages, greatest(0, extract(epoch from (select gateway_now()) - min(due_at)))::float8 as oldest
  from queue group by state

-- name: outbox_level
select (select count(*) from outbox) - (select count(*) from outbox where parked is not null) as events,
       (select count(*) from outbox where parked is not null) as parked,
       coalesce((select extract(epoch from gateway_now() - created_at) from outbox where parked is null order by id limit 1), 0)::float8
       as oldest

-- name: audit_level
select (select count(*) from audit_unchained) as records,
       greatest(0, coalesce((select extract(epoch from (select gateway_now()) - at) from audit_unchained order by id limit 1), 0))::float8 as oldest,
       (select coalesce(sum(sequence - published), 0)::bigint from audit_heads) as unpublished

-- name: barriers
select count(*) as barriers from catch_up where raised_at is not null

-- name: ensure_days
select ensure_day((gateway_now() at time zone 'UTC')::date + i) from generate_series(0, $1::int) as i

-- Message ids whose window is over, a bounded number at a time.
-- name: forget_ids
delete from message_ids where uid in (
  select uid from message_ids where uid < uid_floor((select gateway_now()) - make_interval(secs => $1)) order by uid limit $2)
