"""What commands print: JSON for machines; tables and progress for people, in colour on a terminal only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["as_json", "json_option", "progress", "table"]

json_option = click.option("--json", "as_json_", is_flag=True, help="Print one JSON document instead.")


def as_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: object) -> str:
    return value.isoformat(timespec="milliseconds") if hasattr(value, "isoformat") else str(value)


def shown(value: object) -> str:
    """A cell of a table."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if hasattr(value, "isoformat"):
        return str(value.isoformat(sep=" ", timespec="seconds"))
    return ", ".join(map(str, value)) or "-" if isinstance(value, list | tuple | set | frozenset) else str(value)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """A table: drawn on a terminal, in plain columns elsewhere. Nothing personal belongs in it."""
    cells = [[shown(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        from rich.table import Table

        drawn = Table(*columns, title=title or None, title_justify="left", header_style="bold")
        for row in cells:
            drawn.add_row(*map(_escaped, row))
        _console().print(drawn)
        return
    if title:
        click.echo(title)
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in [list(columns), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while it is a terminal and there is more than a little to do; gives what moves it on.

    A ``total`` of None is not known: the bar shows that something is done, and how much so far.
    """
    if not sys.stderr.isatty() or (total is not None and total < 50):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
