"""How far reading is behind, as metrics: in records, and against the time for which the topic keeps them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from prometheus_client import Gauge

from gateway.bus.address import BrokerAddress
from gateway.bus.consumer import RecordSource
from gateway.bus.topics import describe
from gateway.domain.errors import BrokerUnavailable
from gateway.telemetry import Metrics, get_logger

__all__ = ["Lag"]

EVERY_SECONDS: Final = 30.0

log = get_logger("lag")


class Lag:
    """Tells it for the partitions of these topics that this process reads, until cancelled."""

    def __init__(self, sources: Mapping[str, RecordSource], address: BrokerAddress, metrics: Metrics) -> None:
        self._sources = sources
        self._address = address
        self._metrics = metrics
        self._lagging: dict[str, set[int]] = {topic: set() for topic in sources}
        self._overdue: dict[str, set[int]] = {topic: set() for topic in sources}

    async def tell_records(self) -> None:
        """How many records are not durable yet, once a second."""
        while True:
            for topic, source in self._sources.items():
                _show(self._metrics.consumer_lag_records, topic, source.lag(), self._lagging[topic])
            await asyncio.sleep(1)

    async def tell_overdue(self) -> None:
        """Whether the topics' retention is about to take records that nobody has read, twice a minute."""
        while True:
            try:
                await self.measure_overdue(time.time())
            except BrokerUnavailable as fault:
                log.warning("how old unread records are is not known", why=str(fault))
            await asyncio.sleep(EVERY_SECONDS)

    async def measure_overdue(self, now: float) -> None:
        """Count the records that have not been read in half of the time for which they are kept. BrokerUnavailable."""
        facts = await describe(self._address, list(self._sources))
        for topic, source in self._sources.items():
            kept = facts[topic].retention_ms if topic in facts else None
            try:
                overdue = {} if kept is None else await source.overdue(max(0, round(now * 1000) - kept // 2))
            except BrokerUnavailable as fault:  # one topic does not hide the others
                log.warning("how old unread records are is not known", topic=topic, why=str(fault))
                continue
            _show(self._metrics.consumer_overdue_records, topic, overdue, self._overdue[topic])
            if any(overdue.values()):
                log.error("records near the end of their retention are unread", count=sum(overdue.values()))


def _show(gauge: Gauge, topic: str, values: Mapping[int, int], shown: set[int]) -> None:
    """These partitions and no others: the rest are other members' now, who tell."""
    for partition in shown - set(values):
        gauge.remove(topic, str(partition))
    for partition, records in values.items():
        gauge.labels(topic=topic, partition=str(partition)).set(records)
    shown.clear()
    shown.update(values)
