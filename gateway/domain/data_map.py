"""The data map: where there is personal data, why, for how long, and how it ends; and of everything else, why it is none.

What it says of each column, field, label and key stands in the modules ``mapped_*``. Tests compare them with the schema, the events,
what providers are sent, the metrics and the logs as they are. ``gateway data-map --markdown`` writes the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Area", "Form", "Held", "Part", "Until"]

Form = Literal["clear", "sealed", "keyed hash", "wrapped"]


@dataclass(frozen=True, slots=True)
class Until:
    """How long: ``key`` is the policy's, or the setting's, or how it is said there is none; ``dies`` is how it ends."""

    key: str
    dies: str


@dataclass(frozen=True, slots=True)
class Held:
    """Personal data: what it is, why it is kept, in which form, for how long."""

    what: str
    why: str
    form: Form
    until: Until


@dataclass(frozen=True, slots=True)
class Area:
    """A table, an event's type, or the like. Keys are names, several with blanks between; ``none`` says why they are no personal data.

    ``called`` is what a name is in this area.
    """

    name: str
    held: Mapping[str, Held] = field(default_factory=dict)
    none: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Every name that it speaks of, in the order it does."""
        return [name for names in (*self.held, *self.none) for name in names.split()]


@dataclass(frozen=True, slots=True)
class Part:
    """Areas of one kind, such as the tables, with what is to be said of all."""

    title: str
    called: str
    text: str
    areas: Sequence[Area]

    def rows(self) -> Iterator[tuple[str, str, Held]]:
        """Each piece of personal data: its area, its names, what it is."""
        for area in self.areas:
            for names, held in area.held.items():
                yield area.name, names, held
