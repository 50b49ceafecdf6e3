-- Legal holds, and what they keep.

-- name: add
insert into legal_holds (id, tenant, subject_id, uid, who, why, added_at, added_by, until_at, subject_ids)
values ($1, $2, $3, $4, $5, $6, (select gateway_now()), $7, $8, $9)

-- Which of these, by their places, a hold that stands covers. A copy may have been noted when its message named no person any more: what a
-- hold has kept of the message stays its own.
-- name: held_of
select distinct c.place
  from unnest($1::text[], $2::bytea[], $3::uuid[]) with ordinality as c(tenant, subject_id, uid, place)
  join standing_holds h on h.tenant = c.tenant
 where h.uid is null and h.subject_id is null or h.uid = c.uid or h.uid is null and c.subject_id = any(h.subject_ids)
       or exists (select 1 from held k where k.hold = h.id and k.thing in ('content', 'address', 'events') and k.name = c.uid::text)

-- name: list
select id, tenant, subject_id is not null as person, uid, who, why, added_at, added_by, until_at, released_at, released_by, ended_at,
       (select count(*) from held k where k.hold = h.id) as kept
  from legal_holds h
 where $1 or ended_at is null
 order by added_at

-- name: release
update legal_holds set released_at = (select gateway_now()), released_by = $2
 where id = $1 and released_at is null and ended_at is null
returning tenant, subject_id

-- Released, or their time is over: what they kept is to die.
-- name: over
select id, tenant from legal_holds
 where ended_at is null and (released_at is not null or until_at <= (select gateway_now())) order by id

-- Waits for who is keeping something at this moment.
-- name: end
update legal_holds set ended_at = (select gateway_now()) where id = $1 and ended_at is null returning tenant, subject_id

-- name: forget
delete from held where ctid = any(array(select ctid from held where hold = $1 limit $2))

-- name: persons
select id, unnest(subject_ids) as subject_id from standing_holds where tenant = $1 and subject_id is not null

-- What of a tenant's day stands under holds and is not kept yet. A message that a hold has kept something of stays its own, also once
-- the message's record names no person any more.
-- name: covered_messages
select h.id as hold, m.uid, m.uid::text as name, m.to_sealed, b.sealed as body, to_jsonb(m)::text as record,
       case when $4 = 'events' then (select jsonb_agg(to_jsonb(a) order by a.number) from audit a where a.uid = m.uid)::text end as audit
  from standing_holds h
  join messages m on m.tenant = h.tenant
  left join bodies b on b.uid = m.uid
 where h.tenant = $1
   and m.uid >= uid_floor($2) and m.uid < uid_floor($3)
   and (h.uid is null and h.subject_id is null or h.uid = m.uid or m.subject_id = any(h.subject_ids)
        or exists (select 1 from held k where k.hold = h.id and k.name = m.uid::text and k.thing in ('content', 'address')))
   and not exists (select 1 from held k where k.hold = h.id and k.thing = $4 and k.name = m.uid::text)
 order by m.uid, h.id
 limit $5

-- name: covered_letters
select h.id as hold, d.uid, d.uid::text as name, d.sealed as body, (to_jsonb(d) - 'sealed')::text as record
  from standing_holds h join dead_letters d on d.tenant = h.tenant
 where h.tenant = $1
   and d.uid >= uid_floor($2) and d.uid < uid_floor($3)
   and (h.uid is null and h.subject_id is null or h.uid = d.uid)
   and not exists (select 1 from held k where k.hold = h.id and k.thing = $4 and k.name = d.uid::text)
 order by d.uid, h.id
 limit $5

-- $6, $7: the persons of holds, by the pseudonym that the chain uses.
-- name: covered_audit
select h.id as hold, c.sequence::text as name, to_jsonb(c)::text as record
  from standing_holds h join audit_chain c on c.tenant = h.tenant
  left join unnest($6::uuid[], $7::text[]) as p(hold, person) on p.hold = h.id
 where h.tenant = $1
   and c.chained_at >= $2 and c.chained_at < $3
   and (h.uid is null and h.subject_id is null or h.uid = c.uid or p.person = c.person)
   and not exists (select 1 from held k where k.hold = h.id and k.thing = $4 and k.name = c.sequence::text)
 order by c.sequence, h.id
 limit $5

-- Only for holds that are not ended: those are locked until what is kept is committed.
-- name: keep
with standing as materialized (
  select id from legal_holds where id = any($1::uuid[]) and ended_at is null order by id for share
)
insert into held (hold, thing, name, sealed)
select n.hold, $2, n.name, n.sealed
  from unnest($1::uuid[], $3::text[], $4::bytea[]) as n(hold, name, sealed) join standing s on s.id = n.hold
on conflict do nothing

-- Proofs of opt-ins that were undone: each with the holds that cover it, none where they are over by now.
-- name: undone_proofs
select c.subject_id, c.tenant, c.scope, c.name, c.proof_uid, c.proof_sealed as proof,
       (to_jsonb(c) - 'proof_sealed' - 'reply')::text as record,
       array(select h.id from standing_holds h
              where h.tenant = case c.tenant when '*' then '_system' else c.tenant end
                and h.uid is null and (h.subject_id is null or c.subject_id = any(h.subject_ids))
              order by h.id) as holds
  from consents c where c.status = 'out' and c.proof_sealed is not null
 order by c.subject_id, c.tenant, c.scope, c.name limit $1 for update

-- name: any_undone_proof
select exists (select 1 from consents where status = 'out' and proof_sealed is not null)

-- name: forget_proof
update consents set proof_sealed = null, proof_uid = null where (subject_id, tenant, scope, name) = ($1, $2, $3, $4)

-- name: audit
insert into audit_unchained (at, tenant, number, step, evidence, actor, subject_id)
values ((select gateway_now()), $1, 0, $2, $3, $4, $5)
