"""What the conformance suite must be told of a provider: how to make one, and how its API would answer and call us.

A subject renders the neutral ``Books`` of the suite in its provider's own words. It is no simulator: the suite says what is in the
books, and what goes wrong.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from gateway.domain.outcome import Outcome
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reports import ReportedState, Text
from gateway.domain.webhooks import WebhookRequest
from gateway.flow.provider import Provider
from tests.contract.wire import Connection, Received, Wire, wire

__all__ = ["NOON", "NUMBER", "WORDS", "Books", "Came", "Reply", "Sent", "Standing", "Subject", "Word", "standing", "text"]

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NUMBER = "+13105550193"  # the canary
WORDS = "kanarienvogel-7f3a your code is 402917 — say nothing"
WEBHOOKS = "https://gateway.example.com/webhooks"

# An answer: a status, what it says (bytes as they are, anything else as JSON), and header lines.
Reply = tuple[int, object] | tuple[int, object, str]


@dataclass(frozen=True)
class Sent:
    """A text of ours that the provider took. ``batch`` is shared by those of one request."""

    number: int
    to: str = NUMBER
    body: str = WORDS
    state: ReportedState | None = None
    code: str | None = None
    at: datetime = NOON
    sender: str | None = None
    batch: int = 1


@dataclass(frozen=True)
class Came:
    """A text that a person sent to us."""

    number: int
    person: str = NUMBER
    body: str = "Stop"
    at: datetime | None = NOON
    to: str | None = None


@dataclass(frozen=True)
class Word:
    """An opt-out in the provider's own list."""

    to: str
    opted_out: bool = True
    at: datetime = NOON
    sender: str | None = None


@dataclass
class Books:
    """What the provider knows."""

    sent: list[Sent] = field(default_factory=list)
    came: list[Came] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    page: int = 1000


def text(number: int = 1, to: str = NUMBER, body: str = WORDS, sender: str = "") -> Text:
    return Text(
        UUID(int=number), 1, "main", sender, PhoneNumber(to), MessageBody(body), f"{WEBHOOKS}/any/main/status/token-{number}"
    )


class Subject(ABC):
    """A provider, or one way to use it."""

    label: str
    sender: str
    longest: int
    """How many characters one text may have."""
    secrets: Sequence[str]
    """What must turn up nowhere: credentials."""

    @property
    @abstractmethod
    def refusals(self) -> Sequence[tuple[Reply, Outcome]]:
        """Answers to a request for one text that are no acceptance, and what each means."""

    @property
    @abstractmethod
    def unreadable(self) -> Sequence[Reply]:
        """Answers of success that do not say what was accepted."""

    @property
    @abstractmethod
    def filtered(self) -> Sequence[str]:
        """The codes with which the provider says of a text that it was filtered out after acceptance."""

    @property
    def too_early(self) -> Reply | None:
        """The answer to a deletion that will work later."""
        return None

    @abstractmethod
    def open(self, url: str, **changed: Any) -> Provider:
        """A provider for the API at this address; ``time_limit_seconds`` may be changed."""

    def sign_in(self, request: Received) -> Reply | None:
        """The answer to a request for a token; None for any other request."""
        return None

    @abstractmethod
    def is_create(self, request: Received) -> bool: ...

    @abstractmethod
    def asked(self, request: Received) -> list[tuple[str, str]]:
        """To whom, and what, a create request wants to be sent; each one's sender is checked to be ours."""

    @abstractmethod
    def accepts(self, request: Received) -> Reply:
        """The answer that takes all that a create request asks for."""

    @abstractmethod
    def accepted_id(self, sent: Sent) -> str:
        """Our name for a text in the books."""

    def rejects(self, request: Received, index: int) -> Reply:
        """The answer that takes all but one of them, counted from 0, for it can't be texted. Only where there are batches."""
        raise NotImplementedError

    @abstractmethod
    def throttled(self, seconds: int | None) -> Reply:
        """Too many requests: come back after so many seconds."""

    @abstractmethod
    def answer(self, request: Received, books: Books) -> Reply:
        """The answer to anything else that may be asked of the books."""

    @abstractmethod
    def came(self, came: Came) -> WebhookRequest:
        """The webhook of an inbound text."""

    @abstractmethod
    def became(self, sent: Sent) -> WebhookRequest:
        """The webhook of what became of a text."""

    @abstractmethod
    def forged(self, request: WebhookRequest) -> Mapping[str, WebhookRequest]:
        """The same webhook from somebody who is not the provider, in several ways; none may be believed or asked about."""

    @abstractmethod
    def malformed(self, request: WebhookRequest) -> Mapping[str, WebhookRequest]:
        """A webhook that shows all that the provider's do, and cannot be read, in several ways."""


@dataclass
class Standing:
    """A provider, its server, and what the suite knows of both."""

    subject: Subject
    provider: Provider
    server: Wire
    books: Books

    def creates(self) -> list[Received]:
        return [request for request in self.server.requests if self.subject.is_create(request)]

    def others(self) -> list[Received]:
        return [
            request
            for request in self.server.requests
            if not self.subject.is_create(request) and self.subject.sign_in(request) is None
        ]


@asynccontextmanager
async def standing(
    subject: Subject,
    books: Books | None = None,
    *,
    create: Callable[[Received], Reply] | None = None,
    other: Callable[[Received], Reply] | None = None,
    script: Callable[[Connection], Awaitable[None]] | None = None,
    **changed: Any,
) -> AsyncIterator[Standing]:
    """A provider whose API answers from the books.

    ``create`` and ``other`` answer in their place; ``script`` does to the connection what it likes once a create request was read.
    """
    known = books or Books()

    async def serve(connection: Connection) -> None:
        while True:
            request = await connection.read()
            reply = subject.sign_in(request)
            if reply is None and subject.is_create(request):
                if script is not None:
                    await script(connection)
                    return
                reply = (create or subject.accepts)(request)
            elif reply is None:
                reply = other(request) if other is not None else subject.answer(request, known)
            status, said, *headers = reply
            await connection.answer(status, said if isinstance(said, bytes) else json.dumps(said).encode(), *headers)

    async with wire(serve) as server:
        provider = subject.open(server.url, **changed)
        try:
            yield Standing(subject, provider, server, known)
        finally:
            await provider.close()


def with_header(request: WebhookRequest, **headers: str | None) -> WebhookRequest:
    """The webhook with other headers; None takes one away."""
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    return replace(request, headers={name: value for name, value in {**request.headers, **changed}.items() if value is not None})
