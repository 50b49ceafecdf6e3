"""The key ring as a place of personal data: a day's key must die by the deadline of what it seals, with every copy of that.

The step that ends rows destroys their keys, too. This is the net under it: it asks the ring itself which keys live, and destroys one
whose time is over and that no row needs any more. One that is still needed, or whose time nobody knows, it reports and leaves alone.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final, Protocol

from gateway.domain.closing import Closings, closed_at, written_until
from gateway.domain.horizon import not_after
from gateway.domain.policy import Policy
from gateway.domain.policy_retention import Retention, RetentionClass
from gateway.domain.retention import Duration, Unset, deadline
from gateway.flow.holds import of_hold
from gateway.flow.keys import DayKey
from gateway.flow.retention import Found, Planned
from gateway.flow.vault import SYSTEM_TENANT, DataClass

__all__ = ["KeyRetention"]

# So that it is over by the deadline, whenever the sweep comes; a closing may still be taken back.
_AHEAD: Final = timedelta(hours=1)
_IDLE: Final = timedelta(minutes=10)  # after a step that had nothing to do: a large ring is not read every minute
_DAY: Final = timedelta(days=1)
_CLASS: Final[Mapping[DataClass, RetentionClass]] = {
    "content": "content",
    "address": "address",
    "dead_letters": "dead_letters",
    "inbound": "content",
    "consent": "consent_proof",
}
_NEEDED: Final = "something in the database is still sealed by it"


class Ring(Protocol):
    """The key ring, as far as it tells what lives."""

    def living(self) -> Sequence[DayKey]:
        """Every day's key that was not destroyed. It blocks."""
        ...


class Needs(Protocol):
    """The database, as far as it tells what is left to open."""

    async def needed(self, keys: Collection[DayKey]) -> set[DayKey]:
        """Those of the keys that something is still sealed by."""
        ...


class Ending(Protocol):
    """What destroys a key so that it stays destroyed."""

    async def destroy(self, key: DayKey) -> bool:
        """Destroy a key; False when it was not there."""
        ...


@dataclass(frozen=True, slots=True)
class _Due:
    """A living key, when it must be gone, and from when on it may be; None: never, or ``why`` says why nobody knows."""

    key: DayKey
    at: datetime | None
    ready: datetime | None = None
    why: str = ""

    def over(self, now: datetime) -> bool:
        return self.at is not None and self.at <= now


class KeyRetention:
    """The day keys of a ring. ``policies`` are those of all tenants by name, also of those that are not enabled."""

    def __init__(
        self,
        ring: Ring,
        needs: Needs,
        ending: Ending,
        policies: Mapping[str, Policy],
        closings: Callable[[], Awaitable[Closings]],
    ) -> None:
        self._ring = ring
        self._needs = needs
        self._ending = ending
        self._policies = policies
        self._closings = closings
        self._closed: Closings = {}
        self._idle_until: datetime | None = None

    @property
    def name(self) -> str:
        return "keys"

    async def plan(self, now: datetime) -> Sequence[Planned]:
        """The next key to die of each tenant and class, or all whose time is over. Raises KeyRingAway."""
        planned = []
        for (tenant, data_class), dues in _grouped(await self._living()).items():
            first = min(dues, key=_order)
            how = first.why or (f"the key of {first.key.day} is destroyed" if first.at is not None else "the policy sets no end")
            planned.append(Planned(self.name, tenant, data_class, first.at, max(1, sum(due.over(now) for due in dues)), how))
        return planned

    async def run(self, now: datetime, most: int) -> int:
        """Destroy keys whose time is over, within the hour before, and that nothing needs. Raises StoreUnavailable, KeyRingAway."""
        known, self._closed = self._closed, await self._closings()
        if self._idle_until is not None and now < self._idle_until and known == self._closed:
            return 0
        living = sorted(await self._living(), key=_order)
        over = [due.key for due in living if due.ready is not None and due.ready <= now]
        ended = 0
        for start in range(0, len(over), most):
            if ended == most:
                break
            step = over[start : start + most]
            needed = await self._needs.needed(step)
            for key in step:
                if key not in needed and ended < most:
                    ended += await self._ending.destroy(key)
        # what ends with an account is ended at once, not within the hour before
        coming = [due.ready for due in living if due.key.tenant in self._closed and due.ready is not None and due.ready > now]
        self._idle_until = None if ended else min([now + _IDLE, *coming])
        return ended

    async def left(self, now: datetime) -> str:
        """Keys whose time is over, and that something needs."""
        over = [due.key for due in await self._living() if due.over(now) and due.key.data_class != "consent"]
        needed = await self._needs.needed(over) if over else set()
        return f"{len(needed)} keys are due: {_NEEDED}" if needed else ""

    async def verify(self, now: datetime) -> Sequence[Found]:
        """The oldest living key of each tenant and class. Raises StoreUnavailable, KeyRingAway."""
        living = await self._living()
        needed = await self._needs.needed([due.key for due in living if due.over(now)])
        return [self._judge(*group, dues, needed, now) for group, dues in _grouped(living).items()]

    def _judge(self, tenant: str, data_class: DataClass, dues: Sequence[_Due], needed: set[DayKey], now: datetime) -> Found:
        over = [due for due in dues if due.over(now)]
        why = next((due.why for due in dues if due.why), "")
        if data_class == "consent":  # a proof is kept from the end of the opt-in, and as long as that stands
            over = [due for due in over if due.key not in needed]
        if over:
            first = min(over, key=_order)
            why = (
                f"{len(over)} keys that should be destroyed: {_NEEDED}"
                if first.key in needed
                else f"{len(over)} keys that should be destroyed"
            )
        oldest = datetime.combine(min(due.key.day for due in dues), time.min, UTC)
        return Found(self.name, tenant, data_class, oldest, self._not_before(dues, now), not why, why)

    async def _living(self) -> list[_Due]:
        self._closed = await self._closings()
        keys = await asyncio.to_thread(self._ring.living)
        known: dict[DayKey, _Due] = {key: self._due(key) for key in keys if not of_hold(key)}  # those end with their holds
        return list(known.values())

    def _due(self, key: DayKey) -> _Due:
        """What is made first on a day must be gone first, and its key with it; a proof's key only after the last."""
        policies = self._of(key.tenant)
        if not policies:
            return _Due(key, None, why="no policy says how long it is kept")
        proof = key.data_class == "consent"
        start = datetime.combine(key.day, time.min, UTC) + (_DAY if proof else timedelta(0))
        closed = closed_at(self._closed, key.tenant)
        ends = []
        for policy in policies:
            kept = policy.retention
            period = kept.of(_CLASS[key.data_class])
            if isinstance(period, Unset):
                return _Due(key, None, why=f"retention.{_CLASS[key.data_class]} of {policy.tenant} is UNSET")
            calendar = policy.known_business_days if period.needs_calendar else None
            if period.needs_calendar and calendar is None:  # of a tenant that is not enabled: nobody has asked
                return _Due(key, None, why=f"calendar of {policy.tenant} is not known")
            ends.append(deadline(start, period, calendar, closed=closed))
        if key.tenant == SYSTEM_TENANT:
            ends.append(deadline(start, _default(key.data_class)))
        known = [end for end in ends if end is not None]
        if not known or (proof and len(known) < len(ends)):
            return _Due(key, None)
        closing = self._closed.get(key.tenant)
        written = written_until(key.day, _CLASS[key.data_class], closing)
        at = max(max(known) if proof else min(known), written)
        return _Due(key, at, at if closing is not None else max(at - _AHEAD, written))

    def _not_before(self, dues: Sequence[_Due], now: datetime) -> datetime | None:
        """From when on a day must have begun for its key to be alive; None where that cannot be told from the day alone."""
        key = dues[0].key
        if key.data_class == "consent" or any(due.why for due in dues):
            return None
        moments = []
        for policy in self._of(key.tenant):
            kept = policy.retention
            period = kept.of(_CLASS[key.data_class])
            if isinstance(period, Duration):
                calendar = policy.business_days if period.needs_calendar else None
                moments.append(not_after(now, period, calendar, closed=closed_at(self._closed, key.tenant)))
        if key.tenant == SYSTEM_TENANT:
            moments.append(not_after(now, _default(key.data_class)))
        return max((moment for moment in moments if moment is not None), default=None)

    def _of(self, tenant: str) -> Sequence[Policy]:
        """Whose word holds: of the system's keys, that of every tenant that is live, beside what holds where none says else."""
        if tenant == SYSTEM_TENANT:
            return [policy for policy in self._policies.values() if policy.enabled]
        return [self._policies[tenant]] if tenant in self._policies else []


def _default(data_class: DataClass) -> Duration:
    period = Retention().of(_CLASS[data_class])
    assert isinstance(period, Duration), "no default leaves it open"
    return period


def _grouped(dues: Sequence[_Due]) -> Mapping[tuple[str, DataClass], list[_Due]]:
    groups: dict[tuple[str, DataClass], list[_Due]] = defaultdict(list)
    for due in dues:
        groups[due.key.tenant, due.key.data_class].append(due)
    return groups


def _order(due: _Due) -> tuple[bool, datetime, str]:
    return due.at is None, due.at or datetime.max.replace(tzinfo=UTC), str(due.key)
