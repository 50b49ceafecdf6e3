"""Relay: what stands in the outbox is published, and removed once the broker has it. No cursor: ids commit out of order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol
from uuid import UUID

from gateway.domain.cloudevents import write_binary
from gateway.domain.errors import CannotOpen, GatewayError, KeyMissing
from gateway.domain.events import (
    SOURCE,
    SUBJECT_HEADER,
    ConsentEvent,
    DeadLetterEvent,
    InboundEvent,
    MetricsEvent,
    StatusEvent,
    encode,
)
from gateway.domain.publishing import Acknowledged, Failed, OutEvent, PublishResult, RefusedForGood
from gateway.domain.reasons import Reason
from gateway.flow.fuse import clock
from gateway.flow.leading import Leading
from gateway.flow.turns import in_turns, rest
from gateway.flow.vault import Hasher, Vault
from gateway.telemetry import Metrics, get_logger

__all__ = ["Outbox", "OutboxRow", "Publisher", "Relay", "Topics"]

log = get_logger("relay")

_STATUS_FIELDS: Final = (
    "message_id", "tenant", "programme", "category", "state", "final", "version", "correction", "provider", "parts",
    "policy", "rule", "account", "sender", "attempt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of the topics that events go out by."""

    status: str
    inbound: str
    consent: str
    dead_letters: str
    metrics: str


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An event to publish: a status event's own values, or a payload that is whole. What a message never changes stands beside it."""

    id: int
    kind: Literal["status", "consent", "inbound", "dead_letter", "metrics"]
    created_at: datetime
    tenant: str
    uid: UUID
    version: int
    state: str | None
    reason: str | None
    final: bool | None
    correction: bool | None
    provider: str | None
    parts: int | None
    policy: str | None
    rule: str | None
    subject_id: bytes | None
    payload: bytes | None
    message_id: str | None
    programme: str | None
    category: str | None
    recipient_ref: str | None
    trace: str | None
    account: str | None
    sender: str | None
    attempt: int | None
    recipient_uid: UUID
    recipient_sealed: bytes | None


class Outbox(Protocol):
    """Where events wait to be published."""

    async def take(self, most: int) -> list[OutboxRow]:
        """The oldest that are there, in the order of their ids."""
        ...

    async def remove(self, rows: Sequence[OutboxRow], name: str, holder: str) -> None:
        """The broker has them. Does nothing when ``holder`` no longer holds ``name``: the next one publishes them again."""
        ...

    async def park(self, ids: Sequence[int], why: str) -> None:
        """The broker will never take them: put aside, counted and alarmed."""
        ...


class Publisher(Protocol):
    """Where events go."""

    @property
    def alone(self) -> bool:
        """Whether nobody who published before can do so any more. Where that cannot be made sure of, it is taken for granted."""
        ...

    async def take_over(self, limit_seconds: float) -> None:
        """Be alone: from now on the brokers refuse what anybody else publishes in our place. Raises BrokerUnavailable."""
        ...

    async def publish(self, batch: Sequence[OutEvent], limit_seconds: float) -> Sequence[PublishResult]:
        """An answer for each event, in order, within the limit; per key, none overtakes another. None arrives after its limit."""
        ...


class Relay:
    """The chapter. One process at a time holds the name ``relay``; another takes over by itself."""

    def __init__(
        self,
        outbox: Outbox,
        publisher: Publisher,
        leading: Leading,
        topics: Topics,
        vault: Vault,
        hasher: Hasher,
        metrics: Metrics,
        *,
        batch: int = 1000,
        idle: float = 0.02,
    ) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._leading = leading
        self._topics = topics
        self._vault = vault
        self._hasher = hasher
        self._metrics = metrics
        self._batch = batch
        self._idle = idle
        self._stopping = False
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Publish until :meth:`stop`."""
        while not self._stopping:
            try:
                moved = await self._once() if await self._leads() else 0
            except GatewayError as fault:
                log.warning("relay waits", why=str(fault))
                moved = 0
                await asyncio.sleep(0.5)
            if moved < self._batch // 4:  # under load, events gather for a moment: a transaction is worth its while
                await self._rest()

    def stop(self) -> None:
        """Publish no further batch."""
        self._stopping = True
        self.wake.set()

    async def _rest(self) -> None:
        self.wake.clear()
        await rest(self.wake, self._idle if self._leading.held else 0.5)

    async def _leads(self) -> bool:
        """Whether the name is ours, and nobody who had it before can publish any more.

        In this order, and before anything is taken from the outbox: the one who last took over publishes alone, and what it takes after it
        was told that the name is still its own is not old.
        """
        if not await self._leading.hold():
            return False
        if self._publisher.alone:
            return True
        if not await self._leading.confirm():  # somebody else may have taken over: leave it to them
            return False
        await self._publisher.take_over(self._leading.left)
        return await self._leading.confirm()

    async def _once(self) -> int:
        rows = await self._outbox.take(self._batch)
        if not rows:
            return 0
        began = clock()
        rows, events = await self._events(rows)
        if not await self._leading.hold():
            return 0
        # The next holder publishes the same: what is still on its way by then could overtake it.
        results = await self._publisher.publish(events, self._leading.left)
        gone = [row for row, result in zip(rows, results, strict=True) if isinstance(result, Acknowledged)]
        await self._outbox.remove(gone, self._leading.name, self._leading.holder)
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, RefusedForGood):
                log.error("event parked", why=result.why, kind=row.kind, id=row.id)
                await self._outbox.park([row.id], result.why)
        failed = [result.why for result in results if isinstance(result, Failed)]
        if failed:
            log.warning("events not acknowledged", why=failed[0], count=len(failed))
            await asyncio.sleep(0.2)
        self._metrics.stage_seconds.labels(stage="publish").observe(clock() - began)
        return len(gone)

    async def _events(self, rows: Sequence[OutboxRow]) -> tuple[list[OutboxRow], list[OutEvent]]:
        """The rows with their events. What cannot be unsealed is parked: it must not keep all others from going out."""
        readable, events = [], []
        async for row in in_turns(rows):
            try:
                events.append(self._event(row))
            except (KeyMissing, CannotOpen, ValueError) as fault:
                # Its key is gone, or another version of the gateway wrote it. Any other fault of the key ring passes.
                log.warning("event unreadable", why=type(fault).__name__, kind=row.kind, id=row.id)
                await self._outbox.park([row.id], "unreadable")
            else:
                readable.append(row)
        return readable, events

    def _event(self, row: OutboxRow) -> OutEvent:
        # Ordered by person: whatever the gateway calls one, within the tenant. What has no person is ordered by itself.
        person = self._hasher.person_key(row.tenant, row.subject_id or row.uid.bytes).encode()
        # The consent topic is compacted: each thing that a person said stands under a key of its own, or the last would be left alone.
        key = b"%s:%s" % (person, (row.rule or "").encode()) if row.kind == "consent" else person
        build: dict[str, Callable[[OutboxRow], tuple[str, str, bytes]]] = {
            "status": self._status,
            "consent": self._consent,
            "dead_letter": lambda r: (self._topics.dead_letters, DeadLetterEvent.TYPE, r.payload or b""),
            "metrics": lambda r: (self._topics.metrics, MetricsEvent.TYPE, r.payload or b""),
            "inbound": self._inbound,
        }
        topic, event_type, data = build[row.kind](row)
        headers, value = write_binary(
            event_type=event_type,
            event_id=f"{row.uid}:{row.version}",
            source=SOURCE,
            time=row.created_at,
            data=data,
            traceparent=row.trace,
        )
        if row.kind == "consent" and row.subject_id is not None:
            # A database that is restored learns from the topic who opted out since: no pseudonym leads back to a person.
            headers = [*headers, (SUBJECT_HEADER, self._hasher.seal_subject(person.decode(), row.subject_id).encode())]
        return OutEvent(topic, key, headers, value, ordered_by=person)

    def _inbound(self, row: OutboxRow) -> tuple[str, str, bytes]:
        return (
            self._topics.inbound,
            InboundEvent.TYPE,
            self._vault.open_payload(row.tenant, "inbound", row.uid, row.payload or b""),
        )

    def _consent(self, row: OutboxRow) -> tuple[str, str, bytes]:
        data = row.payload or b""
        if row.recipient_sealed is not None:
            event = ConsentEvent.model_validate_json(data)
            data = encode(event.model_copy(update={"recipient_ref": self._recipient(row)}))
        return self._topics.consent, ConsentEvent.TYPE, data

    def _recipient(self, row: OutboxRow) -> str | None:
        return self._vault.open_recipient(row.tenant, row.recipient_uid, row.recipient_sealed, row.recipient_ref)

    def _status(self, row: OutboxRow) -> tuple[str, str, bytes]:
        # What the gateway wrote itself is not checked once more: model_construct takes the values as they are.
        values: dict[str, Any] = {name: getattr(row, name) for name in _STATUS_FIELDS}
        values |= {"recipient_ref": self._recipient(row), "reason": Reason(row.reason or ""), "occurred_at": row.created_at}
        event = StatusEvent.model_construct(**values)
        return self._topics.status, StatusEvent.TYPE, encode(event)
