"""``python -m bench [PART ...] [--json]``: what the gateway does in a second, how long things take, and what a message costs."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.costs import STATEMENTS, costs, flame
from bench.deciding import decisions, floors
from bench.latency import latency, stop
from bench.sending import SENDS, WORKERS, backlog, send
from bench.stage import Figures, Stage, stage


@dataclass(frozen=True, slots=True)
class Part:
    """Measurements, each on a stage of its own; ``postgres`` are settings of its PostgreSQL."""

    measures: Sequence[Callable[[Stage, int], Coroutine[Any, Any, Figures]]]
    postgres: Mapping[str, str] = field(default_factory=dict)


PARTS: Final = {
    "decisions": Part([decisions]),
    "floors": Part([floors]),
    "sends": Part([partial(send, run) for run in SENDS]),
    "workers": Part([partial(send, run) for run in WORKERS]),
    "latency": Part([latency]),
    "stop": Part([stop]),
    "backlog": Part([backlog]),
    "costs": Part([costs], STATEMENTS),
    "flame": Part([flame]),
}


def main() -> None:
    """Measure, and print a table, or one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the gateway against floors of the same run.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them unless named")
    parser.add_argument("--json", action="store_true", help="one JSON object, last")
    parser.add_argument("--count", type=int, default=10_000, help="messages in a run; some take twice as many (%(default)s)")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    say = Console(stderr=True)
    figures: Figures = {}
    for name in given.parts or PARTS:
        began = time.monotonic()
        part = PARTS[name]
        for measure in part.measures:
            with stage(**part.postgres) as found:
                measured = asyncio.run(measure(found, given.count))
            for figure, value in measured.items():
                figures[figure] = max(value, figures[figure]) if figure in figures else value
        say.print(f"[bold]{name}[/bold] {time.monotonic() - began:.0f} s")
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        Console().print(_table(figures))


def _table(figures: Figures) -> Table:
    table = Table("figure", "value", title="bench: two cores, fsync on, everything on this machine")
    for name, value in figures.items():
        table.add_row(name, str(value))
    return table


if __name__ == "__main__":
    main()
