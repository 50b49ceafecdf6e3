"""The port of providers: what the gateway asks of an account with one. A provider is a folder in providers/; docs/adding-a-provider.md.

A provider keeps and logs nothing of what passes. Limits, leases, retries, breakers and metrics are written once, in the chapters
that call it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from gateway.domain.outcome import Outcome
from gateway.domain.personal import PhoneNumber
from gateway.domain.reports import InboundText, ListedText, OptOutNews, Text
from gateway.domain.webhooks import Handshake, Reports, WebhookRequest

__all__ = ["Abilities", "Copies", "Copy", "Erasure", "OptOutWord", "Provider", "Told"]

Erasure = Literal["done", "later", "never"]
"""What became of a copy at the provider: it is gone; it can't be taken away yet; the provider has no way to take it away."""

Told = Literal["confirmed", "later", "refused", "never"]
"""What became of an opt-out that was told: taken; not now; this one never; the provider can't be told at all."""


@dataclass(frozen=True, slots=True)
class OptOutWord:
    """What a person said at ``at``, to be told to a provider: out of texts from this sender of the account, or in again."""

    to: PhoneNumber
    sender: str
    opted_out: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Copy:
    """A text that the provider has; ``has_text`` is whether its words are still in it."""

    provider_message_id: str
    created_at: datetime
    has_text: bool


@dataclass(frozen=True, slots=True)
class Copies:
    """The oldest of them. ``all_seen``: there were no more that were not looked at."""

    oldest: Sequence[Copy]
    all_seen: bool


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a provider can do; docs/providers.md is made from it.

    ``batch`` is how many texts one create request may carry. ``news``: whether it reports on a message to the message's own callback
    URL, or to a subscription. ``signs``: whether its webhooks prove who sent them; of others only ids are believed. ``lists_sent``:
    whether its list can be evidence; it cannot where texts or numbers are not kept. ``cancels_scheduled``: whether other systems may
    have scheduled texts with it, which it can be asked to drop.
    Of opt-outs it can be told ``opt_outs_per_call`` at once, in calls that begin ``opt_out_call_seconds`` apart; copies are erased
    one by one, in calls that begin ``erasure_seconds`` apart.
    """

    batch: int
    news: Literal["callback", "subscription"]
    signs: bool
    redacts: bool
    deletes: bool
    tells_opt_outs: bool
    lists_opt_outs: bool
    lists_sent: bool = True
    lists_inbound: bool = True
    cancels_scheduled: bool = False
    opt_outs_per_call: int = 1000
    opt_out_call_seconds: float = 6.0
    erasure_seconds: float = 0.05


class Provider(Protocol):
    """An account with a provider."""

    @property
    def name(self) -> str:
        """The provider's, as it stands in policies and in webhook URLs."""
        ...

    @property
    def account(self) -> str:
        """The account's alias."""
        ...

    @property
    def abilities(self) -> Abilities:
        """What this account can do."""
        ...

    async def send(self, texts: Sequence[Text]) -> Sequence[Outcome]:
        """One create request for texts of one sender, no two to the same person, ``abilities.batch`` at most; each one's outcome.

        Whatever the provider or the network does is an outcome: it raises nothing. At most the account's time limit passes, and a
        request that has begun is waited for also when this is cancelled.
        """
        ...

    async def list_sent(self, to: PhoneNumber, sender: str, since: datetime) -> list[ListedText]:
        """What the provider took for this person from this sender since then, by its clock. Raises ProviderUnavailable."""
        ...

    async def list_inbound(self, to: str, since: datetime) -> list[InboundText]:
        """What people sent to our sender since then, oldest first. Raises ProviderUnavailable."""
        ...

    async def inbound_created_at(self, provider_message_id: str) -> datetime | None:
        """When the provider made the record of an inbound text; None when it knows none. Raises ProviderUnavailable."""
        ...

    async def hear(self, request: WebhookRequest) -> Reports | Handshake:
        """What a webhook reports. Raises WebhookRefused before anything is asked for, BadWebhook for one that cannot be read.

        A provider that does not sign its webhooks is asked for what they speak of: ProviderUnavailable when it does not tell and a text
        may be missed.
        """
        ...

    async def redact(self, provider_message_id: str) -> Erasure:
        """Take the text out of the provider's copy of a message. Raises ProviderUnavailable."""
        ...

    async def delete(self, provider_message_id: str) -> Erasure:
        """Delete the provider's copy of a message, or of a text that a person sent. Raises ProviderUnavailable."""
        ...

    async def oldest_copies(self, sender: str, before: datetime) -> Copies:
        """Of the copies that the provider made before then, by its clock, of texts from and to this sender of ours: the oldest.

        A bounded number of questions, however many there are. Raises ProviderUnavailable.
        """
        ...

    async def tell_opt_outs(self, words: Sequence[OptOutWord]) -> Sequence[Told]:
        """Tell the provider what people said, each one's fate in its place. Raises ProviderUnavailable."""
        ...

    async def list_opt_outs(self, sender: str, since: datetime) -> list[OptOutNews]:
        """What the provider knows of people's words to a sender since then. Raises ProviderUnavailable."""
        ...

    async def cancel_scheduled(self, to: PhoneNumber, senders: Collection[str]) -> int:
        """Cancel what other systems have scheduled at the provider for this person from these senders of ours; how many were.

        Raises ProviderUnavailable when something may be left. The gateway itself schedules nothing there.
        """
        ...

    async def keep_up(self, webhooks_url: str) -> None:
        """Renew what must be renewed by the clock, such as subscriptions to webhooks below this URL; called about once a minute.

        Raises ProviderUnavailable.
        """
        ...

    async def check(self) -> None:
        """Sign in and look whether the account is in order. Raises ProviderUnavailable, which says what is not."""
        ...

    async def close(self) -> None:
        """Wait for the requests under way, at most the time limit, and close the connections."""
        ...
