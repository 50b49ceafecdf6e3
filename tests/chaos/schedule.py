"""What will happen, drawn from a seed before anything starts: who is texted what, who texts back, and which process is hurt when."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

__all__ = ["FAMILIES", "PROGRAMMES", "Fault", "FaultKind", "Outgoing", "PersonText", "Programme", "Schedule", "number_of"]

FaultKind = Literal["kill", "kill_family", "freeze", "cut_sessions", "crash_postgres"]
OutgoingKind = Literal["message", "repeat", "reused", "poison"]
Word = Literal["STOP", "START", "HELP"]

#: How many processes of each role there are, beside the supervisor of each role.
FAMILIES: Final[Mapping[str, int]] = {"worker": 3, "web": 2, "relay": 2, "sweep": 1}

MESSAGES: Final = 3_400
PER_SECOND: Final = 38.0
PER_SECOND_THEN: Final = 15.0  # while the last faults happen, which take their time on a machine that is busy
LOAD_SECONDS: Final = 62.0
_BURST: Final = 80
_BURST_BEFORE: Final = 0.12  # seconds before a fault: its requests are under way then
_AREAS: Final = ("202", "212", "310", "415", "617")  # NXX-555-01xx: a hundred numbers set aside for fiction in each


@dataclass(frozen=True, slots=True)
class Programme:
    """A programme of a tenant, the sender it texts by, and the people it texts. A STOP to the sender covers ``scope``."""

    tenant: str
    name: str
    category: str
    sender: str
    account: str
    scope: Literal["programme", "tenant"]
    people: range

    @property
    def consent(self) -> tuple[str, str, str]:
        """Tenant, scope and name of the consent that a STOP to the sender changes."""
        return self.tenant, self.scope, self.name if self.scope == "programme" else ""


PROGRAMMES: Final = (
    Programme("lantern", "offers", "marketing", "+14155550110", "north", "programme", range(320)),
    Programme("lantern", "orders", "service", "+14155550111", "north", "programme", range(320)),
    Programme("ferry", "crossings", "service", "+12125550120", "south", "tenant", range(160, 480)),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something is hurt ``at`` so many seconds of load; what is not up then is waited for.

    ``target`` is a process (``worker-1``), a role whose supervisor is meant, or "" for PostgreSQL.
    """

    number: int
    at: float
    kind: FaultKind
    target: str = ""


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
    """A person texts one of our senders, at so many seconds of load."""

    at: float
    person: int
    programme: Programme
    word: Word


def number_of(person: int) -> str:
    """The person's number, in E.164."""
    return f"+1{_AREAS[person // 100]}5550{100 + person % 100}"


def reference(tenant: str, person: int) -> str:
    """The tenant's own name for a person."""
    return f"{tenant}/{person}"


class Schedule:
    """All that is drawn from one seed. Two schedules of the same seed are equal, whatever the machine does."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def _chance(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}:{name}")

    @cached_property
    def faults(self) -> tuple[Fault, ...]:
        """Every process is hurt in turn, those that send most often; PostgreSQL crashes once, late."""
        chance = self._chance("faults")
        hurts: list[tuple[FaultKind, str]] = [("cut_sessions", ""), ("cut_sessions", "")]
        for role, kills, freezes in (("worker", 5, 4), ("web", 3, 1), ("relay", 2, 1), ("sweep", 1, 1)):
            hurts += [("kill", name) for name in _turns(chance, role, kills)]
            hurts += [("freeze", name) for name in _turns(chance, role, freezes)]
        hurts += [("kill_family", role) for role in ("worker", "web", "relay")]
        chance.shuffle(hurts)
        hurts.insert(len(hurts) - 4, ("crash_postgres", ""))
        step = (LOAD_SECONDS - 8) / len(hurts)
        return tuple(
            Fault(number, round(4 + (number - 1 + chance.random() * 0.8) * step, 2), kind, target)
            for number, (kind, target) in enumerate(hurts, start=1)
        )

    @cached_property
    def texts(self) -> tuple[PersonText, ...]:
        """Who texts what: a third of all people STOP, some of these twice, some START again later; a few ask for HELP."""
        chance = self._chance("texts")
        texts: list[PersonText] = []
        for programme in PROGRAMMES:
            for person in programme.people:
                drawn = chance.random()
                at = chance.uniform(3, LOAD_SECONDS - 4)
                if drawn < 0.22:
                    texts.append(PersonText(at, person, programme, "STOP"))
                    if drawn < 0.05:
                        texts.append(PersonText(at + chance.uniform(0.05, 3), person, programme, "STOP"))
                    elif drawn < 0.10 and at < LOAD_SECONDS / 2:
                        texts.append(PersonText(at + chance.uniform(9, 14), person, programme, "START"))
                elif drawn < 0.25:
                    texts.append(PersonText(at, person, programme, "HELP"))
        return tuple(sorted(texts, key=lambda text: text.at))

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
        bursts = [fault.at - _BURST_BEFORE for fault in self.faults if fault.target.startswith("worker") or not fault.target]
        at = 0.0
        while True:
            at += 1 / (PER_SECOND if at < LOAD_SECONDS else PER_SECOND_THEN)
            while bursts and bursts[0] <= at:
                yield from [bursts.pop(0)] * _BURST
            yield at


def _kind(chance: random.Random, earlier: list[Outgoing]) -> OutgoingKind:
    shares: Mapping[OutgoingKind, float] = {"message": 97, "repeat": 1.5, "reused": 0.5, "poison": 1}
    return chance.choices(list(shares), list(shares.values()))[0] if len(earlier) > 100 else "message"


def _turns(chance: random.Random, role: str, count: int) -> list[str]:
    """``count`` processes of a role, each as often as the others."""
    order = chance.sample([f"{role}-{number + 1}" for number in range(FAMILIES[role])], FAMILIES[role])
    return [order[place % len(order)] for place in range(count)]
