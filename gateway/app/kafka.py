"""What the settings say of Kafka: how it is reached, which topics are read and written, and how the relay publishes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gateway.bus.address import BrokerAddress
from gateway.bus.exclusive import ExclusivePublisher
from gateway.bus.producer import EventPublisher
from gateway.bus.topics import TopicSpec
from gateway.domain.errors import SettingsError
from gateway.domain.policy import Policies
from gateway.settings import Settings

__all__ = [
    "broker_address",
    "event_publisher",
    "input_topics",
    "publishing",
    "relay_publisher",
    "spool_topic",
    "topics_wanted",
]

_DAY_MS: Final = 24 * 3600 * 1000


def broker_address(settings: Settings) -> BrokerAddress:
    """Where Kafka is. Raises SettingsError when no servers are named."""
    kafka = settings.kafka
    if kafka.servers is None:
        raise SettingsError("settings: kafka.servers is missing (set GATEWAY_KAFKA__SERVERS)")
    return BrokerAddress(
        kafka.servers,
        security_protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism,
        username=kafka.sasl_username,
        password=kafka.sasl_password.get_secret_value() if kafka.sasl_password is not None else None,
        ca_file=kafka.ca_file,
        certificate_file=kafka.certificate_file,
        key_file=kafka.key_file,
        client_id=kafka.client_id,
    )


def event_publisher(settings: Settings) -> EventPublisher:
    """What all but the relay publish by."""
    return EventPublisher(broker_address(settings), idempotent=settings.kafka.idempotent)


@asynccontextmanager
async def publishing(settings: Settings) -> AsyncIterator[EventPublisher]:
    """The same for a command, connected. BrokerUnavailable when Kafka does not answer in ten seconds."""
    publisher = event_publisher(settings)
    try:
        await publisher.start(10.0)
        yield publisher
    finally:
        await publisher.stop()


def relay_publisher(settings: Settings) -> EventPublisher:
    """What the relay publishes by: in transactions, where the broker has them."""
    kafka = settings.kafka
    if kafka.idempotent and kafka.transactional:
        return ExclusivePublisher(broker_address(settings), kafka.transactional_id or f"{kafka.group}-relay")
    return event_publisher(settings)


def input_topics(settings: Settings, policies: Policies) -> tuple[str, ...]:
    """What is read: the shared topic, then those that policies bind tenants to. SettingsError when one of these is written to."""
    names = settings.kafka.topics
    written = set(names.model_dump().values()) - {names.outbound}
    if wrong := [topic for topic in policies.topics() if topic in written]:
        raise SettingsError(f"settings: a policy's publishers.topics names {wrong[0]}, which the gateway writes to")
    return (names.outbound, *(topic for topic in policies.topics() if topic != names.outbound))


def topics_wanted(settings: Settings, policies: Policies, *, partitions: int = 6) -> list[TopicSpec]:
    """The topics as they should be. A record of an input topic must be gone before its message id is forgotten."""
    names = settings.kafka.topics
    week = {"cleanup.policy": "delete", "retention.ms": str(7 * _DAY_MS), "segment.ms": str(_DAY_MS)}
    month = {"cleanup.policy": "delete", "retention.ms": str(30 * _DAY_MS)}
    spool = [TopicSpec(names.stop_spool, 1, month)] if settings.kafka.spool else []
    return [
        *(TopicSpec(topic, partitions, week) for topic in input_topics(settings, policies)),
        TopicSpec(names.status, partitions, week),
        TopicSpec(names.inbound, partitions, week),
        TopicSpec(names.consent, partitions, {"cleanup.policy": "compact"}),
        TopicSpec(names.dead_letter, partitions, week),
        TopicSpec(names.metrics, partitions, week),
        TopicSpec(names.audit, partitions, week),
        *spool,
    ]


def spool_topic(settings: Settings) -> str | None:
    """The topic of the spool; None where there is none."""
    kafka = settings.kafka
    return kafka.topics.stop_spool if kafka.spool and kafka.servers is not None else None
