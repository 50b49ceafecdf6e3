"""What the settings say of Kafka: how it is reached, which topics are read and written, and how the relay publishes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from gateway.app.topic_limits import topic_limits
from gateway.bus.address import BrokerAddress
from gateway.bus.exclusive import ExclusivePublisher
from gateway.bus.producer import EventPublisher
from gateway.bus.topics import TopicSpec
from gateway.domain.errors import SettingsError
from gateway.domain.policy import Policies
from gateway.domain.topic_limits import TopicLimit
from gateway.settings import Settings

__all__ = [
    "broker_address",
    "event_publisher",
    "input_topics",
    "kept_limits",
    "publishing",
    "relay_publisher",
    "spool_topic",
    "topics_wanted",
]

_DAY_MS: Final = 24 * 3600 * 1000
_AHEAD_MS: Final = 3600 * 1000  # Kafka's own default from 4.0 on (KIP-1030); before that a timestamp could lie ahead without end
_SLACK_MS: Final = 3600 * 1000  # for the broker's intervals: six minutes by Kafka's defaults


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


def topics_wanted(settings: Settings, policies: Policies, *, partitions: int = 6, idle: Iterable[str] = ()) -> list[TopicSpec]:
    """The topics as they should be. A record of an input topic must be gone before its message id is forgotten, and any before the
    strictest policy's deadline. ``idle``: those of tenants that are not enabled which there are.
    """
    names = settings.kafka.topics
    inputs = input_topics(settings, policies)
    limits = topic_limits(names, inputs, policies)
    week = {"cleanup.policy": "delete", "retention.ms": str(7 * _DAY_MS), "segment.ms": str(_DAY_MS)}
    month = {"cleanup.policy": "delete", "retention.ms": str(30 * _DAY_MS)}
    expiring = (*inputs, *idle, names.status, names.inbound, names.dead_letter, names.audit)
    spool = [TopicSpec(names.stop_spool, 1, month)] if settings.kafka.spool else []
    return [
        *(TopicSpec(topic, partitions, _expiring(limits[topic])) for topic in expiring),
        TopicSpec(names.consent, partitions, _compacted(limits[names.consent])),
        TopicSpec(names.metrics, partitions, week),
        *spool,
    ]


def kept_limits(settings: Settings, policies: Policies) -> dict[str, TopicLimit]:
    """How long each topic may keep what it holds of people."""
    return topic_limits(settings.kafka.topics, input_topics(settings, policies), policies)


def _expiring(limit: TopicLimit) -> dict[str, str]:
    """Seven days, or what leaves room for the segment, for timestamps that lie ahead, and for the broker to come and look."""
    kept, segment = 7 * _DAY_MS, _DAY_MS
    if (allowed := _milliseconds(limit)) is not None:
        segment = min(segment, allowed // 6)
        kept = min(kept, allowed - segment - _AHEAD_MS - _SLACK_MS)
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(kept),
        "segment.ms": str(segment),
        "message.timestamp.after.max.ms": str(_AHEAD_MS),
    }


def _compacted(limit: TopicLimit) -> dict[str, str]:
    """What was replaced goes within a day, or sooner; so does what marks a key as removed."""
    day = _DAY_MS
    if (allowed := _milliseconds(limit)) is not None:
        day = min(day, allowed // 8)
    return {
        "cleanup.policy": "compact",
        "segment.ms": str(day),
        "max.compaction.lag.ms": str(day),
        "delete.retention.ms": str(day),
        "message.timestamp.after.max.ms": str(_AHEAD_MS),
    }


def _milliseconds(limit: TopicLimit) -> int | None:
    return None if limit.longest is None else limit.longest // timedelta(milliseconds=1)


def spool_topic(settings: Settings) -> str | None:
    """The topic of the spool; None where there is none."""
    kafka = settings.kafka
    return kafka.topics.stop_spool if kafka.spool and kafka.servers is not None else None
