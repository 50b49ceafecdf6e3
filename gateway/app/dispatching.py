"""What takes messages to the providers, built from the parts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gateway.crypto.subjects import Subjects
from gateway.crypto.tokens import AttemptTokens
from gateway.domain.decide import decide
from gateway.domain.retry import BackOff
from gateway.flow.claims import Claimed
from gateway.flow.dispatch import Contents, Dispatch, Gate, Limits
from gateway.flow.pacing import Pacing
from gateway.flow.people import EveryId, WatchedPeople
from gateway.flow.settling import Settling
from gateway.flow.vault import Vault
from gateway.store.dispatch import Claims

if TYPE_CHECKING:
    from gateway.app.wiring import Parts

__all__ = ["dispatch_of"]


def dispatch_of(parts: Parts, gate: Gate) -> Dispatch:
    """Messages to the provider, while the gate is open."""
    times = parts.settings.dispatch
    limits = Limits(times.request_seconds, times.fuse_seconds, times.lease_seconds, claim_batch=times.claim_batch)
    tokens = AttemptTokens(parts.ring.token_key())
    versions = {policy.tenant: policy.version for policy in parts.policies}
    rates = {alias: account.per_second for alias, account in parts.settings.accounts.items() if account.per_second is not None}
    pacing = Pacing(
        parts.control,
        {alias: account.concurrency for alias, account in parts.settings.accounts.items()},
        times.request_seconds,
        parts.metrics,
        batches={alias: provider.abilities.batch for alias, provider in parts.providers.items()},
    )
    claims = Claims(
        parts.database,
        parts.name,
        parts.routes,
        versions,
        rates,
        times.lease_seconds,
        parts.spool,
        EveryId(parts.allow_list, parts.people) if parts.allow_list is not None else None,
        router=parts.router,
        people=parts.people,
    )
    back_off = BackOff(times.backoff_first_seconds, times.backoff_most_seconds)
    return Dispatch(
        claims,
        parts.ledger,
        parts.providers,
        pacing,
        Settling(
            claims,
            parts.ledger,
            parts.stop,
            parts.metrics,
            horizons=parts.horizons,
            back_off=back_off,
            person=partial(_person, parts.people, parts.vault, parts.hasher),
        ),
        parts.breaker(),
        gate,
        partial(_contents, parts.vault),
        partial(_callback_url, tokens, parts.settings.public_url or ""),
        decide,
        parts.metrics,
        limits=limits,
        horizons=parts.horizons,
    )


def _contents(vault: Vault, claimed: Claimed) -> Contents:
    return Contents(
        vault.open_number(claimed.tenant, claimed.uid, claimed.to_sealed),
        vault.open_body(claimed.tenant, claimed.uid, claimed.body_sealed),
    )


def _person(people: WatchedPeople, vault: Vault, hasher: Subjects, claimed: Claimed) -> bytes:
    """Whom a message is to, by the first id; where there are later ones, the number alone tells."""
    if people.keys.newest == 1:
        return claimed.subject_id
    return hasher.subject_id(vault.open_number(claimed.tenant, claimed.uid, claimed.to_sealed))


def _callback_url(tokens: AttemptTokens, public_url: str, claimed: Claimed) -> str:
    token = tokens.make(claimed.uid, claimed.attempt, claimed.account)
    return f"{public_url}/webhooks/{claimed.provider}/{claimed.account}/status/{token}"
