"""The load: a producer that publishes, people who text back, and a reader of every event that comes out."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from gateway.simulator.process import CarrierProcess
from tests.chaos.faults import Fault
from tests.chaos.schedule import Outgoing, PersonText, Schedule, number_of, reference
from tests.chaos.witnessed import ConsentSeen, Published, SpoolSeen, StatusSeen, TextSent, Witnessed

__all__ = ["People", "Producer", "TopicReader"]

_HEADERS: Final = [
    ("ce_specversion", b"1.0"),
    ("ce_source", b"chaos"),
    ("ce_type", b"sms.outbound.message.v1"),
    ("content-type", b"application/json"),
]


_PATIENCE_MS: Final = 120_000
_PARTITIONS: Final = 6  # as `gateway topics apply` makes them
_SILENT: Final = 10.0  # seconds after which a reader is made anew


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
        async with AIOKafkaProducer(
            bootstrap_servers=self._servers, acks="all", enable_idempotence=False, request_timeout_ms=_PATIENCE_MS
        ) as producer:
            waiting: set[asyncio.Task[None]] = set()
            for at, record in self._schedule.outgoing():
                if self.enough.is_set() and record.number > self._schedule.messages:
                    break
                await asyncio.sleep(max(0.0, began + at - time.monotonic()))
                key = reference(record.programme.tenant, record.person).encode()
                headers = [*_HEADERS, ("ce_id", f"{record.number}".encode())]
                sent = await producer.send("sms.outbound.v1", record.value(opted_in_at), key=key, headers=headers)
                task = asyncio.create_task(self._acknowledged(record, sent))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
            await asyncio.gather(*waiting)

    async def _acknowledged(self, record: Outgoing, sent: Any) -> None:
        """What the broker has not acknowledged is not asked for: the gateway may have it, or not."""
        try:
            place = await sent
        except KafkaError:
            self._witnessed.unacknowledged += 1
        else:
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

    def text_for(self, fault: Fault, texts: asyncio.TaskGroup) -> None:
        """What people text when this fault happens, however late that is."""
        for text in self._schedule.texts_for(fault):
            texts.create_task(self._text(text))

    async def _text(self, text: PersonText) -> None:
        sent_at = time.time()
        order: dict[str, Any] = {"from": number_of(text.person), "to": text.to.sender, "body": text.word}
        order["account"] = self._accounts[text.to.account]
        result = await self._carrier.post("/inbound", {**order, "deliver": not text.lost})
        answered_at, attempts = None, 0
        if result["webhooks"]:
            told = result["webhooks"][0]  # what tells of the text; RingCentral tells of the opt-out as well, after that
            attempts = told["attempts"]
            answered_at = told["at"] + told["ms"] / 1000 if told["status"] in (200, 204) else None
        self._witnessed.texts.append(TextSent(text, sent_at, answered_at, attempts, result["sid"]))
        if text.repeated_after is not None:
            await asyncio.sleep(text.repeated_after)
            await self._carrier.post("/inbound", {"sid": result["sid"], "repeat": 1})


class TopicReader:
    """Reads the gateway's topics from their beginning, all partitions, as long as it runs."""

    _TOPICS: Final = ("sms.status.v1", "sms.consent.v1", "sms.outbound.dlq.v1", "sms.inbound.v1")

    def __init__(self, servers: str, witnessed: Witnessed, *, spool: bool) -> None:
        self._places = [TopicPartition(topic, partition) for topic in self._TOPICS for partition in range(_PARTITIONS)]
        if spool:
            self._places.append(TopicPartition("sms.stop-spool.v1", 0))
        self._servers = servers
        self._witnessed = witnessed
        self._next: dict[TopicPartition, int] = {}
        self._consumer: AIOKafkaConsumer | None = None

    async def run(self) -> None:
        """Until cancelled. A client that the broker has failed, or that hears nothing for a while, is made anew and goes on where it was."""
        while True:
            try:
                await self._read(await self._connect())
            except KafkaError:
                await asyncio.sleep(0.5)
            finally:
                consumer, self._consumer = self._consumer, None
                if consumer is not None:
                    await self._let_go(consumer)

    @staticmethod
    async def _let_go(consumer: AIOKafkaConsumer) -> None:
        """Without a group, aiokafka's stop() may raise the cancellation of its own tasks."""
        task = asyncio.current_task()
        try:
            await consumer.stop()
        except asyncio.CancelledError:
            if task is not None and task.cancelling():
                raise
        except KafkaError:
            pass

    async def _connect(self) -> AIOKafkaConsumer:
        self._consumer = consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",  # as docs/events.md asks of every reader
        )
        await consumer.start()
        consumer.assign(self._places)
        for place in self._places:
            consumer.seek(place, self._next.get(place, 0))
        return consumer

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        heard = time.monotonic()
        while time.monotonic() - heard < _SILENT:
            for place, records in (await consumer.getmany(timeout_ms=200, max_records=2000)).items():
                heard = time.monotonic()
                for record in records:
                    self._next[place] = record.offset + 1
                    self._take(place.topic, record)

    async def at_the_end(self) -> bool:
        """Whether everything that stood in the topics when this was asked has been read."""
        consumer = self._consumer
        if consumer is None or not consumer.assignment():
            return False
        try:
            ends = await consumer.end_offsets(list(consumer.assignment()))
            return all([await consumer.position(place) >= end for place, end in ends.items()])
        except KafkaError:
            return False

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
                moment, written_at = (datetime.fromisoformat(one).timestamp() for one in (at, data["written_at"]))
                seen = ConsentSeen(data["person"], consent, data["version"], data["status"], moment, written_at)
                self._witnessed.see_consent(seen)
            case "sms.stop-spool.v1":
                account, sid, *_ = data["text"]  # docs/protocol.md: the provider's id of the text stands in it
                self._witnessed.spool.append(SpoolSeen(record.offset, account, sid, record.timestamp / 1000))
            case "sms.outbound.dlq.v1":
                self._witnessed.dead_letters[data["partition"], data["offset"]] = data["reason"]
            case _:
                raise AssertionError(f"nobody texted anything that would come out by {topic}")
