-- Keys of a day that were destroyed, or are about to be. A key ring that is restored from an older backup is held to it.
create table ended_keys (
  tenant text not null,
  data_class text not null,
  day date not null,
  at timestamptz not null,                -- when it was decided
  done_at timestamptz,                    -- when the key ring had done it
  primary key (tenant, data_class, day)
);
create index ended_keys_unfinished on ended_keys (at) where done_at is null;
