-- Consents told to provider accounts. A pair is an account, one of its senders, and a person. Rows are locked in order of person, account
-- and sender; every statement is a transaction of its own, but for those that stand in a consent's: a STOP waits for none of them.

-- The person's word changed: these pairs are to be looked at. One whose last telling nobody answered waits until that has surely ended,
-- so that the new word cannot be overtaken by it. What an account may hold that was never told it ($4) counts as said, not as held.
-- name: note
insert into propagations as p (account, sender, subject_id, said, due_at, waiting_since, number_tenant, number_uid, number_sealed)
select n.account, n.sender, $1, $4, (select gateway_now()), (select gateway_now()), $5, $6, $7
  from unnest($2::text[], $3::text[]) as n(account, sender)
 order by n.account, n.sender
on conflict (account, sender, subject_id) do update
   set said = case when p.holds is null then coalesce(p.said, excluded.said) else p.said end,
       changes = p.changes + 1, tries = 0, refused = null,
       due_at = case when p.said is null then excluded.due_at
                     else greatest(excluded.due_at, p.tried_at + make_interval(secs => $8)) end,
       waiting_since = coalesce(p.waiting_since, excluded.waiting_since),
       number_tenant = case when excluded.number_sealed is null then p.number_tenant else excluded.number_tenant end,
       number_uid = case when excluded.number_sealed is null then p.number_uid else excluded.number_uid end,
       number_sealed = coalesce(excluded.number_sealed, p.number_sealed)

-- The account itself has told what it holds. Of a text that it took for a STOP ($5 is false) that is sure only where no START is known, not
-- even one that undid nothing here: webhooks come in any order, and the account may have heard START last. It is told then, which is harmless.
-- So is an opt-out that was not surely said ($6, by a clock of its own) after the account confirmed an opt-in: a list is read for a while.
-- Without a moment it was met just now.
-- name: learned
insert into propagations as p (account, sender, subject_id, holds) values ($1, $2, $3, $4)
on conflict (account, sender, subject_id) do update set holds = excluded.holds
 where (p.holds is distinct from 'in' and p.said is distinct from 'in')
    or $5::boolean and ($4 = 'in' or p.holds is distinct from 'in' or p.told_at is null or $6::timestamptz is null
                        or $6::timestamptz > p.told_at + interval '5 seconds')

-- name: holding
select holds, said, due_at is not null as open, refused is not null as refused,
       greatest(told_at, case when said = 'out' then tried_at end) as told_at
  from propagations where account = $1 and sender = $2 and subject_id = $3

-- Pairs to look at, for the length of a lease. A number that was not kept is looked for in what the person was last texted.
-- name: take
with due as materialized (
  select account, sender, subject_id from propagations
   where account = $1 and due_at <= (select gateway_now()) order by due_at limit $2 for update skip locked
), taken as (
  update propagations p
     set due_at = (select gateway_now()) + make_interval(secs => $3), tried_at = (select gateway_now()), tries = p.tries + 1
    from due where (p.account, p.sender, p.subject_id) = (due.account, due.sender, due.subject_id)
  returning p.*
)
select t.sender, t.subject_id, t.changes, t.tried_at, t.tries, t.holds, t.said,
       coalesce(t.number_tenant, m.tenant) as number_tenant, coalesce(t.number_uid, m.uid) as number_uid,
       coalesce(t.number_sealed, m.to_sealed) as number_sealed
  from taken t
  left join lateral (select tenant, uid, to_sealed from messages
                      where t.number_sealed is null and subject_id = t.subject_id and to_sealed is not null
                      order by uid desc limit 1) m on true

-- name: texted
select tenant, uid, to_sealed from messages where subject_id = any($1::bytea[]) and to_sealed is not null order by uid desc limit 1

-- Before the request: the account may hold this from now on. Nothing is said of a pair whose word has changed since it was taken.
-- name: say
update propagations p set said = n.word
  from (select * from unnest($2::text[], $3::bytea[], $4::integer[], $5::timestamptz[], $6::text[])
          as n(sender, subject_id, changes, tried_at, word) order by subject_id, sender) n
 where p.account = $1 and (p.sender, p.subject_id, p.changes, p.tried_at) = (n.sender, n.subject_id, n.changes, n.tried_at)
returning p.sender, p.subject_id

-- After it, by who took the pair last. A word that changed meanwhile is due at once, or, where nobody answered, when that has ended.
-- What was confirmed of one that changed counts as said alone: the account may have heard the person after us, and is told again.
-- name: settle
update propagations p
   set holds = case when n.result = 'confirmed' and p.changes = n.changes then n.word else p.holds end,
       said = case when n.result = 'later' or n.result = 'confirmed' and p.changes <> n.changes then p.said end,
       told_at = case when n.result = 'confirmed' then (select gateway_now()) else p.told_at end,
       due_at = case when n.result = 'later' then case when p.changes = n.changes
                     then (select gateway_now()) + make_interval(secs => n.wait) else p.due_at end
                     when p.changes <> n.changes then (select gateway_now()) end,
       waiting_since = case when n.result = 'later' or p.changes <> n.changes then p.waiting_since end,
       refused = case when p.changes = n.changes and n.result not in ('confirmed', 'held', 'later') then n.result end,
       number_tenant = case when n.result = 'later' or p.changes <> n.changes then p.number_tenant end,
       number_uid = case when n.result = 'later' or p.changes <> n.changes then p.number_uid end,
       number_sealed = case when n.result = 'later' or p.changes <> n.changes then p.number_sealed end
  from unnest($2::text[], $3::bytea[], $4::integer[], $5::timestamptz[], $6::text[], $7::text[], $8::double precision[])
    as n(sender, subject_id, changes, tried_at, word, result, wait)
 where p.account = $1 and (p.sender, p.subject_id, p.tried_at) = (n.sender, n.subject_id, n.tried_at)

-- Accounts that can no longer be told: nothing is owed to them, and no number kept for them.
-- name: give_up
update propagations
   set refused = 'cannot_be_told', due_at = null, waiting_since = null, number_tenant = null, number_uid = null, number_sealed = null
 where due_at is not null and account <> all($1::text[])

-- And those that can be told again.
-- name: take_up
update propagations
   set refused = null, due_at = (select gateway_now()), waiting_since = (select gateway_now()), tries = 0
 where refused = 'cannot_be_told' and account = any($1::text[])

-- Senders that are told of no more: should they be again, the standing opt-outs are looked through anew.
-- name: forget_older
delete from older_opt_outs where (account, sender) not in (select * from unnest($1::text[], $2::text[]))

-- And those that are told of now.
-- name: plan_older
insert into older_opt_outs (account, sender, next_at)
select n.account, n.sender, (select gateway_now()) from unnest($1::text[], $2::text[]) as n(account, sender)
on conflict do nothing

-- The senders of an account that are looked through now, those that stand first before others.
-- name: older_due
select sender, after from older_opt_outs
 where account = $1 and rounds < 2 and next_at <= (select gateway_now()) order by after, sender for update

-- Consents in order of their people, by the first id of each, from the person after $1.
-- name: older_read
select subject_id, status from consents where key = 1 and subject_id > $1 order by subject_id limit $2

-- name: older_reached
update older_opt_outs set after = $3 where account = $1 and sender = any($2::text[])

-- All were looked at.
-- name: older_rounded
update older_opt_outs set after = '', rounds = rounds + 1, next_at = (select gateway_now()) + interval '1 hour'
 where account = $1 and sender = any($2::text[])

-- Pairs of standing opt-outs that the account is not known to hold, and for which nothing is under way. What it refused stays refused.
-- name: note_older
insert into propagations as p (account, sender, subject_id, due_at, waiting_since)
select $1, n.sender, n.subject_id, (select gateway_now()), (select gateway_now())
  from unnest($2::text[], $3::bytea[]) as n(sender, subject_id)
 order by n.subject_id, n.sender
on conflict (account, sender, subject_id) do update
   set changes = p.changes + 1, tries = 0, refused = null, due_at = excluded.due_at, waiting_since = excluded.waiting_since
 where p.due_at is null and p.said is null and p.holds is distinct from 'out'
   and coalesce(p.refused, 'never') in ('never', 'not_a_sender')

-- How many senders of each account are still looked through.
-- name: older_left
select account, count(*) as senders from older_opt_outs where rounds < 2 group by account

-- name: waiting
select account, count(*) as waiting, extract(epoch from (select gateway_now()) - min(waiting_since))::float8 as oldest
  from propagations where due_at is not null group by account

-- name: levels
select account, count(*) filter (where due_at is null and refused is null and holds is not null) as confirmed,
       count(*) filter (where due_at is not null) as waiting,
       extract(epoch from (select gateway_now()) - min(waiting_since) filter (where due_at is not null))::float8 as oldest
  from propagations group by account order by account

-- name: refusals
select account, refused, count(*) as pairs from propagations where refused is not null group by account, refused order by account, refused

-- Lists that were last read so long ago, or before the last catch-up: webhooks may have been missed.
-- name: lists_due
select a.account, l.read_at, (select gateway_now()) as now
  from unnest($1::text[]) as a(account)
  left join opt_out_lists l using (account) left join catch_up c using (account)
 where l.read_at is null or l.read_at <= (select gateway_now()) - make_interval(secs => $2) or c.done_at > l.read_at
 order by a.account

-- name: list_read
insert into opt_out_lists (account, read_at) values ($1, $2)
on conflict (account) do update set read_at = greatest(opt_out_lists.read_at, excluded.read_at)
