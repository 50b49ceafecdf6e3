"""Publishing in transactions under one name, so that whoever had the name before can publish nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced

from gateway.bus.address import BrokerAddress
from gateway.bus.lanes import Lane
from gateway.bus.producer import EventPublisher
from gateway.domain.errors import BrokerUnavailable
from gateway.domain.publishing import Failed, OutEvent, PublishResult

__all__ = ["ExclusivePublisher"]

TRANSACTION_SECONDS: Final = (
    30.0  # one that nobody ends holds up its topics' readers so long; the next holder of the name ends it at once
)
FENCED: Final = frozenset({ProducerFenced.__name__, InvalidProducerEpoch.__name__})


class ExclusivePublisher(EventPublisher):
    """Publishes each batch in one transaction, under a ``transactional_id`` that one publisher has at a time (KIP-98, KIP-447).

    The brokers give the id to whoever asked last (:meth:`take_over`) and refuse everything of the one before, also what had been on its
    way for an hour. So a publisher that froze cannot put something old after something new. It never asks by itself: whoever takes
    over must know that what it is about to publish is not old (see docs/decisions/0024). Readers with ``isolation.level=read_committed``
    see nothing of a batch that was cut off.

    A batch goes out whole or not at all, but for what is :class:`RefusedForGood`. A partition that cannot be written keeps all others
    waiting: Kafka ends a transaction only once each of its partitions has the mark of its end.
    """

    def __init__(self, address: BrokerAddress, transactional_id: str) -> None:
        super().__init__(address, idempotent=False)  # until it takes over, it is connected and has no id
        self._transactional_id = transactional_id
        self._taken: AIOKafkaProducer | None = None

    @property
    def alone(self) -> bool:
        """Whether the id was ours at the last answer. False before :meth:`take_over`, after a failure, and once somebody else has it."""
        return self._taken is not None and self._taken is self._producer and not self._broken

    async def take_over(self, limit_seconds: float) -> None:
        """Have the id: the brokers end a transaction that its last holder left open. BrokerUnavailable."""
        async with self._lock:
            await self._drop()
            try:
                async with asyncio.timeout(limit_seconds) as self._limit:
                    self._producer = self._taken = await self._connect(
                        transactional_id=self._transactional_id, transaction_timeout_ms=round(TRANSACTION_SECONDS * 1000)
                    )
                self._broken = False
            except TimeoutError:
                raise BrokerUnavailable("Kafka gives no transactions: no answer in time (a broker that has none?)") from None
            finally:
                self._limit = None

    async def check(self) -> None:
        """Ask the brokers for anything. BrokerUnavailable when none answers."""
        if self._producer is None:
            async with self._lock:
                await self._ready()  # without the id, which is somebody else's now
        await super().check()

    async def _deliver(self, batch: Sequence[OutEvent], results: list[PublishResult]) -> None:
        if not self.alone or self._taken is None:
            results[:] = [Failed("not_alone")] * len(batch)
            return
        answers = list(results)
        lanes = await self._lanes(self._taken, batch, answers)
        try:
            if lanes:
                await self._transact(self._taken, lanes, batch, answers)
        except (ProducerFenced, InvalidProducerEpoch):
            results[:] = [Failed("fenced")] * len(batch)
            raise BrokerUnavailable("another publisher has taken over") from None
        except (KafkaError, AssertionError) as problem:  # aiokafka asserts that a transaction is in the state that a call is for
            raise BrokerUnavailable(f"the transaction failed: {type(problem).__name__}") from None
        results[:] = answers

    async def _transact(
        self, producer: AIOKafkaProducer, lanes: Sequence[Lane], batch: Sequence[OutEvent], answers: list[PublishResult]
    ) -> None:
        await producer.begin_transaction()
        await self._send_all(producer, lanes, batch, answers)
        for lane in lanes:
            last = answers[lane.events[-1]]
            if isinstance(last, Failed):  # of the whole batch nothing is seen: what comes after it must not be either
                if last.why in FENCED:
                    raise ProducerFenced
                raise BrokerUnavailable(f"{lane.topic} partition {lane.partition} does not take it: {last.why}")
        await producer.commit_transaction()
