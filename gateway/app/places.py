"""Places of personal data that need no more than the settings, the policies and the key ring: Kafka, and the ring itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.app.kafka import broker_address, input_topics, kept_limits
from gateway.app.topic_limits import closed_accounts
from gateway.bus.retention import KafkaRetention
from gateway.crypto.days import LivingKeys
from gateway.domain.topic_limits import ClosedIn
from gateway.flow.retention_keys import KeyRetention
from gateway.store.closing import ClosedAccounts
from gateway.store.key_needs import KeyNeeds

if TYPE_CHECKING:
    from gateway.app.wiring import Parts

__all__ = ["kafka_place", "keys_place"]


def kafka_place(parts: Parts) -> KafkaRetention:
    """The topics. Raises SettingsError when no servers are named."""

    async def closed() -> Sequence[ClosedIn]:
        inputs = input_topics(parts.settings, parts.policies)
        closings = await ClosedAccounts(parts.database).closings()
        return closed_accounts(parts.settings.kafka.topics, inputs, parts.policies, closings)

    limits = list(kept_limits(parts.settings, parts.policies).values())
    return KafkaRetention(broker_address(parts.settings), limits, closed)


def keys_place(parts: Parts) -> KeyRetention:
    """The key ring. A tenant that is not enabled any more has keys, too."""
    policies = {policy.tenant: policy for policy in parts.policies.everybody}
    closings = ClosedAccounts(parts.database).closings
    return KeyRetention(LivingKeys(parts.ring), KeyNeeds(parts.database), parts.key_ending(), policies, closings)
