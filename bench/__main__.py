"""``python -m bench [PART ...] [--json]``: what the gateway does in a second, how long things take, and what a message costs."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.costs import STATEMENTS, costs, flame
from bench.deciding import decisions, floors
from bench.latency import latency, stop
from bench.page import write_page
from bench.retention import retention
from bench.sealing import sealing
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
    "retention": Part([retention]),
    "costs": Part([costs], STATEMENTS),
    "sealing": Part([sealing]),
    "flame": Part([flame]),
}


def main() -> None:
    """Measure, and print a table, or one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the gateway against floors of the same run.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them unless named")
    parser.add_argument("--json", action="store_true", help="one JSON object, last")
    parser.add_argument("--count", type=int, default=10_000, help="messages in a run; some take twice as many (%(default)s)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the figures into this page, such as docs/performance.md")
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
    if not given.json:
        Console().print(_table(figures))
    if given.write is not None:
        write_page(figures, given.write)
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")


def _table(figures: Figures) -> Table:
    table = Table("figure", "value", title=f"bench: {os.cpu_count()} cores, fsync on, everything on this machine")
    for name, value in figures.items():
        table.add_row(name, str(value))
    return table


if __name__ == "__main__":
    main()
