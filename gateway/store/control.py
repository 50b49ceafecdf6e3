"""What processes and operators agree on, by the statements of control.sql."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gateway.domain.errors import KeyMissing
from gateway.flow.accept import Route
from gateway.flow.catch_up import Barrier
from gateway.store.statements import statements

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.store.database import Database, Session

__all__ = ["Control", "TokenGrant"]


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """Whose messages a bearer token may touch; ``tenants`` None: everybody's."""

    name: str
    tenants: frozenset[str] | None


class Control:
    """Leaders, shares, routes, pauses, barriers, tokens and stories. ``holder`` names this process."""

    def __init__(self, database: Database, holder: str) -> None:
        self._database = database
        self._holder = holder

    async def _rows(self, name: str, *arguments: object) -> list[Record]:
        return await self._database.fetch(statements("control")[name], *arguments)

    async def now(self) -> datetime:
        """PostgreSQL's time."""
        moment: datetime = (await self._database.fetch(statements("ledger")["now"]))[0][0]
        return moment

    async def fingerprint(self) -> str | None:
        """Which key ring the stored hashes were made with; None before anything was."""
        rows = await self._rows("known_fact", "key_ring")
        return rows[0]["value"] if rows else None

    async def keep_fingerprint(self, fingerprint: str, shown: str) -> None:
        """Refuse a key ring other than the one that the stored hashes were made with: no opt-out would be found by it. ``shown`` names it."""
        kept = (await self._rows("fact", "key_ring", fingerprint))[0]["value"]
        if kept != fingerprint:
            raise KeyMissing(f"{shown} is not the key ring that this database was written with: no opt-out would be found by it")

    async def note_gap(self, topic: str, partition: int, first_offset: int, next_offset: int, why: str) -> None:
        """Keep in the audit that records of the input topic were never read."""
        await self._rows(
            "note_gap", "records_not_read", f"{why}: {topic}/{partition} {first_offset} to {next_offset - 1}", self._holder
        )

    async def ready(self) -> bool:
        """Whether PostgreSQL answers."""
        return bool(await self._database.fetch("select 1"))

    # -- one at a time --------------------------------------------------------------------------------------------------------

    async def hold(self, name: str, holder: str, seconds: float) -> bool:
        """Take or keep a name."""
        return bool(await self._rows("hold_name", name, holder, seconds))

    async def release(self, name: str, holder: str) -> None:
        """Let another have it at once."""
        await self._rows("release_name", name, holder)

    # -- shares of an account's requests --------------------------------------------------------------------------------------

    async def share(self, account: str, limit: int, in_flight: int, seconds: float) -> int:
        """This worker's fair part of a limit. It never takes what another still holds, and keeps what is on the wire."""

        async def work(session: Session) -> int:
            sql = statements("control")
            await session.fetch(sql["lock_account"], account)
            await session.execute(sql["drop_old_shares"], account)
            held = {row["worker_id"]: row["share"] for row in await session.fetch(sql["shares"], account)}
            workers = sorted({*held, self._holder})
            fair: int = limit // len(workers) + (workers.index(self._holder) < limit % len(workers))
            free: int = limit - sum(share for worker, share in held.items() if worker != self._holder)
            share: int = max(0, min(fair, free))
            await session.execute(sql["take_share"], account, self._holder, max(share, min(in_flight, free)), seconds)
            return share

        return await self._database.transact(work)

    async def give_back(self) -> None:
        """Give up every share."""
        await self._rows("give_back_shares", self._holder)

    # -- routes ---------------------------------------------------------------------------------------------------------------

    async def put_routes(self, routes: Sequence[tuple[str, str, str, str, str, float | None]]) -> list[Route]:
        """Make the store know these ways out: (tenant, programme, provider, account, sender, per_second); returns them numbered."""
        if routes:
            await self._rows("put_routes", *map(list, zip(*routes, strict=True)))
            senders = sorted({pace for _, _, _, account, sender, _ in routes for pace in ((account, sender), (account, ""))})
            await self._rows("put_paces", [account for account, _ in senders], [sender for _, sender in senders])
        wanted = {(tenant, programme, account, sender) for tenant, programme, _, account, sender, _ in routes}
        return [
            Route(*row.values())
            for row in await self._rows("routes")
            if (row["tenant"], row["programme"], row["account"], row["sender"]) in wanted
        ]

    # -- pauses ---------------------------------------------------------------------------------------------------------------

    async def pause(self, scope: str, tenant: str, name: str, actor: str, why: str) -> bool:
        """Pause; False when it was paused already."""
        done = bool(await self._rows("pause", scope, tenant, name, actor, why))
        if done:
            await self._audit("paused", tenant, f"{scope}:{name}", actor)
        return done

    async def resume(self, scope: str, tenant: str, name: str, actor: str) -> bool:
        """Let it go on; False when it was not paused."""
        done = bool(await self._rows("resume", scope, tenant, name))
        if done:
            await self._audit("resumed", tenant, f"{scope}:{name}", actor)
        return done

    async def pauses(self) -> list[dict[str, Any]]:
        """What is paused, since when, by whom and why."""
        return [dict(row) for row in await self._rows("pauses")]

    async def _audit(self, step: str, tenant: str, rule: str, actor: str) -> None:
        await self._rows("audit", tenant or "_system", step, rule, actor)

    # -- catch-up -------------------------------------------------------------------------------------------------------------

    async def raise_barriers(self, accounts: Sequence[str]) -> None:
        """From now on nothing of these accounts is claimed."""
        await self._rows("raise_barriers", list(accounts))

    async def raised(self) -> Sequence[Barrier]:
        """The barriers that stand."""
        return [Barrier(*row.values()) for row in await self._rows("barriers")]

    async def lower(self, barrier: Barrier) -> bool:
        """Take a barrier away, unless it was raised again meanwhile."""
        return bool(await self._rows("lower_barrier", barrier.account, barrier.raised_at))

    async def caught_up(self) -> Sequence[Barrier]:
        """The accounts without a barrier: the moment, and when their lists were last read."""
        return [Barrier(*row.values()) for row in await self._rows("caught_up")]

    async def read_again(self, barrier: Barrier) -> None:
        """The list of an account without a barrier was read to its end."""
        await self._rows("read_again", barrier.account, barrier.raised_at)

    async def seen(self, account: str, provider_message_id: str) -> bool:
        """Whether an inbound text is stored."""
        return bool(await self._database.fetch(statements("consents")["inbound"], account, provider_message_id))

    # -- tokens ---------------------------------------------------------------------------------------------------------------

    async def create_token(
        self, token_hash: bytes, name: str, tenants: Sequence[str] | None, actor: str, rights: Sequence[str] = ("api",)
    ) -> bool:
        """Store a token's hash; False when the name is taken."""
        whose = list(tenants) if tenants is not None else None
        done = bool(await self._rows("create_token", token_hash, name, whose, list(rights)))
        if done:
            await self._audit("token_created", "", name, actor)
        return done

    async def tokens(self) -> list[dict[str, Any]]:
        """All tokens, without their hashes."""
        return [dict(row) for row in await self._rows("tokens")]

    async def revoke_token(self, name: str, actor: str) -> bool:
        """End a token; False when there is none of that name that is not revoked."""
        done = bool(await self._rows("revoke_token", name))
        if done:
            await self._audit("token_revoked", "", name, actor)
        return done

    async def find(self, token_hash: bytes, right: str = "api") -> TokenGrant | None:
        """What a token grants at the API; None when there is none, it is revoked, or has not this right."""
        rows = await self._rows("find_token", token_hash, right)
        return (
            TokenGrant(rows[0]["name"], None if rows[0]["tenants"] is None else frozenset(rows[0]["tenants"])) if rows else None
        )

    # -- stories --------------------------------------------------------------------------------------------------------------

    async def story(self, tenant: str, id_hash: bytes) -> dict[str, Any] | None:
        """A message and every step of it, without its number and text; None when the window holds no such id."""
        rows = await self._rows("story", tenant, id_hash)
        if not rows:
            return None
        return {**rows[0], "steps": [dict(step) for step in await self._rows("story_steps", rows[0]["uid"])]}
