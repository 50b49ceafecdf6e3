"""Limits in quiet seconds: a busy machine and a fault stretch them, and a hang is found all the same."""

from __future__ import annotations

import time

import pytest

from tests.chaos.calm import Calm, measuring
from tests.support import until


def test_the_longest_stretch_lies_between_faults() -> None:
    calm = Calm()
    assert calm.longest(0, 10) == 10
    calm.hurt("postgres", 2, 4)
    calm.hurt("broker", 3, 5)
    calm.hurt("postgres", 3.5, 4.5)
    calm.hurt("sweep", 6, 7)
    assert calm.longest(0, 10) == 5
    assert calm.longest(0, 10, {"sweep"}) == 6
    assert calm.longest(0, 4) == 2
    assert calm.longest(3, 4) == 0
    assert calm.longest(3, 6) == 1
    assert calm.longest(20, 21) == 1
    assert calm.longest(10, 9) == 0


def test_seconds_are_counted_by_what_the_machine_gave() -> None:
    calm = Calm()
    for at, slowness in ((0, 1), (10, 1), (20, 5), (30, 0.9), (40, 10)):
        calm.measured(at, slowness)
    assert calm.seconds(0, 10) == pytest.approx(10)
    assert calm.seconds(10, 20) == pytest.approx(2)
    assert calm.seconds(15, 25) == pytest.approx(6)
    assert calm.seconds(30, 50) == pytest.approx(2)  # as last measured
    assert calm.seconds(-5, 0) == pytest.approx(5)
    calm.hurt("postgres", 12, 30)
    assert calm.longest(0, 40) == pytest.approx(10.4)


async def test_a_hang_is_found_and_what_is_hurt_is_waited_for() -> None:
    async def never() -> bool:
        return False

    async def soon() -> bool:
        return time.monotonic() > began + 0.3

    calm, began = Calm(), time.monotonic()
    with calm.hurting("postgres"):
        assert await calm.until(soon, 0.05, "soon", kind="soon", every=0.01)
    assert max(calm.waited["soon"]) < 0.2
    with pytest.raises(AssertionError, match=r"not within 0\.05 quiet seconds, .* on this machine: never"):
        await calm.until(never, 0.05, "never", kind="never", every=0.01)
    with calm.hurting("sweep"), pytest.raises(AssertionError, match="never"):
        await calm.until(never, 0.05, "never", kind="never", every=0.01)


async def test_the_machine_is_measured() -> None:
    async with measuring() as calm:
        await until(lambda: len(calm.slowness) >= 3, 60)
    assert all(slowness >= 0.9 for slowness in calm.slowness)
    now = time.time()
    assert 0 < calm.seconds(now - 1, now) <= 1.01
