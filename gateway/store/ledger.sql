-- What every chapter shares: lock messages in order, and write changes of them together.

-- The rows of the queue, locked in id order: whoever locks several locks them so, or two lock each other out.
-- name: lock_queue
select q.uid, q.tenant, q.state, q.attempt, q.tries, q.steps, r.provider, r.account, q.sender, q.worker_id, q.marked_at,
       coalesce(q.lease_until <= (select gateway_now()), false) as lease_over,
       q.expires_at <= (select gateway_now()) as expired
  from queue q join routes r using (route_id)
 where q.uid = any($1::uuid[])
 order by q.uid
   for update of q

-- The records of the messages, locked in id order, after the queue's rows; and the time when this was asked.
-- name: lock_messages
-- Joined, not "= any": only so does PostgreSQL look into no other day's partition than the uid's.
select m.uid, m.tenant, m.programme, m.category, m.kind, m.subject_id, m.state, m.final, m.version, m.steps, m.attempt, m.account,
       m.sender, m.provider_message_id, m.policy, m.rule, m.settle_by, (select gateway_now()) as asked_at
  from unnest($1::uuid[]) as wanted(uid) join messages m on m.uid = wanted.uid
 order by m.uid
   for update of m

-- name: accepted_as
select uid, attempt from messages where provider_message_id = $2 and account = $1 and subject_id = any($3::bytea[]) order by uid desc limit 1

-- The clock that processes compare times by.
-- name: now
select gateway_now()

-- A batch of changes, whole: the message, its place in the queue, its audit record, and its status event where it is told.
-- $1 worker, $2 lease in seconds, $3 actor; then one array a field.
-- name: apply
with change as materialized (
  select c.* from unnest(
    $4::uuid[], $5::text[], $6::text[], $7::int[], $8::text[], $9::timestamptz[], $10::timestamptz[], $11::int[], $12::text[],
    $13::text[], $14::boolean[], $15::int[], $16::boolean[], $17::boolean[], $18::text[], $19::text[], $20::text[], $21::text[],
    $22::text[], $23::text[], $24::text[], $25::int[], $26::timestamptz[], $27::timestamptz[], $28::timestamptz[], $29::text[],
    $30::int[], $31::text[]
  ) as c(uid, tenant, step, number, queue, due_at, lane_until, attempt, state,
         reason, final, version, told, correction, policy, rule, provider, account,
         sender, provider_message_id, code, parts, begun_at, settle_by, check_at, evidence,
         next_route, next_sender)
), at as materialized (
  select gateway_now() as now
), kept as materialized ( -- nothing moves away from an account whose texts are still to be read: a STOP may be among them
  select c.uid
    from change c join queue q using (uid) join routes r using (route_id) join catch_up u on u.account = r.account
   where c.next_route is not null and u.raised_at is not null
), moved as (
  update messages m
     set state = c.state, reason = c.reason, final = c.final, version = c.version, steps = c.number,
         policy = coalesce(c.policy, m.policy), rule = coalesce(c.rule, m.rule), attempt = coalesce(c.attempt, m.attempt),
         provider = coalesce(c.provider, m.provider), account = coalesce(c.account, m.account),
         sender = coalesce(c.sender, m.sender), provider_message_id = coalesce(c.provider_message_id, m.provider_message_id),
         code = coalesce(c.code, m.code), parts = coalesce(c.parts, m.parts), begun_at = coalesce(c.begun_at, m.begun_at),
         settle_by = c.settle_by, check_at = c.check_at, changed_at = (select now from at), correction = c.correction
    from change c
   where m.uid = c.uid and c.state is not null
  returning m.uid, m.provider, m.account, m.sender, m.attempt, m.parts, m.policy, m.rule
), stepped as (
  update messages m set steps = c.number, check_at = coalesce(c.check_at, m.check_at)
    from change c
   where m.uid = c.uid and c.state is null and c.queue = 'stay'
), left_queue as (
  delete from queue q using change c where q.uid = c.uid and c.queue = 'leave'
), waits as (
  update queue q
     set state = 'waiting', due_at = c.due_at, lane_until = c.lane_until, tries = q.tries + (c.step = 'put_back')::int,
         steps = c.number, worker_id = null, lease_until = null, marked_at = null,
         route_id = case when c.uid in (select uid from kept) then q.route_id else coalesce(c.next_route, q.route_id) end,
         sender = case when c.uid in (select uid from kept) then q.sender else coalesce(c.next_sender, q.sender) end
    from change c
   where q.uid = c.uid and c.queue = 'wait'
), claims as (
  update queue q
     set state = 'claimed', attempt = c.attempt, worker_id = $1, steps = c.number,
         lease_until = (select now from at) + make_interval(secs => $2), marked_at = null
    from change c
   where q.uid = c.uid and c.queue = 'claim'
), audited as (
  insert into audit_unchained (at, tenant, uid, number, step, state, reason, rule, policy, attempt, provider, account, code, evidence, actor)
  select (select now from at), c.tenant, c.uid, c.number, c.step, c.state, c.reason, case when k.uid is null then c.rule end, c.policy,
         c.attempt, c.provider, c.account, c.code, case when k.uid is null then c.evidence end, $3
    from change c left join kept k using (uid)
)
insert into outbox (kind, created_at, tenant, uid, version, state, reason, final, correction, provider, parts, policy, rule,
                    account, sender, attempt)
select 'status', (select now from at), c.tenant, c.uid, c.version, c.state, c.reason, c.final, c.correction, m.provider, m.parts,
       m.policy, m.rule, m.account, case when m.provider is not null then m.sender end, nullif(m.attempt, 0)
  from change c join moved m using (uid)
 where c.told
