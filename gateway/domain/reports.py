"""What passes between the flow and a provider: a text to send, and what a provider reports of texts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from gateway.domain.personal import MessageBody, PhoneNumber

__all__ = ["InboundText", "ListedText", "OptOutNews", "OptOutType", "Receipt", "ReportedState", "StatusNews", "Text"]

ReportedState = Literal["sent", "delivered", "undelivered"]
OptOutType = Literal["STOP", "START", "HELP"]


@dataclass(frozen=True, slots=True)
class Text:
    """One attempt to text one person: all that a provider needs for its create request.

    ``callback_url`` is for a provider that reports on each message to an address of its own.
    """

    uid: UUID
    attempt: int
    account: str
    sender: str
    to: PhoneNumber
    body: MessageBody
    callback_url: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one attempt, by the provider's word, to the attempt's own callback URL.

    ``state`` is None for news that changes nothing (``queued``, ``sending``). ``code`` is the provider's error code, if any;
    ``filtered`` says that by it somebody on the way filtered the text out as unwanted.
    """

    account: str
    uid: UUID
    attempt: int
    provider_message_id: str
    state: ReportedState | None
    code: str | None
    filtered: bool = False


@dataclass(frozen=True, slots=True)
class StatusNews:
    """What became of a message, by the provider's own id for it.

    Messages that went out in one request share that request's id: with the account and the person it names one message. The rest is
    as in a :class:`Receipt`.
    """

    account: str
    provider_message_id: str
    to: PhoneNumber
    state: ReportedState | None
    code: str | None
    filtered: bool = False


@dataclass(frozen=True, slots=True)
class OptOutNews:
    """That a person has opted out of texts from a sender at the provider, or in again; ``at`` is the provider's time for it, if it told.

    An opt-in is news only where the provider says that the person gave it, and not somebody who may change its list. ``met``: a text of ours
    met it; it was said by ``at``, and may be old.
    """

    account: str
    to: PhoneNumber
    sender: str
    opted_out: bool
    at: datetime | None
    met: bool = False


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
    """An outbound message in the provider's own list: evidence that it was accepted. ``filtered`` is as in a :class:`Receipt`."""

    provider_message_id: str
    to: PhoneNumber
    sender: str | None
    body: MessageBody
    state: ReportedState | None
    code: str | None
    parts: int | None
    created_at: datetime
    filtered: bool = False
