"""The load: a producer that publishes, people who text back, and a reader of every event that comes out."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from gateway.simulator.process import CarrierProcess
from tests.chaos.account import ConsentSeen, Published, StatusSeen, TextSent, Witnessed
from tests.chaos.schedule import MESSAGES, PersonText, Schedule, number_of, reference
from tests.support import until

__all__ = ["People", "Producer", "TopicReader"]

_HEADERS: Final = [
    ("ce_specversion", b"1.0"),
    ("ce_source", b"chaos"),
    ("ce_type", b"sms.outbound.message.v1"),
    ("content-type", b"application/json"),
]


class Producer:
    """Publishes what the schedule says, at its pace, until told to stop and enough is published."""

    def __init__(self, servers: str, schedule: Schedule, witnessed: Witnessed) -> None:
        self._servers = servers
        self._schedule = schedule
        self._witnessed = witnessed
        self.enough = asyncio.Event()

    async def run(self, began: float) -> None:
        """``began`` is the moment of load 0, on the monotonic clock."""
        opted_in_at = (datetime.now(UTC) - timedelta(days=30)).isoformat(timespec="seconds")
        async with AIOKafkaProducer(bootstrap_servers=self._servers, acks="all", enable_idempotence=False) as producer:
            acknowledged: list[tuple[Any, Any]] = []
            for at, record in self._schedule.outgoing():
                if self.enough.is_set() and record.number > MESSAGES:
                    break
                await asyncio.sleep(max(0.0, began + at - time.monotonic()))
                key = reference(record.programme.tenant, record.person).encode()
                headers = [*_HEADERS, ("ce_id", f"{record.number}".encode())]
                sent = await producer.send("sms.outbound.v1", record.value(opted_in_at), key=key, headers=headers)
                acknowledged.append((record, sent))
            for record, sent in acknowledged:
                place = await sent
                self._witnessed.published.append(Published(record, place.partition, place.offset))


class People:
    """Text what the schedule says, through the carrier, and remember what the carrier was answered."""

    def __init__(self, carrier: CarrierProcess, schedule: Schedule, witnessed: Witnessed, accounts: dict[str, str]) -> None:
        self._carrier = carrier
        self._schedule = schedule
        self._witnessed = witnessed
        self._accounts = accounts

    async def run(self, began: float) -> None:
        """Every text at its time, none waiting for another's answer."""
        async with asyncio.TaskGroup() as texts:
            for text in self._schedule.texts:
                await asyncio.sleep(max(0.0, began + text.at - time.monotonic()))
                texts.create_task(self._text(text))

    async def _text(self, text: PersonText) -> None:
        sent_at = time.time()
        order = {"from": number_of(text.person), "to": text.programme.sender, "body": text.word}
        result = await self._carrier.post("/inbound", {**order, "account": self._accounts[text.programme.account]})
        last = result["webhooks"][-1]
        answered_at = last["at"] + last["ms"] / 1000 if last["status"] == 200 else None
        self._witnessed.texts.append(TextSent(text, sent_at, answered_at, last["attempts"]))


class TopicReader:
    """Reads the gateway's topics from their beginning, all partitions, as long as it runs."""

    _TOPICS: Final = ("sms.status.v1", "sms.consent.v1", "sms.outbound.dlq.v1", "sms.inbound.v1")

    def __init__(self, servers: str, witnessed: Witnessed) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", enable_auto_commit=False)
        self._witnessed = witnessed

    async def start(self) -> None:
        await self._consumer.start()
        await self._consumer.topics()
        places = []
        for topic in self._TOPICS:
            partitions = await until(partial(self._consumer.partitions_for_topic, topic), 10, f"topic {topic} is there")
            places += [TopicPartition(topic, partition) for partition in partitions]
        self._consumer.assign(places)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for place, records in (await self._consumer.getmany(timeout_ms=200, max_records=2000)).items():
                for record in records:
                    self._take(place.topic, record)

    async def stop(self) -> None:
        await self._consumer.stop()

    async def at_the_end(self) -> bool:
        """Whether everything that stood in the topics when this was asked has been read."""
        ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
        return all([await self._consumer.position(place) >= end for place, end in ends.items()])

    def _take(self, topic: str, record: Any) -> None:
        data = json.loads(record.value)
        headers = dict(record.headers)
        match topic:
            case "sms.status.v1":
                uid = UUID(headers["ce_id"].decode().partition(":")[0])
                message = data["tenant"], data["message_id"]
                self._witnessed.see_status(
                    StatusSeen(message, uid, record.key.decode(), data["version"], data["state"], data["reason"], data["final"])
                )
            case "sms.consent.v1":
                at = data["in_force_at"] if data["status"] == "out" else data["written_at"]
                consent = data["tenant"], data["scope"], data["name"]
                moment = datetime.fromisoformat(at).timestamp()
                self._witnessed.see_consent(ConsentSeen(data["person"], consent, data["version"], data["status"], moment))
            case "sms.outbound.dlq.v1":
                self._witnessed.dead_letters[data["partition"], data["offset"]] = data["reason"]
            case _:
                raise AssertionError(f"nobody texted anything that would come out by {topic}")
