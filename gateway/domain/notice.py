"""What a tenant's published privacy notice says that no part of the gateway holds: typed, shown, and never pretended to be enforced.

What a notice is silent on is left out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from gateway.domain.policy_part import PolicyPart
from gateway.domain.policy_retention import Period

__all__ = ["Notice"]

T = TypeVar("T")


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("holds something twice")
    return values


Some = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(_different)]
Line = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]+$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$")]
Area = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]  # a country, or EU

OptOutFact = Literal[
    "administrative_messages_go_on",
    "after_verification",
    "any_time",
    "by_any_channel",
    "by_email",
    "by_post",
    "controller_told",
    "in_every_marketing_message",
    "list_survives_erasure",
    "no_cookie",
    "no_login",
    "on_request",
    "service_messages_go_on",
]
BreachFact = Literal["authorities_told", "customers_told", "promptly", "with_every_assistance", "without_undue_delay"]
OrderFact = Literal[
    "authorities_abroad",
    "court_order",
    "customer_told_where_allowed",
    "emergency",
    "enforceable_request",
    "legal_duty",
    "legal_process",
    "state_agency",
    "subpoena",
]
DisclosureFact = Literal[
    "aggregate_only",
    "analytics_aggregate_only",
    "explicit_consent_beyond_service",
    "never_rented",
    "never_sold",
    "with_consent_only",
]
NeverKept = Literal[
    "card_data",
    "card_numbers",
    "card_verification_codes",
    "driving_licences",
    "medical_data",
    "national_ids",
    "sensitive_data",
    "tax_ids",
]


class Minors(PolicyPart):
    """What is done about people below an age."""

    under: Annotated[int, Field(ge=1, le=25, strict=True)]  # years
    unless: Literal["parent_authorises"] | None = None
    found: Literal["erased"]


class Residency(PolicyPart):
    """Where data must be."""

    within: Some[Area]
    covers: Some[Literal["storage", "processing"]] | None = None


class Change(PolicyPart):
    """How a change of the notice is told."""

    ahead: Period | None = None
    by: Some[Literal["primary_email", "email", "web_site"]] | None = None
    minor: Literal["untold"] | None = None
    marked: Some[Literal["version", "date"]] | None = None


class Notice(PolicyPart):
    """One key a topic."""

    role: Some[Literal["controller", "processor"]] | None = None
    processors: Some[Name] | None = None  # providers that are a processor by contract
    other_systems: Some[Line] | None = None  # who else holds data; none of them is the gateway's
    opt_out: Some[OptOutFact] | None = None
    account_ends_by: Some[Literal["cancellation_request", "dissolution", "bankruptcy"]] | None = None
    account_then: Some[Literal["delete", "anonymise"]] | None = None  # either will do
    backups: Literal["may_outlive_deletion", "isolated_until_deleted"] | None = None
    erasure_exceptions: Some[Literal["legal", "tax_and_accounting", "fraud", "disputes", "enforcing_terms"]] | None = None
    complaints: Literal["recorded"] | None = None
    minors: Minors | None = None
    residency: Residency | None = None
    breach: Some[BreachFact] | None = None
    official_orders: Some[OrderFact] | None = None
    disclosure: Some[DisclosureFact] | None = None
    change: Change | None = None
    never_kept: Some[NeverKept] | None = None
    export: Literal["contacts_at_any_time"] | None = None
