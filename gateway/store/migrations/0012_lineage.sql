-- Which database this is, and which life of it: what tells one that was restored, or failed over, from the one that was written to.

-- Another server, another database of it, or tables that a restore made anew: each is another one. Nothing here is kept in a row, as a
-- restore would bring the row back.
create function gateway_database() returns text language sql stable as $$
  select encode(substr(sha256(convert_to(concat_ws(':', (select system_identifier from pg_control_system()),
                                                   (select oid from pg_database where datname = current_database()),
                                                   to_regclass('facts')::oid), 'UTF8')), 1, 16), 'hex')
$$;

-- A promotion and a recovery to a point in time begin a new one. Of the log that is written now: the control file learns of it later.
create function gateway_timeline() returns bigint language sql stable as $$
  select ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint
$$;

-- Whether it is the one that is meant, and has not gone back behind a position that it had on its disk. Without a name any will do.
create function gateway_lives(name text, timeline bigint, place text) returns boolean language sql stable as $$
  select name is null
      or gateway_database() = name and (timeline is null or gateway_timeline() = timeline) and pg_current_wal_flush_lsn() >= place::pg_lsn
$$;

-- A message that the status topic told of, and that no row tells the content of, matches any content: it was there before.
comment on column message_ids.content_digest is 'empty: any content';
