from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from gateway.domain.changes import Change
from gateway.domain.errors import SettingsError, StoreUnavailable
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.states import State
from gateway.telemetry import Metrics, configure_logging, get_logger, handle_loop_exception
from gateway.telemetry.redaction import hide_numbers, hide_personal

NUMBER = "+12025550123"
BODY = "the eagle has landed"


@dataclass(frozen=True, slots=True)
class Record:
    number: str


def fail(fault: Exception) -> None:
    raise fault


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    kept = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    yield stream
    root.handlers[:], root.level, sys.excepthook, threading.excepthook = kept
    structlog.reset_defaults()


def entries(out: io.StringIO) -> list[dict[str, Any]]:
    assert "2025550123" not in out.getvalue()
    assert BODY not in out.getvalue()
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_entry_is_a_line_of_json_with_its_time_in_utc(out: io.StringIO) -> None:
    get_logger("gateway.flow").info("worker started", worker=3, mode="embedded")
    get_logger("gateway.flow").debug("not at this level")
    (entry,) = entries(out)
    assert list(entry) == ["timestamp", "level", "logger", "event", "worker", "mode"]
    assert (entry["level"], entry["logger"], entry["event"], entry["worker"]) == ("info", "gateway.flow", "worker started", 3)
    assert datetime.fromisoformat(entry["timestamp"]).utcoffset() == UTC.utcoffset(None)


def test_personal_types_and_numbers_are_hidden_wherever_they_stand(out: io.StringIO) -> None:
    get_logger("x").info(
        f"sent to {NUMBER}",
        typed=PhoneNumber(NUMBER),
        body=MessageBody(BODY),
        spaced="call +1 (202) 555-0123 now",
        url="https://x/?To=%2B12025550123",
        nested={"list": [NUMBER, PhoneNumber(NUMBER)], NUMBER: 1, "deep": {"er": ({NUMBER},)}},
        record=Record(NUMBER),
        raw=NUMBER.encode(),
        fault=ValueError(f"{NUMBER} {BODY}"),
        path=Path(f"/x/{NUMBER}"),
    )
    (entry,) = entries(out)
    assert entry["event"] == "sent to •••"
    assert entry["typed"] == entry["body"] == "•••"
    assert (entry["record"], entry["raw"], entry["fault"]) == ("<Record>", "<12 bytes>", "ValueError")


def test_what_is_no_number_is_left_as_it_is(out: io.StringIO) -> None:
    uid = uuid.UUID("01939c5e-1234-7890-8123-456789012345")
    get_logger("x").info(
        "a", uid=uid, reason=Reason.OPTED_OUT, at=datetime(2026, 11, 23, 10, tzinfo=UTC), offset=12345678901, share=0.5, none=None
    )
    (entry,) = entries(out)
    assert (entry["uid"], entry["reason"], entry["at"]) == (str(uid), "opted_out", "2026-11-23 10:00:00+00:00")
    assert (entry["offset"], entry["share"], entry["none"]) == (12345678901, 0.5, None)


@given(st.from_regex(r"\+[1-9][0-9]{7,14}", fullmatch=True), st.text(), st.text())
def test_no_e164_number_comes_through(number: str, before: str, after: str) -> None:
    assert number[1:] not in hide_numbers(f"{before}{number} {after}").replace(before, "", 1)


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.binary() | st.just(PhoneNumber(NUMBER)),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_everything_comes_out_as_json(value: object) -> None:
    json.dumps(hide_personal(value))


def test_a_fault_of_ours_is_one_sentence_without_a_stack(out: io.StringIO) -> None:
    try:
        fail(StoreUnavailable("PostgreSQL is away"))
    except StoreUnavailable:
        get_logger("x").exception("claim put off")
    (entry,) = entries(out)
    assert (entry["level"], entry["error"], entry["message"]) == ("error", "StoreUnavailable", "PostgreSQL is away")
    assert "frames" not in entry


def test_any_other_exception_shows_where_it_was_and_not_what_it_says(out: io.StringIO) -> None:
    def insert() -> None:
        secret = BODY
        try:
            fail(KeyError(secret))
        except KeyError as fault:
            raise RuntimeError(f"Key (number)=({NUMBER}) text {secret}") from fault

    try:
        insert()
    except RuntimeError as fault:
        get_logger("x").error("batch failed", exc_info=fault)
    (entry,) = entries(out)
    assert entry["error"] == "RuntimeError"
    assert entry["frames"][-1].endswith(" insert")
    assert re.fullmatch(r"[\w.]+:\d+ \w+", entry["frames"][-1])
    assert entry["causes"][0]["error"] == "KeyError"


def test_the_parts_of_a_group_are_told(out: io.StringIO) -> None:
    get_logger("x").error("ended", exc_info=ExceptionGroup(BODY, [ValueError(NUMBER), SettingsError("settings: x")]))
    (entry,) = entries(out)
    assert [part["error"] for part in entry["group"]] == ["ValueError", "SettingsError"]


def test_libraries_log_without_their_arguments(out: io.StringIO) -> None:
    library = logging.getLogger("aiokafka.somewhere")
    library.warning("commit of %s failed after %d tries: %r", BODY, 3, {"to": NUMBER})
    library.warning("%(to)s had %(count)d", {"to": BODY, "count": 2})
    library.error("one\nfuture: %s", BODY)
    # Straight to the handler: pytest's own, beside it, raises.
    logging.getLogger().handlers[0].emit(logging.LogRecord("x", logging.WARNING, __file__, 1, "broken %d %d", (BODY,), None))
    library.info("chatter")
    try:
        fail(ValueError(BODY))
    except ValueError:
        library.exception("closed")
    told = entries(out)
    assert [entry["event"] for entry in told] == [
        "commit of … failed after 3 tries: …",
        "… had 2",
        "one",
        "broken %d %d",
        "closed",
    ]
    assert told[0]["logger"] == "aiokafka.somewhere"
    assert told[0]["line"].startswith("test_telemetry:")
    assert told[-1]["error"] == "ValueError"


async def test_what_nobody_caught_is_logged_without_values(out: io.StringIO) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(handle_loop_exception)
    loop.call_exception_handler(
        {"message": f"Task exception was never retrieved\nfuture: <ValueError('{BODY}')>", "exception": ValueError(BODY)}
    )
    loop.call_exception_handler({"message": "no exception"})

    thread = threading.Thread(target=fail, args=(ValueError(BODY),))
    thread.start()
    thread.join(5)
    sys.excepthook(ValueError, ValueError(BODY), None)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    told = entries(out)
    assert [entry["event"] for entry in told] == [
        "Task exception was never retrieved",
        "no exception",
        "uncaught exception in a thread",
        "uncaught exception",
    ]
    assert told[2]["frames"][-1].endswith(" fail")


def test_a_terminal_gets_words_instead_of_json() -> None:
    kept = logging.getLogger().handlers[:], logging.getLogger().level, sys.excepthook, threading.excepthook
    stream = io.StringIO()
    configure_logging("warning", "console", stream)
    get_logger("x").warning("fuse armed", seconds=2)
    get_logger("x").error("failed", exc_info=ValueError(BODY))
    logging.getLogger().handlers[:], logging.getLogger().level, sys.excepthook, threading.excepthook = kept
    structlog.reset_defaults()
    assert "fuse armed" in stream.getvalue()
    assert "seconds=2" in stream.getvalue()
    assert BODY not in stream.getvalue()


# ------------------------------------------------------------------------------------------------------------- metrics

BOUNDED = {
    "place",
    "topic",  # of the settings and policies
    "why",
    "state",
    "reason",
    "provider",
    "category",
    "result",
    "stage",
    "account",
    "outcome",
    "partition",
    "to",
    "source",
    "scope",
    "kind",
    "route",
    "status",
    "version",
    "python",
}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_names_follow_the_conventions_of_prometheus(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry, version="1.2.3")
    instruments = {name: held for name, held in vars(metrics).items() if not name.startswith("_")}
    assert len(instruments) >= 25
    for name, instrument in instruments.items():
        (family,) = instrument.describe() if isinstance(instrument, Info) else instrument.collect()
        told = {Counter: f"{family.name}_total", Info: f"{family.name}_info"}.get(type(instrument), family.name)
        assert told == f"sms_gateway_{name}"  # the attribute is the metric
        assert re.fullmatch(r"sms_gateway_[a-z][a-z_]*", told)
        assert family.documentation.endswith(".")
        assert name.endswith("_total") == isinstance(instrument, Counter)
        assert not re.search(r"_(milliseconds|ms|minutes|hours|kilobytes|kb|count|sum|bucket)(_|$)", name)
        if isinstance(instrument, Histogram):
            assert name.endswith(("_seconds", "_bytes"))
        if isinstance(instrument, Gauge):
            assert name.rsplit("_", 1)[-1] in {
                "flight",
                "messages",
                "seconds",
                "records",
                "events",
                "paused",
                "barriers",
                "overdue",
                "state",
            }
        assert set(instrument._labelnames) <= BOUNDED
        assert not set(instrument._labelnames) & {"le", "quantile", "job", "instance"}


def test_what_must_stay_0_is_there_from_the_start(registry: CollectorRegistry) -> None:
    Metrics(registry, version="1.2.3")
    text = generate_latest(registry).decode()
    for line in (
        "sms_gateway_sends_after_stop_total 0.0",
        "sms_gateway_duplicate_sends_total 0.0",
        "sms_gateway_unknown_outcomes_total 0.0",
        "sms_gateway_consumer_lost_records_total 0.0",
        'sms_gateway_stage_seconds_count{stage="accept_to_request"} 0.0',
    ):
        assert line in text
    assert re.search(r'sms_gateway_build_info\{python="[\d.]+\w*",version="1\.2\.3"\} 1\.0', text)
    assert text.count("# HELP ") == text.count("# TYPE ")


def test_the_instruments_take_the_labels_of_the_flow(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    for reason in Reason:
        metrics.messages_total.labels(state="blocked", reason=reason, provider="twilio", category="marketing").inc()
    metrics.stage_seconds.labels(stage="claim").observe(0.01)
    metrics.requests_in_flight.labels(account="main").inc()
    metrics.consumer_lag_records.labels(topic="t", partition="0").set(5)
    metrics.consumer_lag_records.remove("t", "0")
    text = generate_latest(registry).decode()
    assert 'reason="opted_out"' in text
    assert "consumer_lag_records{" not in text


def test_a_change_is_counted_by_what_it_came_to(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    uid = uuid.uuid4()
    lost = Change(
        uid=uid,
        tenant="t",
        step="unknown",
        number=3,
        state=State.UNKNOWN,
        reason=Reason.NO_ANSWER,
        final=False,
        provider="twilio",
        category="service",
    )
    metrics.moved(lost)
    metrics.moved(
        Change(uid=uid, tenant="t", step="settled", number=4, state=State.UNKNOWN, reason=Reason.NO_EVIDENCE, final=True)
    )
    metrics.moved(Change(uid=uid, tenant="t", step="contradicted", number=5))
    metrics.moved(Change(uid=uid, tenant="t", step="claimed", number=6))
    labels = {"state": "unknown", "reason": "no_answer", "provider": "twilio", "category": "service"}
    assert registry.get_sample_value("sms_gateway_messages_total", labels) == 1.0
    assert registry.get_sample_value("sms_gateway_unknown_outcomes_total") == 1.0
    assert registry.get_sample_value("sms_gateway_duplicate_sends_total") == 1.0


def test_two_processes_of_one_test_share_nothing() -> None:
    one, other = CollectorRegistry(), CollectorRegistry()
    Metrics(one).unknown_outcomes_total.inc()
    Metrics(other)
    assert other.get_sample_value("sms_gateway_unknown_outcomes_total") == 0.0
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics(one)


def test_every_dead_letter_reason_is_a_label_value(registry: CollectorRegistry) -> None:
    from gateway.domain.errors import DeadLetterReason

    metrics = Metrics(registry)
    for reason in get_args(DeadLetterReason):
        metrics.dead_letters_total.labels(reason=reason).inc()
    assert registry.get_sample_value("sms_gateway_dead_letters_total", {"reason": "nul"}) == 1.0
