-- A copy at a provider may be noted when the message names no person any more: what a hold has kept of the message stays the hold's.

create or replace view copies_not_held as
select c.account, c.provider_message_id, c.tenant, c.uid, c.part, c.made_at
  from provider_copies c
 where not exists (select 1 from standing_holds h
                    where h.tenant = c.tenant
                      and (h.uid is null and h.subject_id is null or h.uid = c.uid or h.uid is null and c.subject_id = any(h.subject_ids)
                           or exists (select 1 from held k
                                       where k.hold = h.id and k.thing in ('content', 'address', 'events') and k.name = c.uid::text)));
