-- The audit, chained: records are written unchained with their change, and moved into their tenant's chain by one process. Moved, not
-- updated: what is chained is never touched again, and the hot transactions lock nothing that they share.

-- Written with the change, and gone from here once chained: small and hot.
create table audit_unchained (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  tenant text not null,
  uid uuid,
  number integer not null,                -- the message's own counter of records
  step text not null,
  state text,
  reason text,
  rule text,
  policy text,
  attempt integer,
  provider text,
  account text,
  code text,
  evidence text,
  actor text not null,
  subject_id bytea
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

-- Each tenant's chain. Partitioned by the day of chaining, which never goes back within a tenant: a day that is dropped takes the
-- beginning of each chain, and nothing out of its middle.
create table audit_chain (
  tenant text not null,
  sequence bigint not null,
  chained_at timestamptz not null,
  at timestamptz not null,
  uid uuid,
  number integer not null,
  step text not null,
  state text,
  reason text,
  rule text,
  policy text,
  attempt integer,
  provider text,
  account text,
  code text,
  evidence text,
  actor text not null,
  person text,                            -- the pseudonym that the tenant's events use; the subject_id stays behind
  previous bytea not null,
  hash bytea not null
) partition by range (chained_at);
create index audit_chain_place on audit_chain (tenant, sequence);
create index audit_chain_uid on audit_chain (uid);

-- The last record of each chain, and the last one that the topic has.
create table audit_heads (
  tenant text primary key,
  sequence bigint not null,
  hash bytea not null,
  chained_at timestamptz not null,
  published bigint not null,
  published_at timestamptz not null       -- when that one was chained: nothing earlier is looked through for the next
) with (fillfactor = 50);

-- Where a chain may begin once its earlier records are gone: what the first one that is left must follow.
create table audit_anchors (
  tenant text not null,
  sequence bigint not null,
  hash bytea not null,
  at timestamptz not null,
  why text not null,
  primary key (tenant, sequence)
);

-- Before its records are read: one that a process of the version before commits in between would be dropped with the table.
lock table audit in access exclusive mode;
insert into audit_unchained (at, tenant, uid, number, step, state, reason, rule, policy, attempt, provider, account, code, evidence, actor,
                             subject_id)
select at, tenant, uid, number, step, state, reason, rule, policy, attempt, provider, account, code, evidence, actor, subject_id
  from audit order by id;
drop table audit;

-- All of it, for who reads: chained or not yet.
create view audit as
select tenant, sequence, at, uid, number, step, state, reason, rule, policy, attempt, provider, account, code, evidence, actor, null::bigint as id, null::bytea as subject_id
  from audit_chain
union all
select tenant, null, at, uid, number, step, state, reason, rule, policy, attempt, provider, account, code, evidence, actor, id, subject_id
  from audit_unchained;

-- For processes of the version before this one, until they are restarted: they write to where all of it was.
create rule audit_written as on insert to audit do instead
insert into audit_unchained (at, tenant, uid, number, step, state, reason, rule, policy, attempt, provider, account, code, evidence, actor,
                             subject_id)
values (new.at, new.tenant, new.uid, new.number, new.step, new.state, new.reason, new.rule, new.policy, new.attempt, new.provider,
        new.account, new.code, new.evidence, new.actor, new.subject_id);

create or replace function ensure_day(day date) returns void language plpgsql as $$
declare
  suffix text := to_char(day, 'YYYYMMDD');
  low timestamptz := day::timestamp at time zone 'UTC';
  high timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
  execute format('create table if not exists messages_%s partition of messages for values from (%L) to (%L) with (fillfactor = 80)',
                 suffix, uid_floor(low), uid_floor(high));
  execute format('create table if not exists bodies_%s partition of bodies for values from (%L) to (%L)',
                 suffix, uid_floor(low), uid_floor(high));
  execute format('create table if not exists audit_chain_%s partition of audit_chain for values from (%L) to (%L)', suffix, low, high);
end $$;
