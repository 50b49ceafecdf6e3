"""Reading one partition so that nothing is skipped unseen, whatever the client library raises."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    CorruptRecordException,
    IllegalStateError,
    KafkaError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
)

from gateway.bus.progress import Progress
from gateway.bus.records import Gap, Record
from gateway.domain.errors import BrokerUnavailable

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    Raw = ConsumerRecord[bytes | None, bytes | None]

__all__ = ["Doubtful", "PartitionReader", "SessionBroken"]

logger = logging.getLogger(__name__)

REREADS: Final = 3  # damage on the way is gone after one; then it is in the topic


class SessionBroken(Exception):
    """The client cannot go on: a new session is needed. The text names the kind of error alone."""


class Doubtful(Exception):  # it is no error: it says how to go on
    """Something is the matter with one of several partitions, and nobody can say with which."""


class PartitionReader:
    """Reads the partitions of one topic through a consumer, each by itself.

    By itself, because ``getmany`` over several partitions throws away what it took from one when another's data cannot be read. The
    position is compared before every read: what an exception swallowed is read again.
    """

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, on_gap: Callable[[Gap], Awaitable[None]]) -> None:
        self._consumer = consumer
        self._topic = topic
        self._on_gap = on_gap
        self._suspects: dict[int, tuple[int, int]] = {}  # by partition: the offset that could not be read, how often

    def forget(self) -> None:
        """The partitions have gone."""
        self._suspects.clear()

    async def first_since(self, partitions: Sequence[int], moment_ms: int) -> dict[int, int]:
        """By partition the offset of the first record that is not older than the moment: its end when all are. BrokerUnavailable."""
        places = [TopicPartition(self._topic, one) for one in partitions]
        try:
            found = await self._consumer.offsets_for_times(dict.fromkeys(places, moment_ms))
            ends = await self._consumer.end_offsets(places)
        except (KafkaError, KeyError) as problem:
            raise BrokerUnavailable(f"Kafka does not tell how old its records are: {type(problem).__name__}") from None
        return {one.partition: ends[one] if (first := found.get(one)) is None else first.offset for one in places}

    async def read(
        self, partition: int, progress: Progress, max_records: int, wait_seconds: float, *, ours: Callable[[], bool]
    ) -> tuple[list[Record], int] | None:
        """Records from ``progress.expected`` on and the position after them; no records and a new position where there were none to hand out.

        None when nothing came in time, when the partition was ``ours`` no more, and after a fault that was dealt with. SessionBroken when
        the client cannot go on.
        """
        where = TopicPartition(self._topic, partition)
        one_by_one = partition in self._suspects
        try:
            if await self._consumer.position(where) != progress.expected:  # a position was set at the start: this does not wait
                self._consumer.seek(where, progress.expected)
            found = await self._take(where, max_records, round(wait_seconds * 1000), one_by_one=one_by_one)
            if not ours():
                return None  # the next owner reads them, from what is committed
            position = await self._consumer.position(where)
        except (ConsumerStoppedError, IllegalStateError):
            if ours():
                raise SessionBroken("stopped") from None
            return None
        except OffsetOutOfRangeError:
            await self._out_of_range(where, progress, ours)
            return None
        except (CorruptRecordException, RecordTooLargeError):
            await self._unreadable(where, progress, ours)
            return None
        except KafkaError as problem:
            raise SessionBroken(type(problem).__name__) from None
        except Exception as problem:  # noqa: BLE001  # bytes that do not decode raise whatever the decoder raises
            logger.warning("records of %s partition %d do not decode: %s", self._topic, partition, type(problem).__name__)
            await self._unreadable(where, progress, ours)
            return None
        if found:
            self._suspects.pop(partition, None)
        elif position == progress.expected:
            return None
        return _records(found), position

    async def read_any(
        self, expected: Mapping[int, int], max_records: int, wait_seconds: float, *, ours: Callable[[], bool]
    ) -> tuple[int, list[Record], int] | None:
        """Records of the first of these partitions that any come to: which it is, the records, and the position after them.

        None when nothing came in time. ``expected`` are the partitions' positions. One record is waited for, and no more taken with it than
        are of its partition, so that another one's fault throws nothing away. A fault is not dealt with here: :class:`Doubtful` says
        that each partition must be read by itself for a while.
        """
        if self._suspects:
            raise Doubtful
        try:
            found = await self._consumer.getmany(
                *(TopicPartition(self._topic, one) for one in expected), timeout_ms=round(wait_seconds * 1000), max_records=1
            )
        except Exception:  # noqa: BLE001  # whatever it is, and whoever's: it comes again when its partition is read by itself
            raise Doubtful from None
        for where, (first,) in found.items():
            if not ours() or first.offset < expected[where.partition]:
                continue  # read again from the position that is expected
            taken = [first]
            try:
                if max_records > 1:
                    taken += await self._take(where, max_records - 1, 0, one_by_one=False)
                position = await self._consumer.position(where)
            except Exception:  # noqa: BLE001  # the same: what it swallowed is read again
                taken, position = [first], first.offset + 1
            return (where.partition, _records(taken), position) if ours() else None
        return None

    async def _take(self, where: TopicPartition, max_records: int, wait_ms: int, *, one_by_one: bool) -> list[Raw]:
        """What is there; ``one_by_one`` up to the first record that cannot be read: the good ones before it come out."""
        if not one_by_one:
            return (await self._consumer.getmany(where, timeout_ms=wait_ms, max_records=max_records)).get(where, [])
        found: list[Raw] = []
        while len(found) < max_records:
            try:
                one = await self._consumer.getmany(where, timeout_ms=0 if found else wait_ms, max_records=1)
            except Exception:
                if not found:
                    raise
                self._consumer.seek(where, found[-1].offset + 1)
                break
            if where not in one:
                break
            found += one[where]
        return found

    async def _unreadable(self, where: TopicPartition, progress: Progress, ours: Callable[[], bool]) -> None:
        """Read again, one by one; pass over an offset only when it cannot be read time after time, and report it first.

        A damaged batch costs a fetch for each of its records: where it ends cannot be told from damaged bytes.
        """
        offset = progress.expected
        suspect, times = self._suspects.get(where.partition, (offset, 0))
        times = times + 1 if suspect == offset else 1
        if times > REREADS:
            await self._on_gap(Gap(self._topic, where.partition, offset, offset + 1, "unreadable"))
            if not ours():
                return
            progress.skipped(offset + 1)
            offset, times = offset + 1, REREADS  # its neighbour in a damaged batch needs no patience
        if ours():
            self._suspects[where.partition] = (offset, times)
            self._consumer.seek(where, offset)

    async def _out_of_range(self, where: TopicPartition, progress: Progress, ours: Callable[[], bool]) -> None:
        try:
            begin = (await self._consumer.beginning_offsets([where]))[where]
        except (KafkaError, KeyError) as problem:
            raise SessionBroken(type(problem).__name__) from None
        if not ours():
            return
        why: Final = "retention" if begin > progress.expected else "rewound"
        await self._on_gap(Gap(self._topic, where.partition, progress.expected, begin, why))
        if ours():
            progress.restart(begin)
            self._consumer.seek(where, begin)


def _records(raw: Sequence[Raw]) -> list[Record]:
    return [Record(one.offset, one.key, one.value, one.headers, one.timestamp) for one in raw]
