"""Which senders a person has, which accounts are ill, and what waits for them, by the statements of routing.sql."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from gateway.domain.routing import Ill
from gateway.flow.accept import KeptSenders
from gateway.flow.people import FirstKey, People
from gateway.flow.rerouting import Move, Waiting
from gateway.store.barriers import read_barriers
from gateway.store.statements import affected, statements

if TYPE_CHECKING:
    from gateway.flow.accept import Route
    from gateway.store.database import Database, Session

__all__ = ["Routing", "ill_ways", "keep_senders", "kept_senders"]

Kept = Mapping[tuple[bytes, str, str], KeptSenders]
"""By person, tenant and programme."""


async def kept_senders(session: Session, subject_ids: Sequence[bytes], people: People) -> Kept:
    """Which senders these people have, under whichever id; a sender that was noted under several counts as of the last day."""
    first = {one: subject_id for subject_id in subject_ids for one in people.line(subject_id)}
    rows = await session.fetch(statements("routing")["kept_senders"], list(first))
    found: dict[tuple[bytes, str, str], dict[str, date]] = {}
    for row in rows:
        kept = found.setdefault((first[row["subject_id"]], row["tenant"], row["programme"]), {})
        kept[row["sender"]] = max(row["used_on"], kept.get(row["sender"], row["used_on"]))
    return found


async def keep_senders(session: Session, kept: Collection[tuple[bytes, str, str, str]]) -> None:
    """Note senders of people: person, tenant, programme and sender."""
    if kept:
        await session.execute(statements("routing")["keep_senders"], *map(list, zip(*sorted(set(kept)), strict=True)))


async def ill_ways(database: Database | Session, ill_after: float) -> Ill:
    """What should not be used now."""
    return frozenset((row["account"], row["sender"]) for row in await database.fetch(statements("routing")["ill"], ill_after))


class Routing:
    """Health of accounts, and what follows from it. ``routes`` are all that this process knows; ``actor`` names it in the audit."""

    def __init__(self, database: Database, routes: Sequence[Route], actor: str, people: People | None = None) -> None:
        self._database = database
        self._people = people or FirstKey()
        self._routes = routes
        self._actor = actor

    async def reroute(
        self, ill_after: float, most: int, judge: Callable[[Sequence[Waiting], AbstractSet[int]], Sequence[Move]]
    ) -> Sequence[Move]:
        """Move what waits for something ill, in one transaction; mostly nothing is ill, and that is all."""

        async def work(session: Session) -> Sequence[Move]:
            ill = await ill_ways(session, ill_after)
            shut = [route.route_id for route in self._routes if {(route.account, ""), (route.account, route.sender)} & ill]
            if not shut:
                return []
            rows = await session.fetch(statements("routing")["lock_waiting"], shut, most)
            if not rows:
                return []
            barriers = await read_barriers(session)
            well = {route.route_id for route in self._routes if barriers.well(route)} - set(shut)
            moves = judge([Waiting(*row.values()) for row in rows], well)
            if moves:
                await session.execute(
                    statements("routing")["move"],
                    [move.uid for move in moves],
                    [move.to.route_id for move in moves],
                    [move.to.sender for move in moves],
                    [move.to.provider for move in moves],
                    [move.to.account for move in moves],
                    [f"{move.was.account} {move.was.sender}" for move in moves],
                    self._actor,
                )
            return moves

        return await self._database.transact(work)

    async def open_breaker(self, account: str, first: float, most: float, *, tried: bool) -> bool:
        """Hold an account, by its breaker; times are in seconds."""
        return bool(await self._database.fetch(statements("routing")["open_breaker"], account, first, most, tried))

    async def close_breaker(self, account: str) -> bool:
        """Let an account be used again."""
        return bool(await self._database.fetch(statements("routing")["close_breaker"], account))

    async def forget_senders(self, days: int, most: int = 5000) -> int:
        """Senders of people whom nobody has texted for so long; returns how many were forgotten."""
        done = await self._database.execute(statements("routing")["forget_senders"], days, most)
        return affected(done)

    async def accounts(self) -> list[dict[str, Any]]:
        """How accounts and senders stand: breaker and hold."""
        return [dict(row) for row in await self._database.fetch(statements("routing")["accounts"])]

    async def under_way(self) -> dict[str, dict[str, int]]:
        """Messages in the queue, by account: waiting, claimed, marked."""
        rows = await self._database.fetch(statements("routing")["under_way_by_account"])
        return {row["account"]: {state: row[state] for state in ("waiting", "claimed", "marked")} for row in rows}

    async def raised(self) -> dict[str, datetime]:
        """Accounts whose barrier stands, and since when."""
        return {row["account"]: row["raised_at"] for row in await self._database.fetch(statements("routing")["raised"])}

    async def ill(self, ill_after: float) -> Ill:
        """What should not be used now."""
        return await ill_ways(self._database, ill_after)

    async def kept(self, subject_id: bytes, tenant: str, programme: str) -> KeptSenders:
        """The senders that a person has in a programme."""

        async def work(session: Session) -> Kept:
            return await kept_senders(session, [subject_id], self._people)

        return (await self._database.transact(work)).get((subject_id, tenant, programme), {})
