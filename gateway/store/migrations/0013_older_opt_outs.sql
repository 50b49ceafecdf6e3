-- How far the standing opt-outs are looked through for an account that can be told, of each of its senders: what was said before the
-- account, or the sender, could be told of it is told as well. Twice, an hour apart: processes of the old settings may still write in
-- between, and note nothing for this account.
create table older_opt_outs (
  account text not null,
  sender text not null,
  after bytea not null default '',              -- the last person of this round that was looked at
  rounds integer not null default 0,            -- how often all were
  next_at timestamptz not null,                 -- when the round goes on
  primary key (account, sender)
);
