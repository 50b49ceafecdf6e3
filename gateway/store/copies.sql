-- The providers' copies of texts: noted ahead from the rows that tell of them, taken when they are due, gone once they are erased.

-- A route stays when its sender has gone from the policies.
-- name: tenants
select tenant from routes where account = $1
union
select tenant from provider_copies where account = $1 and tenant <> ''
 order by 1

-- name: senders
select sender, array_agg(distinct tenant) as tenants from routes where account = $1 group by sender order by 1

-- Every account that ever was texted by, or had copies.
-- name: accounts
select account from routes
union
select account from provider_copies

-- name: lock_noted
insert into provider_copies_noted as p (account, tenant, part) values ($1, $2, $3)
on conflict (account, tenant, part) do update set part = p.part
returning last_uid, last_at

-- Messages after $4 and below $5 that this account took or may have taken; $6 are looked at, other tenants' among them. One that is not
-- settled may still leave by any account: it is noted without an id, as one whose outcome nobody knows, and looked up when it is due.
-- name: note_sent
with seen as materialized (
  select m.uid, m.tenant, m.account, m.provider_message_id, m.subject_id, m.final, m.state
    from messages m where m.uid > $4 and m.uid < $5 order by m.uid limit $6
), noted as (
  insert into provider_copies (account, provider_message_id, tenant, uid, subject_id, made_at, part)
  select $1, case when account = $1 then provider_message_id end, tenant, uid, subject_id, uid_moment(uid), $3
    from seen
   where tenant = $2 and (account = $1 and (provider_message_id is not null or state = 'unknown') or not final)
)
select count(*) as seen, (select uid from seen order by uid desc limit 1) as last from seen

-- Texts that people sent to the account after $4 and up to $5. All of one moment are noted together.
-- name: note_received
with seen as materialized (
  select provider_message_id, coalesce(tenant, '') as tenant, subject_id, received_at
    from inbound where account = $1 and received_at > $4 and received_at <= $5
   order by received_at fetch first $6 rows with ties
), noted as (
  insert into provider_copies (account, provider_message_id, tenant, subject_id, made_at, part)
  select $1, provider_message_id, tenant, subject_id, received_at, $3 from seen where tenant = $2
)
select count(*) as seen, max(received_at) as last from seen

-- name: move_noted
update provider_copies_noted set last_uid = $4, last_at = $5 where account = $1 and tenant = $2 and part = $3

-- What is due, for the length of a lease: what was made until each tenant's horizon. ``standing`` says what is known of the message.
-- name: take
with due as materialized (
  select c.id
    from unnest($2::text[], $3::text[], $4::timestamptz[]) as over(tenant, part, horizon)
    join provider_copies c on c.account = $1 and c.tenant = over.tenant and c.part = over.part and c.made_at <= over.horizon
   where c.next_at <= (select gateway_now())
   order by c.made_at limit $5
     for update of c skip locked
), taken as (
  update provider_copies c set next_at = (select gateway_now()) + make_interval(secs => $6), tries = c.tries + 1
    from due where c.id = due.id
  returning c.*
)
select t.id, t.tenant, t.subject_id, t.uid, t.part, t.tries, t.laters, coalesce(t.provider_message_id, m.provider_message_id) as provider_message_id,
       case when t.provider_message_id is not null or m.account = $1 and m.provider_message_id is not null then 'known'
            when m.uid is null then 'lost' when not m.final then 'open' when m.account = $1 and m.state = 'unknown' then 'unknown'
            else 'elsewhere' end as standing
  from taken t left join messages m on m.uid = t.uid

-- How many are due and not erased.
-- name: due
select count(*) as copies
  from unnest($2::text[], $3::text[], $4::timestamptz[]) as over(tenant, part, horizon)
  join copies_not_held c on c.account = $1 and c.tenant = over.tenant and c.part = over.part and c.made_at <= over.horizon
  left join messages m on m.uid = c.uid and m.account = $1
 where coalesce(c.provider_message_id, m.provider_message_id) is not null

-- What is over, with a record in the audit; of a message that the account never had there is nothing to tell.
-- name: settle
with over as materialized (
  delete from provider_copies c using unnest($1::bigint[], $2::text[]) as n(id, result) where c.id = n.id
  returning c.*, n.result
), told as materialized (
  select * from over where result <> 'elsewhere'
), locked as materialized (
  select m.uid from (select distinct uid from told where uid is not null) t join messages m using (uid) order by m.uid for update of m
), counted as (
  update messages m set steps = m.steps + t.records
    from (select uid, count(*)::int as records from told join locked using (uid) group by uid) t
   where m.uid = t.uid
  returning m.uid, m.steps - t.records as steps
)
insert into audit_unchained (at, tenant, uid, number, step, reason, provider, account, evidence, actor, subject_id)
select (select gateway_now()), coalesce(nullif(t.tenant, ''), $4), t.uid,
       coalesce(c.steps, 0) + row_number() over (partition by t.uid, case when t.uid is null then t.id end order by t.id),
       'provider_copy_erased', t.result, $3, t.account, t.part, $5, case when t.uid is null then t.subject_id end
  from told t left join counted c using (uid)

-- name: put_back
update provider_copies c set next_at = (select gateway_now()) + make_interval(secs => n.wait), laters = c.laters + n.later
  from unnest($1::bigint[], $2::double precision[], $3::int[]) as n(id, wait, later)
 where c.id = n.id

-- What is noted, and the oldest of it.
-- name: noted
select tenant, part, count(*) as copies, min(made_at) as oldest from provider_copies where account = $1 group by tenant, part

-- The first after what is noted: when it was made.
-- name: ahead
select least(
  (select uid_moment(m.uid) from messages m
    where m.uid > coalesce(p.last_uid, '00000000-0000-0000-0000-000000000000') and m.tenant = $2 and m.account = $1
      and m.provider_message_id is not null
    order by m.uid limit 1),
  (select min(i.received_at) from inbound i
    where i.account = $1 and coalesce(i.tenant, '') = $2 and i.received_at > coalesce(p.last_at, 'epoch'))) as made_at
  from (values (1)) one left join provider_copies_noted p on p.account = $1 and p.tenant = $2 and p.part = $3

-- Whose these copies are, as far as the tables still tell.
-- name: whose
select m.provider_message_id, m.tenant, m.subject_id, m.uid from messages m
 where m.provider_message_id = any($2::text[]) and m.account = $1
union all
select i.provider_message_id, coalesce(i.tenant, ''), i.subject_id, null from inbound i
 where i.account = $1 and i.provider_message_id = any($2::text[])
