"""What tests do by hand that the gateway's loops do by themselves: claim, mark and settle one step at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from gateway.domain.changes import Change, Held, settle
from gateway.domain.decide import decide
from gateway.domain.outcome import Accepted, Outcome
from gateway.domain.reports import Receipt, ReportedState
from gateway.flow.claims import Claimed
from gateway.store.dispatch import Claims
from tests.integration.world import World

__all__ = ["Hands", "receipt_of", "settle_by_hand", "told"]


class Attempted(Protocol):
    """An attempt by its message: as claimed, or as a row."""

    @property
    def uid(self) -> UUID: ...
    @property
    def attempt(self) -> int: ...


class Hands:
    """A worker that does nothing by itself."""

    def __init__(
        self,
        world: World,
        name: str = "by-hand",
        *,
        lease: float = 10.0,
        rates: Mapping[str, float] | None = None,
        routes: Any = None,
    ) -> None:
        self.world = world
        self.name = name
        versions = {policy.tenant: policy.version for policy in world.parts.policies}
        self.claims = Claims(
            world.parts.database,
            name,
            routes or world.parts.routes,
            versions,
            rates or {},
            lease,
            world.parts.spool,
            router=world.parts.router,
            people=world.parts.people,
        )

    async def claim(self, room: int = 100, most: int = 100) -> list[Claimed]:
        return list((await self.claims.claim({"main": room}, decide, most)).claimed)

    async def ids(self, claimed: Sequence[Claimed]) -> list[str]:
        """The producers' ids of what was claimed, in its order; the gateway's own answers have none."""
        names = {row["uid"]: row["message_id"] for row in await self.world.rows("select uid, message_id from messages")}
        return [names[one.uid] for one in claimed if names[one.uid] is not None]

    async def mark(self, claimed: Sequence[Claimed]) -> list[UUID]:
        return sorted(await self.claims.mark(claimed))

    async def send(self, claimed: Sequence[Claimed], outcome: Outcome | None = None) -> None:
        """Mark and settle, as if the provider had answered this to each."""
        marked = await self.mark(claimed)
        assert len(marked) == len(claimed)
        for one in claimed:
            await settle_by_hand(self.world, one, outcome or Accepted(self.world.carrier.new_id(), 1))


async def settle_by_hand(
    world: World, claimed: Claimed, outcome: Outcome, *, wait: float = 1.0, instead: tuple[int, str] | None = None
) -> Change | None:
    """Settle one attempt; what that changed."""

    def judge(held: Mapping[UUID, Held], now: datetime) -> list[Change]:
        changes = (
            settle(
                one.message,
                one.queued,
                claimed.attempt,
                outcome,
                now,
                world.parts.horizons,
                wait=wait,
                begun_at=now,
                instead=instead,
            )
            for one in held.values()
        )
        return [change for change in changes if change is not None]

    changes = await world.parts.ledger.change([claimed.uid], judge)
    return changes[0] if changes else None


def receipt_of(
    claimed: Attempted,
    state: ReportedState | None,
    sid: str,
    *,
    account: str = "main",
    attempt: int | None = None,
    code: str | None = None,
) -> Receipt:
    return Receipt(account, claimed.uid, claimed.attempt if attempt is None else attempt, sid, state, code)


async def told(world: World, message_id: str) -> list[tuple[str, int, bool, bool]]:
    """The status events of a message, as (state, version, final, correction)."""
    rows = await world.rows(
        "select o.state, o.version, o.final, o.correction from outbox o join messages m using (uid)"
        " where o.kind = 'status' and m.message_id = $1 order by o.id",
        message_id,
    )
    return [(row["state"], row["version"], row["final"], row["correction"]) for row in rows]
