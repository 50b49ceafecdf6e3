"""Accounts that are in no settings any more: what is kept there of people nobody can erase or look for, so that it is said until somebody does.

Their copies are noted ahead like all others: what tells of them outlives the rows, and they are erased once the account is set again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

from gateway.domain.closing import Closings
from gateway.domain.errors import NotFound
from gateway.domain.policy import Policy
from gateway.flow.copies import LEASE, NOBODY, NOTED_AT_ONCE, CopyNotes, Over, Part, parts_over, parts_to_note
from gateway.flow.retention import Found, Planned
from gateway.flow.vault import SYSTEM_TENANT

__all__ = ["LostAccounts"]

_WHY: Final = "the account is in no settings any more: nobody can erase its copies or ask what is there"
_CLASS: Final = "address"


class LostLedger(CopyNotes, Protocol):
    """What the tables tell of copies, see gateway.store.copies. Everything raises StoreUnavailable."""

    async def accounts(self) -> Collection[str]: ...
    async def noted(self, account: str) -> Mapping[tuple[str, str], tuple[int, datetime]]: ...
    async def ahead(self, account: str, tenant: str, part: Part) -> datetime | None: ...


class LostAccounts:
    """The place. ``known`` are the aliases that the settings have."""

    name = "lost accounts"

    def __init__(
        self,
        known: Collection[str],
        policies: Sequence[Policy],
        ledger: LostLedger,
        closings: Callable[[], Awaitable[Closings]],
    ) -> None:
        self._known = frozenset(known)
        self._policies = policies
        self._ledger = ledger
        self._closings = closings

    async def run(self, now: datetime, most: int) -> int:
        """Note what will soon be due; nothing ends here."""
        closings = await self._closings()
        for account in await self._lost():
            for soon in parts_to_note(self._policies, None, now, closings, await self._ledger.tenants(account)):
                seen = 0
                while seen < most and await self._ledger.note(account, soon, NOTED_AT_ONCE):
                    seen += NOTED_AT_ONCE
        return 0

    async def abandon(self, account: str, now: datetime) -> int:
        """Nobody will ever erase what is there: let go of what tells of it, each copy audited; returns how many. Raises NotFound.

        To be repeated after a crash, and when something was being tried.
        """
        if account not in await self._lost():
            raise NotFound(f"{account} is no account that was taken out of the settings")
        over = [Over(tenant, part, now) for tenant in (*await self._ledger.tenants(account), NOBODY) for part in ("text", "all")]
        for one in over:
            while one.part == "all" and await self._ledger.note(account, one, NOTED_AT_ONCE):
                pass
        done = 0
        while taken := await self._ledger.take(account, over, NOTED_AT_ONCE, LEASE):
            await self._ledger.settle("", [(one, "abandoned") for one in taken])
            done += len(taken)
        return done

    async def left(self, now: datetime) -> str:
        """Copies that are due."""
        due, closings = 0, await self._closings()
        for account in await self._lost():
            tenants = await self._ledger.tenants(account)
            over = {one.tenant: one.horizon for one in parts_over(self._policies, None, now, closings, tenants)}
            there = await self._there(account)
            due += sum(tenant in over and oldest <= over[tenant] for tenant, _, oldest in there)
        return f"of {due} tenants something is due at accounts that are in no settings any more" if due else ""

    async def plan(self, now: datetime) -> Sequence[Planned]:  # noqa: ARG002 -- the port's: nothing ends it, whenever it is due
        """What is there, as far as the tables know."""
        return [
            Planned(f"provider {account}", tenant or SYSTEM_TENANT, _CLASS, None, count, f"nothing ends it: {_WHY}")
            for account in await self._lost()
            for tenant, count, _ in await self._there(account)
        ]

    async def verify(self, now: datetime) -> Sequence[Found]:  # noqa: ARG002 -- the port's: it is not well before it is due, too
        """The same. It is not well before anything is due: then it is late to find out."""
        return [
            Found(f"provider {account}", tenant or SYSTEM_TENANT, _CLASS, oldest, None, well=False, why=_WHY)
            for account in await self._lost()
            for tenant, _, oldest in await self._there(account)
        ]

    async def _lost(self) -> list[str]:
        return sorted(set(await self._ledger.accounts()) - self._known)

    async def _there(self, account: str) -> list[tuple[str, int | None, datetime]]:
        """By tenant: how many copies are noted, if it is known how many there are, and when the oldest was made."""
        noted = await self._ledger.noted(account)
        found: list[tuple[str, int | None, datetime]] = []
        for tenant in dict.fromkeys([*await self._ledger.tenants(account), NOBODY]):
            of_tenant = [at for (name, _), (_, at) in noted.items() if name == tenant]
            ahead = await self._ledger.ahead(account, tenant, "all")
            moments = [*of_tenant, *([ahead] if ahead is not None else [])]
            if moments:
                count = max((count for (name, _), (count, _) in noted.items() if name == tenant), default=None)
                found.append((tenant, count if ahead is None else None, min(moments)))
        return found
