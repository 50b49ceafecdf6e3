-- Retention: which days of a tenant are ended, what is counted of messages that are gone, and what legal holds keep.

-- The day that an id was made on, in UTC: the time is its first 48 bits, in milliseconds.
create function uid_day(uid uuid) returns date language sql immutable parallel safe as $$
  select (to_timestamp((('x' || left(replace(uid::text, '-', ''), 12))::bit(48)::bigint) / 1000.0) at time zone 'UTC')::date
$$;

-- A tenant's class of data of one day whose time is over. Written when nothing of it is unsettled and all that a legal hold covers is
-- kept elsewhere: from then on it dies, and no later hold reaches it.
create table ended_days (
  day date not null,
  data_class text not null,               -- as the policies call it; 'audit' for the events class of the chains
  tenant text not null,
  at timestamptz not null,
  done_at timestamptz,                    -- when nothing of it was left
  primary key (day, data_class, tenant)
);

-- What is left of messages when their events' time is over: how many there were.
create table message_counts (
  tenant text not null,
  day date not null,
  programme text not null,
  category text not null,
  kind text not null,
  provider text not null,                 -- '' where none was asked
  state text not null,
  reason text not null,
  count bigint not null,
  primary key (tenant, day, programme, category, kind, provider, state, reason)
);

-- What may not be deleted: all of a tenant, what is of one person, or one message or dead letter. It keeps; it allows nothing to be sent.
create table legal_holds (
  id uuid primary key,                    -- its day, and its name in the key ring, are the hold's own key
  tenant text not null,
  subject_id bytea,
  uid uuid,
  who text not null,
  why text not null,
  added_at timestamptz not null,
  added_by text not null,
  until_at timestamptz,                   -- null: until it is released
  released_at timestamptz,
  released_by text,
  ended_at timestamptz,                   -- when its key was destroyed and nothing that it kept was left
  check (subject_id is null or uid is null)
);

-- What a hold keeps past its deadline, sealed under the hold's own key, so that the day's key can be destroyed for all others.
create table held (
  hold uuid not null references legal_holds (id),
  thing text not null,                    -- content, address, events, dead_letters, audit
  name text not null,                     -- a message's or letter's uid; of an audit record its sequence
  sealed bytea not null,
  primary key (hold, thing, name)
);

-- Once its events' time is over, a text's id stays, so that no repeat of it is heeded, and nothing of the person.
alter table inbound alter column subject_id drop not null;

create index propagations_number on propagations (number_uid) where number_sealed is not null;
