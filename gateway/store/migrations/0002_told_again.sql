-- What telling a status event a second time needs, so that it is the same event.

-- When a message came to its state, and whether that corrected what was final: as its status event tells it. Null where an older
-- version of the gateway wrote the row.
alter table messages add column changed_at timestamptz, add column correction boolean not null default false;

-- Of an event that is told again, by the same id, because its message was published again: when it was told first. It is counted once.
alter table outbox add column first_told_at timestamptz;
