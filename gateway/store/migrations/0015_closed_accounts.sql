-- Tenants whose customer account is closed, or will be: from closed_at on nothing is taken in or sent for them, and what their policies
-- keep until so long after closing runs.
create table closed_accounts (
  tenant text primary key,
  closed_at timestamptz not null,
  who text,                               -- who said so, and why: null once what is kept of the customer is over
  why text,
  noted_at timestamptz not null,          -- when the gateway was told
  noted_by text not null
);
