"""Retention by the clock: what is shown of what was found, and a place that fails, hangs or is another's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from gateway.domain.errors import Unavailable
from gateway.flow.leading import Leading
from gateway.flow.retaining import STEP_MOST, Retaining, end_all, look_at
from gateway.flow.retention import Found, Planned
from gateway.telemetry import Metrics, configure_logging

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


async def now() -> datetime:
    return NOW


class Shelf:
    """A place: so many things are due, and this is found."""

    name = "shelf"

    def __init__(self, due: int = 0, found: Sequence[Found] = ()) -> None:
        self.due = due
        self.found = found
        self.away = False
        self.breaks = False
        self.hangs = False
        self.steps: list[int] = []
        self.pace = STEP_MOST  # that one step has time for

    async def plan(self, now: datetime) -> Sequence[Planned]:
        return []

    async def run(self, now: datetime, most: int) -> int:
        await self._answer()
        ended = min(most, self.due, self.pace)
        self.due -= ended
        self.steps.append(ended)
        return ended

    async def left(self, now: datetime) -> str:
        return ""

    async def verify(self, now: datetime) -> Sequence[Found]:
        await self._answer()
        return self.found

    async def _answer(self) -> None:
        if self.away:
            raise Unavailable("the shelf is away")
        if self.breaks:
            raise ValueError("+14155550123")
        if self.hangs:
            await asyncio.Event().wait()


class Names:
    """Who holds the name: we do, until told otherwise."""

    def __init__(self) -> None:
        self.ours = True

    async def hold(self, name: str, holder: str, seconds: float) -> bool:
        return self.ours

    async def release(self, name: str, holder: str) -> None:
        """Nobody asks for it."""


class Watched:
    """A place by the clock, with its metrics."""

    def __init__(self, shelf: Shelf) -> None:
        self.registry = CollectorRegistry()
        self.names = Names()
        self.passed = 0.0
        leading = Leading(self.names, "retention shelf", "us", now=lambda: self.passed)
        self.retaining = Retaining(shelf, leading, now, Metrics(self.registry), elapsed=lambda: self.passed)

    def __getitem__(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"sms_gateway_retention_{name}", {"place": "shelf"})

    def shown(self) -> tuple[float | None, float | None]:
        return self["overdue"], self["oldest_excess_seconds"]


def found(*, well: bool, late: timedelta | None = None) -> Found:
    bound = NOW - timedelta(days=30)
    return Found("shelf", "shop", "content", None if late is None else bound - late, bound, well, "" if well else "it is there")


async def test_steps_go_on_until_one_ends_nothing() -> None:
    shelf = Shelf(due=2 * STEP_MOST + 3)
    moved: list[int] = []
    assert await end_all(shelf, NOW, moved.append) == 2 * STEP_MOST + 3
    assert moved == shelf.steps == [STEP_MOST, STEP_MOST, 3, 0]


async def test_a_step_that_time_has_ended_is_not_the_last() -> None:
    shelf = Shelf(due=30)
    shelf.pace = 20
    assert await end_all(shelf, NOW) == 30


async def test_what_was_ended_is_counted() -> None:
    shelf = Shelf(due=STEP_MOST + 3)
    watched = Watched(shelf)
    assert [await watched.retaining.end(), await watched.retaining.end()] == [STEP_MOST, 3]
    assert watched["ended_total"] == STEP_MOST + 3


async def test_what_is_not_well_is_shown_and_by_how_much() -> None:
    shelf = Shelf(found=[found(well=True), found(well=False), found(well=False, late=timedelta(hours=1))])
    watched = Watched(shelf)
    assert watched.shown() == (None, None)
    await watched.retaining.look()
    assert watched.shown() == (2, 3600)
    shelf.found = [found(well=True, late=timedelta(days=9))]  # a legal hold
    await watched.retaining.look()
    assert watched.shown() == (0, 0)
    watched.retaining.forget()
    watched.retaining.forget()
    assert watched["overdue"] is None


async def test_what_cannot_be_looked_at_is_not_well() -> None:
    shelf = Shelf()
    watched = Watched(shelf)
    await watched.retaining.look()
    assert watched["overdue"] == 0
    shelf.away = True
    await watched.retaining.look()
    assert watched["overdue"] == 1
    (only,) = await look_at(shelf, NOW)
    assert not only.well
    assert only.why == "could not be looked at: the shelf is away"


async def test_a_mistake_of_the_program_hides_no_other_place_and_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("error", "json")
    shelf = Shelf()
    shelf.breaks = True
    (only,) = await look_at(shelf, NOW)
    assert not only.well
    assert only.why == "could not be looked at: a fault of the gateway itself (ValueError), please report it"
    assert "555" not in capsys.readouterr().err


@pytest.mark.parametrize("lost", [True, False], ids=["another process has the name", "it takes too long"])
async def test_a_place_that_hangs_is_cut_off(lost: bool) -> None:
    shelf = Shelf(due=1)
    shelf.hangs = True
    watched = Watched(shelf)
    work = asyncio.create_task(watched.retaining.end())
    looking = asyncio.create_task(watched.retaining.look())
    await asyncio.sleep(0)
    if lost:
        watched.names.ours = False
    else:
        watched.passed = 3600.0
    for task in (work, looking):
        with pytest.raises(Unavailable, match="another process" if lost else "longer than"):
            await asyncio.wait_for(task, 20)
    assert watched["overdue"] == 1
