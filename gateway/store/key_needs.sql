-- What still stands in the database and was sealed by a day's key of some tenants; asked for keys alone whose time is over.
-- Each takes the tenants, and the first moments of the day and of the next.

-- name: content
select tenant from unnest($1::text[]) as tenant
 where tenant in (select m.tenant from messages m join bodies b using (uid)
                   where m.uid >= uid_floor($2) and m.uid < uid_floor($3) and b.uid >= uid_floor($2) and b.uid < uid_floor($3))
    or tenant in (select m.tenant from messages m
                   where m.uid >= uid_floor($2) and m.uid < uid_floor($3) and m.recipient_sealed is not null)
    or tenant in (select c.tenant from consents c
                   where c.reply is not null and c.status = 'out' and c.in_force_at is null
                     and (c.reply ->> 'uid')::uuid >= uid_floor($2) and (c.reply ->> 'uid')::uuid < uid_floor($3))

-- name: address
select tenant from unnest($1::text[]) as tenant
 where tenant in (select m.tenant from messages m
                   where m.uid >= uid_floor($2) and m.uid < uid_floor($3) and m.to_sealed is not null)
    or tenant in (select p.number_tenant from propagations p
                   where p.number_sealed is not null and p.number_uid >= uid_floor($2) and p.number_uid < uid_floor($3))
    or tenant in (select c.tenant from consents c
                   where c.reply is not null and c.status = 'out' and c.in_force_at is null
                     and (c.reply ->> 'uid')::uuid >= uid_floor($2) and (c.reply ->> 'uid')::uuid < uid_floor($3))

-- name: dead_letters
select tenant from unnest($1::text[]) as tenant
 where tenant in (select d.tenant from dead_letters d
                   where d.uid >= uid_floor($2) and d.uid < uid_floor($3) and d.sealed is not null)

-- name: inbound
select tenant from unnest($1::text[]) as tenant
 where tenant in (select o.tenant from outbox o
                   where o.uid >= uid_floor($2) and o.uid < uid_floor($3) and o.kind = 'inbound' and o.payload is not null)

-- A consent of all tenants is the system's. A proof of an opt-in that is over keeps no key.
-- name: consent
select tenant from unnest($1::text[]) as tenant
 where tenant in (select case c.tenant when '*' then '_system' else c.tenant end from consents c
                   where c.proof_sealed is not null and c.status = 'in' and c.proof_uid >= uid_floor($2) and c.proof_uid < uid_floor($3))
