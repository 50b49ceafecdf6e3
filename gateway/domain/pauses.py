"""What an operator holds: everything, a tenant, a programme or a provider."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

__all__ = ["Pause", "is_paused"]

Pause = tuple[str, str, str]
"""Scope (``all``, ``tenant``, ``programme``, ``provider``), tenant and name; what a scope has no use for is empty."""


def is_paused(pauses: AbstractSet[Pause], tenant: str, programme: str, provider: str) -> bool:
    """Whether one of the pauses holds this way out."""
    ways = {("all", "", ""), ("tenant", tenant, ""), ("programme", tenant, programme), ("provider", "", provider)}
    return not ways.isdisjoint(pauses)
