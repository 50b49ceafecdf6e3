-- What it means that a legal hold stands, and what it covers, said once.

create view standing_holds as
select id, tenant, subject_id, subject_ids, uid
  from legal_holds
 where ended_at is null and released_at is null and (until_at is null or until_at > (select gateway_now()));

create or replace function gateway_holds(of_tenant text, person bytea) returns boolean language sql stable as $$
  select exists (select 1 from standing_holds h
                  where h.tenant = case of_tenant when '*' then '_system' else of_tenant end
                    and h.uid is null and (h.subject_id is null or person = any(h.subject_ids)))
$$;

-- Copies at providers that no hold keeps there.
create view copies_not_held as
select c.account, c.provider_message_id, c.tenant, c.uid, c.part, c.made_at
  from provider_copies c
 where not exists (select 1 from standing_holds h
                    where h.tenant = c.tenant and (h.subject_id is null or c.subject_id = any(h.subject_ids)) and (h.uid is null or h.uid = c.uid));

-- Who sent texts, where no hold keeps that; what is of no tenant is the system's.
create view senders_not_held as
select coalesce(i.tenant, '_system') as tenant, i.received_at
  from inbound i
 where i.subject_id is not null
   and not exists (select 1 from standing_holds h
                    where h.tenant = coalesce(i.tenant, '_system') and h.uid is null
                      and (h.subject_id is null or i.subject_id = any(h.subject_ids)));
