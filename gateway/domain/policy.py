"""A tenant's policy: what its file says, checked, and what follows from all of them together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import phonenumbers
from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, model_validator

from gateway.domain.consent import Scope
from gateway.domain.errors import PolicyError
from gateway.domain.policy_part import PolicyPart
from gateway.domain.publishers import Publishers
from gateway.domain.reply_texts import fill, help_text, start_text, stop_text, template_fault
from gateway.domain.senders import Route, SenderUse, sender_map
from gateway.domain.words import Language
from gateway.domain.yaml12 import Lines, read_yaml

__all__ = ["Category", "Policies", "Policy", "load_policies", "read_policy"]

Category = Literal["marketing", "service", "security"]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$")]
# A number in E.164, a short code, or a Twilio messaging service. Names instead of numbers are not taken: nobody can text STOP to them.
SenderName = Annotated[str, Field(pattern=r"^(?:\+[1-9][0-9]{6,14}|[0-9]{3,8}|MG[0-9a-f]{32})$")]
Alias = Annotated[str, Field(pattern=r"^[a-z](?:_?[a-z0-9-])*_?$", max_length=32)]


def _region(value: str) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("must be a region by its two letters, such as GB or NO")
    return value


def _shown(value: str) -> str:
    if not value.strip() or any(ord(c) < 32 for c in value):
        raise ValueError("must be one line of text and not empty")
    return value.strip()


def _template(value: str) -> str:
    if fault := template_fault(value):
        raise ValueError(fault)
    return value


def _all_different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("holds something twice")
    return values


Shown = Annotated[str, Field(max_length=100), AfterValidator(_shown)]
Template = Annotated[str, Field(max_length=600), AfterValidator(_template)]


class Sender(PolicyPart):
    """A number or service that a programme's messages leave by, and the provider account it belongs to."""

    number: SenderName
    account: Alias
    per_second: Annotated[float, Field(gt=0, le=10_000, strict=True)] | None = None  # parts a second


class Replies(PolicyPart):
    """A programme's own texts in one language, with ``{name}`` and ``{contact}`` where they stand. What is left out is the gateway's."""

    stop: Template | None = None
    start: Template | None = None
    help: Template | None = None


class Programme(PolicyPart):
    """A named stream of messages."""

    categories: Annotated[tuple[Category, ...], Field(min_length=1), AfterValidator(_all_different)]
    senders: Annotated[tuple[Sender, ...], Field(min_length=1)]
    help_contact: Shown  # an address, number or page where a person gets help
    replies: Mapping[Language, Replies] = {}

    @model_validator(mode="after")
    def _senders_differ(self) -> Self:
        _all_different(tuple(sender.number for sender in self.senders))
        return self


class OptOut(PolicyPart):
    """How far a STOP reaches."""

    scope: Scope = Scope.TENANT


class Policy(PolicyPart):
    """What a tenant's file says."""

    tenant: Slug
    name: Shown  # the sender's name in confirmations
    languages: Annotated[tuple[Language, ...], Field(min_length=1), AfterValidator(_all_different)] = ("en",)
    providers: Annotated[tuple[Slug, ...], Field(min_length=1), AfterValidator(_all_different)]
    region: Annotated[str, AfterValidator(_region)] | None = None
    opt_out: OptOut = OptOut()
    content_days: Annotated[int, Field(ge=1, le=3650, strict=True)] = 30
    publishers: Publishers | None = None  # none: whoever may write the shared topic may publish as this tenant
    programmes: Annotated[Mapping[Slug, Programme], Field(min_length=1)]

    _version: str = PrivateAttr(default="")

    @property
    def version(self) -> str:
        """12 hex digits of the SHA-256 of what the file says; comments and layout do not change it."""
        return self._version

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
    """All tenants' policies. What contradicts itself between them (a sender with two accounts or two limits) is a ``PolicyError``."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._by_tenant = {policy.tenant: policy for policy in policies}
        self._routes = tuple(self._each_route())
        self._senders = sender_map(self._routes, {policy.tenant: policy.opt_out.scope for policy in self})
        self._owners: dict[str, frozenset[str]] = {}
        for policy in self:
            for topic in policy.publishers.topics if policy.publishers is not None else ():
                self._owners[topic] = self.owners(topic) | {policy.tenant}

    def tenant(self, name: str) -> Policy | None:
        """The policy of a tenant; None when there is none."""
        return self._by_tenant.get(name)

    def __iter__(self) -> Iterator[Policy]:
        return iter(self._by_tenant.values())

    def __len__(self) -> int:
        return len(self._by_tenant)

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


def load_policies(directory: Path) -> Policies:
    """Read every ``*.yaml`` of a directory. ``PolicyError`` at the first fault, with file, line and key, and when there is no file."""
    try:
        files = sorted(path for path in directory.iterdir() if path.suffix in {".yaml", ".yml"} and not path.name.startswith("."))
    except OSError as error:
        raise PolicyError(f"cannot be read ({error.strerror})", file=str(directory)) from None
    if not files:
        raise PolicyError("holds no policy: a file a tenant, such as my-shop.yaml, is needed", file=str(directory))
    policies: dict[str, Policy] = {}
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise PolicyError(f"cannot be read ({error.strerror})", file=str(path)) from None
        except UnicodeDecodeError:
            raise PolicyError("is not UTF-8", file=str(path)) from None
        policy = read_policy(text, str(path))
        if policy.tenant != path.stem:
            raise PolicyError(f"must be the file's name, {path.stem}", file=str(path), key="tenant")
        if policy.tenant in policies:
            raise PolicyError("has another file beside it for the same tenant", file=str(path), key="tenant")
        policies[policy.tenant] = policy
    return Policies(policies.values())


def read_policy(text: str, file: str) -> Policy:
    """One policy from the YAML of its file. ``PolicyError`` names ``file``, the line and the key."""
    content, lines = read_yaml(text, file)
    try:
        policy = Policy.model_validate(content)
    except ValidationError as error:
        fault = _first_fault(error, lines, file)
    else:
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        policy._version = hashlib.sha256(canonical.encode()).hexdigest()[:12]  # noqa: SLF001 -- of this module's own model
        return policy
    raise fault


def _first_fault(error: ValidationError, lines: Lines, file: str) -> PolicyError:
    """The fault that stands first in the file."""
    faults = []
    entries = error.errors(include_url=False, include_context=False, include_input=False)
    for entry in entries:
        inside = len(entry["loc"])
        if entry["type"] == "too_short" and any(other["loc"][:inside] == entry["loc"] for other in entries if other is not entry):
            continue  # the library counts only the good items of a list
        path = tuple(step for step in entry["loc"] if step != "[key]")
        known = path
        while known and known not in lines:
            known = known[:-1]
        what = {
            "missing": "is missing",
            "extra_forbidden": "is no key of a policy",
            "string_type": "must be text: put it in quotes",
        }.get(entry["type"], entry["msg"].removeprefix("Value error, "))
        faults.append((lines.get(known, 1), ".".join(map(str, path)), what))
    line, key, what = min(faults)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return PolicyError(what + more, file=file, line=line, key=key or None)
