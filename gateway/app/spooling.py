"""An opt-out by command while PostgreSQL is away: it needs the key ring and Kafka alone."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from gateway.app.kafka import event_publisher, spool_topic
from gateway.app.keys import open_ring
from gateway.crypto.sealing import Sealer
from gateway.crypto.subjects import Subjects
from gateway.domain.consent import Scope
from gateway.domain.errors import StoreUnavailable
from gateway.domain.personal import PhoneNumber
from gateway.flow.requests import consent_key
from gateway.flow.spooling import Spooling
from gateway.flow.vault import Vault
from gateway.settings import Settings
from gateway.telemetry import Metrics

__all__ = ["spool_opt_out"]


async def spool_opt_out(settings: Settings, tenant: str | None, number: PhoneNumber, scope: Scope, name: str, actor: str) -> None:
    """Write an opt-out to the spool. Raises StoreUnavailable when there is no spool, BrokerUnavailable, or what the key ring raises."""
    topic = spool_topic(settings)
    if topic is None:
        raise StoreUnavailable("PostgreSQL cannot be reached, and there is no spool: nothing was written")
    with open_ring(settings, make_own=False) as ring:
        subject_id = Subjects(ring.subject_key(), ring.message_id_key()).subject_id(number)
        publisher = event_publisher(settings)
        try:
            writer = Spooling(publisher, topic, ring.fingerprint(), Vault(Sealer(ring)), Metrics(CollectorRegistry()))
            await writer.asked(consent_key(subject_id, tenant, scope, name), "cli", actor)
        finally:
            await publisher.stop()
