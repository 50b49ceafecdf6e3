-- Versions of the key that people are hashed with: it is exchanged while everything runs.

-- A person has an id under each version, each made from the one before. Version 1 stands in the key ring alone.
create table subject_keys (
  version integer primary key,
  fingerprint text not null,              -- tells the key from any other, and tells nothing of it
  added_at timestamptz not null,
  added_by text not null,
  copied_at timestamptz,                  -- when all that people have said stood under it
  used_at timestamptz,                    -- from when on new messages are kept under it
  used_by text,
  settled_at timestamptz                  -- when nothing was left in the queue under an older one
);

-- The newest version, the one in use, and whether an exchange is open. Who writes what a person said holds this row: a version that is
-- added waits for it, so that nothing is written later without it.
insert into facts (name, value) values ('subject_keys', '1/1/settled') on conflict do nothing;

-- The version that subject_id was made with. What the person said stands under every version, and is told and audited of the first.
alter table consents add column key smallint not null default 1;

-- While an exchange is open: the person's id under the version before. So the lanes of both are one.
alter table queue add column elder bytea;
create index queue_elder on queue (elder) where elder is not null;

-- The person's ids under every version: what is to be kept may stand under any.
alter table legal_holds add column subject_ids bytea[];
update legal_holds set subject_ids = array[subject_id] where subject_id is not null;

-- The proof of an opt-in may be one of any of the person's ids, too.
create or replace function gateway_holds(of_tenant text, person bytea) returns boolean language sql stable as $$
  select exists (select 1 from legal_holds h
                  where h.tenant = case of_tenant when '*' then '_system' else of_tenant end
                    and h.uid is null and (h.subject_id is null or person = any(h.subject_ids))
                    and h.ended_at is null and h.released_at is null and (h.until_at is null or h.until_at > gateway_now()))
$$;
