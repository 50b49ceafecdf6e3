-- What a setting ends: the oldest of it, by the index that its deletion uses too.

-- name: message_ids
select uid from message_ids order by uid limit 1

-- name: kept_senders
select used_on from kept_senders order by used_on limit 1
