-- The providers' copies of texts that are to be erased: noted some hours before they are due, and gone from here once they are erased.

-- When a UUIDv7 was made (RFC 9562), to the millisecond and never too early.
create function uid_moment(uid uuid) returns timestamptz language sql immutable parallel safe as $$
  select to_timestamp((('x0000' || left(replace(uid::text, '-', ''), 12))::bit(64)::bigint + 1) / 1000.0)
$$;

create table provider_copies (
  id bigint generated always as identity primary key,
  account text not null,
  provider_message_id text,               -- null while the message may still be sent, or nobody knows whether the provider took it
  tenant text not null,                   -- '' of a text that a person sent and that is no tenant's
  uid uuid,                               -- the message; null of a text that a person sent
  subject_id bytea,                       -- keyed hash of the number: a legal hold may keep what is the person's
  made_at timestamptz not null,
  part text not null check (part in ('text', 'all')),  -- what is to go: the text alone, or the number with it
  next_at timestamptz not null default gateway_now(),  -- when it is tried next
  tries integer not null default 0,
  laters integer not null default 0       -- how often the provider itself put it off
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
create index provider_copies_due on provider_copies (account, tenant, part, made_at);

-- How far messages, and the texts that people sent, are looked through for copies.
create table provider_copies_noted (
  account text not null,
  tenant text not null,
  part text not null check (part in ('text', 'all')),
  last_uid uuid not null default '00000000-0000-0000-0000-000000000000',
  last_at timestamptz not null default 'epoch',
  primary key (account, tenant, part)
);
