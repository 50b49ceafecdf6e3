"""Spooling: a STOP that finds PostgreSQL away is written to a Kafka topic, and applied from there (flow/spool_applier.py).

A START is never spooled, nor is anything else: those are answered "later". docs/protocol.md says why the answer waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, Protocol
from uuid import UUID

from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.errors import BrokerUnavailable, GatewayError, StoreUnavailable
from gateway.domain.events import OptInProof
from gateway.domain.ids import new_uid
from gateway.domain.personal import PhoneNumber
from gateway.domain.publishing import Acknowledged, OutEvent, PublishResult
from gateway.domain.reports import InboundText
from gateway.domain.spooled import SpooledStop, SpooledText, encode
from gateway.flow.replies import Replies, ReplyFate
from gateway.flow.requests import ConsentRequests, Granted, OptedOut
from gateway.flow.vault import SYSTEM_TENANT, Vault
from gateway.telemetry import Metrics, get_logger

__all__ = ["READING_COUNTS", "Publisher", "Spooling", "SpoolingReplies", "SpoolingRequests"]

READING_COUNTS: Final = 5.0
"""Seconds for which a reading of the spool to its end counts, from before its end was asked for."""

# So that the answer finds every reading from before the record over, with a tenth for clocks that run apart.
_ANSWER_AFTER: Final = READING_COUNTS * 1.1
_PUBLISH_SECONDS: Final = 3.0

log = get_logger("spooling")


class Publisher(Protocol):
    """Where records go; see bus/producer.py."""

    async def publish(self, batch: Sequence[OutEvent], limit_seconds: float) -> Sequence[PublishResult]: ...


class Spooling:
    """Writes to the spool. ``ring`` is the key ring's fingerprint, ``answer_after`` how many seconds an acknowledged STOP waits."""

    def __init__(
        self,
        publisher: Publisher,
        topic: str,
        ring: str,
        vault: Vault,
        metrics: Metrics,
        *,
        answer_after: float = _ANSWER_AFTER,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._publisher = publisher
        self._topic = topic
        self._ring = ring
        self._vault = vault
        self._metrics = metrics
        self._answer_after = answer_after
        self._now = now

    async def text(self, text: InboundText, keys: Sequence[ConsentKey], word: str) -> None:
        """A STOP that was texted. As :meth:`asked`."""
        event_id = new_uid(self._now())
        said = SpooledText(
            text.account, text.provider_message_id, text.to, text.service, word, text.replied, self._seal(event_id, text.sender)
        )
        await self._write(SpooledStop(event_id, self._ring, "text", "person", tuple(keys), said))

    async def asked(self, key: ConsentKey, source: Literal["api", "cli"], actor: str) -> None:
        """An opt-out that was asked for. When this returns it is written, and nothing is claimed for the person until it is applied.

        Raises BrokerUnavailable: then it may have been written all the same.
        """
        await self._write(SpooledStop(new_uid(self._now()), self._ring, source, actor, (key,)))

    async def _write(self, stop: SpooledStop) -> None:
        headers = (("content-type", b"application/json"),)
        event = OutEvent(self._topic, stop.event_id.bytes, headers, encode(stop))
        (result,) = await self._publisher.publish([event], _PUBLISH_SECONDS)
        if not isinstance(result, Acknowledged) or result.partition != 0:  # another partition is read by nobody
            raise BrokerUnavailable("PostgreSQL is away, and Kafka did not take the STOP for it")
        self._metrics.stops_spooled_total.labels(source=stop.source).inc()
        log.warning("stop spooled: PostgreSQL is away", source=stop.source)
        await asyncio.sleep(self._answer_after)

    def _seal(self, event_id: UUID, sender: PhoneNumber) -> bytes | None:
        """The number, for the confirmation. A STOP is never lost for want of it."""
        try:
            return self._vault.seal_payload(SYSTEM_TENANT, "inbound", event_id, sender.reveal().encode())
        except (GatewayError, OSError) as fault:
            log.warning("spooled stop will not be confirmed", why=type(fault).__name__)
            return None


class SpoolingReplies:
    """People's texts, as the web takes them: a STOP is spooled when PostgreSQL is away."""

    def __init__(self, replies: Replies, spooling: Spooling) -> None:
        self._replies = replies
        self._spooling = spooling

    async def receive(self, text: InboundText) -> ReplyFate:
        """As :meth:`Replies.receive`; ``spooled`` when it is written, and not in force."""
        try:
            return await self._replies.receive(text)
        except StoreUnavailable:
            stop = self._replies.stop_without_store(text)
            if stop is None:
                raise
        await self._spooling.text(text, *stop)
        return "spooled"


class SpoolingRequests:
    """Opt-outs and opt-ins by the API: an opt-out is spooled when PostgreSQL is away."""

    def __init__(self, requests: ConsentRequests, spooling: Spooling) -> None:
        self._requests = requests
        self._spooling = spooling

    async def opt_out(self, tenant: str | None, number: PhoneNumber, scope: Scope, name: str, actor: str) -> OptedOut:
        """As :meth:`ConsentRequests.opt_out`; what is spooled is not in force."""
        try:
            return await self._requests.opt_out(tenant, number, scope, name, actor)
        except StoreUnavailable:
            key = self._requests.key(tenant, number, scope, name)
        await self._spooling.asked(key, "api", actor)
        return OptedOut(in_force=False)

    async def opt_in(
        self, tenant: str | None, number: PhoneNumber, scope: Scope, name: str, actor: str, proof: OptInProof
    ) -> Granted:
        """As :meth:`ConsentRequests.opt_in`: never spooled."""
        return await self._requests.opt_in(tenant, number, scope, name, actor, proof)
