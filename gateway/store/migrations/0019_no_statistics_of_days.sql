-- The days' partitions are not analyzed by autovacuum. Every statement has the one plan that is right at every size, whatever the statistics
-- say; and to look at 30,000 wide rows of a day takes a processor for some tenths of a second, in which messages wait. Vacuumed they are as before.

create or replace function ensure_day(day date) returns void language plpgsql as $$
declare
  suffix text := to_char(day, 'YYYYMMDD');
  low timestamptz := day::timestamp at time zone 'UTC';
  high timestamptz := (day + 1)::timestamp at time zone 'UTC';
  never text := 'autovacuum_analyze_threshold = 2147483647';
begin
  execute format('create table if not exists messages_%s partition of messages for values from (%L) to (%L) with (fillfactor = 80, %s)',
                 suffix, uid_floor(low), uid_floor(high), never);
  execute format('create table if not exists bodies_%s partition of bodies for values from (%L) to (%L) with (%s)',
                 suffix, uid_floor(low), uid_floor(high), never);
  execute format('create table if not exists audit_chain_%s partition of audit_chain for values from (%L) to (%L) with (%s)',
                 suffix, low, high, never);
end $$;

do $$
declare
  partition regclass;
begin
  for partition in
    select inhrelid::regclass from pg_inherits
     where inhparent in ('messages'::regclass, 'bodies'::regclass, 'audit_chain'::regclass)
  loop
    execute format('alter table %s set (autovacuum_analyze_threshold = 2147483647)', partition);
  end loop;
end $$;
