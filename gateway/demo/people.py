"""Who is texted: a crowd of two tenants' customers, and a cast of some whose phones, or tempers, are special."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from gateway.domain.personal import PhoneNumber

__all__ = ["BOOKS", "BULK", "CARRIER_SCRIPTS", "CLINIC", "Person", "Wish", "cast", "crowd", "masked", "wishes"]

BOOKS: Final = "harbour-books"
CLINIC: Final = "northside-clinic"
BULK: Final = "+14155550112"
"""The sender of the shop's offers that is with RingCentral."""

_NAMES: Final = (
    "Ana", "Ben", "Chloe", "Dmitri", "Elif", "Femi", "Grace", "Hugo", "Imani", "Jonas", "Keiko", "Luis", "Maya", "Nils", "Olga", "Priya",
    "Quinn", "Rosa", "Sam", "Tariq", "Uma", "Viktor", "Wren", "Ximena", "Yusuf", "Zoe",
)  # fmt: skip
# 555-0100 to -0179 of every area code belong to nobody; the simulated carrier treats them as ordinary phones.
_CROWD_AREAS: Final = (202, 212, 303, 312, 415, 503)
_CAST_AREA: Final = 617
_ORDINARY: Final = range(100, 180)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a phone. ``ref`` is what the tenants' systems call them."""

    ref: str
    name: str
    number: PhoneNumber = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody texts to whom, midway; ``language`` is the one they should be answered in.

    ``says_again`` is texted once more after the STOP, ``repeats`` is how often the carrier tells of the first, ``regrets`` is texted
    later to undo it, ``asks`` is texted after it for help.
    """

    person: Person
    tenant: str
    programme: str
    sender: str
    says: str
    at: float
    language: Literal["en", "fr", "es"] = "en"
    says_again: str = ""
    repeats: int = 1
    regrets: str = ""
    asks: str = ""


#: What the carrier does with the texts to some of the cast.
CARRIER_SCRIPTS: Final[Mapping[str, str]] = {
    "silent": "hang_after_silent",
    "vanishing": "hang_before",
    "undelivered-1": "undelivered",
    "undelivered-2": "undelivered",
    "filtered": "filtered",
    "landline": "not_textable",
    "elsewhere": "opted_out",
    "no-receipt": "callbacks_lost",
    "repeating": "callbacks_repeated",
    "reversed": "callbacks_reversed",
}
_EXTRAS: Final = (
    "stop-1", "stop-2", "stop-3", "stop-4", "stop-5", "stop-6", "stop-7", "stop-8", "regret-1", "regret-2", "help-1", "help-2", "asker",
    "forged", "late-code", "stop-9", "stop-10", "regret-3", "help-3",
)  # fmt: skip


def crowd(prefix: str, count: int, chance: random.Random) -> list[Person]:
    """So many people with ordinary phones; the same number may be in the crowd of both tenants."""
    numbers = [f"+1{area}555{line:04d}" for area in _CROWD_AREAS for line in _ORDINARY]
    return [
        Person(f"{prefix}-{place:04d}", chance.choice(_NAMES), PhoneNumber(number))
        for place, number in enumerate(chance.sample(numbers, count), start=1)
    ]


def cast() -> dict[str, Person]:
    """Those with a part of their own, by its name."""
    return {
        part: Person(f"cast-{part}", _NAMES[place % len(_NAMES)], PhoneNumber(f"+1{_CAST_AREA}555{100 + place:04d}"))
        for place, part in enumerate((*CARRIER_SCRIPTS, *_EXTRAS))
    }


def wishes(people: Mapping[str, Person]) -> Iterator[Wish]:
    """Who texts what, in order of time (seconds after the traffic has begun)."""
    offers, visits, codes = "+14155550110", "+12125550120", "+12125550122"
    yield Wish(people["regret-1"], BOOKS, "offers", offers, "stop", 7.0, regrets="START")
    yield Wish(people["regret-2"], CLINIC, "appointments", visits, "Cancel", 8.0, regrets="unstop")
    yield Wish(people["regret-3"], BOOKS, "offers", BULK, "Quit", 9.0, regrets="START")
    yield Wish(people["stop-1"], BOOKS, "offers", offers, "STOP", 9.5, asks="INFO")
    yield Wish(people["stop-2"], BOOKS, "offers", offers, "Unsubscribe.", 10.5, repeats=3)
    yield Wish(people["stop-3"], CLINIC, "appointments", visits, "STOP", 11.0)
    yield Wish(people["stop-4"], BOOKS, "offers", offers, "BAJA", 12.0, language="es")
    yield Wish(people["stop-9"], BOOKS, "offers", BULK, "STOP", 12.5, repeats=2)
    yield Wish(people["stop-5"], BOOKS, "offers", offers, "STOP ALL", 13.5, says_again="stop!!")
    yield Wish(people["stop-6"], CLINIC, "appointments", visits, "Arrêt", 14.5, language="fr")
    yield Wish(people["stop-10"], BOOKS, "offers", BULK, "unsubscribe", 15.0)
    yield Wish(people["stop-7"], CLINIC, "sign-in", codes, "End", 16.0)
    yield Wish(people["stop-8"], BOOKS, "offers", offers, "Stop 🛑", 17.0)


def masked(person: Person) -> str:
    """A number as it may be shown."""
    number = person.number.reveal()
    return f"{number[:2]} {number[2:5]} ••• ••{number[-2:]}"
