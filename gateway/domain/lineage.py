"""Which life of the database it is, and how far that had come: what is kept outside it, so that one that went back is noticed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Self

__all__ = ["ANY", "NONE", "Expected", "Lineage"]

_NAME_BYTES: Final = 16
_TIMELINE_BYTES: Final = 4
_PLACE_BYTES: Final = 8
_SPARE: Final = bytes(4)


class Expected(NamedTuple):
    """The database that statements are meant for, as they take it: its name, timeline and position; None: not asked."""

    name: str | None
    timeline: int | None
    place: str


ANY: Final = Expected(None, None, "0/0")
"""Whatever database it is."""

NONE: Final = Expected("", None, "0/0")
"""No database at all: nothing is claimed from any."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """A database by its name (32 hex digits), its timeline, and the position in its log that was on its disk."""

    name: str
    timeline: int
    place: int

    def follows(self, kept: Self, *, trust_failover: bool) -> bool:
        """Whether this is what the kept one has become, with nothing lost."""
        return self.name == kept.name and (trust_failover or self.timeline == kept.timeline) and self.place >= kept.place

    def expected(self, *, trust_failover: bool) -> Expected:
        """What statements ask for, so that they do nothing in another database."""
        return Expected(self.name, None if trust_failover else self.timeline, f"{self.place >> 32:X}/{self.place & 0xFFFFFFFF:X}")

    def encode(self) -> bytes:
        """32 bytes, as a key ring keeps them."""
        return (
            bytes.fromhex(self.name)
            + self.timeline.to_bytes(_TIMELINE_BYTES, "big")
            + self.place.to_bytes(_PLACE_BYTES, "big")
            + _SPARE
        )

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """From those bytes. ValueError when they are others."""
        timeline, place, spare = raw[_NAME_BYTES:20], raw[20:28], raw[28:]
        if spare != _SPARE:
            raise ValueError("not a lineage")
        return cls(raw[:_NAME_BYTES].hex(), int.from_bytes(timeline, "big"), int.from_bytes(place, "big"))
