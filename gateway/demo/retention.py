"""The last scene: the clock is moved past the deadline of all texts, what is due is ended, and every place is looked at.

By commands, as an operator would: they find what they are asked for by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from gateway.demo.checks import Check
from gateway.demo.stage import Stage

__all__ = ["retention_checks"]

_TEXTS: Final = ("content", "address")
_ROWS: Final = "postgresql"
_HOLD_TEXTS: Final = frozenset({_ROWS, "keys", "provider main"})
_SHOWN: Final = 5
_MOVE: Final = "update clock set shift = shift + greatest($1::timestamptz - gateway_now(), interval '0') + interval '1 minute'"


async def retention_checks(stage: Stage) -> list[Check]:
    """What was found before and after ``gateway retention run``. The gateway has left; its servers are up. Raises GatewayError."""
    _, plan = await stage.gateway.command("retention", "plan", "--json")
    ends = [datetime.fromisoformat(one["due_at"]) for one in plan["planned"] if one["due_at"] and one["data_class"] in _TEXTS]
    await stage.database.execute(_MOVE, max(ends))
    before, found = await stage.gateway.command("retention", "verify", "--json")
    ended, _ = await stage.gateway.command("retention", "run", "--json")
    _, left = await stage.gateway.command("retention", "verify", "--json")
    overdue = {one["place"] for one in _unwell(found)}
    expected = _HOLD_TEXTS & {one["place"] for one in found["found"]}
    return [
        Check("`gateway retention verify` with the clock past every text's deadline", 1, before),
        Check("places of texts in which it finds some that should be gone", sorted(expected), sorted(overdue & _HOLD_TEXTS)),
        Check("topics of which it says that the embedded broker ends nothing", True, any(map(_broker, _unwell(found)))),
        Check("`gateway retention run`", 0, ended),
        Check("what `gateway retention verify` finds then, but for the embedded broker", [], _wrong(left)),
    ]


def _unwell(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [one for one in told["found"] if not one["well"]]


def _broker(found: Mapping[str, Any]) -> bool:
    return bool(found["place"].startswith("kafka"))


def _wrong(told: Mapping[str, Any]) -> list[str]:
    """What is left that should not be."""
    left = [one for one in _unwell(told) if not _broker(one)]
    return [f"{one['place']}, {one['tenant']}, {one['data_class']}: {one['why']}" for one in left][:_SHOWN]
