"""What the API is sent and answers, as models: they check requests and make schemas/openapi.json."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gateway.domain.consent import Scope
from gateway.domain.event_fields import SenderName, Slug, Written, ZonedMoment
from gateway.domain.events import OptInProof
from gateway.domain.personal import LIKE_A_NUMBER

__all__ = ["ClosingAnswer", "ClosingRequest", "ConsentRequest", "OptIn", "OptInAnswer", "OptOut", "OptOutAnswer", "Problem"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


class ConsentRequest(_Model):
    """Whose consent to what."""

    tenant: Slug | None = None
    """The tenant; left out with scope `all` alone."""
    number: Written = Field(examples=["+1 202 555 0123"])
    """The person's number with its country code."""
    scope: Scope = Scope.TENANT
    """What is covered. `all` needs a token for all tenants."""
    programme: Slug | None = None
    """With scope `programme`: which one."""
    sender: SenderName | None = None
    """With scope `sender`: which number or service of ours."""

    @model_validator(mode="after")
    def _names_its_scope(self) -> Self:
        for scope, name in ((Scope.PROGRAMME, self.programme), (Scope.SENDER, self.sender)):
            if (self.scope is scope) is not (name is not None):
                raise ValueError(f"{scope.value} goes with scope {scope.value}, and with no other")
        if (self.scope is Scope.ALL) is not (self.tenant is None):
            raise ValueError("tenant is needed, but not with scope all")
        return self

    @property
    def name(self) -> str:
        """The programme or sender that the scope speaks of, else empty."""
        return self.programme or self.sender or ""


class OptOut(ConsentRequest):
    """A person who wants no more texts."""

    reason: Slug | None = None
    """Why, in a word of yours for the audit, such as `phone-call`; no personal data."""


class OptIn(ConsentRequest):
    """A person who agreed to be texted."""

    proof: OptInProof


def _in_clear(value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise ValueError("must be one line of text")
    if LIKE_A_NUMBER.search(value):
        raise ValueError("holds what looks like a telephone number; it is kept in the clear, so leave that out")
    return value


InClear = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_in_clear)]


class ClosingRequest(_Model):
    """A tenant whose customer account is closed, or will be."""

    tenant: Slug
    at: ZonedMoment | None = None
    """From when on, with its offset: up to a year ahead, or in the past. Left out: now."""
    who: InClear
    """Who closes it, such as the customer, or the system that bills; no personal data is needed."""
    why: InClear
    """Why; kept as long as the customer's account data."""


class ClosingAnswer(_Model):
    """The closing is noted."""

    closed_at: datetime


class OptOutAnswer(_Model):
    """The opt-out is durable."""

    in_force: bool
    """Whether no more request to a provider begins for this person and scope."""


class OptInAnswer(_Model):
    """The opt-in is recorded."""

    granted: bool


class FieldFault(_Model):
    """What is wrong with one field."""

    pointer: str
    """A JSON pointer (RFC 6901)."""
    detail: str


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str
    title: str
    status: int
    code: str
    """A short name out of a closed list."""
    detail: str | None = None
    errors: list[FieldFault] | None = None
