"""Lists of consent from elsewhere: taken in row by row, as often as wanted, and never against what a person has said since."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from gateway.domain.consent import Scope, meet
from gateway.domain.events import OptInProof
from gateway.domain.personal import PhoneNumber
from gateway.flow.requests import ConsentRequests

__all__ = ["ConsentImport", "ImportFate", "ImportRow"]

ImportFate = Literal[
    "opted_out",  # written and in force
    "not_yet_in_force",  # written; in force once the requests under way have ended, within a lease
    "opted_in",
    "unchanged",  # it stood already
    "kept_out",  # an opt-in, and an opt-out stands: an import undoes none
    "kept_in",  # an opt-out that was said before the opt-in that stands
    "from_the_future",  # an opt-in that is yet to be said
    "account_closed",  # an opt-in, and the tenant's customer account is closed
]

_LANES: Final = 16


@dataclass(frozen=True, slots=True)
class ImportRow:
    """A row that can be read. Without a ``proof`` it is an opt-out; one without a time counts as said now."""

    line: int
    tenant: str | None
    number: PhoneNumber
    scope: Scope
    name: str
    stated_at: datetime | None
    proof: OptInProof | None


class ConsentImport:
    """The chapter. ``requests`` are those of source ``import``; ``now`` is the store's time."""

    def __init__(self, requests: ConsentRequests, actor: str, now: datetime) -> None:
        self._requests = requests
        self._actor = actor
        self._now = now

    async def take(self, rows: Sequence[ImportRow], told: Callable[[ImportRow, ImportFate], None]) -> None:
        """Take in all rows, several people at a time, each person's rows in order; ``told`` hears of each when it is durable.

        Raises StoreUnavailable: what was told is done, and the same list may be taken in again.
        """
        lanes: list[list[ImportRow]] = [[] for _ in range(_LANES)]
        for row in rows:
            lanes[hash(row.number) % _LANES].append(row)

        async def drive(lane: list[ImportRow]) -> None:
            for row in lane:
                told(row, await self._one(row))

        tasks = [asyncio.create_task(drive(lane)) for lane in lanes if lane]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, row: ImportRow) -> ImportFate:
        if row.proof is None:
            return await self._opt_out(row)
        return await self._opt_in(row, row.proof)

    async def _opt_out(self, row: ImportRow) -> ImportFate:
        key = self._requests.key(row.tenant, row.number, row.scope, row.name)
        stated_at = row.stated_at if row.stated_at is not None and row.stated_at <= self._now else None
        for consent in await self._requests.standing(row.number):
            if consent.key == key:
                if consent.status == "out" and consent.in_force_at and (stated_at is None or stated_at <= consent.stated_at):
                    return "unchanged"
                if consent.status == "in" and stated_at is not None and stated_at < consent.stated_at:
                    return "kept_in"
        result = await self._requests.opt_out(row.tenant, row.number, row.scope, row.name, self._actor, stated_at)
        return "opted_out" if result.in_force else "not_yet_in_force"

    async def _opt_in(self, row: ImportRow, proof: OptInProof) -> ImportFate:
        if proof.at > self._now:
            return "from_the_future"
        key = self._requests.key(row.tenant, row.number, row.scope, row.name)
        standing = await self._requests.standing(row.number)
        if any(consent.status == "out" and meet(consent.key, key) for consent in standing):
            return "kept_out"
        if any(consent.key == key and consent.stated_at >= proof.at for consent in standing):
            return "unchanged"
        result = await self._requests.opt_in(row.tenant, row.number, row.scope, row.name, self._actor, proof)
        if result.granted:
            return "opted_in"
        return "account_closed" if result.why == "account_closed" else "kept_out"
