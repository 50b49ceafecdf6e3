"""What an account at RingCentral writes down beside its messages: batches, consents, subscriptions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Batch", "Consent", "Subscription"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that was accepted: who sends, when, and its messages' identifiers."""

    id: str
    sender: str = field(repr=False)
    created_at: float
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Consent:
    """A person's consent to one sender, or to all where ``sender`` is ``*``."""

    number: int
    sender: str = field(repr=False)
    to: str = field(repr=False)
    status: Literal["OptIn", "OptOut"]
    source: str
    coverage: str | None
    at: float


@dataclass(slots=True, eq=False)
class Subscription:
    """A webhook subscription. ``failing_since`` is when its webhook began to fail without a success since."""

    id: str
    filters: tuple[str, ...]
    address: str
    token: str | None = field(repr=False)
    created_at: float
    expires_at: float
    failing_since: float | None = None
    blacklisted_at: float | None = None
    reason: str = ""

    def blacklist(self, now: float, reason: str) -> None:
        """Nothing is delivered to it any more."""
        self.blacklisted_at, self.reason = now, reason
