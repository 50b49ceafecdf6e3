-- Claim, mark, and what a worker finds in its name. docs/protocol.md says why in this order.

-- Locks the senders that have a rate, in order, and tells how many parts each may send now.
-- name: lock_paces
select p.account, p.sender, greatest(p.next_at, 'epoch') as next_at -- the client has no zoned form of -infinity
  from paces p
 where (p.account, p.sender) in (select * from unnest($1::text[], $2::text[]))
 order by p.account, p.sender
   for update

-- After a claim, a sender's next moment moves on by what it was given; what it did not use is kept for $4 seconds at most.
-- name: move_paces
update paces p set next_at = greatest(p.next_at, (select gateway_now()) - make_interval(secs => $4)) + make_interval(secs => c.seconds)
  from unnest($1::text[], $2::text[], $3::double precision[]) as c(account, sender, seconds)
 where p.account = c.account and p.sender = c.sender

-- The heads of people's lanes that are due, route by route, each with its room. Locked rows are skipped, never waited for.
-- An earlier message of the same person, tenant and category holds its lane while it is due, under way, or backing off; a
-- message of the same person under way by the same sender holds them all. One that waits for its route ($5: those that are open)
-- holds nothing: a paused programme, or one that the policy has no more, does not stop the others. LIMIT stands in a lateral subquery: in a plain
-- "in (select … limit …)" the planner claimed thousands. With each, what goes on the wire: the sealed number and text.
-- name: lock_candidates
with locked as materialized (
  select q.*
    from unnest($1::int[], $2::int[]) with ordinality as room(route_id, free, place)
   cross join lateral (
     select q.uid, q.route_id, q.tenant, q.programme, q.category, q.kind, q.subject_id, q.sender, q.expires_at, q.attempt, q.tries,
            q.steps, q.parts, q.any_sender, q.country
       from queue q
      where q.route_id = room.route_id and q.state = 'waiting' and q.due_at <= $3
        and not exists (
          select 1 from queue e
           where e.subject_id = q.subject_id and e.tenant = q.tenant
             and (e.state <> 'waiting' and e.sender = q.sender
                  or e.category = q.category and e.uid < q.uid
                      and (e.due_at <= $3 and e.route_id = any($5::int[]) or e.lane_until > $3 or e.state <> 'waiting')))
      order by q.due_at, q.uid
      limit room.free
        for update of q skip locked) q
   limit $4
)
select locked.*, m.to_sealed, b.sealed as body_sealed,
       pg_try_advisory_xact_lock(hashtextextended(locked.tenant || ':' || locked.sender || ':' || encode(locked.subject_id, 'hex'), 0)) as alone
  from locked
  left join messages m on m.uid = locked.uid
  left join bodies b on b.uid = locked.uid

-- The facts of the claim are read after the locks are held: the consent of that moment (consents.sql), and whether another claim
-- of the same person and sender has committed meanwhile.
-- name: under_way
select subject_id, tenant, sender from queue where subject_id = any($1::bytea[]) and state <> 'waiting'

-- While the key that people are hashed with is exchanged, a person may be in the queue under two ids. The lane of the one before is locked
-- too, by who has an id that came after it.
-- name: lock_elders
select uid, elder,
       elder is null or pg_try_advisory_xact_lock(hashtextextended(tenant || ':' || sender || ':' || encode(elder, 'hex'), 0)) as alone
  from queue where uid = any($1::uuid[])

-- And in a statement of its own, whose lane is held by a message that stands under the other id: as in lock_candidates.
-- name: crossed
select distinct q.uid
  from unnest($1::uuid[]) as wanted(uid)
  join queue q on q.uid = wanted.uid
 cross join lateral (
   select * from queue o where o.subject_id = q.elder
   union all
   select * from queue o where o.elder = q.subject_id) e
 where e.tenant = q.tenant
   and (e.state <> 'waiting' and e.sender = q.sender
        or e.category = q.category and e.uid < q.uid
            and (e.due_at <= $2 and e.route_id = any($3::int[]) or e.lane_until > $2 or e.state <> 'waiting'))

-- What stands before a claim as a whole: pauses, catch-ups, the holds that providers asked for, and accounts whose breaker lets one
-- request at a time try them; with the time. Of a spool its row says that it was read to its end of late: without one it is shut.
-- name: barriers
select 'now' as kind, '' as scope, '' as tenant, '' as name, gateway_now() as at
union all
-- Whether this is the database that is meant: see gateway_lives.
select 'lives', '', '', '', null where gateway_lives($1::text, $2::bigint, $3::text)
union all
select 'pause', scope, tenant, name, null from pauses
union all
-- An account that is closed stands like a pause of its tenant, until what waits is ended.
select 'pause', 'tenant', tenant, '', null from closed_accounts where closed_at <= (select gateway_now())
union all
select 'catch_up', '', '', account, null from catch_up where raised_at is not null
union all
select 'hold', sender, '', account, hold_until from paces where hold_until > (select gateway_now())
union all
select 'breaker', '', '', account, greatest(trying_until, 'epoch') from paces
 where breaker = 'open' and hold_until <= (select gateway_now())
union all
select 'spool', '', '', topic, null from spool where clear_until > (select gateway_now())
union all
-- The versions of the key that people are hashed with, once there are several.
select 'subject_keys', '', '', value, null from facts where name = 'subject_keys' and value <> '1/1/settled'

-- Who may try accounts whose breaker is open: one claim at a time, and no second one while a try is under way. Before the candidates
-- are locked, as the paces are.
-- name: lock_tries
select account from paces
 where account = any($1::text[]) and sender = '' and breaker = 'open' and hold_until <= (select gateway_now())
   and trying_until <= (select gateway_now())
 order by account
   for update skip locked

-- A try that nobody hears of again is over by itself.
-- name: begin_tries
update paces set trying_until = (select gateway_now()) + make_interval(secs => $2) where account = any($1::text[]) and sender = ''

-- Compare-and-set: still this worker's, this attempt's, not taken by a STOP, neither its lease nor its time over, and nothing has been
-- paused, held or shut since the claim. Only what is marked may go on the wire; the mark brings a new lease, so that STOP waits at most one.
-- name: mark
with mine as materialized (
  select q.uid
    from unnest($1::uuid[], $2::int[]) as claimed(uid, attempt)
    join queue q on q.uid = claimed.uid
   where q.attempt = claimed.attempt and q.worker_id = $3 and q.state = 'claimed' and q.lease_until > (select gateway_now())
     and q.expires_at > (select gateway_now())
     and (select gateway_lives($6::text, $7::bigint, $8::text))
     and ($5::text is null or exists (select 1 from spool s where s.topic = $5 and s.clear_until > (select gateway_now())))
     and not exists (
       select 1
         from routes r
        where r.route_id = q.route_id
          and (exists (select 1 from pauses p
                        where p.scope = 'all' or p.scope = 'tenant' and p.tenant = r.tenant
                           or p.scope = 'programme' and p.tenant = r.tenant and p.name = r.programme
                           or p.scope = 'provider' and p.name = r.provider)
               or exists (select 1 from closed_accounts a where a.tenant = r.tenant and a.closed_at <= (select gateway_now()))
               or exists (select 1 from catch_up c where c.account = r.account and c.raised_at is not null)
               or exists (select 1 from paces h
                           where h.account = r.account and h.sender in ('', r.sender) and h.hold_until > (select gateway_now()))))
   order by q.uid
     for update of q
)
update queue q
   set state = 'marked', marked_at = (select gateway_now()), lease_until = (select gateway_now()) + make_interval(secs => $4)
  from mine
 where q.uid = mine.uid
returning q.uid, q.marked_at

-- What stands in a worker's name, to compare with what it has in its hands.
-- name: in_my_name
select uid, attempt, state from queue where worker_id = $1 and state <> 'waiting'

-- A provider's answer holds a sender, or with sender '' the whole account, for a while.
-- name: hold
insert into paces (account, sender, hold_until, hold_reason)
values ($1, $2, (select gateway_now()) + make_interval(secs => $3), $4)
on conflict (account, sender) do update
   set hold_until = greatest(paces.hold_until, excluded.hold_until), hold_reason = excluded.hold_reason

-- Requests that began although a STOP was in force: must be none, ever.
-- name: sends_after_stop
select count(*)
  from unnest($1::uuid[], $2::timestamptz[], $3::text[]) as request(uid, begun_at, sender)
  join messages m on m.uid = request.uid
 where m.kind in ('outbound', 'welcome') and exists (
   select 1 from consents c
    where c.subject_id = m.subject_id and c.status = 'out' and c.in_force_at < request.begun_at
      and (c.scope = 'all' or c.tenant = m.tenant
           and (c.scope = 'tenant' or c.scope = 'programme' and c.name = m.programme or c.scope = 'sender' and c.name = request.sender)))
