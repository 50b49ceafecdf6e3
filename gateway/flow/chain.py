"""Chain: audit records are bound into their tenant's chain, and the chain is published. One process at a time, beside the relay.

A record is written, unchained, in the transaction of its change, which locks nothing that others need. Here a batch of them is taken,
bound and moved under the lock of each chain's head, in one transaction; then it is published, keyed by tenant, and the head told how far
the topic has it. A process that is killed in between leaves a whole chain, which the next one publishes from the last acknowledged
record on: a record may come to the topic twice, and is the same then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from gateway.domain.chain import Anchor, AuditRecord, Chained, chained, encode
from gateway.domain.cloudevents import write_binary
from gateway.domain.errors import GatewayError
from gateway.domain.events import SOURCE, AuditEvent
from gateway.domain.publishing import Acknowledged, OutEvent
from gateway.flow.fuse import clock
from gateway.flow.leading import Leading
from gateway.flow.relay import Publisher
from gateway.flow.turns import in_turns, rest
from gateway.flow.vault import Hasher
from gateway.telemetry import Metrics, get_logger

__all__ = ["Binder", "Chain", "Chains", "Head", "Unchained"]

_BETWEEN: Final = 0.01  # seconds

log = get_logger("chain")


class Unchained(NamedTuple):
    """A record as it was written: the person is called by the inner ``subject_id`` still, and in the record not at all."""

    record: AuditRecord
    subject_id: bytes | None


class Head(NamedTuple):
    """The end of a tenant's chain, locked; ``now`` is the moment of chaining, which never goes back within a chain.

    ``published`` is the sequence up to which the topic has it.
    """

    anchor: Anchor
    now: datetime
    published: int


Binder = Callable[[Mapping[str, Head], Sequence[Unchained]], Awaitable[list[Chained]]]
"""Binds records to the heads of their chains, in the order given. It changes nothing, and may be asked again."""


class Chains(Protocol):
    """Where the chains are."""

    async def chain(self, most: int, bind: Binder) -> list[Chained]:
        """Take the oldest records that are there, bind them and write them, in one transaction."""
        ...

    async def unpublished(self, most: int) -> list[Chained]:
        """What the topic lacks, each tenant's in order."""
        ...

    async def mark_published(self, last: Sequence[Chained]) -> None:
        """The topic has each of these tenants' chains up to this record."""
        ...


class Chain:
    """The chapter. It works while this process holds the relay's name, so that a tenant's chain goes out in order."""

    def __init__(
        self,
        chains: Chains,
        publisher: Publisher,
        leading: Leading,
        topic: str,
        hasher: Hasher,
        metrics: Metrics,
        *,
        batch: int = 300,
        idle: float = 0.1,
    ) -> None:
        self._chains = chains
        self._publisher = publisher
        self._leading = leading
        self._topic = topic
        self._hasher = hasher
        self._metrics = metrics
        self._batch = batch
        self._idle = idle
        self._topic_is_behind = True  # until it is known otherwise: an earlier holder may have left something
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Chain and publish until :meth:`stop`."""
        while not self._stopping.is_set():
            moved = 0
            try:
                if await self._leading.hold():
                    moved = await self.once()
                else:
                    self._topic_is_behind = True
            except GatewayError as fault:
                log.warning("the audit waits to be chained", why=str(fault))
            # After a full batch there is more; a moment between them all the same, or messages would wait for the processor meanwhile.
            await rest(self._stopping, self._idle if moved < self._batch else _BETWEEN)

    def stop(self) -> None:
        """Chain no further batch."""
        self._stopping.set()

    async def once(self) -> int:
        """Chain a batch and publish what the topic lacks; how many records were chained or published."""
        began = clock()
        fresh = await self._chains.chain(self._batch, self._bind)
        if fresh:
            self._metrics.audit_chained_total.inc(len(fresh))
            self._metrics.stage_seconds.labels(stage="chain").observe(clock() - began)
        behind = self._topic_is_behind or not fresh
        lacking = await self._chains.unpublished(self._batch) if behind else fresh
        self._topic_is_behind = True  # should this process be cut off anywhere below
        if not await self._publish(lacking):
            await rest(self._stopping, 0.2)
            return 0
        self._topic_is_behind = behind and len(lacking) == self._batch
        return max(len(fresh), len(lacking))

    async def _bind(self, heads: Mapping[str, Head], records: Sequence[Unchained]) -> list[Chained]:
        if any(head.published < head.anchor.sequence for head in heads.values()):
            self._topic_is_behind = True  # what others chained and did not publish goes first
        ends = {tenant: head.anchor for tenant, head in heads.items()}
        links: list[Chained] = []
        async for record, subject_id in in_turns(records):
            tenant = record.tenant
            told = record if subject_id is None else record._replace(person=self._hasher.person_key(tenant, subject_id))
            (link,) = chained(ends[tenant], [told], heads[tenant].now)
            ends[tenant] = link.anchor
            links.append(link)
        return links

    async def _publish(self, links: Sequence[Chained]) -> bool:
        """Whether the topic has all of them now. What it has from each chain's beginning on is noted in any case."""
        if not links:
            return True
        began = clock()
        events = [self._event(link) async for link in in_turns(links)]
        if not await self._leading.hold():
            return False
        results = await self._publisher.publish(events, self._leading.left)
        last: dict[str, Chained] = {}
        stopped: dict[str, str] = {}
        for link, result in zip(links, results, strict=True):
            tenant = link.record.tenant
            if isinstance(result, Acknowledged):
                if tenant not in stopped:
                    last[tenant] = link
            elif tenant not in stopped:
                # Not put aside, whatever the broker says: a chain with a record left out would be no chain.
                stopped[tenant] = result.why
                if len(stopped) == 1:
                    log.warning("audit record not acknowledged", why=result.why, tenant=tenant, sequence=link.sequence)
        await self._chains.mark_published(list(last.values()))
        self._metrics.stage_seconds.labels(stage="publish_audit").observe(clock() - began)
        return not stopped

    def _event(self, link: Chained) -> OutEvent:
        headers, value = write_binary(
            event_type=AuditEvent.TYPE,
            event_id=f"{link.record.tenant}:{link.sequence}",
            source=SOURCE,
            time=link.record.at,
            data=encode(link),
        )
        return OutEvent(self._topic, link.record.tenant.encode(), headers, value)
