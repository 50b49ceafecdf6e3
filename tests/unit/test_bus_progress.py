from __future__ import annotations

import logging
from pathlib import Path

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from gateway.bus.address import BrokerAddress, client_options
from gateway.bus.lanes import partition_of, topic_fits
from gateway.bus.progress import Progress
from gateway.bus.records import Batch, Record
from gateway.bus.topics import TopicFacts
from gateway.domain.errors import SettingsError
from gateway.domain.publishing import OutEvent


class ProgressMachine(RuleBasedStateMachine):
    """Whatever happens, what may be committed is exactly the offsets that are durable without a hole."""

    tickets = Bundle("tickets")

    @initialize(start=st.integers(0, 1000))
    def begin(self, start: int) -> None:
        self.progress = Progress(start)
        self.start = start
        self.durable: set[int] = set()
        self.ends: dict[int, tuple[int, int]] = {}

    @rule(target=tickets, width=st.integers(1, 50))
    def take(self, width: int) -> int:
        first = self.progress.expected
        ticket = self.progress.took(first + width)
        self.ends[ticket] = (first, first + width)
        return ticket

    @rule(width=st.integers(1, 50))
    def skip(self, width: int) -> None:
        first = self.progress.expected
        self.progress.skipped(first + width)
        self.durable |= set(range(first, first + width))

    @rule(ticket=consumes(tickets))
    def make_durable(self, ticket: int) -> None:
        if self.progress.durable(ticket):
            self.durable |= set(range(*self.ends[ticket]))

    @rule(ticket=tickets)
    def go_back(self, ticket: int) -> None:
        if self.progress.back_to(ticket):
            assert self.progress.expected == self.ends[ticket][0]
            self.durable = {offset for offset in self.durable if offset < self.progress.expected}

    @invariant()
    def commits_exactly_what_is_durable(self) -> None:
        if not hasattr(self, "progress"):
            return
        expected = self.start
        while expected in self.durable:
            expected += 1
        assert self.progress.durable_to == expected
        assert self.progress.durable_to <= self.progress.expected
        assert self.progress.outstanding == (self.progress.durable_to < self.progress.expected)


TestProgress = ProgressMachine.TestCase


def test_what_was_given_back_is_not_durable_under_its_old_ticket() -> None:
    progress = Progress(10, committed=10)
    assert not progress.due
    ticket = progress.took(20)
    assert progress.back_to(ticket)
    assert progress.took(15) != ticket
    assert not progress.durable(ticket)
    assert not progress.back_to(ticket)
    assert progress.durable_to == 10


def test_a_restart_forgets_what_is_under_way() -> None:
    progress = Progress(10, committed=10)
    ticket = progress.took(20)
    progress.restart(500)
    assert not progress.durable(ticket)
    assert (progress.expected, progress.durable_to, progress.due, progress.outstanding) == (500, 500, True, False)


@given(st.binary(max_size=40), st.integers(1, 64))
def test_a_key_goes_where_javas_clients_send_it(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "ä", "a\n", "x" * 250])
def test_impossible_topics_are_known_beforehand(name: str) -> None:
    assert not topic_fits(name)
    assert topic_fits("sms.status.v1")


def test_records_and_events_show_nothing() -> None:
    record = Record(7, b"canary", b"canary", [("h", b"canary")], 0)
    batch = Batch("t", 0, [record], 7, 8, 1, 1)
    event = OutEvent("t", b"canary", [("canary", b"canary")], b"canary")
    assert "canary" not in f"{record!r} {record} {batch!r} {event!r} {[record]}"


def test_the_password_is_not_shown_and_half_an_address_is_refused(tmp_path: Path) -> None:
    address = BrokerAddress("k:9092", "SASL_PLAINTEXT", "SCRAM-SHA-512", "me", "canary")
    assert "canary" not in repr(address)
    assert client_options(address)["sasl_plain_password"] == "canary"
    with pytest.raises(SettingsError, match="no address"):
        BrokerAddress(" ")
    with pytest.raises(SettingsError, match="password"):
        BrokerAddress("k:9092", "SASL_SSL", username="me")
    with pytest.raises(SettingsError, match="TLS"):
        BrokerAddress("k:9092", ca_file=tmp_path)
    with pytest.raises(SettingsError, match="cannot be read"):
        client_options(BrokerAddress("k:9092", "SSL", ca_file=tmp_path / "nothing"))
    assert client_options(BrokerAddress("k:9093", "SSL"))["ssl_context"].check_hostname


def test_the_client_cannot_log_payloads_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    client_options(BrokerAddress("k:9092"))
    names = [name for name in logging.root.manager.loggerDict if name.startswith("aiokafka.")]
    assert "aiokafka.producer.producer" in names
    with caplog.at_level(logging.DEBUG):
        for name in names:
            logging.getLogger(name).setLevel(logging.DEBUG)
            logging.getLogger(name).debug("canary")
            logging.getLogger(name).setLevel(logging.NOTSET)
    assert "canary" not in caplog.text


def test_how_long_a_topic_keeps_records() -> None:
    def topic(**config: str) -> TopicFacts:
        return TopicFacts("t", 1, 1, {name.replace("_", "."): value for name, value in config.items()}, {})

    assert topic().retention_ms == 604_800_000
    assert topic(retention_ms="1000").retention_ms == 1000
    assert topic(retention_ms="1000", segment_ms="500").longest_ms == 1500
    assert topic(retention_ms="-1").retention_ms is None
    assert topic(cleanup_policy="compact", retention_ms="1000").retention_ms is None
    assert topic(cleanup_policy="compact", retention_ms="1000").longest_ms is None
    assert topic(cleanup_policy="compact,delete", retention_ms="1000").retention_ms == 1000
    assert topic(min_insync_replicas="2").min_insync_replicas == 2
