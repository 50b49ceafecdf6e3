"""Held: a database that went back behind what was written to it sends nothing until that is replayed.

What tells is kept in the key ring's place, which no backup of the database brings back: the database's name, its timeline, and how far
its log had come, a few seconds ago at most. Statements that claim, mark, take in and publish compare it themselves, so that
a failover in the middle of the work is no gap. docs/protocol.md says what that rests on.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from prometheus_client import Gauge

from gateway.domain.errors import DatabaseHeld, GatewayError
from gateway.domain.lineage import NONE, Expected, Lineage
from gateway.flow.fuse import clock
from gateway.flow.turns import rest
from gateway.telemetry import get_logger

__all__ = ["KeptLineage", "LineageWatch"]

_EVERY: Final = 1.0  # seconds between two looks
_LEAST: Final = 0.001  # seconds: held is never told as 0

log = get_logger("lineage")


class KeptLineage(Protocol):
    """The place outside the database. Everything blocks for a moment, and raises KeyRingAway, KeyUnreadable."""

    def lineage(self) -> bytes | None:
        """What is kept."""
        ...

    def keep_lineage(self, before: bytes | None, after: bytes) -> bool:
        """Keep another one, if it is ``before`` that is kept; False when it is not."""
        ...


class Store(Protocol):
    """The database's own word."""

    async def now(self) -> Lineage: ...
    async def was_kept(self) -> bool: ...
    async def note_kept(self) -> None: ...
    def expect(self, expected: Expected) -> None: ...


class LineageWatch:
    """The chapter. ``trust_failover``: a promoted standby has everything that was committed."""

    def __init__(self, store: Store, place: KeptLineage, held: Gauge, *, trust_failover: bool = False) -> None:
        self._store = store
        self._place = place
        self._gauge = held
        self._trust = trust_failover
        self._stopping = asyncio.Event()
        self._told = ""
        self._since: float | None = None
        self.why = ""
        """Why the gateway is held; empty: it is not."""

    @property
    def held(self) -> bool:
        """Whether nothing is to be sent, as of the last look."""
        return bool(self.why)

    async def begin(self) -> None:
        """The first look. A database that was never seen, beside a place that keeps none, is the one from now on."""
        kept = await asyncio.to_thread(self._place.lineage)
        was_kept = await self._store.was_kept()
        if kept is None and not was_kept:
            now = await self._store.now()
            await asyncio.to_thread(self._place.keep_lineage, None, now.encode())
        await self.look()
        if not was_kept and not self.held:
            await self._store.note_kept()

    async def look(self) -> None:
        """Compare, and say to the statements which database they are meant for. Raises StoreUnavailable, or a fault of the key ring."""
        raw = await asyncio.to_thread(self._place.lineage)
        kept = None if raw is None else Lineage.decode(raw)
        self._store.expect(NONE if kept is None else kept.expected(trust_failover=self._trust))
        now = await self._store.now()
        self.why = _why(now, kept, trust_failover=self._trust)
        self._since = None if not self.why else self._since if self._since is not None else clock()
        self._gauge.set(0 if self._since is None else max(_LEAST, clock() - self._since))
        if self.why and self.why != self._told:
            log.error("held: nothing is sent", why=self.why)
        elif self._told and not self.why:
            log.info("no longer held")
        self._told = self.why

    async def move(self) -> None:
        """Keep how far the database has come, unless it is held. By who sweeps."""
        raw = await asyncio.to_thread(self._place.lineage)
        now = await self._store.now()
        if raw is not None and raw != now.encode() and not _why(now, Lineage.decode(raw), trust_failover=self._trust):
            await asyncio.to_thread(self._place.keep_lineage, raw, now.encode())

    async def release(self) -> Lineage:
        """This database is the one from now on."""
        raw = await asyncio.to_thread(self._place.lineage)
        now = await self._store.now()
        if not await asyncio.to_thread(self._place.keep_lineage, raw, now.encode()):
            raise GatewayError("the key ring was written meanwhile: try again")
        await self._store.note_kept()
        await self.look()
        return now

    async def check(self) -> None:
        """Raises DatabaseHeld while it is held."""
        if self.why:
            raise DatabaseHeld(f"held: {self.why}: run `gateway restore replay`, then `gateway restore release`")

    async def require(self) -> None:
        """Look now. Raises DatabaseHeld when it is held, StoreUnavailable, or a fault of the key ring."""
        await self.look()
        await self.check()

    async def run(self) -> None:
        """Look until :meth:`stop`. While PostgreSQL or the key ring is away all stays as it was."""
        while not self._stopping.is_set():
            try:
                await self.look()
            except GatewayError as fault:
                log.warning("lineage not looked at", why=str(fault))
            await rest(self._stopping, _EVERY)

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()


def _why(now: Lineage, kept: Lineage | None, *, trust_failover: bool) -> str:
    """Why this is not what the kept one has become; empty when it is."""
    if kept is None:
        return "the key ring does not tell which database was written to last"
    if now.follows(kept, trust_failover=trust_failover):
        return ""
    if now.name != kept.name:
        return "the database is not the one that was written to last: it was restored from a dump, or is another one"
    if now.timeline != kept.timeline and not trust_failover:
        return "the database was failed over, or recovered to a point in time"
    return "the database is older than it was: its files were put back"
