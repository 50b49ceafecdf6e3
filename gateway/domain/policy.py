"""A tenant's policy: what its file says, checked, and what follows from all of them together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import phonenumbers
from pydantic import AfterValidator, Field, PrivateAttr, WrapValidator, model_validator

from gateway.domain.business_days import CALENDAR_NAME, BusinessDays, business_days
from gateway.domain.consent import Scope
from gateway.domain.event_fields import Slug
from gateway.domain.notice import Notice
from gateway.domain.policy_part import PolicyPart
from gateway.domain.policy_retention import CLASSES, Retention, Rights
from gateway.domain.policy_routes import Category, RegionName, RoutePart, Sender, all_different, fault_of_routes
from gateway.domain.publishers import Publishers
from gateway.domain.reply_texts import fill, help_text, start_text, stop_text, template_fault
from gateway.domain.retention import UNSET, Duration
from gateway.domain.senders import Route, SenderUse, sender_map
from gateway.domain.words import Language

__all__ = ["Category", "Policies", "Policy", "make_policy"]


def _region(value: str) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("must be a region by its two letters, such as GB or NO")
    return value


def _shown(value: str) -> str:
    if not value.strip() or any(ord(c) < 32 for c in value):
        raise ValueError("must be one line of text and not empty")
    if value == UNSET.value:
        raise ValueError("cannot be UNSET")
    return value.strip()


def _template(value: str) -> str:
    if fault := template_fault(value):
        raise ValueError(fault)
    return value


def _unset_as(nothing: object) -> WrapValidator:
    """UNSET as none at all: without a provider or a programme nothing is ever sent."""

    def read_or_nothing(value: Any, read: Callable[[Any], Any]) -> Any:
        return nothing if value == UNSET.value else read(value)

    return WrapValidator(read_or_nothing)


Shown = Annotated[str, Field(max_length=100), AfterValidator(_shown)]
Template = Annotated[str, Field(max_length=600), AfterValidator(_template)]


class Replies(PolicyPart):
    """A programme's own texts in one language, with ``{name}`` and ``{contact}`` where they stand. What is left out is the gateway's."""

    stop: Template | None = None
    start: Template | None = None
    help: Template | None = None


class Programme(PolicyPart):
    """A named stream of messages."""

    categories: Annotated[tuple[Category, ...], Field(min_length=1), AfterValidator(all_different)]
    senders: Annotated[tuple[Sender, ...], Field(min_length=1)]
    help_contact: Shown  # an address, number or page where a person gets help
    replies: Mapping[Language, Replies] = {}
    routes: tuple[RoutePart, ...] = ()  # the first that fits a message decides; none: all senders, for all

    @model_validator(mode="after")
    def _fits(self) -> Self:
        all_different(tuple(sender.number for sender in self.senders))
        if fault := fault_of_routes(self.routes, self.senders, self.categories):
            raise ValueError(fault)
        return self


class OptOut(PolicyPart):
    """How far a STOP reaches."""

    scope: Scope = Scope.TENANT


class Policy(PolicyPart):
    """What a tenant's file says."""

    tenant: Slug
    name: Shown  # the sender's name in confirmations
    languages: Annotated[tuple[Language, ...], Field(min_length=1), AfterValidator(all_different)] = ("en",)
    enabled: Annotated[bool, Field(strict=True)] = True  # false: not live yet; nothing is taken in or sent for it
    providers: Annotated[tuple[Slug, ...], Field(min_length=1), AfterValidator(all_different), _unset_as(())]
    region: Annotated[str, AfterValidator(_region)] | None = None
    regions: Annotated[tuple[RegionName, ...], Field(min_length=1), AfterValidator(all_different)] | None = None  # None: any
    opt_out: OptOut = OptOut()
    calendar: Annotated[str, Field(pattern=CALENDAR_NAME)] | None = None  # whose business days are counted: NL, DE-BY
    retention: Retention = Retention()
    rights: Rights = Rights()
    notice: Notice = Notice()
    publishers: Publishers | None = None  # none: whoever may write the shared topic may publish as this tenant
    programmes: Annotated[Mapping[Slug, Programme], Field(min_length=1), _unset_as(MappingProxyType({}))]

    _version: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _calendar_for_business_days(self) -> Self:
        change = self.notice.change.ahead if self.notice.change is not None else None
        periods = [*map(self.retention.of, CLASSES), self.rights.answer, self.rights.complaint, change]
        if self.calendar is None and any(isinstance(one, Duration) and one.needs_calendar for one in periods):
            raise ValueError("calendar is missing: business days (bd) are those of a country, such as NL")
        return self

    @property
    def version(self) -> str:
        """12 hex digits of the SHA-256 of what the file and its overlay say; comments and layout do not change it."""
        return self._version

    @property
    def business_days(self) -> BusinessDays | None:
        """The days that ``bd`` counts; None where the policy counts none. ValueError when nobody knows them: a start has asked."""
        return None if self.calendar is None else business_days(self.calendar)

    @property
    def known_business_days(self) -> BusinessDays | None:
        """The same; None also where nobody knows them, as only a policy may have that is not enabled."""
        try:
            return self.business_days
        except ValueError:
            return None

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that the tenant is bound to."""
        return self.publishers.topics if self.publishers is not None else ()

    def programme(self, name: str) -> Programme | None:
        return self.programmes.get(name)

    def reply(self, programme: str, kind: Literal["stop", "start", "help"], language: Language) -> str:
        """The text of an answer: the programme's own, else the gateway's. ``KeyError`` when there is no such programme."""
        part = self.programmes[programme]
        own = getattr(part.replies.get(language), kind, None)
        if own is not None:
            return fill(own, self.name, part.help_contact)
        if kind == "stop":
            return stop_text(language, self.name)
        return (start_text if kind == "start" else help_text)(language, self.name, part.help_contact)


class Policies:
    """All tenants' policies. What contradicts itself between them (a sender with two accounts or two limits) is a ``PolicyError``.

    ``idle`` are those of tenants that are not enabled: nothing is taken in or sent for them.
    """

    def __init__(self, policies: Iterable[Policy], idle: Iterable[Policy] = ()) -> None:
        self._idle = tuple(idle)
        self._by_tenant = {policy.tenant: policy for policy in policies}
        self._routes = tuple(self._each_route())
        self._senders = sender_map(self._routes, {policy.tenant: policy.opt_out.scope for policy in self})
        self._owners: dict[str, frozenset[str]] = {}
        for policy in self:
            for topic in policy.topics:
                self._owners[topic] = self.owners(topic) | {policy.tenant}

    def tenant(self, name: str) -> Policy | None:
        """The policy of a tenant; None when there is none."""
        return self._by_tenant.get(name)

    def __iter__(self) -> Iterator[Policy]:
        return iter(self._by_tenant.values())

    def __len__(self) -> int:
        return len(self._by_tenant)

    @property
    def everybody(self) -> tuple[Policy, ...]:
        """Those of tenants that are not enabled, too: what is kept of theirs ends by them all the same."""
        return (*self, *self._idle)

    def routes(self) -> tuple[Route, ...]:
        """Every way out, in the order of the files."""
        return self._routes

    def sender_map(self) -> Mapping[str, SenderUse]:
        """Whom an inbound text to each of our senders may be for."""
        return self._senders

    def topics(self) -> tuple[str, ...]:
        """The topics that tenants are bound to, in order of their names."""
        return tuple(sorted(self._owners))

    def owners(self, topic: str) -> frozenset[str]:
        """The tenants whose events alone a topic may carry; none when it is bound to nobody."""
        return self._owners.get(topic, frozenset())

    def _each_route(self) -> Iterator[Route]:
        for tenant, policy in self._by_tenant.items():
            for name, programme in policy.programmes.items():
                for sender in programme.senders:
                    yield Route(tenant, name, sender.account, sender.number, sender.per_second)


def make_policy(content: Mapping[str, Any]) -> Policy:
    """The policy that a file's content is. Raises pydantic's ValidationError."""
    policy = Policy.model_validate(content)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    policy._version = hashlib.sha256(canonical.encode()).hexdigest()[:12]  # noqa: SLF001 -- of this module's own model
    return policy
