-- Opt-outs, and the opt-ins that undo them, told to the provider accounts that can be told: one row for each pair of person and
-- sender, which says that the account may hold something else than the gateway's own list. Which word is owed is not kept here: it is
-- read from the consents at the moment of telling, so that no older word can come after a newer one.
create table propagations (
  account text not null,
  sender text not null,
  subject_id bytea not null,
  changes integer not null default 1,       -- how often the person's word changed: what is told is confirmed for one count of them
  holds text check (holds in ('in', 'out')),  -- what the account holds for the pair, as far as it is known
  said text check (said in ('in', 'out')),    -- what it was told without a sure answer: it may hold that too
  due_at timestamptz,                       -- when the pair is looked at next; null: nothing is owed
  waiting_since timestamptz,                -- since when the account may hold something else
  tried_at timestamptz,                     -- when it was last taken to be told; who took it then may settle it
  tries integer not null default 0,         -- since the last change of the person's word
  refused text,                             -- why the account will never hold it
  told_at timestamptz,                      -- when the account last confirmed
  number_tenant text,                       -- the number, sealed under this tenant's address key of the uid's day, until nothing is owed
  number_uid uuid,
  number_sealed bytea,
  primary key (account, sender, subject_id)
) with (autovacuum_vacuum_scale_factor = 0.02);
create index propagations_due on propagations (account, due_at) where due_at is not null;
create index propagations_refused on propagations (account, refused) where refused is not null;

-- How far an account's own list of opt-outs is read.
create table opt_out_lists (
  account text primary key,
  read_at timestamptz not null              -- when the last complete reading began
);
