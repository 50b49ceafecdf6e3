"""The spool: STOPs that were written to Kafka while PostgreSQL was away are applied before anything is claimed.

A reading to the end counts for some seconds; without one the claim and the mark find the spool shut. docs/protocol.md and
model/spool.pml say why in this order.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from gateway.domain.errors import CannotOpen, GatewayError, KeyMissing, Unavailable
from gateway.domain.ids import uid_time
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reports import InboundText
from gateway.domain.spooled import SpooledStop, decode
from gateway.flow.leading import Leading
from gateway.flow.replies import Replies
from gateway.flow.spooling import READING_COUNTS
from gateway.flow.stop import InboundNote, OptOut
from gateway.flow.turns import rest
from gateway.flow.vault import SYSTEM_TENANT, Vault, owner_of
from gateway.telemetry import Metrics, get_logger

__all__ = ["Looked", "Place", "SpoolApplier", "SpoolSource", "SpooledRecord"]

_ASKED: Final = "_spool"  # stands for an account in the ids of what was no text; no alias may begin so

log = get_logger("spool")

_BATCH: Final = 50
_EVERY: Final = 1.0  # seconds between two readings


@dataclass(frozen=True, slots=True)
class Looked:
    """PostgreSQL's time, and the first offset that is not applied; None when the spool was never read."""

    at: datetime
    next_offset: int | None


class Place(Protocol):
    """How far the spool is applied."""

    async def look(self) -> Looked: ...

    async def advance(self, before: int | None, after: int) -> bool:
        """Everything before ``after`` is applied. False when the place is no longer ``before``."""
        ...

    async def clear(self, offset: int, at: datetime, seconds: float) -> bool:
        """At ``at`` there was nothing beyond ``offset``: for so many seconds from then, messages may be claimed."""
        ...

    async def park(self, offset: int, why: str) -> None:
        """Keep in the audit that a record is passed over."""
        ...


class SpooledRecord(Protocol):
    """A record of the topic, as it came."""

    @property
    def offset(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def timestamp_ms(self) -> int: ...


class SpoolSource(Protocol):
    """The topic. Everything raises BrokerUnavailable."""

    async def bounds(self) -> tuple[int, int]:
        """The first offset that is there, and the one after the last acknowledged record."""
        ...

    async def read(self, offset: int, most: int) -> tuple[Sequence[SpooledRecord], int]:
        """Records from an offset on, and the offset after them; what can never be read is reported and passed over."""
        ...

    async def close(self) -> None: ...


class SpoolApplier:
    """The chapter. One process at a time holds the name; two at once would do each other no harm.

    ``replies`` must not wait for a STOP to be in force: no claim is made meanwhile, and the sweep finishes it.
    """

    def __init__(
        self,
        place: Place,
        source: SpoolSource,
        leading: Leading,
        replies: Replies,
        vault: Vault,
        ring: str,
        metrics: Metrics,
    ) -> None:
        self.place = place
        self.source = source
        self._leading = leading
        self._replies = replies
        self._vault = vault
        self._ring = ring
        self._metrics = metrics
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Read the spool to its end, again and again, until :meth:`stop`. Whatever is the matter, it stays shut meanwhile."""
        while not self._stopping.is_set():
            try:
                if await self._leading.hold():
                    await self.once()
                else:
                    self._forget()
                    await self.source.close()
            except GatewayError as fault:
                log.warning("spool waits", why=str(fault))
            except Exception:
                log.exception("spool waits")
            await rest(self._stopping, _EVERY if self._leading.held else 0.4)

    def stop(self) -> None:
        """Begin no further reading."""
        self._stopping.set()

    async def once(self) -> bool:
        """Apply what is there, and say that the spool was read to its end. False when another process was at it.

        Raises StoreUnavailable, BrokerUnavailable.
        """
        looked = await self.place.look()  # before the end is asked for: the reading counts from here
        begin, end = await self.source.bounds()
        at = looked.next_offset
        if at is None or at > end:
            if at is not None:  # what is read again changes nothing
                log.warning("the spool's topic was made anew, or cut: it is read from its beginning")
            if not await self.place.advance(at, begin):
                return False
            at = begin
        self._metrics.spool_unapplied_records.set(end - at)
        while at < end:
            records, after = await self.source.read(at, _BATCH)
            if records:
                age = looked.at.timestamp() - records[0].timestamp_ms / 1000
                self._metrics.spool_oldest_seconds.set(max(0.0, age))
            for record in records:
                await self._apply(record)
            if after != at and not await self.place.advance(at, after):
                return False
            at = after
        done = await self.place.clear(at, looked.at, READING_COUNTS)
        self._metrics.spool_unapplied_records.set(0)
        self._metrics.spool_oldest_seconds.set(0)
        return done

    def _forget(self) -> None:
        for gauge in (self._metrics.spool_unapplied_records, self._metrics.spool_oldest_seconds):
            gauge.set(math.nan)

    async def _apply(self, record: SpooledRecord) -> None:
        """A record that can never be applied is parked: it does not hold up everything for ever."""
        try:
            stop = decode(record.value)
        except ValueError:
            await self._park(record, "unreadable")
            return
        if stop.ring != self._ring:
            await self._park(record, "another key ring")
            return
        try:
            result = await self._heed(stop)
        except Unavailable:
            raise
        except Exception as fault:
            log.exception("spooled stop not applied", offset=record.offset, exc_info=fault)
            await self._park(record, type(fault).__name__)
        else:
            self._metrics.spool_records_total.labels(result=result).inc()

    async def _park(self, record: SpooledRecord, why: str) -> None:
        log.error("spooled stop parked", offset=record.offset, why=why)
        await self.place.park(record.offset, why)
        self._metrics.spool_records_total.labels(result="parked").inc()

    async def _heed(self, stop: SpooledStop) -> str:
        text = self._text(stop)
        if text is not None:
            try:
                return "repeated" if await self._replies.heed_spooled(text, stop.keys) == "repeated" else "applied"
            except Unavailable:
                raise
            except Exception as fault:  # noqa: BLE001 - whatever it is, the opt-out counts
                log.warning("spooled stop not confirmed", why=type(fault).__name__)
        key = stop.keys[0]
        said = (_ASKED, str(stop.event_id)) if stop.text is None else (stop.text.account, stop.text.provider_message_id)
        note = InboundNote(*said, None, "stop", owner_of(key), key.subject_id)
        opt_out = OptOut(key, stop.source, None, actor=stop.actor, inbound=note)
        return "applied" if await self._replies.opt_out_each(stop.keys, opt_out) else "repeated"

    def _text(self, stop: SpooledStop) -> InboundText | None:
        """The text as far as it is kept; None when its number cannot be opened. Its time is when it was spooled, by the web's clock."""
        text = stop.text
        if text is None or text.sender_sealed is None:
            return None
        try:
            number = self._vault.open_payload(SYSTEM_TENANT, "inbound", stop.event_id, text.sender_sealed).decode()
            spooled_at = uid_time(stop.event_id)
        except (CannotOpen, KeyMissing, ValueError) as fault:
            log.warning("spooled stop will not be confirmed", why=type(fault).__name__)
            return None
        return InboundText(
            text.account,
            text.provider_message_id,
            PhoneNumber(number),
            text.to,
            text.service,
            MessageBody(text.word),
            text.replied,
            spooled_at,
        )
