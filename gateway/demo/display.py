"""What is shown while the demo runs: a table that updates on a terminal, a line now and then elsewhere. Numbers are masked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from gateway.demo.backend import Backend
from gateway.demo.checks import Check
from gateway.demo.people import masked
from gateway.demo.scenes import Scenes
from gateway.demo.watch import Watch

__all__ = ["Display"]

_LIVE_SECONDS: Final = 0.5
_LINE_SECONDS: Final = 4.0
_STATES: Final = ("accepted", "deferred", "sent", "delivered", "undelivered", "blocked", "failed", "expired", "unknown")


class Display:
    """Where the demo speaks. ``as_json``: only the summary goes to standard output, everything else to standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(stderr=as_json, highlight=False, soft_wrap=True)
        self._began = time.monotonic()

    def tell(self, what: str) -> None:
        """A line about what has happened."""
        self._console.print(f"[dim]{time.monotonic() - self._began:5.1f} s[/]  {escape(what)}")

    @contextlib.asynccontextmanager
    async def showing(
        self, backend: Backend, watch: Watch, scenes: Scenes, stats: Callable[[], Awaitable[Mapping[str, int]]]
    ) -> AsyncIterator[None]:
        """Show how things stand while the context lasts, and once more at its end; ``stats`` asks the carrier for its counts."""
        with contextlib.ExitStack() as stack:
            if self._console.is_terminal:
                live = stack.enter_context(Live(console=self._console, auto_refresh=False))
                every = _LIVE_SECONDS

                async def show() -> None:
                    live.update(_table(backend, watch, scenes, await stats()), refresh=True)
            else:
                every = _LINE_SECONDS

                async def show() -> None:
                    self.tell(_line(backend, watch, scenes, await stats()))

            showing = asyncio.create_task(_again(show, every))
            try:
                yield
                await show()
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)

    def conclude(self, numbers: Mapping[str, Any], checks: Sequence[Check]) -> None:
        """The summary and what was checked; as JSON in one line where that was asked for."""
        for check in checks:
            sign = "[green]ok[/]    " if check.passed else "[bold red]FAILED[/]"
            self._console.print(f"{sign}  {escape(check.name)}" + ("" if check.passed else ":"))
            if not check.passed:
                self._console.print(f"          expected {escape(repr(check.expected))}")
                self._console.print(f"          found    {escape(repr(check.found))}")
        if not self._as_json:
            for name, value in numbers.items():
                self._console.print(f"{name.replace('_', ' '):>36}  {escape(_plain(value))}")
        failed = sum(not check.passed for check in checks)
        self._console.print(
            f"[bold red]{failed} of {len(checks)} checks failed[/]"
            if failed
            else f"[bold green]all {len(checks)} checks passed[/]"
        )
        if self._as_json:
            listed = [{"name": one.name, "passed": one.passed, "expected": one.expected, "found": one.found} for one in checks]
            self._print_json({"passed": not failed, **numbers, "checks": listed})

    def fail(self, why: str) -> None:
        """The demo came to no end."""
        self._console.print(f"[bold red]error:[/] {escape(why)}")
        if self._as_json:
            self._print_json({"passed": False, "error": why.partition("\n")[0]})

    @staticmethod
    def _print_json(value: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


async def _again(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    while True:
        await work()
        await asyncio.sleep(seconds)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(count)}" for name, count in value.items())
    if isinstance(value, list):
        return "(" + ", ".join(value) + ")"
    return str(value)


def _line(backend: Backend, watch: Watch, scenes: Scenes, carrier: Mapping[str, int]) -> str:
    states = watch.count()
    parts = [f"in {backend.records}", *(f"{state} {states[state]}" for state in _STATES if states[state])]
    return ", ".join(
        [
            *parts,
            f"dead letters {len(watch.dead_letters)}",
            f"carrier took {carrier.get('accepted', 0)}",
            f"STOPs in force {len(scenes.stopped)}",
        ]
    )


def _table(backend: Backend, watch: Watch, scenes: Scenes, carrier: Mapping[str, int]) -> Table:
    states, blocked = watch.count(), watch.blocked()
    table = Table(expand=False)
    for column in ("messages", "blocked", "dead letters", "the carrier", "STOPs in force"):
        table.add_column(column, vertical="top")
    reasons: dict[str, int] = {}
    for letter in watch.dead_letters.values():
        reasons[letter.reason] = reasons.get(letter.reason, 0) + 1
    table.add_row(
        _rows({"in": backend.records, **{state: states[state] for state in _STATES}}),
        _rows(dict(blocked.most_common())),
        _rows(reasons),
        _rows(
            {
                "requests": carrier.get("requests", 0),
                "accepted": carrier.get("accepted", 0),
                "too busy": carrier.get("refused_20429", 0),
                "texts from people": carrier.get("inbound", 0),
                "in flight": carrier.get("in_flight", 0),
            }
        ),
        "\n".join(f"{masked(one.wish.person)}  {one.seconds * 1000:4.0f} ms" for one in scenes.stopped),
    )
    return table


def _rows(counts: Mapping[str, int]) -> str:
    width = max(map(len, counts), default=0)
    return "\n".join(f"{name:<{width}} {count:>5}" for name, count in counts.items())
