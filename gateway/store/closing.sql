-- The closing of customer accounts.

-- name: closings
select tenant, closed_at, noted_at from closed_accounts

-- Those that are closed now.
-- name: closed
select tenant from closed_accounts where closed_at <= (select gateway_now())

-- The same, and the time that they are closed by.
-- name: now_closed
select (select gateway_now()) as now, array(select tenant from closed_accounts where closed_at <= (select gateway_now())) as closed

-- name: is_closed
select exists (select 1 from closed_accounts where tenant = $1 and closed_at <= (select gateway_now())) as closed

-- name: list
select tenant, closed_at, closed_at <= (select gateway_now()) as closed, who, why, noted_at, noted_by from closed_accounts
 order by closed_at, tenant

-- name: close
insert into closed_accounts (tenant, closed_at, who, why, noted_at, noted_by)
values ($1, coalesce($2, (select gateway_now())), $3, $4, (select gateway_now()), $5)
on conflict do nothing
returning closed_at

-- Before it comes, as long as nothing has died of it ($2), or on a later day: then what had to die is dead, and no key of today with it.
-- name: reopen
delete from closed_accounts
 where tenant = $1
   and ((select gateway_now()) < greatest(closed_at, noted_at) + $2::interval
        or ((select gateway_now()) at time zone 'UTC')::date > (greatest(closed_at, noted_at) at time zone 'UTC')::date)
returning closed_at

-- What waits of those that are closed: no request has begun for it.
-- name: waiting
select q.uid
  from queue q join closed_accounts c on c.tenant = q.tenant
 where c.closed_at <= (select gateway_now()) and q.state <> 'marked'
 order by q.uid limit $1

-- name: audit
insert into audit_unchained (at, tenant, number, step, evidence, actor) values ((select gateway_now()), $1, 0, $2, $3, $4)

-- What is kept of a customer, whatever the messages: how much of it there is.
-- name: left
select tenant, sum(n)::int as count
  from (select tenant, count(*) as n from kept_senders where tenant = any($1::text[]) group by tenant
        union all
        select tenant, count(*) from pauses where tenant = any($1::text[]) group by tenant
        union all
        select unnest(tenants), count(*) from tokens where tenants && $1::text[] group by 1
        union all
        select tenant, 1 from closed_accounts where tenant = any($1::text[]) and (who is not null or why is not null)) found
 where tenant = any($1::text[])
 group by tenant

-- name: forget_senders
delete from kept_senders where ctid = any(array(select ctid from kept_senders where tenant = $1 limit $2))

-- name: forget_pauses
delete from pauses where tenant = $1

-- A token that was this tenant's alone goes with it.
-- name: forget_tokens
delete from tokens where tenants = array[$1::text]

-- name: narrow_tokens
update tokens set tenants = array_remove(tenants, $1::text) where $1::text = any(tenants)

-- name: forget_closing
update closed_accounts set who = null, why = null where tenant = $1 and (who is not null or why is not null)
