-- What ends when its time is over: days of a tenant and class, and the partitions in which they were.

-- The days' partitions, also one that is being detached, or was and is not dropped yet.
-- name: partitions
select left(c.relname, -9) as parent, c.relname::text as name, to_date(right(c.relname, 8), 'YYYYMMDD') as day,
       i.inhrelid is not null and not i.inhdetachpending as attached
  from pg_class c left join pg_inherits i on i.inhrelid = c.oid
 where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'
   and c.relname ~ '^(bodies|messages|audit_chain)_[0-9]{8}$'
 order by 3, 1

-- How a partition goes without a lock that intake waits for: only the partition itself is locked against all. Broken off, it is
-- half detached; then finishing is what is left.
-- name: detaching
select case when i.inhdetachpending then format('alter table %I detach partition %I finalize', p.relname, c.relname)
            else format('alter table %I detach partition %I concurrently', p.relname, c.relname) end as statement
  from pg_class c join pg_inherits i on i.inhrelid = c.oid join pg_class p on p.oid = i.inhparent
 where c.oid = to_regclass($1::text)

-- name: dropping
select format('drop table %I', c.relname) as statement
  from pg_class c
 where c.oid = to_regclass($1::text) and not exists (select 1 from pg_inherits i where i.inhrelid = c.oid)

-- Whose messages there are of a day: no index knows, so it is asked once a day's partition.
-- name: tenants_of_messages
select distinct tenant from messages where uid >= uid_floor($1) and uid < uid_floor($2)

-- name: tenants_of_audit
select distinct tenant from audit_chain where chained_at >= $1 and chained_at < $2

-- name: rows_of_messages
select tenant, count(*) as count from messages where uid >= uid_floor($1) and uid < uid_floor($2) group by tenant

-- name: rows_of_audit
select tenant, count(*) as count from audit_chain where chained_at >= $1 and chained_at < $2 group by tenant

-- Who else has something that is sealed for a day: a number that a provider is owed, a person's text on its way out.
-- name: tenants_apart
select distinct number_tenant as tenant from propagations where number_sealed is not null and number_uid >= uid_floor($1) and number_uid < uid_floor($2)
union
select distinct tenant from outbox where kind = 'inbound' and uid >= uid_floor($1) and uid < uid_floor($2)

-- Where the oldest is of what lies in tables without partitions, by tenant.
-- name: oldest_apart
select 'dead_letters' as what, tenant, min(uid_day(uid)) as oldest from dead_letters group by tenant
union all
select 'numbers', number_tenant, min(uid_day(number_uid)) from propagations where number_sealed is not null group by number_tenant

-- name: ended
select day, data_class, tenant, done_at is not null as done from ended_days

-- Messages of a tenant's day that are not settled: in the queue, or news of them is still waited for.
-- name: unsettled
(select uid from queue where uid >= uid_floor($2) and uid < uid_floor($3) and tenant = $1 order by uid limit $4)
union
(select uid from messages where uid >= uid_floor($2) and uid < uid_floor($3) and tenant = $1 and settle_by is not null and not final
  order by uid limit $4)

-- Whether something of a tenant's day is still to be told: an event to be published, the answer to an opt-out that is not in force; or
-- to be noted.
-- name: owed
select exists (select 1 from outbox where tenant = $1 and uid >= uid_floor($2) and uid < uid_floor($3) and parked is null
                 and kind in ('status', 'inbound'))
    or exists (select 1 from consents where (tenant = $1 or tenant = '*' and $1 = '_system') and reply is not null
                  and status = 'out' and in_force_at is null and written_at >= $2 and written_at < $3)
    -- Where an account is closed all ends at once: what tells of a copy at a provider stays until that is noted.
    or exists (select 1 from closed_accounts where tenant = $1)
       and exists (select 1 from messages m
                    where m.uid >= uid_floor($2) and m.uid < uid_floor($3) and m.tenant = $1 and m.provider_message_id is not null
                      and not exists (select 1 from provider_copies_noted n
                                       where n.account = m.account and n.tenant = m.tenant and n.last_uid >= m.uid)) as owed

-- Step by step, in the order of the ids, so that a day of many is not read from its beginning each time. What is said of a message is
-- what its events still need; what stands in comments below is made of all other columns.
-- What is chosen is locked apart: a row that somebody changed meanwhile is judged again where it is locked, and PostgreSQL 18 crashes, all
-- of it, when it looks into another partitioned table then.
-- name: reduce_messages
with due as materialized (
  select uid from messages m
   where uid > $2 and uid < uid_floor($3) and tenant = $1
     and (/* readable */ or exists (select 1 from bodies b where b.uid = m.uid))
   order by uid limit $4
), chosen as materialized (
  select m.uid from messages m join due using (uid) order by m.uid for update of m
), gone as (
  delete from bodies b using chosen where b.uid = chosen.uid
), reduced as (
  update messages m set /* emptied */ from chosen where m.uid = chosen.uid
)
select count(*) as count, (select uid from due order by uid desc limit 1) as last from due

-- name: empty_numbers_of_messages
with chosen as materialized (
  select uid from messages where uid > $2 and uid < uid_floor($3) and tenant = $1 and to_sealed is not null order by uid limit $4 for update
), emptied as (
  update messages m set to_sealed = null from chosen where m.uid = chosen.uid
)
select count(*) as count, (select uid from chosen order by uid desc limit 1) as last from chosen

-- name: delete_messages
with chosen as materialized (
  select uid from messages where uid > $2 and uid < uid_floor($3) and tenant = $1 order by uid limit $4 for update
), bodiless as (
  delete from bodies b using chosen where b.uid = chosen.uid
), gone as (
  delete from messages m using chosen where m.uid = chosen.uid
)
select count(*) as count, (select uid from chosen order by uid desc limit 1) as last from chosen

-- Every column of a message that is not on the list: as what an update sets, and as what is asked before.
-- name: emptied
select string_agg(format('%I = null', attname), ', ' order by attnum) as emptied,
       string_agg(format('%I is not null', attname), ' or ' order by attnum) as readable
  from pg_attribute
 where attrelid = 'messages'::regclass and attnum > 0 and not attisdropped and not attname = any($1::text[])

-- name: empty_numbers
update propagations set number_tenant = null, number_uid = null, number_sealed = null
 where number_tenant = $1 and number_uid >= uid_floor($2) and number_uid < uid_floor($3)

-- name: delete_letters
delete from dead_letters where uid = any(array(
  select uid from dead_letters where tenant = $1 and uid >= uid_floor($2) and uid < uid_floor($3) order by uid limit $4))

-- A person's text that the broker will never take: nobody will be told it any more.
-- name: delete_parked
delete from outbox where id = any(array(
  select id from outbox
   where parked is not null and tenant = $1 and uid < uid_floor($2) and (kind = 'inbound') = $3 order by id limit $4))

-- Of a text only its id stays, which keeps a repeat from being heeded.
-- name: empty_inbound
update inbound i set subject_id = null, created_at = null, fate = 'other', opt_out_tenant = null, opt_out_scope = null, opt_out_name = null
  from (select account, provider_message_id from inbound
         where subject_id is not null and coalesce(tenant, '_system') = $1 and received_at < $2 and account = any($3::text[])
           and not exists (select 1 from standing_holds h
                            where h.tenant = $1 and h.uid is null and (h.subject_id is null or inbound.subject_id = any(h.subject_ids)))
         order by account, received_at limit $4 for update) chosen
 where (i.account, i.provider_message_id) = (chosen.account, chosen.provider_message_id)

-- name: inbound_accounts
with recursive found as (
  select min(account) as account from inbound
  union all
  select (select min(i.account) from inbound i where i.account > f.account) from found f where f.account is not null
)
select account from found where account is not null

-- The beginning of a chain goes in order of its sequence, and the anchor goes along, in one statement: whatever stays is a whole chain.
-- name: delete_audit
with chosen as materialized (
  select sequence, hash, chained_at from audit_chain
   where tenant = $1 and chained_at < $2 and sequence <= (select published from audit_heads where tenant = $1)
   order by sequence limit $3
), gone as (
  delete from audit_chain c using chosen where c.tenant = $1 and c.sequence = chosen.sequence and c.chained_at = chosen.chained_at
), last as (
  select sequence, hash from chosen order by sequence desc limit 1
), earlier as (
  delete from audit_anchors where tenant = $1 and why = 'retention' and sequence < (select sequence from last)
), anchored as (
  insert into audit_anchors (tenant, sequence, hash, at, why)
  select $1, sequence, hash, (select gateway_now()), 'retention' from last on conflict do nothing
)
select count(*) as count from chosen

-- The same of every chain that begins in a day, before its partition goes.
-- name: anchor_day
insert into audit_anchors (tenant, sequence, hash, at, why)
select distinct on (tenant) tenant, sequence, hash, (select gateway_now()), 'retention'
  from audit_chain where chained_at < $1 order by tenant, sequence desc
on conflict do nothing

-- What of a tenant's day the topic lacks, or is not chained yet.
-- name: audit_unpublished
select exists (select 1 from audit_heads h where h.tenant = $1 and h.published < h.sequence and h.published_at < $2)
    or exists (select 1 from audit_unchained where tenant = $1 and at < $2) as waits

-- No hold may be added between the look at what is covered and the decision.
-- name: lock_holds
lock table legal_holds in share mode

-- name: decide
insert into ended_days (day, data_class, tenant, at) values ($1, $2, $3, (select gateway_now())) on conflict do nothing

-- What stays of messages is how many there were.
-- name: count_messages
insert into message_counts (tenant, day, programme, category, kind, provider, state, reason, count)
select tenant, $4::date, programme, category, kind, coalesce(provider, ''), state, reason, count(*)
  from messages where uid >= uid_floor($2) and uid < uid_floor($3) and tenant = $1
 group by 1, 3, 4, 5, 6, 7, 8
on conflict (tenant, day, programme, category, kind, provider, state, reason) do nothing

-- name: done
update ended_days set done_at = (select gateway_now()) where day = $1 and data_class = $2 and tenant = $3 and done_at is null

-- name: audit
insert into audit_unchained (at, tenant, number, step, rule, evidence, actor)
values ((select gateway_now()), $1, 0, 'retention_' || $2, $3, $4, $5)
