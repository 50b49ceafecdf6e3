"""The short form of ``make chaos``; docs/chaos.md says what is played, and what is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.chaos.report import as_json
from tests.chaos.run import Progress, play
from tests.chaos.schedule import Schedule


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the timer that the fuse is made of")
async def test_every_event_is_accounted_for_whatever_is_hurt(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = Schedule(seed)
    with capsys.disabled():
        print(f"\nseed {seed}: {len(schedule.faults)} faults, at least {schedule.messages} messages")
        played = await play(schedule, tmp_path, Progress(print))
        for name, value in as_json(played).items():
            lines = value.items() if isinstance(value, dict) else [("", value)]
            for key, said in lines:
                print(f"  {name:<16}  {key:<58}  {said}")
    assert not played.account.broken(), f"seed {seed}"
    assert played.played >= 30
