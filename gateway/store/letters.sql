-- Dead letters: looked at, opened by who has the right, put back.

-- A page, newest first; ids tell the time. None of it opens anything.
-- name: page
select uid, at, tenant, reason, detail, topic, partition, record_offset, length, encode(sha256, 'hex') as sha256,
       sealed is not null as kept, replay_of, replays, replayed_at, replayed_by
  from dead_letters
 where ($1::text is null or tenant = $1) and ($2::text[] is null or reason = any($2))
   and ($3::timestamptz is null or at >= $3) and ($4::timestamptz is null or at < $4)
   and ($5::boolean is null or (replayed_at is not null) = $5) and ($6::uuid is null or uid < $6)
 order by uid desc
 limit $7

-- name: facts
select uid, at, tenant, reason, detail, topic, partition, record_offset, length, encode(sha256, 'hex') as sha256,
       sealed is not null as kept, replay_of, replays, replayed_at, replayed_by
  from dead_letters where uid = $1

-- name: steps
select at, step, reason, actor from audit where uid = $1 order by at, id

-- What is sealed, oldest first, as it came in.
-- name: sealed
select d.uid, d.at, d.tenant, d.topic, d.sha256, d.form, d.sealed, d.replay_of, d.replayed_at is not null as replayed
  from unnest($1::uuid[]) as wanted(uid) join dead_letters d on d.uid = wanted.uid
 order by d.uid

-- name: reader
select name, tenants, rights, revoked_at is not null as revoked from tokens where token_hash = $1

-- Who did what with which letters, or was refused, and why.
-- name: audit
insert into audit_unchained (at, tenant, uid, number, step, reason, actor)
select (select gateway_now()), d.tenant, d.uid, 0, $2, $3, $4
  from unnest($1::uuid[]) as wanted(uid) join dead_letters d on d.uid = wanted.uid

-- name: replayed
update dead_letters d
   set replays = d.replays + 1, replayed_at = (select gateway_now()), replayed_by = $2
  from unnest($1::uuid[]) as wanted(uid)
 where d.uid = wanted.uid
