-- How far the spool is applied (STOPs that came while PostgreSQL was away), and until when it counts as read to its end.
create table spool (
  topic text primary key,
  next_offset bigint,                     -- every record before it is applied; null: never read
  clear_until timestamptz not null default gateway_now()  -- nothing is claimed or marked from then on
);
