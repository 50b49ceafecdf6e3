"""When a step of the sweep is begun: by its own beginning, so that a long one is not followed by as long a pause."""

from __future__ import annotations

from gateway.flow.leading import Leading
from gateway.flow.sweep import Step, Sweep


class Time:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.begun: list[float] = []

    def __call__(self) -> float:
        return self.now

    def step(self, takes: float) -> Step:
        """One that takes so many seconds, to be begun every 60."""

        async def work() -> None:
            self.begun.append(self.now)
            self.now += takes

        return Step("erase", work, 60.0)


class Alone:
    """Where names are held, and nobody else wants one."""

    async def hold(self, name: str, holder: str, seconds: float) -> bool:
        return bool(name and holder and seconds)

    async def release(self, name: str, holder: str) -> None:
        raise AssertionError(f"{holder} lets {name} go")


def sweep_of(time: Time, takes: float) -> Sweep:
    return Sweep(Leading(Alone(), "sweep", "this"), [time.step(takes)], now=time)


async def test_a_step_as_long_as_its_interval_is_begun_again_at_once() -> None:
    time = Time()
    sweep = sweep_of(time, 60.0)
    for _ in range(3):
        await sweep.once()
    assert time.begun == [1000.0, 1060.0, 1120.0]


async def test_a_short_step_waits_for_its_next_beginning() -> None:
    time = Time()
    sweep = sweep_of(time, 5.0)
    await sweep.once()
    await sweep.once()
    time.now = 1059.9
    await sweep.once()
    assert time.begun == [1000.0]
    time.now = 1060.0
    await sweep.once()
    assert time.begun == [1000.0, 1060.0]
