-- Counts of status events, and the events that tell them.

alter table outbox drop constraint outbox_kind_check;
alter table outbox add constraint outbox_kind_check
  check (kind in ('status', 'consent', 'inbound', 'dead_letter', 'metrics')) not valid;

-- Status events that were published and are not told of yet in a metrics event, by period: what was too few in its minute waits for
-- its hour, then for its day. provider and category are '' where the event has none.
create table counts (
  period text not null check (period in ('minute', 'hour', 'day')),
  start timestamptz not null,             -- of the period, in UTC
  tenant text not null,
  provider text not null,
  category text not null,
  state text not null,
  reason text not null,
  count bigint not null check (count > 0),
  primary key (period, start, tenant, provider, category, state, reason)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
