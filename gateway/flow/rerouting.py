"""Rerouting: what waits for an account or sender that is ill, and may leave by another, is given that one.

Only what waits, in a transaction of its own: a claim begins with the sender that its row has had since before. So a STOP to the new
sender finds the message, or is found by its next claim (docs/protocol.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from gateway.domain.reasons import Reason
from gateway.domain.routing import Router, in_order
from gateway.flow.accept import Route
from gateway.telemetry import Metrics

__all__ = ["ILL_AFTER", "Move", "Rerouting", "ReroutingStore", "Waiting", "next_way"]

ILL_AFTER = 5.0
"""Seconds: a hold that lasts longer is a reason to leave by another way, a shorter one is waited out."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits for a way that is ill."""

    uid: UUID
    tenant: str
    programme: str
    category: str
    subject_id: bytes
    country: str | None
    route_id: int


@dataclass(frozen=True, slots=True)
class Move:
    """A message's new way out, and the one that it had."""

    uid: UUID
    to: Route
    was: Route


class ReroutingStore(Protocol):
    """Where messages wait."""

    async def reroute(
        self, ill_after: float, most: int, judge: Callable[[Sequence[Waiting], AbstractSet[int]], Sequence[Move]]
    ) -> Sequence[Move]:
        """In one transaction: lock what waits for something ill, ask ``judge`` with the routes that are well, move; what was moved."""
        ...


class Rerouting:
    """The chapter."""

    def __init__(self, store: ReroutingStore, router: Router[Route], routes: Sequence[Route], metrics: Metrics) -> None:
        self._store = store
        self._router = router
        self._metrics = metrics
        self._routes = {route.route_id: route for route in routes}

    async def move(self, most: int = 500) -> int:
        """Move what waits for something ill; returns how many."""
        moves = await self._store.reroute(ILL_AFTER, most, self._judge)
        for move in moves:
            self._metrics.rerouted_total.labels(account=move.was.account).inc()
        return len(moves)

    def _judge(self, waiting: Sequence[Waiting], well: AbstractSet[int]) -> list[Move]:
        moves = []
        for one in waiting:
            asked = one.tenant, one.programme, one.category, one.country
            to = next_way(self._router, *asked, one.subject_id, one.route_id, well)
            if to is not None:
                moves.append(Move(one.uid, to, self._routes[one.route_id]))
        return moves


def next_way(
    router: Router[Route],
    tenant: str,
    programme: str,
    category: str,
    country: str | None,
    subject_id: bytes,
    was: int,
    well: Collection[int],
) -> Route | None:
    """The best of the routes that are ``well``, another than it ``was``; None when there is none."""
    found = router.ways(tenant, programme, category, country)
    if isinstance(found, Reason) or (len(found.ways) == 1 and found.ways[0].route_id == was):
        return None
    others = [way for way in found.ways if way.route_id != was and way.route_id in well]
    return in_order(others, router.weights(tenant, programme), subject_id)[0] if others else None
