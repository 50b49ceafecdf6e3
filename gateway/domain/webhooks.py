"""What passes between the web and a provider account: a webhook as it came, and what it reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from gateway.domain.reports import InboundText, OptOutNews, Receipt, StatusNews

__all__ = ["Handshake", "Reports", "WebhookRequest"]


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A POST to one account's webhooks.

    ``url`` is as the provider called it: the public one. ``tail`` is what stands after ``/webhooks/{provider}/{account}/``:
    ``("inbound",)``, ``("status", token)``, or what else the provider was told to call. ``headers`` have lower-case names; one that
    stands twice is empty, as only a forger would have it. ``named`` is the message and attempt that our own token in
    ``("status", token)`` names; None where there is none, and where we did not make it for this account.
    """

    url: str
    tail: tuple[str, ...]
    headers: Mapping[str, str]
    body: bytes
    named: tuple[UUID, int] | None = None


@dataclass(frozen=True, slots=True)
class Reports:
    """What a webhook reports; all of it is durable before the webhook is answered."""

    receipts: Sequence[Receipt] = ()
    statuses: Sequence[StatusNews] = ()
    texts: Sequence[InboundText] = ()
    opt_outs: Sequence[OptOutNews] = ()


@dataclass(frozen=True, slots=True)
class Handshake:
    """The provider asks whether we are there: it is answered 200 with these headers."""

    headers: Mapping[str, str]
