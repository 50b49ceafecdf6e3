"""What tests of the audit share: things that happen, their chains on a topic of a real broker, and a look at all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.app.audit import verify_audit
from gateway.bus.address import BrokerAddress
from gateway.bus.producer import EventPublisher
from gateway.bus.topics import TopicSpec, apply
from gateway.domain.consent import Scope
from gateway.domain.outcome import Accepted
from gateway.domain.personal import PhoneNumber
from gateway.flow.audit import Report
from gateway.flow.chain import Chain
from gateway.store.chain import Chains
from tests.integration.hands import Hands, receipt_of
from tests.integration.world import World, raw_record

__all__ = ["chain_of", "happenings", "open_topic", "verify"]


def chain_of(world: World, publisher: Any, **more: Any) -> Chain:
    parts = world.parts
    chains = more.pop("chains", None) or Chains(parts.database)
    leading = more.pop("leading", None) or parts.leading("relay")
    return Chain(chains, publisher, leading, world.audit_topic, parts.hasher, parts.metrics, **more)


async def happenings(world: World, name: str = "m") -> None:
    """Messages of two tenants come to their ends, one waits, somebody opts out, and one event is malformed."""
    for n in range(3):
        await world.publish(message_id=f"{name}-{n}", to=f"+1202555{100 + n:04d}")
    await world.publish(message_id=f"{name}-shop", tenant="shop", programme="orders")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await world.publish(message_id=f"{name}-later", to="+12025550103", not_before=later)
    hands = Hands(world)
    while batch := await hands.claim():
        for claimed in batch:
            sid = world.carrier.new_id()
            await hands.send([claimed], Accepted(sid, 1))
            await world.parts.receipts().receive(receipt_of(claimed, "delivered", sid))
    await world.intake().admit("sms.outbound.v1", 0, [raw_record(next(world._offsets), f"nonsense {name}".encode())])
    await world.parts.requests("api").opt_out("shop", PhoneNumber("+12025550101"), Scope.TENANT, "", "token:test")


@asynccontextmanager
async def open_topic(world: World, broker: str, unique: str) -> AsyncIterator[EventPublisher]:
    """A publisher to a fresh audit topic of three partitions; ``world.audit_topic`` is its name, ``world.broker`` where it is."""
    world.audit_topic, world.broker = f"{unique}.audit", BrokerAddress(broker)
    await apply(world.broker, [TopicSpec(world.audit_topic, 3, {})])
    publisher = EventPublisher(world.broker, idempotent=False)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


async def verify(world: World, *, topic: bool = True) -> Report:
    return await verify_audit(world.parts.database, world.broker if topic else None, world.audit_topic)
