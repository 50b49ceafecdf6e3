"""Topics: made where they are missing, and looked at for what the gateway's promises rest on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, for_code

from gateway.bus.address import BrokerAddress, client_options
from gateway.domain.errors import BrokerUnavailable

__all__ = ["TopicChange", "TopicFacts", "TopicSpec", "admin_of", "apply", "describe"]

TOPIC_EXISTS: Final = 36
SET_ON_TOPIC: Final = frozenset({1})  # DYNAMIC_TOPIC_CONFIG, KIP-226
FOREVER: Final = -1
WEEK_MS: Final = 7 * 24 * 3600 * 1000
_SEEN_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be. ``replication`` of -1 is the broker's own default."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    replication: int = -1


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic as it is. ``config`` holds what the broker tells, its defaults included; the embedded broker tells only what was set."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]
    set_on_topic: Mapping[str, str]

    @property
    def retention_ms(self) -> int | None:
        """How long records stay, at least; None when for ever. Kafka's own default is 7 days."""
        if "delete" not in self.config.get("cleanup.policy", "delete"):
            return None
        kept = int(self.config.get("retention.ms", str(WEEK_MS)))
        return None if kept == FOREVER else kept

    @property
    def longest_ms(self) -> int | None:
        """How long a record may stay after all; None when for ever. Kafka deletes whole segments, once the last record in one is old enough."""
        kept = self.retention_ms
        return None if kept is None else kept + int(self.config.get("segment.ms", str(WEEK_MS)))

    @property
    def expires(self) -> bool:
        """Whether the broker ends records at all: the embedded one does not, and is told by what else it does not tell."""
        return "segment.bytes" in self.config

    @property
    def min_insync_replicas(self) -> int:
        """How many replicas hold a record before it is acknowledged."""
        return int(self.config.get("min.insync.replicas", "1"))


@dataclass(frozen=True, slots=True)
class TopicChange:
    """What was done to a topic. ``differs``: it is not as wanted and was left so; ``detail`` says in what and why."""

    topic: str
    what: Literal["created", "unchanged", "altered", "differs"]
    detail: str = ""


async def apply(address: BrokerAddress, wanted: Sequence[TopicSpec]) -> list[TopicChange]:
    """Make the missing topics and set the configuration of the others; one answer for each, in order. BrokerUnavailable.

    The number of partitions of a topic that exists is never changed: every person's events would move to another partition and lose
    their order. Settings that were made on a topic and that ``wanted`` does not name stay.
    """
    async with admin_of(address) as admin:
        there = await _facts(admin, [spec.name for spec in wanted])
        changes = [await _apply_one(admin, spec, there.get(spec.name)) for spec in wanted]
        await _seen(admin, {change.topic for change in changes if change.what == "created"})
        return changes


async def _seen(admin: AIOKafkaAdminClient, made: set[str]) -> None:
    """Until the broker that is asked tells of what was made: Apache Kafka's controller answers before its brokers have heard of it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SEEN_SECONDS):
            while made - {topic["topic"] for topic in await admin.describe_topics()}:  # noqa: ASYNC110 -- the state is the broker's
                await asyncio.sleep(0.05)


async def describe(address: BrokerAddress, names: Sequence[str]) -> dict[str, TopicFacts]:
    """The topics of these names that exist. BrokerUnavailable."""
    async with admin_of(address) as admin:
        return await _facts(admin, names)


async def _apply_one(admin: AIOKafkaAdminClient, spec: TopicSpec, facts: TopicFacts | None) -> TopicChange:
    if facts is None:
        # aiokafka takes -1 for the replication only beside an assignment, be it empty.
        assignment: dict[int, list[int]] | None = {} if spec.replication == -1 else None
        new = NewTopic(
            spec.name, spec.partitions, spec.replication, replica_assignments=assignment, topic_configs=dict(spec.config)
        )
        made: Any = await admin.create_topics([new])
        for topic, code, *message in made.topic_errors:
            if code and code != TOPIC_EXISTS:
                raise BrokerUnavailable(
                    f"Kafka refuses to make the topic {topic}: {message[0] if message else for_code(code).__name__}"
                )
            if code:
                return TopicChange(spec.name, "unchanged", "made by somebody else at the same time")
        return TopicChange(spec.name, "created", f"{spec.partitions} partitions")
    notes = []
    if facts.partitions != spec.partitions:
        notes.append(f"has {facts.partitions} partitions, not {spec.partitions}: changing that would break the order of events")
    other = {name: value for name, value in spec.config.items() if facts.config.get(name) != value}
    if other:
        shown = ", ".join(f"{name}={value} (is {facts.config.get(name, 'not set')})" for name, value in sorted(other.items()))
        # This request replaces all that is set on the topic, so what is set is sent along.
        resource = ConfigResource(ConfigResourceType.TOPIC, spec.name, {**facts.set_on_topic, **spec.config})
        try:
            answers: list[Any] = list(await admin.alter_configs([resource]))
        except IncompatibleBrokerVersion:
            notes.append(f"the broker cannot set {shown}")
        else:
            refused = [message or for_code(code).__name__ for answer in answers for code, message, *_ in answer.resources if code]
            if not refused and not notes:
                return TopicChange(spec.name, "altered", shown)
            notes += [f"the broker refuses to set {shown}: {why}" for why in refused] or [f"set {shown}"]
    return TopicChange(spec.name, "differs", "; ".join(notes)) if notes else TopicChange(spec.name, "unchanged")


async def _facts(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, TopicFacts]:
    # All topics are listed: a broker may make a topic that is asked for by name.
    known = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics() if topic["topic"] in names}
    if not known:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in known]
    configs: dict[str, dict[str, str]] = {}
    dynamic: dict[str, dict[str, str]] = {}
    answers: list[Any] = list(await admin.describe_configs(resources))
    for answer in answers:
        for _, _, _, name, entries in answer.resources:
            told = [(entry[0], entry[1], entry[3]) for entry in entries if entry[1] is not None]
            configs[name] = {key: value for key, value, _ in told}
            dynamic[name] = {key: value for key, value, source in told if source in SET_ON_TOPIC}
    return {
        name: TopicFacts(
            name,
            len(parts),
            min((len(part["replicas"]) for part in parts), default=0),
            configs.get(name, {}),
            dynamic.get(name, {}),
        )
        for name, parts in known.items()
    }


@asynccontextmanager
async def admin_of(address: BrokerAddress) -> AsyncIterator[AIOKafkaAdminClient]:
    """What asks about topics and brokers. BrokerUnavailable, also for what goes wrong while it is used."""
    admin = AIOKafkaAdminClient(**client_options(address), request_timeout_ms=10_000)
    try:
        await admin.start()
        yield admin
    except (KafkaError, OSError, TimeoutError) as problem:
        raise BrokerUnavailable(f"Kafka at {address.servers} does not answer: {type(problem).__name__}") from None
    finally:
        await admin.close()
