"""What a restored database is to believe, when a topic tells of something that it does not know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from gateway.domain.consent import ConsentKey
from gateway.domain.events import ConsentEvent, StatusEvent

__all__ = ["Kept", "ToldConsent", "ToldState", "judge"]

Verdict = Literal[
    "known",  # the database says the same
    "restored",  # the topic's word is later: it is written
    "tell_again",  # the database's word is later, and readers would take it for an old one: it gets a higher version
    "count_on",  # it says the same by a lower version: the version follows
]


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of the consent list."""

    status: Literal["in", "out"]
    version: int
    stated_at: datetime


@dataclass(frozen=True, slots=True)
class ToldConsent:
    """A consent event, and whom it speaks of."""

    key: ConsentKey
    event: ConsentEvent


@dataclass(frozen=True, slots=True)
class ToldState:
    """A status event, and the message's own id."""

    uid: UUID
    event: StatusEvent


def judge(event: ConsentEvent, kept: Kept | None) -> Verdict:
    """Which word holds: the one that was said later, and of two of one moment the opt-out, as everywhere.

    Not the higher version: a person may have written to the restored database before the topic was read, which then counts from an old
    version.
    """
    if kept is None:
        return "restored"
    if kept.status == event.status:
        if event.version <= kept.version:
            return "known"
        return "restored" if event.stated_at > kept.stated_at else "count_on"
    later = event.stated_at >= kept.stated_at if event.status == "out" else event.stated_at > kept.stated_at
    if later:
        return "restored"
    return "tell_again" if event.version >= kept.version else "known"
