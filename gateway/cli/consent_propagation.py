"""What provider accounts were told of people's opt-outs, account by account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.invocation import Invocation
from gateway.cli.output import as_json, table

if TYPE_CHECKING:
    from gateway.app.wiring import Parts

__all__ = ["show_propagation"]

_NOTHING: Final[dict[str, Any]] = {"confirmed": 0, "waiting": 0, "oldest": None, "refused": {}, "older_left": 0}


def show_propagation(invocation: Invocation, older_than: float, *, json_wanted: bool) -> int:
    """Print it; returns the exit code: 1 when something has waited longer than so many seconds."""

    async def look(parts: Parts) -> list[dict[str, Any]]:
        from gateway.app.telling import told_accounts
        from gateway.store.propagations import PropagationStore

        told = told_accounts(parts.settings)
        store = PropagationStore(parts.database)
        levels = {level["account"]: level for level in await store.levels()}
        older = {account: {"older_left": senders} for account, senders in (await store.older_left()).items()}
        return [
            {"account": account, "can_be_told": account in told, **_NOTHING, **levels.get(account, {}), **older.get(account, {})}
            for account in sorted({*parts.settings.accounts, *levels})
        ]

    rows = invocation.with_parts(look)
    late = any(row["oldest"] is not None and row["oldest"] > older_than for row in rows)
    if json_wanted:
        as_json({"accounts": rows, "late": late})
    elif rows:
        cells = [
            [
                row["account"],
                row["can_be_told"],
                row["confirmed"],
                row["waiting"],
                _seconds(row["oldest"]),
                row["older_left"],
                _refusals(row["refused"]),
            ]
            for row in rows
        ]
        table(["account", "can be told", "confirmed", "waiting", "oldest", "older left", "refused"], cells)
    else:
        click.echo("there is no provider account")
    return 1 if late else 0


def _seconds(age: float | None) -> str | None:
    return None if age is None else f"{age:.0f} s"


def _refusals(refused: dict[str, int]) -> str:
    return ", ".join(f"{why} {count}" for why, count in refused.items())
