"""Putting events on their partitions in order, and sending each partition's one request at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from aiokafka.partitioner import murmur2

from gateway.domain.publishing import OutEvent

__all__ = ["Lane", "partition_of", "refusal", "size_of", "topic_fits"]

TOPIC_NAME: Final = re.compile(r"(?!\.{1,2}\Z)[a-zA-Z0-9._-]{1,249}\Z")


@dataclass(slots=True)
class Lane:
    """The events of one partition, by their place in the caller's list; those before ``cursor`` are settled."""

    topic: str
    partition: int
    events: list[int] = field(default_factory=list)
    cursor: int = 0
    most: int = 1_000_000
    """How many events go into one request: fewer once the broker has refused several together, to find the one it means."""

    @property
    def done(self) -> bool:
        return self.cursor >= len(self.events)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Java's clients choose it: other producers' and consumers' joins meet ours."""
    return (_hash_of(key) & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=65_536)
def _hash_of(key: bytes) -> int:
    return int(murmur2(key))  # 5 µs of Python for a key of 32 bytes; a message has about seven events with the same


def size_of(event: OutEvent) -> int:
    """About how many bytes an event has as a record: at most so many."""
    headers = sum(len(name) * 4 + len(value) + 10 for name, value in event.headers)
    return len(event.key or b"") + len(event.value or b"") + headers + 40


def refusal(problem: KafkaError) -> str | None:
    """Why the broker will never take it, None when it may."""
    if isinstance(problem, MessageSizeTooLargeError | RecordListTooLargeError):
        return "too_large"
    return "invalid_topic" if isinstance(problem, InvalidTopicError) else None


def topic_fits(name: str) -> bool:
    """Whether Kafka allows a topic of this name."""
    return TOPIC_NAME.match(name) is not None
