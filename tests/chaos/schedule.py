"""What will happen, drawn from a seed before anything starts: who is texted what, and who texts back."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

from tests.chaos.faults import Fault, draw_faults

__all__ = ["PROGRAMMES", "SHORT_MINUTES", "Outgoing", "PersonText", "Programme", "Schedule", "Way", "number_of", "reference"]

OutgoingKind = Literal["message", "repeat", "reused", "poison"]
Word = Literal["STOP", "START", "HELP"]

#: The load of the short form, of the test: at least 3,400 messages.
SHORT_MINUTES: Final = 1.2
PER_SECOND: Final = 38.0
PER_SECOND_THEN: Final = 15.0  # while the last faults happen, which take their time on a machine that is busy
_ROUND_OF_TEXTS: Final = 60.0  # seconds in which so many people text as are drawn below
_LAST_TEXT_BEFORE: Final = 6.5  # seconds before the end: before the last fault, after which the web looks for what it has missed
_TEXTS_OF_A_FAULT: Final = 16
_BURST: Final = 80
_BURST_BEFORE: Final = 0.12  # seconds before a fault: its requests are under way then
_AREAS: Final = ("202", "212", "310", "415", "617")  # NXX-555-01xx: a hundred numbers set aside for fiction in each


@dataclass(frozen=True, slots=True)
class Way:
    """A sender, and the account whose it is."""

    sender: str
    account: str


@dataclass(frozen=True, slots=True)
class Programme:
    """A programme of a tenant, the senders it texts by, and the people it texts. A STOP to any of the senders covers ``scope``."""

    tenant: str
    name: str
    category: str
    ways: tuple[Way, ...]
    scope: Literal["programme", "tenant"]
    people: range

    @property
    def consent(self) -> tuple[str, str, str]:
        """Tenant, scope and name of the consent that a STOP to the sender changes."""
        return self.tenant, self.scope, self.name if self.scope == "programme" else ""


PROGRAMMES: Final = (
    Programme("lantern", "offers", "marketing", (Way("+14155550110", "north"),), "programme", range(320)),
    Programme("lantern", "orders", "service", (Way("+13105550111", "ring"),), "programme", range(320)),
    Programme(
        "ferry", "crossings", "service", (Way("+12125550120", "south"), Way("+13105550121", "ring")), "tenant", range(160, 480)
    ),
)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record of the input topic. ``first`` of a repeat or a reused id is the number of the message whose id it has."""

    number: int
    kind: OutgoingKind
    programme: Programme
    person: int
    first: int | None = None

    @property
    def message_id(self) -> str:
        return f"m-{self.number if self.first is None else self.first}"

    @property
    def body(self) -> str:
        """No two messages have the same text: at the carrier it says which message a request was for."""
        return f"{self.programme.name}: news number {self.number if self.kind != 'repeat' else self.first} for you."

    @property
    def body_sha256(self) -> str:
        return hashlib.sha256(self.body.encode()).hexdigest()

    def value(self, opted_in_at: str) -> bytes:
        """The record's value. A marketing message proves an opt-in that is older than every STOP."""
        if self.kind == "poison":
            return b'{"message_id": "half an ev'
        event: dict[str, Any] = {
            "message_id": self.message_id,
            "tenant": self.programme.tenant,
            "programme": self.programme.name,
            "category": self.programme.category,
            "to": number_of(self.person),
            "body": self.body,
            "recipient_ref": reference(self.programme.tenant, self.person),
        }
        if self.programme.category == "marketing":
            event["opt_in_proof"] = {"medium": "web", "at": opted_in_at}
        return json.dumps(event).encode()


@dataclass(frozen=True, slots=True)
class PersonText:
    """A person texts one of the programme's senders (``way`` is its place there), at so many seconds of load.

    Its webhook is ``lost``, or posted, then posted again ``repeated_after`` so many seconds.
    """

    at: float
    person: int
    programme: Programme
    word: Word
    lost: bool = False
    repeated_after: float | None = None
    way: int = 0

    @property
    def to(self) -> Way:
        """The sender that is texted."""
        return self.programme.ways[self.way]


def number_of(person: int) -> str:
    """The person's number, in E.164."""
    return f"+1{_AREAS[person // 100]}5550{100 + person % 100}"


def reference(tenant: str, person: int) -> str:
    """The tenant's own name for a person."""
    return f"{tenant}/{person}"


class Schedule:
    """All that is drawn from one seed. Two schedules of the same seed and length are equal, whatever the machine does."""

    def __init__(self, seed: int, minutes: float = SHORT_MINUTES) -> None:
        self.seed = seed
        self.seconds = minutes * 60

    @property
    def messages(self) -> int:
        """How many records are published at least."""
        return int(self.seconds * PER_SECOND)

    def _chance(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}:{name}")

    @cached_property
    def faults(self) -> tuple[Fault, ...]:
        """The faults in the order of their moments."""
        return draw_faults(self.seed, self.seconds)

    @cached_property
    def texts(self) -> tuple[PersonText, ...]:
        """Who texts what: a good fifth of all people STOP in a round, some of these twice, some START later; a few ask for HELP.

        Of some the webhook is lost, or repeated late. Whose STOP is lost does not text again.
        """
        chance = self._chance("texts")
        texts: list[PersonText] = []
        settled: set[tuple[str, int]] = set()
        for number in range(max(1, round(self.seconds / _ROUND_OF_TEXTS))):
            begins = number * _ROUND_OF_TEXTS
            last = min(begins + _ROUND_OF_TEXTS, self.seconds - _LAST_TEXT_BEFORE)
            for programme in PROGRAMMES:
                for person in programme.people:
                    if (programme.name, person) not in settled:
                        one = list(self._person(chance, person, programme, begins + 3, last))
                        texts += one
                        settled.update((programme.name, person) for text in one if text.lost)
        return tuple(sorted(texts, key=lambda text: text.at))

    def texts_for(self, fault: Fault) -> tuple[PersonText, ...]:
        """The STOPs of some people that a fault is to find in the spool; of nobody whose STOP is lost."""
        chance = self._chance(f"fault {fault.number}")
        lost = {(text.programme.name, text.person) for text in self.texts if text.lost}
        everybody = [(programme, person) for programme in PROGRAMMES for person in programme.people]
        drawn = chance.sample(everybody, _TEXTS_OF_A_FAULT)
        return tuple(
            PersonText(fault.at, person, one, "STOP", way=chance.randrange(len(one.ways)))
            for one, person in drawn
            if (one.name, person) not in lost
        )

    def _person(
        self, chance: random.Random, person: int, programme: Programme, first: float, last: float
    ) -> Iterator[PersonText]:
        """What one person texts in a round."""
        drawn, at = chance.random(), chance.uniform(first, last)
        way = chance.randrange(len(programme.ways))
        if drawn < 0.02:
            yield PersonText(at, person, programme, "STOP", lost=True, way=way)
        elif drawn < 0.22:
            again = chance.uniform(0.1, 5) if drawn < 0.06 else chance.uniform(15, 18) if drawn >= 0.20 else None
            yield PersonText(at, person, programme, "STOP", repeated_after=again, way=way)
            if 0.05 <= drawn < 0.08:
                yield PersonText(
                    at + chance.uniform(0.05, 3), person, programme, "STOP", way=chance.randrange(len(programme.ways))
                )
            elif drawn >= 0.14 and at + 14 < self.seconds - 4:
                yield PersonText(at + chance.uniform(9, 14), person, programme, "START", way=way)
        elif drawn < 0.25:
            yield PersonText(at, person, programme, "HELP", way=way)

    def outgoing(self) -> Iterator[tuple[float, Outgoing]]:
        """The records with the seconds of load at which they are due, without end: they go on until the last fault is over.

        Before somebody texts STOP, messages for them are published: their requests are to begin just then.
        """
        chance = self._chance("messages")
        raced = [text for text in self.texts if text.word == "STOP"]
        earlier: list[Outgoing] = []
        for number, at in enumerate(self._moments(), start=1):
            if raced and raced[0].at - 0.3 <= at:
                text = raced[0]
                raced = raced[1:] if chance.random() < 0.4 else raced  # two or three for each of them
                record = Outgoing(number, "message", text.programme, text.person)
            else:
                programme = chance.choice(PROGRAMMES)
                record = Outgoing(number, _kind(chance, earlier), programme, chance.choice(programme.people))
            if record.kind in ("repeat", "reused"):
                first = chance.choice(earlier)
                record = Outgoing(number, record.kind, first.programme, first.person, first.number)
            elif record.kind == "message":
                earlier.append(record)
            yield at, record

    def _moments(self) -> Iterator[float]:
        """When something is published: steadily, and a burst before each fault that may find requests under way."""
        bursts = [fault.at - _BURST_BEFORE for fault in self.faults if fault.needs_requests]
        at = 0.0
        while True:
            at += 1 / (PER_SECOND if at < self.seconds else PER_SECOND_THEN)
            while bursts and bursts[0] <= at:
                yield from [bursts.pop(0)] * _BURST
            yield at


def _kind(chance: random.Random, earlier: list[Outgoing]) -> OutgoingKind:
    shares: Mapping[OutgoingKind, float] = {"message": 97, "repeat": 1.5, "reused": 0.5, "poison": 1}
    return chance.choices(list(shares), list(shares.values()))[0] if len(earlier) > 100 else "message"
