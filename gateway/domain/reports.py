"""What passes between the flow and a provider: a text to send, and what a provider reports of texts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from gateway.domain.personal import MessageBody, PhoneNumber

__all__ = ["InboundText", "ListedText", "OptOutType", "Receipt", "ReportedState", "Text"]

ReportedState = Literal["sent", "delivered", "undelivered"]
OptOutType = Literal["STOP", "START", "HELP"]


@dataclass(frozen=True, slots=True)
class Text:
    """One attempt to text one person: all that a provider needs for its create request."""

    uid: UUID
    attempt: int
    account: str
    sender: str
    to: PhoneNumber
    body: MessageBody


@dataclass(frozen=True, slots=True)
class Receipt:
    """A status callback: what became of one attempt, by the provider's word.

    ``state`` is None for news that changes nothing (``queued``, ``sending``). ``code`` is the provider's error code, if any.
    """

    account: str
    uid: UUID
    attempt: int
    provider_message_id: str
    state: ReportedState | None
    code: str | None


@dataclass(frozen=True, slots=True)
class InboundText:
    """A text that a person sent to one of our numbers.

    ``service`` is the messaging service it belongs to, if the provider names one. ``replied`` says that the provider has already
    answered it as a STOP, START or HELP. ``created_at`` is the provider's own time for the text, None when it did not say
    (webhooks carry none).
    """

    account: str
    provider_message_id: str
    sender: PhoneNumber
    to: str
    service: str | None
    body: MessageBody
    replied: OptOutType | None
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class ListedText:
    """An outbound message in the provider's own list: evidence that it was accepted."""

    provider_message_id: str
    to: PhoneNumber
    sender: str | None
    body: MessageBody
    state: ReportedState | None
    code: str | None
    parts: int | None
    created_at: datetime
