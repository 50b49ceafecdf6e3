-- The spool: how far it is applied, and until when it counts as read to its end. The claim and the mark look at it (dispatch.sql).

-- The time is this statement's: whoever reads the topic to its end after it has read all that was there at that time.
-- name: look
select next_offset, gateway_now() as at from spool where topic = $1

-- name: begin
insert into spool (topic) values ($1) on conflict do nothing

-- Only from where the reader stood: of two that read at once, one moves it.
-- name: advance
update spool set next_offset = $3 where topic = $1 and next_offset is not distinct from $2 returning topic

-- name: clear
update spool set clear_until = greatest(clear_until, $3::timestamptz + make_interval(secs => $4)) where topic = $1 and next_offset = $2
returning topic

-- For how long nothing has been claimed because of it.
-- name: shut
select greatest(0, extract(epoch from (select gateway_now()) - clear_until))::float8 as seconds from spool where topic = $1
