"""What is kept of a customer whatever the messages: it ends so long after the account was closed as the policy says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from gateway.domain.closing import STILL_WRITTEN, Closing, Closings
from gateway.domain.policy import Policy
from gateway.domain.retention import Duration, deadline
from gateway.flow.retention import Found, Planned

__all__ = ["CustomerAccounts"]

_CLASS: Final = "customer_account"
_HOW: Final = "which sender each person had, pauses, tokens and the closing's own words go"
_OPEN: Final = "nothing ends it: the policy leaves retention.customer_account open"
_FOREVER: Final = "nothing ends it: its period has no end"


class AccountTables(Protocol):
    """Where it is kept. Raises StoreUnavailable."""

    async def closings(self) -> Closings: ...
    async def list(self) -> Sequence[Mapping[str, Any]]: ...
    async def left(self, tenants: Collection[str]) -> Mapping[str, int]: ...
    async def forget(self, tenant: str, most: int) -> int: ...


class CustomerAccounts:
    """The place. ``policies`` are those of all tenants by name, also of those that are not enabled."""

    name = "customer accounts"

    def __init__(self, tables: AccountTables, policies: Mapping[str, Policy]) -> None:
        self._tables = tables
        self._policies = policies

    async def plan(self, now: datetime) -> Sequence[Planned]:
        """When each closed account's is over. Of those that are open nothing is due."""
        closings = await self._tables.closings()
        left = await self._tables.left(closings)
        planned = []
        for tenant in sorted(left):
            due, why = self._due(tenant, closings[tenant])
            planned.append(Planned(self.name, tenant, _CLASS, due if due is None else max(due, now), left[tenant], why or _HOW))
        return planned

    async def run(self, now: datetime, most: int) -> int:
        """Forget what is over: a bounded step."""
        closings, ended = await self._tables.closings(), 0
        for row in await self._tables.list():
            tenant = row["tenant"]
            if row["who"] is None or tenant not in closings or ended >= most:  # without its own words all else is gone, too
                continue
            due, _ = self._due(tenant, closings[tenant])
            if due is not None and due <= now:
                ended += await self._tables.forget(tenant, most - ended)
        return ended

    async def left(self, now: datetime) -> str:
        """Accounts whose time is over."""
        closings = await self._tables.closings()
        dues = {tenant: self._due(tenant, closings[tenant])[0] for tenant in await self._tables.left(closings)}
        count = sum(due is not None and due <= now for due in dues.values())
        return f"of {count} customers something is due" if count else ""

    async def verify(self, now: datetime) -> Sequence[Found]:
        """What there is of each closed account, by a look at the tables."""
        closings = await self._tables.closings()
        left = await self._tables.left(closings)
        found = []
        for tenant, closing in sorted(closings.items()):
            due, why = self._due(tenant, closing)
            over = due is not None and due <= now and tenant in left
            wrong = f"{left.get(tenant, 0)} that should be gone since the account is closed" if over else ""
            well = not over and (not why or why == _FOREVER or tenant not in left)
            oldest = closing.at if tenant in left else None
            found.append(Found(self.name, tenant, _CLASS, oldest, closing.at if over else None, well, wrong or why))
        return found

    def _due(self, tenant: str, closing: Closing) -> tuple[datetime | None, str]:
        """When it is over, and why it never is. Nothing goes while the closing may still be taken back."""
        policy = self._policies.get(tenant)
        if policy is None:
            return None, "no policy says how long it is kept"
        kept = policy.retention.of(_CLASS)
        if not isinstance(kept, Duration):
            return None, _OPEN
        calendar = policy.known_business_days if kept.needs_calendar else None
        if kept.needs_calendar and calendar is None:  # of a tenant that is not enabled: nobody has asked
            return None, f"calendar of {tenant} is not known"
        end = deadline(closing.at, kept, calendar, closed=closing.at)
        return (None, _FOREVER) if end is None else (max(end, closing.since + STILL_WRITTEN), "")
