"""What a provider's answer to a create request means for the message: one of five values, matched exhaustively."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.domain.reasons import Reason

__all__ = ["Accepted", "Later", "OptedOut", "Outcome", "Refused", "Unknown"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider has the message: it must never be sent again."""

    provider_message_id: str
    parts: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Surely not sent, and never will be: the message ends as ``failed``."""

    reason: Reason
    code: str


@dataclass(frozen=True, slots=True)
class Later:
    """Surely not sent; the same request may succeed later.

    ``wait`` is in seconds, None where the provider named no time. ``holds`` says what else must wait: this message alone, its
    sender, or the provider account. ``operator`` is true when nothing will change until a person acts (credentials, configuration).
    """

    reason: Reason
    code: str
    wait: float | None = None
    holds: Literal["message", "sender", "account"] = "message"
    operator: bool = False


@dataclass(frozen=True, slots=True)
class OptedOut:
    """Surely not sent: the provider says that the person has opted out. The gateway learns it."""

    code: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say whether it was accepted: only evidence may, and it is never sent again without.

    ``why`` is a short name such as ``timeout``, ``reset``, ``http_500`` or ``unreadable_answer``; it never holds the answer's text.
    """

    why: str


Outcome = Accepted | Refused | Later | OptedOut | Unknown
