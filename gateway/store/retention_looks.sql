-- What there is of personal data, table by table, for who checks whether it may be. Nothing here reads what the sweep has noted.
-- {partition} is a partition's name.

-- A body whose message is gone belongs to nobody who is known.
-- name: bodies
select coalesce(m.tenant, '?') as tenant, min(b.uid::text collate "C")::uuid as oldest
  from {partition} b left join messages m on m.uid = b.uid group by 1

-- name: numbers
select tenant, min(uid::text collate "C")::uuid as oldest from {partition} where to_sealed is not null group by 1

-- Whom a message was for: all that is not on the list of what is kept.
-- name: recipients
select tenant, min(uid::text collate "C")::uuid as oldest from {partition} where /* readable */ group by 1

-- name: messages
select tenant, min(uid::text collate "C")::uuid as oldest from {partition} group by 1

-- name: chain
select tenant, min(chained_at) as oldest from {partition} group by 1

-- name: unchained
select tenant, min(at) as oldest from audit_unchained group by 1

-- name: queue
select tenant, min(uid::text collate "C")::uuid as oldest from queue group by 1

-- name: dead_letters
select tenant, min(uid::text collate "C")::uuid as oldest from dead_letters group by 1

-- name: texts_on_their_way
select tenant, min(uid::text collate "C")::uuid as oldest from outbox where kind = 'inbound' group by 1

-- name: events_on_their_way
select tenant, min(created_at) as oldest from outbox where kind in ('status', 'consent', 'dead_letter') group by 1

-- name: propagations
select number_tenant as tenant, min(number_uid::text collate "C")::uuid as oldest from propagations where number_sealed is not null group by 1

-- name: inbound
select tenant, min(received_at) as oldest from senders_not_held group by 1

-- The proof of an opt-in that stands: it ends with the opt-in.
-- name: proofs
select tenant, min(proof_uid::text collate "C")::uuid as oldest from consents where proof_sealed is not null and status = 'in' group by 1

-- One that an opt-out should have removed.
-- name: proofs_left
select tenant, min(proof_uid::text collate "C")::uuid as oldest from consents where proof_sealed is not null and status <> 'in' group by 1

-- Copies at a provider that are noted, and not erased: their texts, or all of them. What a hold keeps may stand there.
-- name: noted_texts
select coalesce(nullif(c.tenant, ''), '_system') as tenant, min(c.made_at) as oldest
  from copies_not_held c
 where c.part = 'text' and c.provider_message_id is not null
 group by 1

-- name: noted_copies
select coalesce(nullif(c.tenant, ''), '_system') as tenant, min(c.made_at) as oldest
  from copies_not_held c
 where c.part = 'all' and c.provider_message_id is not null
 group by 1

-- Those of which nobody knows whether the provider has them.
-- name: noted_unknown
select coalesce(nullif(c.tenant, ''), '_system') as tenant, min(c.made_at) as oldest
  from copies_not_held c
 where c.provider_message_id is null
 group by 1

-- How much there is in tables without partitions, by the day that it is of. A consent of all tenants is the system's.
-- name: standing
select 'queue' as what, tenant, uid_day(uid) as day, count(*) as count from queue group by 2, 3
union all
select case kind when 'inbound' then 'texts' else 'told' end, tenant, case kind when 'inbound' then uid_day(uid) else (created_at at time zone 'UTC')::date end,
       count(*) from outbox where kind in ('inbound', 'status', 'consent', 'dead_letter') group by 1, 2, 3
union all
select 'numbers', number_tenant, uid_day(number_uid), count(*) from propagations where number_sealed is not null group by 2, 3
union all
select 'dead_letters', tenant, uid_day(uid), count(*) from dead_letters group by 2, 3
union all
select 'unchained', tenant, (at at time zone 'UTC')::date, count(*) from audit_unchained group by 2, 3
union all
select 'senders', tenant, (received_at at time zone 'UTC')::date, count(*) from senders_not_held group by 2, 3
union all
select 'proofs', case tenant when '*' then '_system' else tenant end, uid_day(proof_uid), count(*)
  from consents where proof_sealed is not null group by 2, 3

-- What a hold keeps may be there while the hold stands, however old.
-- name: held
select h.tenant, min(h.added_at) as oldest, count(*) as count, h.id, h.until_at,
       h.released_at is null and (h.until_at is null or h.until_at > (select gateway_now())) as stands
  from legal_holds h join held k on k.hold = h.id group by h.id order by h.id
