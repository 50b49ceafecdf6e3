"""Retention: in each place where personal data stands, what dies when, the step that ends it, and what is found there.

The places are written in modules of their own; docs/data-map.md lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

__all__ = ["Found", "Place", "Planned"]


@dataclass(frozen=True, slots=True)
class Planned:
    """What dies next in a place: of which tenant and class, how much of it where that is known, when and how.

    ``due_at`` is None where nothing ends it: ``how`` says why.
    """

    place: str
    tenant: str
    data_class: str
    due_at: datetime | None
    count: int | None
    how: str


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in a place of one tenant and class. ``oldest``: when the oldest of it was made; None where there is none.

    ``not_before``: nothing that was made before may be there; None where all may. ``why`` says what is wrong, or what could not be
    looked at; empty where all is well. What a legal hold keeps is well, and said.
    """

    place: str
    tenant: str
    data_class: str
    oldest: datetime | None
    not_before: datetime | None
    well: bool
    why: str = ""


class Place(Protocol):
    """Somewhere that personal data stands: tables, a topic, the key ring, a provider account."""

    @property
    def name(self) -> str:
        """Such as ``postgresql``, ``kafka``, ``keys``, ``provider main``."""
        ...

    async def plan(self, now: datetime) -> Sequence[Planned]:
        """What dies here next, for each tenant and class."""
        ...

    async def run(self, now: datetime, most: int) -> int:
        """End what is due, a bounded step of ``most`` things or of some time; returns how many were ended, 0 when no more can be now.

        It may be killed anywhere and run twice at once: nothing is half dead, and nothing dies that should live.
        """
        ...

    async def left(self, now: datetime) -> str:
        """What is due and could not be ended now, in a line; empty where there is none. What a legal hold keeps is not due."""
        ...

    async def verify(self, now: datetime) -> Sequence[Found]:
        """Look at what is there, by its own means and not by what :meth:`run` noted. Raises Unavailable when it cannot be looked at."""
        ...
