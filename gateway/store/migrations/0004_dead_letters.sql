-- Dead letters that can be read by who has the right, and put back: what is sealed of one is a whole record from now on.

alter table dead_letters
  add column form smallint not null default 1,          -- what is sealed: 1 the record's value alone, 2 the whole record
  add column replay_of uuid,                            -- the first dead letter of the same record, where this one was put back and failed
  add column replays integer not null default 0,
  add column replayed_at timestamptz,
  add column replayed_by text;
create unique index dead_letters_uid on dead_letters (uid);

alter table tokens add column rights text[] not null default '{api}';
