"""``python -m bench [PART ...] [--json]``: decisions, floors, sends, stop; all of them unless named."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from rich.console import Console
from rich.table import Table

from bench.parts import decisions, floors, sends, stop_in_force
from bench.stage import Figures, Stage, stage

PARTS = ("decisions", "floors", "sends", "stop")


def main() -> None:
    """Measure, and print a table, or one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the gateway against floors of the same run.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them unless named")
    parser.add_argument("--json", action="store_true", help="one JSON object, last")
    parser.add_argument("--count", type=int, default=10_000, help="messages in each run of sends (%(default)s)")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    say = Console(stderr=True)
    figures: Figures = {}
    for part in given.parts or PARTS:
        say.print(f"[bold]{part}[/bold] …")
        with stage() as found:
            figures |= asyncio.run(_part(part, found, given.count))
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        Console().print(_table(figures))


async def _part(part: str, found: Stage, count: int) -> Figures:
    if part == "decisions":
        return await decisions(found)
    if part == "floors":
        return await floors(found)
    if part == "stop":
        return await stop_in_force(found, 0)
    figures: Figures = {}
    runs = (
        ("", 0, "final", 1),
        ("_without_callbacks", 0, "none", 1),
        ("_at_100ms", 100, "final", 1),
        ("_2_workers", 0, "final", 2),
    )
    for number, (name, latency_ms, callbacks, workers) in enumerate(runs):
        run = await sends(found, number * (count + 1000), count, latency_ms=latency_ms, callbacks=callbacks, workers=workers)
        figures[f"sends_per_second{name}"] = run["per_second"]
        figures[f"told_per_second{name}"] = run["told_per_second"]
        figures[f"send_cpu_ms{name}"] = run["cpu_ms"]
        figures["worker_rss_mb"] = max(figures.get("worker_rss_mb", 0), run["worker_rss_mb"])
        figures["duplicates"] = figures.get("duplicates", 0) + run["duplicates"]
    return figures


def _table(figures: Figures) -> Table:
    table = Table("figure", "value", title="bench: two cores, fsync on, everything on this machine")
    for name, value in figures.items():
        table.add_row(name, str(value))
    return table


if __name__ == "__main__":
    main()
