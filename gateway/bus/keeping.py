"""How long a topic keeps a record after all: its settings and the broker's, together.

Kafka ends whole segments, by the timestamp of the youngest record in them, when it comes to look. So a record is gone after
``segment.ms`` + ``retention.ms`` + the interval of looking + the delay of deleting; and by as much later as a timestamp may lie ahead.
See https://kafka.apache.org/documentation/#topicconfigs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from gateway.bus.address import BrokerAddress
from gateway.bus.topics import TopicFacts, admin_of

__all__ = ["BrokerTimes", "Kept", "broker_times", "kept_by"]

_WEEK_MS: Final = "604800000"
_DAY_MS: Final = "86400000"
_MINUTE_MS: Final = "60000"
_NEVER_MS: Final = 2**62  # Kafka's "never" is 2^63 - 1; ours leaves room for a sum


@dataclass(frozen=True, slots=True)
class BrokerTimes:
    """What the slowest broker takes, in ms; Kafka's own defaults where it does not tell, as without the right to describe the cluster."""

    check_ms: int = 300_000
    cleaner_ms: int = 15_000
    cleans: bool = True


@dataclass(frozen=True, slots=True)
class Kept:
    """How long a record stays at most; None for ever. ``shown``: the same for people, with the settings that make it."""

    longest: timedelta | None
    shown: str


def kept_by(facts: TopicFacts, times: BrokerTimes) -> Kept:
    """Of a compacted topic: how long what was replaced, or removed by its key, stays, while something is written to its partition."""
    config = facts.config
    by_broker = config.get("message.timestamp.type") == "LogAppendTime"
    ahead = 0 if by_broker else int(config.get("message.timestamp.after.max.ms", "0"))
    parts = {"message.timestamp.after.max.ms": ahead, "file.delete.delay.ms": int(config.get("file.delete.delay.ms", _MINUTE_MS))}
    if "delete" in config.get("cleanup.policy", "delete"):
        kept = int(config.get("retention.ms", _WEEK_MS))
        parts |= {
            "retention.ms": kept if kept >= 0 else _NEVER_MS,
            "segment.ms": int(config.get("segment.ms", _WEEK_MS)),
            "log.retention.check.interval.ms": times.check_ms,
        }
    else:
        lag = int(config.get("max.compaction.lag.ms", str(_NEVER_MS)))
        parts |= {  # a mark that a key is removed is compacted, stays for its time, and goes with the next compaction
            "max.compaction.lag.ms": 2 * lag if times.cleans else _NEVER_MS,
            "delete.retention.ms": int(config.get("delete.retention.ms", _DAY_MS)),
            "log.cleaner.backoff.ms": 2 * times.cleaner_ms,
        }
    endless = [name for name, value in parts.items() if value >= _NEVER_MS]
    if endless:
        return Kept(None, f"for ever ({', '.join(endless)})")
    longest = timedelta(milliseconds=sum(parts.values()))
    largest = sorted(parts, key=lambda name: -parts[name])[:3]
    made_of = ", ".join(f"{name} {parts[name]}" for name in largest)
    return Kept(longest, f"up to {longest.total_seconds() / 86_400:.3g} days ({made_of} ms)")


async def broker_times(address: BrokerAddress) -> BrokerTimes:
    """The longest times of all brokers. BrokerUnavailable."""
    async with admin_of(address) as admin:
        cluster = await admin.describe_cluster()
        resources = [ConfigResource(ConfigResourceType.BROKER, str(broker["node_id"])) for broker in cluster["brokers"]]
        answers: list[Any] = list(await admin.describe_configs(resources))
    told = [
        {entry[0]: entry[1] for entry in entries} for answer in answers for code, _, _, _, entries in answer.resources if not code
    ]
    default = BrokerTimes()

    def longest(name: str, otherwise: int) -> int:
        return max((int(one.get(name) or otherwise) for one in told), default=otherwise)

    return BrokerTimes(
        longest("log.retention.check.interval.ms", default.check_ms),
        longest("log.cleaner.backoff.ms", default.cleaner_ms),
        cleans=all(one.get("log.cleaner.enable", "true") != "false" for one in told),
    )
