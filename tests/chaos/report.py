"""What a run's account looks like: tables for a terminal, one object for programs. Messages are named by their message_id alone."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from rich.table import Table

from tests.chaos.run import Played

__all__ = ["as_json", "tables"]

_SHOWN: Final = 10  # of what broke a promise, in a table
_TOLD: Final = 200  # the same in the JSON, which counts all


def tables(played: Played) -> list[Table]:
    """The faults by kind, what happened, and the promises, last."""
    faults = Table("fault", "played", "", title=f"{played.played} faults, seed {played.seed}", title_justify="left")
    kinds = Counter(fault.kind for fault, outcome in played.outcomes.items() if outcome.played)
    for kind in sorted({fault.kind for fault in played.outcomes}):
        faults.add_row(kind, str(kinds[kind]), played.not_played.get(kind, ""))
    counts = Table("what happened", "", title=f"{played.seconds:.0f} s in all", title_justify="left")
    for name, count in played.account.counts.items():
        counts.add_row(name, str(count))
    broken = played.account.broken()
    promises = Table(
        "must be 0",
        "",
        title="a promise was broken" if broken else "every promise was kept",
        title_justify="left",
        show_lines=bool(broken),
    )
    for name, found in played.account.violations.items():
        more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        promises.add_row(name, "\n".join([str(len(found)), *found[:_SHOWN], *more]))
    return [faults, counts, promises]


def as_json(played: Played) -> dict[str, Any]:
    """The same as values."""
    return {
        "seed": played.seed,
        "kept": not played.account.broken(),
        "seconds": round(played.seconds, 1),
        "faults": played.played,
        "faults_by_kind": Counter(fault.kind for fault, outcome in played.outcomes.items() if outcome.played),
        "not_played": played.not_played,
        "counts": played.account.counts,
        "broken": {name: len(found) for name, found in played.account.violations.items()},
        "messages": {name: found[:_TOLD] for name, found in played.account.broken().items()},
    }
