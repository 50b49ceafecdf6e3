"""What aiokafka's producer has no public way for: giving up at once, and taking a refused request back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from gateway.bus.lanes import Lane

__all__ = ["abort", "unsend"]

CLOSING_SECONDS: Final = 0.25


def unsend(producer: AIOKafkaProducer, lane: Lane, count: int) -> None:
    """The broker has taken none of a request: an idempotent producer's next one has the same place in its sequence, or it is refused too."""
    counter = producer._txn_manager  # noqa: SLF001  # Java's client does the same; aiokafka leaves a hole
    if counter is not None:
        counter.increment_sequence_number(TopicPartition(lane.topic, lane.partition), -count)


async def abort(producer: AIOKafkaProducer) -> None:
    """Close without waiting for what is queued: aiokafka's own stop() waits for it as long as the broker is away."""
    sender, transactions = producer._sender, producer._txn_manager  # noqa: SLF001  # there is no public way to give up
    producer._closed = True  # noqa: SLF001  # or its finalizer warns
    with suppress(KafkaError, TimeoutError, asyncio.CancelledError):
        await asyncio.wait_for(sender.close(), CLOSING_SECONDS)
    with suppress(KafkaError, OSError):
        await producer.client.close()
    # asyncio complains of futures that failed and that nobody asked how they ended.
    waiting = [batch._drain_waiter for batches in producer._message_accumulator._batches.values() for batch in batches]  # noqa: SLF001
    if transactions is not None and transactions._transaction_waiter is not None:  # noqa: SLF001
        waiting.append(transactions._transaction_waiter)  # noqa: SLF001
    for one in waiting:
        if one.done() and not one.cancelled():
            one.exception()
