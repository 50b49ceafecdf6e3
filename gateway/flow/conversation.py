"""What is kept of people's texts and consent: the values and ports of replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from gateway.domain.consent import Consent, ConsentKey
from gateway.flow.stop import InboundNote, ReadyReply
from gateway.flow.vault import KeptNumber

__all__ = ["Conversation", "InboundSource", "LastText", "OptIn"]


@dataclass(frozen=True, slots=True)
class LastText:
    """The last message of ours to a person by a sender: whom a text to a shared sender is most likely for."""

    tenant: str
    programme: str
    uid: UUID
    recipient_sealed: bytes | None
    recipient_ref: str | None
    """Of a message from before they were sealed."""


@dataclass(frozen=True, slots=True)
class OptIn:
    """An opt-in to write. It undoes only opt-outs said before ``stated_at``, looked at again under the lock.

    Where ``proven`` is false nobody was asked when it was said, because no opt-out stood: it undoes none that was written meanwhile.
    ``number`` and ``learned_from`` are as in an :class:`~gateway.flow.stop.OptOut`.
    """

    key: ConsentKey
    source: Literal["text", "api", "cli", "import", "event", "provider"]
    stated_at: datetime
    actor: str
    proof_sealed: bytes | None = None
    proof_uid: UUID | None = None
    reply: ReadyReply | None = None
    inbound: InboundNote | None = None
    proven: bool = True
    number: KeptNumber | None = None
    learned_from: tuple[str, str] | None = None


class Conversation(Protocol):
    """What is kept of people's texts, and the consent that they change."""

    async def now(self) -> datetime:
        """The store's time."""
        ...

    async def consents(self, subject_id: bytes) -> Sequence[Consent]:
        """All that a person has said."""
        ...

    async def last_text(self, subject_id: bytes, sender: str) -> LastText | None:
        """The last message of ours to a person by a sender."""
        ...

    async def is_closed(self, tenant: str) -> bool:
        """Whether the tenant's customer account is closed."""
        ...

    async def route_id(self, tenant: str, programme: str, sender: str) -> int | None:
        """The way out of a programme by a sender."""
        ...

    async def seen(self, account: str, provider_message_id: str) -> bool:
        """Whether this inbound text was there before."""
        ...

    async def opt_in(self, opt_in: OptIn) -> Literal["granted", "not_proven", "repeated"]:
        """Write an opt-in if nothing speaks against it."""
        ...

    async def note(self, inbound: InboundNote, reply: ReadyReply | None, event: tuple[bytes, bytes] | None) -> bool:
        """Keep a text that changes no consent, with its answer or its event (uid bytes and sealed payload). False if it was there."""
        ...

    async def note_start(self, inbound: InboundNote, number: KeptNumber | None, learned_from: tuple[str, str] | None) -> bool:
        """Keep a START that changes no consent here, and may have changed it at its provider. False if it was there."""
        ...


class InboundSource(Protocol):
    """A provider account that can be asked when a person's text was made."""

    @property
    def name(self) -> str: ...

    async def inbound_created_at(self, provider_message_id: str) -> datetime | None:
        """The provider's own time; raises ProviderUnavailable."""
        ...
