-- Routing: what a message may leave by instead, whose sender a person has, and whether an account is used.

-- Of a message whose event asked for no sender, the gateway may choose another while it waits. Rows of the version before keep theirs.
alter table queue
  add column any_sender boolean not null default false,
  add column country text;                -- of the number, '' where it has none; null where no route hangs on it

-- Which senders of a programme a person is texted by, where it has several: mostly one.
create table kept_senders (
  subject_id bytea not null,
  tenant text not null,
  programme text not null,
  sender text not null,
  used_on date not null,                  -- not every text moves it: once a day does
  primary key (subject_id, tenant, programme, sender)
);
create index kept_senders_used on kept_senders (used_on);

-- The way of the last attempt, told with the state. Null where the version before wrote the row, and before any attempt.
alter table outbox add column account text, add column sender text, add column attempt integer;

-- The account's breaker, in the row with an empty sender. Open, it is a hold; when that is over, one request tries the account.
alter table paces
  add column breaker text not null default 'closed' check (breaker in ('closed', 'open')),
  add column opens integer not null default 0,            -- how often in a row it opened
  add column trying_until timestamptz not null default '-infinity';
