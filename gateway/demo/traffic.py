"""The messages that the two tenants publish: who is told what and when, and what must become of each."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from gateway.demo.people import BOOKS, BULK, CLINIC, Person, cast, crowd
from gateway.demo.texts import write
from gateway.domain.cloudevents import write_binary
from gateway.domain.events import OutboundMessage

__all__ = ["Message", "Planned", "Traffic"]

Category = Literal["marketing", "service", "security"]

_PACE_SECONDS: Final = 33.0
_CROWD: Final[Mapping[str, int]] = {"offers": 190, "orders": 130, "appointments": 130, "sign-in": 70}
_TENANT: Final = {"offers": BOOKS, "orders": BOOKS, "appointments": CLINIC, "sign-in": CLINIC}
_CATEGORY: Final[Mapping[str, Category]] = {
    "offers": "marketing", "orders": "service", "appointments": "service", "sign-in": "security",
}  # fmt: skip
_AGREED: Final = timedelta(days=41)  # how long ago people agreed to be sent offers


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the tenant's backend has it. ``ends`` are the states or reasons it may end by: ``blocked`` goes with its reason."""

    message_id: str
    programme: str
    person: Person
    body: str = field(repr=False)
    ends: frozenset[str]
    category: Category
    to: str = field(repr=False)
    sender: str | None = None
    proved: bool = False
    after: float | None = None
    until: float | None = None

    @property
    def tenant(self) -> str:
        """Whose message it is."""
        return _TENANT[self.programme]

    @property
    def key(self) -> tuple[str, str]:
        """The name that nobody else's message has."""
        return self.tenant, self.message_id

    def data(self, now: datetime) -> dict[str, Any]:
        """The event's data; times of delay and expiry count from ``now``."""
        data: dict[str, Any] = {
            "message_id": self.message_id,
            "tenant": self.tenant,
            "programme": self.programme,
            "category": self.category,
            "to": self.to,
            "body": self.body,
            "recipient_ref": self.person.ref,
            "metadata": {"campaign": "autumn"} if self.category == "marketing" else {},
        }
        if self.sender is not None:
            data["sender"] = self.sender
        if self.proved:
            data["opt_in_proof"] = proof(now)
        if self.after is not None:
            data["not_before"] = (now + timedelta(seconds=self.after)).isoformat()
        if self.until is not None:
            data["expires_at"] = (now + timedelta(seconds=self.until)).isoformat()
        return data

    def record(self, now: datetime, *, structured: bool) -> tuple[Sequence[tuple[str, bytes]], bytes]:
        """The event as a record's headers and value, in CloudEvents' binary or structured mode."""
        data = self.data(now)
        if not structured:
            return write_binary(
                event_type=OutboundMessage.TYPE,
                event_id=self.message_id,
                source=f"{self.tenant}/backend",
                time=now,
                data=json.dumps(data, ensure_ascii=False).encode(),
            )
        event = {
            "specversion": "1.0",
            "id": self.message_id,
            "source": f"{self.tenant}/backend",
            "type": OutboundMessage.TYPE,
            "time": now.isoformat(),
            "datacontenttype": "application/json",
            "data": data,
        }
        return [("content-type", b"application/cloudevents+json; charset=UTF-8")], json.dumps(event).encode()


@dataclass(frozen=True, slots=True)
class Planned:
    """Something to publish ``at`` so many seconds: a message, or bytes that must end as a dead letter for ``reason``."""

    at: float
    message: Message | None = None
    structured: bool = False
    again: bool = False
    reason: str = ""
    headers: Sequence[tuple[str, bytes]] = ()
    value: bytes = field(default=b"", repr=False)


def proof(now: datetime) -> dict[str, Any]:
    """What shows that somebody agreed to be sent offers."""
    return {
        "medium": "web",
        "at": (now - _AGREED).replace(hour=9, minute=30, second=0, microsecond=0).isoformat(),
        "wording": "Yes, text me offers from Harbour Books, up to 4 a month. I can stop at any time.",
        "form_version": "offers-7",
        "seller": "Harbour Books",
    }


class Traffic:
    """What is published, the same for the same ``seed``. Messages get their ids in the order in which they are made."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._count = 0
        self._said: set[tuple[str, str]] = set()
        self.people = cast()
        customers = crowd("customer", 120, self._chance)
        self.registered, self._customers, self._strangers = customers[:30], customers[30:112], customers[112:]
        self._patients = crowd("patient", 110, self._chance)
        self.first = self.make("orders", self._customers[0])

    def make(self, programme: str, person: Person, ends: str | Sequence[str] = "delivered", **more: Any) -> Message:
        """A message to a person. Its text is none that the person was sent before."""
        body = write(programme, person.name, self._chance)
        while (person.number.reveal(), body) in self._said:
            body = write(programme, person.name, self._chance)
        self._said.add((person.number.reveal(), body))
        self._count += 1
        more = {"category": _CATEGORY[programme], "proved": programme == "offers", "to": person.number.reveal(), **more}
        return Message(
            message_id=f"{_TENANT[programme].partition('-')[0]}-{programme}-{self._count:05d}",
            programme=programme,
            person=person,
            body=body,
            ends=frozenset([ends] if isinstance(ends, str) else ends),
            **more,
        )

    def burst(self) -> list[Message]:
        """Offers, each with its proof, and orders: what is under way when the gateway is killed."""
        offers = [self.make("offers", person) for person in self._chance.sample(self._customers, 40)]
        return [*offers, *(self.make("orders", person) for person in self._chance.sample(self._customers, 30))]

    def plan(self) -> list[Planned]:
        """Everything that is published at a steady pace, in order of time."""
        programmes = [programme for programme, count in _CROWD.items() for _ in range(count)]
        self._chance.shuffle(programmes)
        steady = [
            Planned(place * _PACE_SECONDS / len(programmes), self._to_the_crowd(programme, place), structured=place % 9 == 4)
            for place, programme in enumerate(programmes)
        ]
        return sorted([*steady, *self._special(), *self._malformed(steady)], key=lambda one: one.at)

    def _to_the_crowd(self, programme: str, place: int) -> Message:
        later = 5.0 if place % 24 == 7 else None
        until = 300.0 if programme == "sign-in" else None
        if programme == "offers":
            registered = self._chance.random() < 0.3
            person = self._chance.choice(self.registered if registered else self._customers)
            return self.make(programme, person, proved=not registered, after=later)
        person = self._chance.choice(self._patients if _TENANT[programme] == CLINIC else self._customers)
        return self.make(programme, person, after=later, until=until)

    def _special(self) -> Iterator[Planned]:
        people = self.people
        for part, ends, at in (
            ("silent", "delivered", 3.0),
            ("vanishing", "unknown", 4.0),
            ("no-receipt", "sent", 5.0),
            ("undelivered-1", "undelivered", 9.0),
            ("undelivered-2", "undelivered", 21.0),
            ("filtered", "undelivered", 14.0),
            ("landline", "failed", 12.0),
            ("elsewhere", "blocked opted_out", 6.0),
            ("elsewhere", "blocked opted_out", 24.0),
            ("repeating", "delivered", 16.0),
            ("reversed", "delivered", 17.0),
            ("asker", "delivered", 7.0),
            ("help-1", "delivered", 6.5),
            ("forged", "delivered", 27.0),
        ):
            programme = "offers" if part in ("elsewhere", "help-1") else "orders"
            sender = "+14155550110" if part == "elsewhere" else None  # only there is it known
            yield Planned(at, self.make(programme, people[part], ends, sender=sender))
        yield Planned(7.5, self.make("offers", people["help-3"], sender=BULK))
        yield Planned(5.5, self.make("appointments", people["help-2"], sender="+12125550120"))
        yield Planned(10.0, self.make("sign-in", people["late-code"], "expired", until=-1.0))
        for at in (11.0, 23.0):
            yield Planned(
                at, self.make("appointments", people["late-code"], "blocked category_not_allowed", category="marketing")
            )
        for place, to in enumerate(("+18005550142", "not a number")):
            yield Planned(13.0 + place, self.make("orders", self._customers[1], "blocked bad_number", to=to))
        for place, person in enumerate(self._strangers):
            yield Planned(2.0 + 4 * place, self.make("offers", person, "blocked no_opt_in", proved=False))

    def _malformed(self, steady: Sequence[Planned]) -> Iterator[Planned]:
        now = datetime.now(UTC)
        good = steady[40].message
        assert good is not None
        headers, value = good.record(now, structured=False)
        fields = good.data(now) | {"message_id": "broken"}
        yield Planned(6.2, reason="not_json", headers=headers, value=value[: len(value) // 2])
        yield Planned(8.2, reason="wrong_schema", headers=headers, value=_json({k: v for k, v in fields.items() if k != "to"}))
        yield Planned(12.2, reason="unknown_tenant", headers=headers, value=_json(fields | {"tenant": "nobody-we-know"}))
        yield Planned(15.2, reason="not_utf8", headers=headers, value=_json(fields).replace(b"broken", b"br\xffken"))
        yield Planned(18.2, reason="bad_cloudevent", value=_json(fields))
        yield Planned(21.2, reason="nul", headers=headers, value=_json(fields | {"body": "half of it\0"}))
        # The same event once more, and its message_id with another text.
        yield Planned(steady[40].at + 9, good, again=True)
        yield Planned(
            steady[40].at + 11, reason="id_reused", headers=headers, value=_json({**good.data(now), "body": "Something else."})
        )


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data).encode()
