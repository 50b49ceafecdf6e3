-- Versions of the key that people are hashed with.

-- One statement, so that the versions and their fingerprints are of one moment.
-- name: now
select f.value as keys, k.version, k.fingerprint
  from facts f left join subject_keys k on true
 where f.name = 'subject_keys'
 order by k.version

-- Held until the transaction ends: a version that is added waits for all who write without it.
-- name: held
select value from facts where name = 'subject_keys' for share

-- Whether this is the database that is meant, and the versions that stand in it.
-- name: lives
select gateway_lives($1::text, $2::bigint, $3::text) as lives, (select value from facts where name = 'subject_keys') as keys

-- name: lock
select value from facts where name = 'subject_keys' for update

-- name: move
update facts set value = $1 where name = 'subject_keys'

-- Seconds since the last exchange was over; null: there was none.
-- name: since_settled
select extract(epoch from (select gateway_now()) - max(settled_at))::float8 as seconds from subject_keys

-- name: any_elder
select exists (select 1 from queue where elder is not null) as found

-- name: add
insert into subject_keys (version, fingerprint, added_at, added_by) values ($1, $2, (select gateway_now()), $3)

-- name: list
select version, fingerprint, added_at, added_by, copied_at, used_at, used_by, settled_at,
       extract(epoch from (select gateway_now()) - added_at)::float8 as age,
       extract(epoch from (select gateway_now()) - used_at)::float8 as used_for
  from subject_keys order by version

-- name: use
update subject_keys set used_at = (select gateway_now()), used_by = $2 where version = $1

-- What people have said, under one version, a page at a time.
-- name: page
select subject_id, tenant, scope, name from consents
 where key = $1 and (subject_id, tenant, scope, name) > ($2, $3, $4, $5)
 order by subject_id, tenant, scope, name limit $6

-- The same under the next version. The row is locked, so that it is copied as it stands; what was said since the version was added stands
-- under both already. Nobody is told: the row under the first version was. No message bears an id that is not in use yet: under it an
-- opt-out is in force at once.
-- name: copy
with said as materialized (
  select c.*, n.next_id
    from unnest($2::bytea[], $3::text[], $4::text[], $5::text[], $6::bytea[]) as n(subject_id, tenant, scope, name, next_id)
    join consents c on (c.subject_id, c.tenant, c.scope, c.name) = (n.subject_id, n.tenant, n.scope, n.name)
   order by c.subject_id, c.tenant, c.scope, c.name
     for update of c
)
insert into consents (subject_id, tenant, scope, name, status, version, source, stated_at, written_at, in_force_at, key)
select next_id, tenant, scope, name, status, version, source, stated_at, written_at,
       case when status = 'out' then coalesce(in_force_at, (select gateway_now())) end, $1
  from said
on conflict do nothing

-- Each row has its own under the next version, or the copying begins anew: who copied may have gone away in the middle.
-- name: copied
update subject_keys set copied_at = (select gateway_now())
 where version = $1 and copied_at is null
   and (select count(*) filter (where key = $1) = count(*) filter (where key = $1 - 1) from consents where key in ($1, $1 - 1))

-- name: holds
select id, subject_id from legal_holds where subject_id is not null and cardinality(subject_ids) < $1 order by id limit $2

-- name: widen_hold
update legal_holds set subject_ids = $2 where id = $1

-- Nothing waits under an older version: all that was taken in since the exchange bears the id before.
-- name: moved
select not exists (select 1 from queue where elder is null) as done

-- name: settle
update subject_keys set settled_at = (select gateway_now()) where version = $1

-- Once it is over, nothing is to lead from one version to the other.
-- name: forget_elders
update queue set elder = null
 where uid = any(array(select uid from queue where elder is not null order by uid limit $1 for update skip locked))

-- name: audit
insert into audit_unchained (at, tenant, number, step, rule, actor) values ((select gateway_now()), '_system', 0, $1, $2, $3)
