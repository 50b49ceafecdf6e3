"""What was seen from outside: published, texted, ordered by an operator, and read from the topics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from tests.chaos.schedule import Outgoing, PersonText

__all__ = ["Consent", "ConsentSeen", "Pause", "Published", "SpoolSeen", "StatusSeen", "TextSent", "Witnessed"]

Consent = tuple[str, str, str]
"""Tenant, scope and name."""


@dataclass(frozen=True, slots=True)
class Published:
    """A record that the broker has acknowledged, and where it stands in the input topic."""

    record: Outgoing
    partition: int
    offset: int

    @property
    def message(self) -> tuple[str, str]:
        return self.record.programme.tenant, self.record.message_id


@dataclass(frozen=True, slots=True)
class TextSent:
    """A person's text. ``answered_at``: when its webhook was answered 200, by the carrier's clock; None when it never was.

    ``attempts`` is how often the carrier tried, ``sid`` the carrier's own name for the text.
    """

    text: PersonText
    sent_at: float
    answered_at: float | None
    attempts: int = 1
    sid: str = ""


@dataclass(frozen=True, slots=True)
class StatusSeen:
    """A status event. ``person`` is the record's key: the tenant's pseudonym of whom it is about."""

    message: tuple[str, str]
    uid: UUID
    person: str
    version: int
    state: str
    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class ConsentSeen:
    """A consent event. ``at``: of an opt-out when it was in force, of an opt-in when it was written. Seconds of the Unix epoch."""

    person: str
    consent: Consent
    version: int
    status: str
    at: float
    written_at: float


@dataclass(frozen=True, slots=True)
class SpoolSeen:
    """A STOP in the spool: of the carrier's text ``sid``, written ``at`` so many seconds of the Unix epoch, by its writer's clock."""

    offset: int
    account: str
    sid: str
    at: float


@dataclass(frozen=True, slots=True)
class Pause:
    """A programme was paused: from when the operator was told so, to when it was asked to go on. Seconds of the Unix epoch."""

    tenant: str
    programme: str
    begins: float
    ends: float


@dataclass(slots=True)
class Witnessed:
    """What was published, texted, ordered by an operator, and read from the topics. ``canceled``: what an operator was told is so."""

    published: list[Published] = field(default_factory=list)
    unacknowledged: int = 0
    texts: list[TextSent] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    canceled: set[tuple[str, str]] = field(default_factory=set)
    consents: set[ConsentSeen] = field(default_factory=set)
    spool: list[SpoolSeen] = field(default_factory=list)
    dead_letters: dict[tuple[int, int], str] = field(default_factory=dict)
    last: dict[tuple[str, str], StatusSeen] = field(default_factory=dict)
    versions: defaultdict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    messages: dict[UUID, tuple[str, str]] = field(default_factory=dict)
    persons: dict[tuple[str, str], str] = field(default_factory=dict)
    events: int = 0

    def see_status(self, seen: StatusSeen) -> None:
        """Take a status event in: as a reader should, the highest version counts."""
        self.events += 1
        self.messages[seen.uid] = seen.message
        self.persons[seen.message] = seen.person
        if seen.version not in self.versions[seen.message]:
            self.versions[seen.message].append(seen.version)
        last = self.last.get(seen.message)
        if last is None or seen.version > last.version:
            self.last[seen.message] = seen

    def see_consent(self, seen: ConsentSeen) -> None:
        self.events += 1
        self.consents.add(seen)

    def unsettled(self) -> Iterator[str]:
        """The published events that are neither settled, nor sent, nor dead-lettered."""
        for one in self.published:
            if one.record.kind in ("poison", "reused"):
                if (one.partition, one.offset) not in self.dead_letters:
                    yield f"{one.record.kind} {one.record.number}: no dead letter"
            else:
                last = self.last.get(one.message)
                if last is None or not (last.final or last.state == "sent"):
                    yield f"{one.record.message_id}: {'nothing told' if last is None else f'{last.state} is not final'}"
