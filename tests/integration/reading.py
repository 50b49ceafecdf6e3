"""What stands in a topic, read as the gateway reads it."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.bus.address import BrokerAddress
from gateway.bus.consumer import RecordSource
from gateway.bus.records import Gap, Record
from tests.support import until

__all__ = ["first_records"]


async def first_records(broker: str, topic: str) -> Sequence[Record]:
    """The first records of a topic in which there is one by now."""

    async def on_gap(_gap: Gap) -> None:
        raise AssertionError("nothing is missing")

    source = RecordSource(BrokerAddress(broker), topic, f"reads-{topic}", on_gap=on_gap, session_timeout=2)
    await source.start()
    try:
        batch = await until(lambda: source.next_batch(1.0), 30)
    finally:
        await source.stop()
    assert batch is not None
    return batch.records
