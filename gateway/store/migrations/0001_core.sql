-- The core: messages and what happens to them. Times come from gateway_now() so that processes can compare them.

create table clock (
  one_row boolean primary key default true check (one_row),
  shift interval not null default interval '0'          -- moved by tests, zero in service
);
insert into clock default values;

create function gateway_now() returns timestamptz language plpgsql stable parallel safe as $$
begin
  return statement_timestamp() + (select shift from clock);
end $$;

-- The smallest UUIDv7 of a moment (RFC 9562): what partitions of messages and bodies are bounded by.
create function uid_floor(moment timestamptz) returns uuid language sql immutable parallel safe as $$
  select (lpad(to_hex(floor(extract(epoch from moment) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;

-- One row a message: what it was, and what became of it. Partitioned by the day in its uid (a UUIDv7 made at acceptance).
create table messages (
  uid uuid not null,
  tenant text not null,
  programme text not null,
  category text not null check (category in ('marketing', 'service', 'security')),
  kind text not null check (kind in ('outbound', 'confirmation', 'welcome', 'help')),
  message_id text,                        -- the producer's; null for the gateway's own replies
  recipient_ref text,                     -- the producer's own name for the person, echoed in events
  subject_id bytea,                       -- keyed hash of the number; null when it could not be read
  to_sealed bytea,                        -- the number, sealed under the tenant's address key of the uid's day
  state text not null check (state in ('accepted', 'deferred', 'sent', 'delivered', 'undelivered', 'blocked', 'expired',
                                       'failed', 'canceled', 'unknown')),
  reason text not null,
  final boolean not null,
  version integer not null,               -- of the told state; status events carry it
  steps integer not null,                 -- audit records written of this message so far
  policy text not null,
  rule text not null,
  expires_at timestamptz not null,
  not_before timestamptz,
  trace text,
  attempt integer not null default 0,
  provider text,
  account text,
  sender text,
  provider_message_id text,
  code text,                              -- the provider's code for what it said last
  parts smallint not null,
  begun_at timestamptz,                   -- the earliest moment at which the last attempt's request can have begun
  settle_by timestamptz,                  -- when a state that is not final becomes so without further news
  check_at timestamptz,                   -- when evidence is next looked for
  primary key (uid)
) partition by range (uid);
create index messages_provider_message_id on messages (provider_message_id) where provider_message_id is not null;
create index messages_subject on messages (subject_id);
create index messages_check on messages (check_at) where check_at is not null;
create index messages_settle_by on messages (settle_by) where settle_by is not null;

-- The sealed text and metadata of a message, apart from it: a day's partition, and a day's key, end together.
create table bodies (
  uid uuid not null,
  sealed bytea not null,
  primary key (uid)
) partition by range (uid);

-- What the gateway still has to send: small and hot. A row is waiting, claimed by a worker, or marked: it may be on the wire.
create table queue (
  uid uuid primary key,
  route_id integer not null,
  tenant text not null,
  programme text not null,
  category text not null,
  kind text not null,
  subject_id bytea not null,
  sender text not null,
  state text not null check (state in ('waiting', 'claimed', 'marked')),
  due_at timestamptz not null,
  lane_until timestamptz,                 -- a message backing off holds its lane until then
  expires_at timestamptz not null,
  attempt integer not null,
  tries integer not null,                 -- known refusals so far: what back-off counts
  steps integer not null,
  parts smallint not null,
  worker_id text,
  lease_until timestamptz,
  marked_at timestamptz
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
create index queue_due on queue (route_id, due_at, uid) where state = 'waiting';
create index queue_person on queue (subject_id, tenant, category, uid);
create index queue_under_way on queue (worker_id) where state <> 'waiting';
create index queue_expires on queue (expires_at);
create index queue_lease on queue (lease_until) where state <> 'waiting';

-- The producer's message ids, for the dedupe window; never partitioned by day (the same id came in again after midnight).
create table message_ids (
  tenant text not null,
  id_hash bytea not null,                 -- keyed hash of message_id
  content_digest bytea not null,          -- keyed hash of what the message says
  uid uuid not null,
  primary key (tenant, id_hash)
) partition by hash (tenant, id_hash);
do $$ begin
  for i in 0..7 loop
    execute format('create table message_ids_%s partition of message_ids for values with (modulus 8, remainder %s)', i, i);
  end loop;
end $$;
create index message_ids_uid on message_ids (uid);

-- Who is opted in or out of what. tenant '*' and scope 'all' cover everything; name is a programme or sender, else ''.
create table consents (
  subject_id bytea not null,
  tenant text not null,
  scope text not null check (scope in ('sender', 'programme', 'tenant', 'all')),
  name text not null default '',
  status text not null check (status in ('in', 'out')),
  version integer not null,
  source text not null,
  stated_at timestamptz not null,         -- the latest moment at which the person can have said so
  written_at timestamptz not null,
  in_force_at timestamptz,                -- of an opt-out: when no request could begin any more
  proof_sealed bytea,                     -- of an opt-in: who, when, by which form; bound to proof_uid
  proof_uid uuid,
  reply jsonb,                            -- the one confirmation, ready and sealed, while it is owed
  primary key (subject_id, tenant, scope, name)
);
create index consents_written on consents (written_at) where status = 'out' and in_force_at is null;

-- Texts that people sent, by the provider's id, kept as long as consent: a repeated webhook changes nothing.
create table inbound (
  account text not null,
  provider_message_id text not null,
  received_at timestamptz not null,
  created_at timestamptz,                 -- by the provider's clock, where it said
  fate text not null check (fate in ('stop', 'start', 'start_not_proven', 'help', 'other')),
  tenant text,
  subject_id bytea not null,
  opt_out_tenant text,                    -- the opt-out that a STOP wrote, so that a repeat waits for the same one
  opt_out_scope text,
  opt_out_name text,
  primary key (account, provider_message_id)
);
create index inbound_received on inbound (account, received_at);

-- Every decision and change of state, written in its transaction.
create table audit (
  id bigint generated always as identity,
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
) partition by range (at);
create index audit_uid on audit (uid);

-- Events to publish: a status event's own values, or a whole payload. The relay removes a row once the broker has it.
create table outbox (
  id bigint generated always as identity primary key,
  kind text not null check (kind in ('status', 'consent', 'inbound', 'dead_letter')),
  created_at timestamptz not null default now(),
  tenant text not null,
  uid uuid not null,
  version integer not null,
  state text,
  reason text,
  final boolean,
  correction boolean,
  provider text,
  parts smallint,
  policy text,
  rule text,
  subject_id bytea,
  payload bytea,                          -- sealed where it holds personal data
  parked text                             -- why the broker will never take it
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
create index outbox_parked on outbox (id) where parked is not null;

-- A record that is read again is kept once; one with another content is another, though its place be the same: offsets begin anew
-- when a topic is made anew.
create table dead_letters (
  topic text not null,
  partition integer not null,
  record_offset bigint not null,
  uid uuid not null,
  at timestamptz not null,
  tenant text not null,                   -- '_system' where none could be read
  reason text not null,
  detail text not null,
  length integer not null,
  sha256 bytea not null,
  sealed bytea,                           -- null where the payload was too large to keep
  primary key (topic, partition, record_offset, sha256)
);

-- The ways out: a sender of a programme with a provider account.
create table routes (
  route_id integer generated always as identity primary key,
  tenant text not null,
  programme text not null,
  provider text not null,
  account text not null,
  sender text not null,
  per_second double precision,            -- parts a second that the sender may send; null: no limit of its own
  unique (tenant, programme, account, sender)
);

-- When a sender, or with sender '' the whole account, may send next.
create table paces (
  account text not null,
  sender text not null,
  next_at timestamptz not null default '-infinity',
  hold_until timestamptz not null default '-infinity',
  hold_reason text,
  primary key (account, sender)
);

-- How many requests at once each worker may have under way with an account; live rows never add up to more than its limit.
create table shares (
  account text not null,
  worker_id text not null,
  share integer not null,
  until timestamptz not null,
  primary key (account, worker_id)
);

create table pauses (
  scope text not null check (scope in ('all', 'tenant', 'programme', 'provider')),
  tenant text not null default '',
  name text not null default '',
  since timestamptz not null,
  actor text not null,
  why text not null default '',
  primary key (scope, tenant, name)
);

-- Work that one process at a time does: it holds the name until then.
create table leaders (
  name text primary key,
  holder text not null,
  until timestamptz not null
);

-- While raised, nothing of the account is claimed: inbound texts may be waiting at the provider.
create table catch_up (
  account text primary key,
  raised_at timestamptz,
  done_at timestamptz
);

-- What must stay the same from one start to the next, such as which key ring the hashes were made with.
create table facts (
  name text primary key,
  value text not null
);

create table tokens (
  token_hash bytea primary key,
  name text not null unique,
  tenants text[],                         -- null: every tenant
  created_at timestamptz not null,
  revoked_at timestamptz
);

-- A day's partitions, with storage room for the updates that a message gets.
create function ensure_day(day date) returns void language plpgsql as $$
declare
  suffix text := to_char(day, 'YYYYMMDD');
  low timestamptz := day::timestamp at time zone 'UTC';
  high timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
  execute format('create table if not exists messages_%s partition of messages for values from (%L) to (%L) with (fillfactor = 80)',
                 suffix, uid_floor(low), uid_floor(high));
  execute format('create table if not exists bodies_%s partition of bodies for values from (%L) to (%L)',
                 suffix, uid_floor(low), uid_floor(high));
  execute format('create table if not exists audit_%s partition of audit for values from (%L) to (%L)', suffix, low, high);
end $$;
