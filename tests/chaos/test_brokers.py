"""The broker that chaos is played on: one that forgets stands in only for one that this machine cannot have."""

from __future__ import annotations

from pathlib import Path
from typing import Never

import pytest

from gateway.embedded.child import EmbeddedServerError
from tests.chaos.brokers import open_broker
from tests.chaos.proxy import Line
from tests.kafka.jars import KafkaMissing
from tests.kafka.server import KafkaServer


async def test_a_kafka_that_is_there_and_does_not_start_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a run without spool, and without the broker's stops, would pass for one with them."""

    def start(_self: KafkaServer) -> Never:
        raise EmbeddedServerError("Apache Kafka does not start")

    monkeypatch.setattr(KafkaServer, "start", start)
    line = Line("broker")
    try:
        with pytest.raises(EmbeddedServerError):
            async with open_broker(tmp_path, line):
                pass
    finally:
        line.close()


async def test_without_java_the_embedded_broker_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_self: KafkaServer) -> Never:
        raise KafkaMissing("there is no java in PATH")

    monkeypatch.setattr(KafkaServer, "start", start)
    line = Line("broker")
    try:
        async with open_broker(tmp_path, line) as broker:
            assert not broker.durable
            assert broker.name.endswith("there is no java in PATH")
    finally:
        line.close()
