"""The keys of a policy: which of them the gateway holds, which it only states, and which must not be UNSET."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.domain.policy import Policy
from gateway.domain.policy_part import PolicyPart
from gateway.domain.retention import UNSET

__all__ = ["ENFORCED", "IN_PART", "NEEDED", "all_keys", "said", "stated", "unset"]

ENFORCED: Final[Mapping[str, str]] = {
    "tenant": "events name it",
    "name": "stands in answers",
    "enabled": "nothing is taken in or sent for a tenant that is not enabled",
    "languages": "the languages of answers",
    "providers": "no other carries a message",
    "regions": "no account that keeps what is sent elsewhere carries a message",
    "region": "numbers without a country code are read by it",
    "calendar": "business days are counted by it",
    "opt_out.scope": "how far a STOP reaches",
    "publishers": "who may publish",
    "programmes": "what is sent, by which senders",
    "retention.content": "no request begins after it, and texts end with it: rows, keys, topics, the provider's copy",
    "retention.address": "numbers end with it: rows, keys, topics, the provider's copy",
    "retention.events": "what became of messages ends with it; counts stay",
    "retention.dead_letters": "what could not be processed ends with it",
    "retention.customer_account": "what is kept of a customer, whatever the messages, ends with it",
    "retention.consent_proof": "a proof's key ends with it, once no opt-in that it proves stands; what is clear of the proof stays",
    "retention.provider_copies": "no account whose copies cannot be deleted is used where they must end",
}
"""The keys that the gateway does something about, and what. All others are stated, and no more."""

IN_PART: Final = frozenset({"retention.consent_proof"})
"""Those of them that promise more than the gateway does."""

NEEDED: Final[Mapping[str, str]] = {
    "providers": "sending needs it",
    "programmes": "sending needs it",
    "retention.content": "taking messages in needs it",
    "retention.address": "ending numbers needs it",
    "retention.events": "ending what became of messages needs it",
    "retention.customer_account": "closing the account needs it",
    "retention.dead_letters": "ending dead letters needs it",
    "retention.consent_proof": "ending proofs of consent needs it",
}
"""The keys that an enabled tenant may not leave UNSET, as something that runs reads them."""


def all_keys() -> frozenset[str]:
    """Every key that a policy may have, dotted where it stands in a section."""
    sections = _sections()
    inside = {f"{section}.{key}" for section, part in sections.items() for key in part.model_fields}
    return frozenset(inside | (set(Policy.model_fields) - set(sections)))


def said(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a file's content says, by key, in its order."""
    found: dict[str, Any] = {}
    sections = _sections()
    for key, value in content.items():
        if key in sections and isinstance(value, dict):
            found |= {f"{key}.{inner}": item for inner, item in value.items()}
        else:
            found[key] = value
    return found


def stated(content: Mapping[str, Any]) -> list[str]:
    """The keys that it says and that nothing enforces."""
    return [key for key, value in said(content).items() if key not in ENFORCED and value != UNSET.value]


def unset(content: Mapping[str, Any]) -> list[str]:
    """The keys that it leaves open, however deep."""
    found: list[str] = []
    for key, value in content.items():
        if isinstance(value, dict):
            found += (f"{key}.{inner}" for inner in unset(value))
        elif value == UNSET.value:
            found.append(key)
    return found


def _sections() -> dict[str, type[PolicyPart]]:
    annotations = {name: field.annotation for name, field in Policy.model_fields.items()}
    return {name: part for name, part in annotations.items() if isinstance(part, type) and issubclass(part, PolicyPart)}
