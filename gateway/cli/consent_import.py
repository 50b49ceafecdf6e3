"""Taking in a CSV of consents: all rows are read first, then the good ones are taken in, then it is told what came of them."""

from __future__ import annotations

import csv
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gateway.cli.consent_file import Rejected, read_consents
from gateway.cli.invocation import Invocation, actor
from gateway.cli.output import as_json, progress, table
from gateway.domain.errors import StoreUnavailable
from gateway.flow.imports import ConsentImport, ImportFate, ImportRow

if TYPE_CHECKING:
    from gateway.app.wiring import Parts

__all__ = ["import_file"]

_FATES: Final[dict[ImportFate, str]] = {
    "opted_out": "opted out, in force",
    "not_yet_in_force": "opted out, in force within seconds",
    "opted_in": "opted in",
    "unchanged": "stood so already",
    "kept_out": "stay opted out: an import undoes no opt-out",
    "account_closed": "are not opted in: the tenant's customer account is closed",
    "kept_in": "stay opted in: said later than the list's opt-out",
}
_SHOWN: Final = 10
_MOST_IN_JSON: Final = 1000


def import_file(invocation: Invocation, file: Path, rejects: Path, *, dry_run: bool, json_wanted: bool) -> int:
    """Take in a file; returns the exit code."""
    fates: Counter[ImportFate] = Counter()
    rejected: list[Rejected] = []
    began = time.monotonic()

    async def take(parts: Parts) -> int:
        rows: list[ImportRow] = []
        for one in read_consents(file, parts.policies):
            if isinstance(one, Rejected):
                rejected.append(one)
            else:
                rows.append(one)
        if not dry_run:
            await _take(parts, rows, fates, rejected)
        return len(rows) + len(rejected) if dry_run else fates.total() + len(rejected)

    try:
        count = invocation.with_parts(take)
    except StoreUnavailable as fault:
        raise StoreUnavailable(f"{fault}: {fates.total()} rows are taken in; take the same file in again for the rest") from None
    rejected.sort(key=lambda one: one.line)
    if rejected:
        _write(rejects, rejected)
    seconds = time.monotonic() - began
    if json_wanted:
        as_json(
            {
                "file": str(file),
                "dry_run": dry_run,
                "rows": count,
                **{fate: fates[fate] for fate in _FATES},
                "rejected": len(rejected),
                "rejects": [{"line": one.line, "reason": one.reason} for one in rejected[:_MOST_IN_JSON]],
                "rejects_file": str(rejects) if rejected else None,
                "seconds": round(seconds, 3),
            }
        )
    else:
        _tell(file, rejects, count, fates, rejected, seconds, dry_run=dry_run)
    return 1 if rejected else 0


async def _take(parts: Parts, rows: Sequence[ImportRow], fates: Counter[ImportFate], rejected: list[Rejected]) -> None:
    importing = ConsentImport(parts.requests("import"), actor(), await parts.control.now())
    with progress("taking in", len(rows)) as advance:

        def told(row: ImportRow, fate: ImportFate) -> None:
            if fate == "from_the_future":
                rejected.append(Rejected(row.line, "stated_at: lies in the future"))
            else:
                fates[fate] += 1
            advance(1)

        await importing.take(rows, told)


def _write(rejects: Path, rejected: Sequence[Rejected]) -> None:
    try:
        with open(rejects, "w", encoding="utf-8", newline="", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
            writer = csv.writer(out)
            writer.writerow(["line", "reason"])
            writer.writerows([one.line, one.reason] for one in rejected)
    except OSError as fault:
        raise click.ClickException(f"the rejected rows cannot be written to {rejects}: {fault.strerror}") from None


def _tell(
    file: Path,
    rejects: Path,
    count: int,
    fates: Counter[ImportFate],
    rejected: Sequence[Rejected],
    seconds: float,
    *,
    dry_run: bool,
) -> None:
    for one in rejected[:_SHOWN]:
        click.echo(f"{file}:{one.line}: {one.reason}", err=True)
    if rejected:
        more = f"and {len(rejected) - _SHOWN} more; " if len(rejected) > _SHOWN else ""
        click.echo(f"{more}all {len(rejected)} rejected rows, by line: {rejects}", err=True)
    if dry_run:
        click.echo(f"{count} rows checked, {len(rejected)} rejected; nothing was changed")
        return
    rows = [[fates[fate], what] for fate, what in _FATES.items() if fates[fate]]
    table(["rows", "what"], [*rows, [len(rejected), "rejected"], [count, "in all"]])
    click.echo(f"in {seconds:.1f} s, {count / max(seconds, 0.001):.0f} rows a second")
