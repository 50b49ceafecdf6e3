"""The figures as docs/performance.md shows them: a table with the aims beside it, and pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.stage import Figures

__all__ = ["write_page"]

_BEGIN: Final = "<!-- bench -->"
_END: Final = "<!-- end -->"

_AIMS: Final = {
    "decisions_per_second": "aim 4,000",
    "sends_per_second": "aim 1,500",
    "sends_per_second_at_100ms": "aim 900, of the 1,000 that 100 requests at once allow",
    "publish_to_request_p99_ms": "aim 50",
    "stop_in_force_p99_ms": "aim 150, promise 12,000",
    "worker_rss_mb": "aim 150",
    "worker_rss_growth_mb": "flat",
    "drop_seconds": "aim 1",
    "duplicates": "0",
}

# A picture: its title, its axis, and the figures in it by their names there.
_PICTURES: Final[Sequence[tuple[str, str, dict[str, str]]]] = (
    (
        "Texts accepted by the carrier",
        "a second",
        {
            "sends_per_second": "one process a role",
            "sends_per_second_without_callbacks": "no callbacks",
            "sends_per_second_at_100ms": "carrier at 100 ms",
            "sends_per_second_ringcentral": "RingCentral, batches",
            "sends_per_second_1_worker": "all in one",
            "sends_per_second_2_workers": "2 workers",
            "sends_per_second_4_workers": "4 workers",
        },
    ),
    (
        "CPU of a message by process",
        "ms",
        {
            "cost_cpu_ms_worker": "worker",
            "cost_cpu_ms_postgresql": "PostgreSQL",
            "cost_cpu_ms_relay": "relay",
            "cost_cpu_ms_carrier": "carrier",
            "cost_cpu_ms_web": "web",
            "cost_cpu_ms_broker": "broker",
            "cost_cpu_ms_sweep": "sweep",
        },
    ),
    (
        "How long things take",
        "ms",
        {
            "publish_to_request_p50_ms": "to the request, p50",
            "publish_to_request_p99_ms": "p99",
            "stop_in_force_p50_ms": "STOP in force, p50",
            "stop_in_force_p99_ms": "p99 of STOP",
        },
    ),
)


def write_page(figures: Figures, page: Path) -> None:
    """Put the figures between the marks of the page; those that were not measured this time stay as they are, and what is no number is left out."""
    text = page.read_text(encoding="utf-8")
    begin, end = text.index(_BEGIN), text.index(_END)
    known = dict(re.findall(r"^\| `(\w+)` \| ([0-9.,]+) \|", text[begin:end], re.MULTILINE))
    measured = {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}
    shown = {name: float(value.replace(",", "")) for name, value in known.items()} | measured
    parts = [_BEGIN, _table(shown), *(_picture(*one, shown) for one in _PICTURES), _END]
    page.write_text(text[:begin] + "\n".join(parts) + text[end + len(_END) :], encoding="utf-8")


def _table(figures: Figures) -> str:
    rows = [f"| `{name}` | {_number(value)} | {_AIMS.get(name, '')} |" for name, value in figures.items()]
    return "\n".join(["| figure | value | aim |", "| --- | --- | --- |", *rows, ""])


def _picture(title: str, axis: str, names: dict[str, str], figures: Figures) -> str:
    there = {shown: figures[name] for name, shown in names.items() if name in figures}
    if not there:
        return ""
    labels = ", ".join(f'"{label}"' for label in there)
    bars = ", ".join(f"{value:g}" for value in there.values())
    lines = [
        "```mermaid",
        "xychart-beta",
        f'    title "{title}"',
        f"    x-axis [{labels}]",
        f'    y-axis "{axis}"',
        f"    bar [{bars}]",
        "```",
        "",
    ]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:g}"
