"""Kafka as a place of personal data: what each topic holds that is oldest, and whether its settings end that in time.

The broker ends records by itself. So nothing is done here; it is looked whether it was done, record by record and setting by setting.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.bus.address import BrokerAddress
from gateway.bus.keeping import BrokerTimes, Kept, broker_times, kept_by
from gateway.bus.replay import TopicReplay, replaying
from gateway.bus.topics import TopicFacts, describe
from gateway.domain.topic_limits import ClosedIn, TopicLimit
from gateway.flow.retention import Found, Planned
from gateway.telemetry import get_logger

__all__ = ["KafkaRetention"]

_SHARED: Final = "a topic cannot end one tenant's records, which go with all others of their time"
_EMBEDDED: Final = "the embedded broker ends no record: all are gone when it ends itself"

log = get_logger("retention")


@dataclass(frozen=True, slots=True)
class _Topic:
    """A topic as it is, with the moment of its oldest record that has to end; None when it holds none."""

    facts: TopicFacts
    limit: TopicLimit
    kept: Kept
    oldest: datetime | None

    @property
    def place(self) -> str:
        return f"kafka {self.limit.topic}"

    @property
    def compacted(self) -> bool:
        return "delete" not in self.facts.config.get("cleanup.policy", "delete")

    def gone_by(self, closed: ClosedIn) -> datetime | None:
        """When the last of what a closed account has here is gone, by the settings; None when they set no end."""
        if not self.facts.expires or self.kept.longest is None:
            return None
        return max(closed.over_at, closed.closed_at + self.kept.longest)


async def _nobody() -> Sequence[ClosedIn]:
    return ()


class KafkaRetention:
    """The topics whose limits these are, and accounts that are ``closed``. Ages are told by the records' own timestamps."""

    def __init__(
        self, address: BrokerAddress, limits: Sequence[TopicLimit], closed: Callable[[], Awaitable[Sequence[ClosedIn]]] = _nobody
    ) -> None:
        self._address = address
        self._limits = limits
        self._closed = closed
        self._said = False

    @property
    def name(self) -> str:
        return "kafka"

    async def plan(self, now: datetime) -> Sequence[Planned]:  # noqa: ARG002 -- the port's: what is due hangs on the records alone
        """When the oldest record of each topic is gone at the latest, by the topic's and the broker's settings. BrokerUnavailable."""
        planned = []
        closed = await self._closed()
        async for topic in self._topics():
            limit = topic.limit
            if topic.oldest is None:
                continue
            due, how = None, "the broker compacts it" if topic.compacted else "the broker deletes it"
            if not topic.facts.expires:
                how = _EMBEDDED
            elif topic.kept.longest is None:
                how = f"the topic keeps {topic.kept.shown}"
            else:
                due = topic.oldest + topic.kept.longest
            planned.append(Planned(topic.place, limit.tenant, limit.data_class, due, None, how))
            there = [one for one in closed if one.topic == limit.topic and topic.oldest <= one.closed_at]
            planned += [Planned(topic.place, one.tenant, one.data_class, topic.gone_by(one), None, _SHARED) for one in there]
        return planned

    async def run(self, now: datetime, most: int) -> int:  # noqa: ARG002 -- the port's: there is nothing to do
        """Nothing: the broker does it; that the embedded one does not is said once."""
        if not self._said:
            self._said = True
            facts = await describe(self._address, [limit.topic for limit in self._limits])
            if any(not one.expires for one in facts.values()):
                log.warning(_EMBEDDED)
        return 0

    async def left(self, now: datetime) -> str:  # noqa: ARG002 -- the port's: the broker ends it
        """Nothing of ours."""
        return ""

    async def verify(self, now: datetime) -> Sequence[Found]:
        """The oldest record of each topic, as it is read, against the strictest policy; and the settings. BrokerUnavailable."""
        closed, found = await self._closed(), []
        async for topic in self._topics():
            found.append(_judge(topic, now))
            found += [_judge_closed(topic, one, now) for one in closed if one.topic == topic.limit.topic and one.over_at <= now]
        return found

    async def _topics(self) -> AsyncIterator[_Topic]:
        there = await describe(self._address, [limit.topic for limit in self._limits])
        expiring = any(facts.expires for facts in there.values())
        times = await broker_times(self._address) if expiring else BrokerTimes()
        for limit in self._limits:
            if (facts := there.get(limit.topic)) is None:
                continue
            async with replaying(self._address, limit.topic) as replay:
                compacted = "delete" not in facts.config.get("cleanup.policy", "delete")
                oldest = await (_replaced(replay) if compacted else _oldest(replay))
            moment = None if oldest is None else datetime.fromtimestamp(oldest / 1000, UTC)
            yield _Topic(facts, limit, kept_by(facts, times), moment)


def _judge(topic: _Topic, now: datetime) -> Found:
    limit, kept, oldest = topic.limit, topic.kept, topic.oldest
    faults: list[str] = []
    due = limit.due_at(oldest) if oldest is not None else None
    if due is not None and due <= now:
        faults.append("a value that was replaced or removed is still there" if topic.compacted else "a record is too old")
    if topic.facts.expires and limit.longest is not None and (kept.longest is None or kept.longest > limit.longest):
        faults.append(f"the topic keeps records {kept.shown}: run `gateway topics apply`")
    said = faults if topic.facts.expires else [*faults, _EMBEDDED]
    return Found(topic.place, limit.tenant, limit.data_class, oldest, limit.not_before(now), not faults, "; ".join(said))


def _judge_closed(topic: _Topic, one: ClosedIn, now: datetime) -> Found:
    """What is there from before the closing may be the tenant's: it is waited for, as long as the topic's settings say, and no longer."""
    oldest = topic.oldest if topic.oldest is not None and topic.oldest <= one.closed_at else None
    gone_by = topic.gone_by(one)
    if oldest is None:
        return Found(topic.place, one.tenant, one.data_class, None, one.closed_at, well=True)
    if not topic.facts.expires:
        return Found(topic.place, one.tenant, one.data_class, oldest, one.closed_at, well=True, why=_EMBEDDED)
    if gone_by is None:
        why = f"the account is closed, and the topic keeps {topic.kept.shown}: run `gateway topics apply`"
    elif gone_by <= now:
        why = f"the account is closed, and what was there by then should be gone since {gone_by.isoformat(timespec='seconds')}"
    else:
        why = f"the account is closed; {_SHARED}: by {gone_by.isoformat(timespec='seconds')}"
    return Found(topic.place, one.tenant, one.data_class, oldest, one.closed_at, gone_by is not None and now < gone_by, why)


async def _oldest(replay: TopicReplay) -> int | None:
    """The timestamp, in ms, of what is oldest among the first records of each partition; None when there is none.

    A record further on that bears an older timestamp came later: it dies with its segment, as the others there.
    """
    found = []
    for partition, (first, end) in (await replay.spans()).items():
        async for records in replay.read(partition, first, end):
            if records:
                found.append(min(record.timestamp_ms for record in records))
                break
    return min(found, default=None)


async def _replaced(replay: TopicReplay) -> int | None:
    """Of a compacted topic: when the first value that is still there was replaced, or its key removed, in ms; None when none was."""
    found = []
    for partition, (first, end) in (await replay.spans()).items():
        last: set[bytes | None] = set()
        removed: dict[bytes | None, int] = {}
        async for records in replay.read(partition, first, end):
            for record in records:
                if record.key in last:
                    found.append(record.timestamp_ms)
                last.add(record.key)
                removed.pop(record.key, None)
                if record.value is None:
                    removed[record.key] = record.timestamp_ms
        found += removed.values()
    return min(found, default=None)
