-- The producers' own names of people are sealed like texts: a dump from before their deadline tells them to nobody after it.

-- Sealed under the tenant's content key of the uid's day. recipient_ref is read where it is the older version's, and written no more.
alter table messages add column recipient_sealed bytea;

-- A consent's event names the person as the last message to them does, and whoever publishes it opens that.
alter table outbox
  add column recipient_uid uuid,             -- the message that the name is sealed with; null: the event's own
  add column recipient_sealed bytea;
