"""A verification of the audit, where it is kept: for the command, the demo, and tests that kill."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AsyncExitStack

from gateway.bus.address import BrokerAddress
from gateway.bus.replay import replaying
from gateway.flow.audit import Report, Tell, Verification, silently
from gateway.store.audit import AuditReader
from gateway.store.database import Database

__all__ = ["verify_audit"]


async def verify_audit(
    database: Database,
    broker: BrokerAddress | None,
    topic: str,
    *,
    tenants: Collection[str] | None = None,
    stored: bool = True,
    tell: Tell = silently,
) -> Report:
    """Look every chain through: in PostgreSQL, and in the topic where a broker is given; ``stored`` False looks in the topic alone.

    The gateway may run meanwhile. Raises StoreUnavailable, BrokerUnavailable.
    """
    async with AsyncExitStack() as stack:
        replay = None if broker is None else await stack.enter_async_context(replaying(broker, topic))
        return await Verification(AuditReader(database), replay, tenants, stored=stored).look(tell)
