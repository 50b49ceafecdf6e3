"""What stands before a claim as a whole, by the statement of that name in dispatch.sql."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from gateway.domain.lineage import ANY, Expected
from gateway.domain.pauses import Pause, is_paused
from gateway.domain.subject_keys import SubjectKeys
from gateway.store.statements import statements

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.flow.accept import Route
    from gateway.store.database import Session

__all__ = ["Barriers", "read_barriers"]


@dataclass(frozen=True, slots=True)
class Barriers:
    """Pauses, catch-ups, holds and breakers, as they stood at ``now``. ``tried`` tells of accounts that one request at a time tries,
    whether none does now.
    """

    now: datetime
    pauses: frozenset[Pause]
    shut: frozenset[str]
    held: frozenset[tuple[str, str]]
    clear_spools: frozenset[str]
    tried: Mapping[str, bool]
    lives: bool = True
    """Whether this is the database that is meant: in another one nothing is open."""
    subject_keys: SubjectKeys = SubjectKeys()  # noqa: RUF009 -- frozen

    @classmethod
    def of(cls, rows: Sequence[Record]) -> Barriers:
        """From the rows of the statement."""
        now: datetime = next(row["at"] for row in rows if row["kind"] == "now")
        held = frozenset((row["name"], row["scope"]) for row in rows if row["kind"] == "hold")
        return cls(
            now=now,
            pauses=frozenset((row["scope"], row["tenant"], row["name"]) for row in rows if row["kind"] == "pause"),
            shut=frozenset(row["name"] for row in rows if row["kind"] == "catch_up"),
            held=held,
            clear_spools=frozenset(row["name"] for row in rows if row["kind"] == "spool"),
            tried={row["name"]: row["at"] <= now for row in rows if row["kind"] == "breaker"},
            lives=any(row["kind"] == "lives" for row in rows),
            subject_keys=next((SubjectKeys.of(row["name"]) for row in rows if row["kind"] == "subject_keys"), SubjectKeys()),
        )

    def open(self, route: Route) -> bool:
        """Whether something may be claimed by a way."""
        return (
            route.account not in self.shut
            and not is_paused(self.pauses, route.tenant, route.programme, route.provider)
            and not {(route.account, ""), (route.account, route.sender)} & self.held
            and self.tried.get(route.account, True)
        )

    def well(self, route: Route) -> bool:
        """Whether a way is open to whatever comes, and not only to a try."""
        return self.open(route) and route.account not in self.tried


async def read_barriers(session: Session, expected: Expected = ANY) -> Barriers:
    """What stands now."""
    return Barriers.of(await session.fetch(statements("dispatch")["barriers"], *expected))
