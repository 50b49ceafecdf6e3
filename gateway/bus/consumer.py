"""Reading a topic as a member of a consumer group: batches of one partition, committed only when they are durable."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from gateway.bus.address import BrokerAddress
from gateway.bus.reading import Doubtful, SessionBroken
from gateway.bus.records import Batch, Gap
from gateway.bus.session import Session
from gateway.domain.errors import BrokerUnavailable

__all__ = ["RecordSource"]

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 0.05  # how long records are waited for before each partition is looked at again
RETRY_SECONDS: Final = 0.25
PARTING_SECONDS: Final = 1.0  # for a session that is broken anyway
SILENCE_SECONDS: Final = 60.0
NEVER_HEARD: Final = -1


class RecordSource:
    """The records of one topic, shared out over the members of a group.

    One task calls :meth:`next_batch`; :meth:`durable` and :meth:`back_to` may come from others, for several batches at once and in any order.
    A batch that was neither made durable nor given back holds up its partition's commits, and comes again to whoever owns the partition
    next: delivery is at least once.

    ``on_gap`` is awaited before records are passed over that will never be read; when it raises, they are not, and it is called again.
    The source gets along with brokers that go away and come back; records stop meanwhile.
    """

    def __init__(
        self,
        address: BrokerAddress,
        topic: str,
        group: str,
        *,
        on_gap: Callable[[Gap], Awaitable[None]],
        session_timeout: float = 10.0,
        commit_seconds: float = 0.1,
        fetch_wait: float = 0.5,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``session_timeout``: seconds after which a member that was killed loses its partitions. ``commit_seconds``: least time between commits.
        ``fetch_wait``: seconds that a broker may hold a fetch until there are records.
        """
        self._address = address
        self._topic = topic
        self._group = group
        self._tell_gap = on_gap
        self._session_timeout = session_timeout
        self._commit_seconds = commit_seconds
        self._fetch_wait = fetch_wait
        self._monotonic = monotonic
        self._session: Session | None = None
        self._paused = False
        self._stopped = asyncio.Event()
        self._last_partition = -1
        self._careful = 0  # for how many looks an empty partition is waited on by itself
        self._heard: int | None = NEVER_HEARD
        self._heard_at = monotonic()
        self.lost = 0
        """Records that the topic's retention took before they were read; an alarm."""
        self.unreadable = 0
        """Records that were passed over because their bytes are damaged; an alarm."""

    async def start(self, limit_seconds: float = 30.0) -> None:
        """Connect and ask to join the group. BrokerUnavailable when no broker answers within the limit, or the topic is not there."""
        until = self._monotonic() + limit_seconds
        while True:
            try:
                await self._connect()
            except BrokerUnavailable:
                if self._monotonic() + RETRY_SECONDS >= until:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def stop(self, limit_seconds: float = 5.0) -> None:
        """Commit what is durable and leave the group, so that others go on at once. Batches under way are read again by them."""
        self._stopped.set()
        session, self._session = self._session, None
        if session is not None:
            await session.stop(limit_seconds)

    async def next_batch(self, limit_seconds: float = 1.0, max_records: int = 500) -> Batch | None:
        """The next records of one partition, the partitions taking turns; None when none came in time, while paused, and after stop.

        Keep calling while paused: that keeps the membership. A rebalance may make a call longer by its own time.
        """
        if self._stopped.is_set():
            await asyncio.sleep(min(limit_seconds, IDLE_SECONDS))  # whoever calls in a loop does not spin
        until = self._monotonic() + limit_seconds
        while not self._stopped.is_set():
            try:
                session = self._session or await self._connect()
                batch = await self._look(session, max_records, until)
            except (BrokerUnavailable, SessionBroken) as problem:
                await self._part(problem, until)
                batch = None
            if batch is not None or self._monotonic() >= until:
                return batch
            await asyncio.sleep(0)  # whatever became of that attempt: heartbeats and fetches have their turn
        return None

    async def durable(self, batch: Batch) -> None:
        """The batch is durable: its offsets may be committed, and are within ``commit_seconds`` when all before them are durable too.

        Returns at once. Harmless when the partition has gone to another member.
        """
        if self._session is None or not self._session.durable(batch):
            logger.info(
                "a batch of %s partition %d became durable after it had gone; it comes again", batch.topic, batch.partition
            )

    async def back_to(self, batch: Batch) -> None:
        """The batch failed: it, and all after it in its partition, are read again."""
        if self._session is not None:
            self._session.back_to(batch)

    async def check(self) -> None:
        """Ask the brokers for anything. BrokerUnavailable when none answers."""
        if self._session is None:
            raise BrokerUnavailable("Kafka is being connected to")
        await self._session.check()

    def pause(self) -> None:
        """Hand out nothing until :meth:`resume`; stays so over rebalances and lost connections."""
        self._paused = True
        if self._session is not None:
            self._session.pause()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._paused = False
        if self._session is not None:
            self._session.resume()

    @property
    def partitions(self) -> list[int]:
        """The partitions that this member reads now."""
        return [] if self._session is None else self._session.readable

    def lag(self) -> dict[int, int]:
        """By partition of ours: how many records are not durable yet, of those that the broker has told of."""
        return {} if self._session is None else self._session.lag()

    async def overdue(self, moment_ms: int) -> dict[int, int]:
        """By partition of ours: how many records are older than the moment, in milliseconds since 1970, and not durable yet. BrokerUnavailable."""
        return {} if self._session is None else await self._session.overdue(moment_ms)

    async def _look(self, session: Session, max_records: int, until: float) -> Batch | None:
        session.changed.clear()
        left = max(0.0, until - self._monotonic())
        if self._paused:
            await session.keep_alive()
            self._heard = NEVER_HEARD
            await self._wait(session, left)
            return None
        turns = sorted(session.readable, key=lambda one: (one <= self._last_partition, one))
        for partition in turns:
            batch = await session.take(partition, max_records, 0)
            if batch is not None:
                self._last_partition = partition
                self._heard = NEVER_HEARD
                return batch
        self._check_heard(session)
        if not turns:
            await self._wait(session, left)
            return None
        self._last_partition = turns[0]
        if self._careful > 0:
            self._careful -= 1
            return await session.take(turns[0], max_records, min(left, IDLE_SECONDS))
        try:
            return await session.take_any(max_records, min(left, IDLE_SECONDS))
        except Doubtful:
            self._careful = 2 * len(turns)
            return None

    async def _wait(self, session: Session, seconds: float) -> None:
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(session.changed.wait(), seconds)

    def _check_heard(self, session: Session) -> None:
        """A client whose brokers have moved, or whose own tasks have died, waits in silence for ever: it is made anew."""
        heard = session.heard()
        if heard is None or heard != self._heard:
            self._heard, self._heard_at = heard, self._monotonic()
        elif self._monotonic() - self._heard_at > SILENCE_SECONDS:
            raise SessionBroken("silence")

    async def _connect(self) -> Session:
        session = Session(
            self._address,
            self._topic,
            self._group,
            on_gap=self._count_gap,
            session_timeout=self._session_timeout,
            commit_seconds=self._commit_seconds,
            fetch_wait=self._fetch_wait,
            paused=self._paused,
        )
        await session.start()
        self._session = session
        self._heard = NEVER_HEARD
        return session

    async def _part(self, problem: Exception, until: float) -> None:
        logger.warning("reading %s is interrupted: %s; trying again", self._topic, problem)
        session, self._session = self._session, None
        if session is not None:
            await session.stop(PARTING_SECONDS)
        left = min(RETRY_SECONDS, until - self._monotonic())
        if left > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), left)

    async def _count_gap(self, gap: Gap) -> None:
        await self._tell_gap(gap)
        if gap.why == "retention":
            self.lost += gap.next_offset - gap.first_offset
        elif gap.why == "unreadable":
            self.unreadable += 1
