"""How accounts are, for an operator: made of what the store and the policies know."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.flow.accept import Route

__all__ = ["account_states", "held_senders"]


def account_states(
    accounts: Mapping[str, tuple[str, str]],
    rows: Sequence[Mapping[str, Any]],
    queue: Mapping[str, Mapping[str, int]],
    raised: Mapping[str, datetime],
    routes: Collection[Route],
) -> list[dict[str, Any]]:
    """A row on each account of the settings. ``accounts`` are provider and region by alias, ``rows`` those of the paces."""
    stands = {row["account"]: row for row in rows if not row["sender"]}
    return [
        {
            "account": alias,
            "provider": provider,
            "region": region,
            "health": _health(stands.get(alias)),
            "until": stands[alias]["hold_until"] if alias in stands and stands[alias]["held"] else None,
            "why": stands[alias]["hold_reason"] if alias in stands else None,
            "opened": stands[alias]["opens"] if alias in stands else 0,
            "barrier_since": raised.get(alias),
            "waiting": queue.get(alias, {}).get("waiting", 0),
            "claimed": queue.get(alias, {}).get("claimed", 0),
            "on_the_wire": queue.get(alias, {}).get("marked", 0),
            "used_by": sorted({f"{route.tenant}/{route.programme}" for route in routes if route.account == alias}),
        }
        for alias, (provider, region) in sorted(accounts.items())
    ]


def held_senders(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row on each sender that is held by itself."""
    return [
        {"account": row["account"], "sender": row["sender"], "until": row["hold_until"], "why": row["hold_reason"]}
        for row in rows
        if row["sender"] and row["held"]
    ]


def _health(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "well"
    if row["breaker"] == "open":
        return "open" if row["held"] else "tried"
    return "held" if row["held"] else "well"
