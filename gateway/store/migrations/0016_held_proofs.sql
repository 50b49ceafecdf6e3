-- A proof that a legal hold covers outlives its opt-in, until it is sealed under the hold's own key.

-- Whether a hold that stands covers all that is of a person in a tenant; '*' is the system's.
create function gateway_holds(of_tenant text, person bytea) returns boolean language sql stable as $$
  select exists (select 1 from legal_holds h
                  where h.tenant = case of_tenant when '*' then '_system' else of_tenant end
                    and h.uid is null and (h.subject_id is null or h.subject_id = person)
                    and h.ended_at is null and h.released_at is null and (h.until_at is null or h.until_at > gateway_now()))
$$;

-- Which of them are to be sealed anew: there are few, and never for long.
create index consents_held_proof on consents (tenant) where status = 'out' and proof_sealed is not null;
