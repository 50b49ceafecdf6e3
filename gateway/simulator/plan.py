"""A script worked out against the carrier's own pace: when a message changes its status, and which callbacks tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.simulator.config import CallbackMode
from gateway.simulator.scripts import Script

__all__ = ["Notice", "Plan", "Step", "make_plan"]

_GAP: Final = 0.05  # seconds between callbacks that are posted in reverse


@dataclass(frozen=True, slots=True)
class Step:
    """``after`` seconds from acceptance the message is ``status``."""

    after: float
    status: str
    code: int | str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """``after`` seconds from acceptance a callback tells of the step at ``step``."""

    after: float
    step: int


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A script, the steps of the message that it makes, and its callbacks in each mode."""

    script: Script
    steps: tuple[Step, ...]
    full: tuple[Notice, ...]
    final: tuple[Notice, ...]

    def notices(self, mode: CallbackMode) -> tuple[Notice, ...]:
        """The callbacks that are sent in this mode."""
        return {"full": self.full, "final": self.final, "none": ()}[mode]


def make_plan(script: Script, *, sent_ms: float, final_ms: float) -> Plan:
    """The plan of a script; ``sent_ms`` and ``final_ms`` hold where the script has none of its own."""
    sent = (sent_ms if script.sent_ms is None else script.sent_ms) / 1000
    final = max(sent, (final_ms if script.final_ms is None else script.final_ms) / 1000)
    steps: tuple[Step, ...]
    match script.fate:
        case "queued":
            steps = ()
        case "sent":
            steps = (Step(sent, "sent"),)
        case "failed":
            steps = (Step(final, "failed", script.fate_code),)
        case _:
            steps = (Step(sent, "sent"), Step(final, script.fate, script.fate_code))
    every = tuple(Notice(step.after, place) for place, step in enumerate(steps))
    return Plan(script, steps, _arrange(script, every), _arrange(script, every[-1:]))


def _arrange(script: Script, notices: tuple[Notice, ...]) -> tuple[Notice, ...]:
    match script.callbacks:
        case "lost":
            return ()
        case "repeated":
            return tuple(notice for notice in notices for _ in range(script.repeats + 1))
        case "late":
            return tuple(Notice(notice.after + script.late_ms / 1000, notice.step) for notice in notices)
        case "reversed" if notices:
            last = notices[-1].after
            return tuple(Notice(last + place * _GAP, notice.step) for place, notice in enumerate(reversed(notices)))
        case _:
            return notices
