from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.domain.cloudevents import ReceivedEvent, read_event, write_binary
from gateway.domain.errors import BadEvent
from gateway.domain.event_reading import LONGEST_EVENT

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOW = datetime(2026, 5, 1, 9, 30, 0, 123_000, tzinfo=UTC)
DATA = b'{"to":"+14155550177"}'
HEADERS = {
    "ce_specversion": b"1.0",
    "ce_id": b"e-1",
    "ce_source": b"/shop",
    "ce_type": b"sms.outbound.message.v1",
    "ce_time": b"2026-05-01T11:30:00.123+02:00",
    "ce_traceparent": TRACE.encode(),
    "content-type": b"application/json",
}
ENVELOPE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/shop",
    "type": "sms.outbound.message.v1",
    "time": "2026-05-01T09:30:00.123Z",
    "traceparent": TRACE,
}
STRUCTURED: list[tuple[str, bytes | None]] = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
READ = ReceivedEvent("sms.outbound.message.v1", "e-1", "/shop", NOW, DATA, TRACE)


def binary(**changed: bytes | None) -> list[tuple[str, bytes | None]]:
    return list({**HEADERS, **changed}.items())


def without(name: str) -> list[tuple[str, bytes | None]]:
    return [(key, value) for key, value in HEADERS.items() if key != name]


def structured(**changed: Any) -> bytes:
    return json.dumps({**ENVELOPE, "data": json.loads(DATA), **changed}).encode()


class TestBinary:
    def test_reading(self) -> None:
        assert read_event(binary(), DATA) == READ

    def test_what_need_not_be_there(self) -> None:
        least = [(key, value) for key, value in HEADERS.items() if key in {"ce_specversion", "ce_id", "ce_source", "ce_type"}]
        assert read_event(least, DATA) == ReceivedEvent("sms.outbound.message.v1", "e-1", "/shop", None, DATA, None)

    @pytest.mark.parametrize(
        "content_type",
        [b"application/json", b"application/json; charset=utf-8", b"Application/JSON", b"application/vnd.shop+json"],
    )
    def test_data_that_is_json(self, content_type: bytes) -> None:
        assert read_event(binary(**{"content-type": content_type}), DATA).data == DATA

    def test_headers_of_others_and_other_extensions_do_not_matter(self) -> None:
        headers = [*binary(), ("x-shop", b"\xff"), ("ce_partitionkey", b"k"), ("x-shop", None)]
        assert read_event(headers, DATA) == READ

    @pytest.mark.parametrize("trace", [b"00-zz", b"", TRACE.upper().encode()])
    def test_a_malformed_trace_is_passed_over(self, trace: bytes) -> None:
        assert read_event(binary(ce_traceparent=trace), DATA).traceparent is None

    def test_the_data_is_not_looked_into(self) -> None:
        assert read_event(binary(), b"\xff\0").data == b"\xff\0"

    def test_it_does_not_show_its_data(self) -> None:
        assert "4155550177" not in repr(READ)
        assert "21 bytes" in repr(READ)


class TestStructured:
    def test_reading(self) -> None:
        assert read_event(STRUCTURED, structured()) == READ

    def test_headers_of_the_envelope_beside_it_do_not_count(self) -> None:
        assert read_event([*STRUCTURED, ("ce_id", b"other")], structured()).id == "e-1"

    def test_data_in_base64(self) -> None:
        value = json.dumps({**ENVELOPE, "data_base64": base64.b64encode(DATA).decode()}).encode()
        assert read_event(STRUCTURED, value) == READ

    def test_what_validation_refuses_comes_through_to_it(self) -> None:
        data = read_event(STRUCTURED, structured(data={"body": "\ud800", "n": 10**30})).data
        assert data == b'{"body":"\\ud800","n":1000000000000000000000000000000}'


REFUSED: list[tuple[list[tuple[str, bytes | None]], bytes | None, str, str]] = [
    (binary(), None, "bad_cloudevent", "no value"),
    (binary(), b" " * (LONGEST_EVENT + 1), "too_large", str(LONGEST_EVENT)),
    ([], DATA, "bad_cloudevent", "neither"),
    ([("content-type", b"application/json")], DATA, "bad_cloudevent", "neither"),
    *((without(f"ce_{name}"), DATA, "bad_cloudevent", name) for name in ("specversion", "id", "source", "type")),
    *((binary(**{f"ce_{name}": b" "}), DATA, "bad_cloudevent", name) for name in ("specversion", "id", "source", "type")),
    (binary(ce_specversion=b"0.3"), DATA, "bad_cloudevent", "specversion"),
    (binary(ce_id=b"\xff"), DATA, "bad_cloudevent", "ce_id"),
    (binary(ce_id=None), DATA, "bad_cloudevent", "ce_id"),
    (binary(ce_id=b"a\0"), DATA, "bad_cloudevent", "ce_id"),
    (binary(ce_id=b"a" * 1025), DATA, "bad_cloudevent", "ce_id"),
    ([*binary(), ("ce_id", b"e-2")], DATA, "bad_cloudevent", "twice"),
    ([*binary(), ("CE_ID", b"e-2")], DATA, "bad_cloudevent", "twice"),
    (binary(ce_time=b"yesterday"), DATA, "bad_cloudevent", "time"),
    (binary(ce_time=b"2026-05-01T09:30:00"), DATA, "bad_cloudevent", "time"),
    (binary(ce_time=b"2026-02-30T09:30:00Z"), DATA, "bad_cloudevent", "time"),
    (binary(ce_time=b"0001-01-01T00:00:00+14:00"), DATA, "bad_cloudevent", "time"),
    (binary(**{"content-type": b"application/xml"}), DATA, "bad_cloudevent", "JSON"),
    ([("content-type", b"application/cloudevents-batch+json")], b"[]", "bad_cloudevent", "structured"),
    ([("content-type", b"application/cloudevents+avro")], b"[]", "bad_cloudevent", "structured"),
    (STRUCTURED, b"", "not_json", "JSON"),
    (STRUCTURED, b"{", "not_json", "JSON"),
    (STRUCTURED, b"[" * 100_000, "not_json", "JSON"),
    (STRUCTURED, b'{"a":' * 40_000, "not_json", "JSON"),
    (STRUCTURED, b"9" * 10_000, "not_json", "JSON"),
    (STRUCTURED, structured()[:-1] + b',"id":"e-2"}', "not_json", "twice"),
    (STRUCTURED, structured().replace(b'"to"', b'"to":"+14155550178","to"'), "not_json", "twice"),
    (STRUCTURED, structured().replace(b"shop", b"\xff"), "not_utf8", "byte"),
    (STRUCTURED, structured(data="a\0"), "nul", "NUL"),
    (STRUCTURED, b"[]", "bad_cloudevent", "object"),
    (STRUCTURED, structured(specversion=1.0), "bad_cloudevent", "specversion"),
    (STRUCTURED, structured(id=7), "bad_cloudevent", "id"),
    (STRUCTURED, structured(type=None), "bad_cloudevent", "type"),
    (STRUCTURED, structured(time=1777627800), "bad_cloudevent", "time"),
    (STRUCTURED, json.dumps(ENVELOPE).encode(), "bad_cloudevent", "data"),
    (STRUCTURED, structured(data_base64="AA=="), "bad_cloudevent", "data"),
    (STRUCTURED, json.dumps({**ENVELOPE, "data_base64": "not base64!"}).encode(), "bad_cloudevent", "base64"),
    (STRUCTURED, json.dumps({**ENVELOPE, "data_base64": "é"}).encode(), "bad_cloudevent", "base64"),
    (STRUCTURED, json.dumps({**ENVELOPE, "data_base64": 7}).encode(), "bad_cloudevent", "base64"),
    (STRUCTURED, structured(datacontenttype="text/plain"), "bad_cloudevent", "JSON"),
    (STRUCTURED, structured(datacontenttype=["application/json"]), "bad_cloudevent", "JSON"),
]


@pytest.mark.parametrize("headers, value, reason, what", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_envelope_is_refused(
    headers: list[tuple[str, bytes | None]], value: bytes | None, reason: str, what: str
) -> None:
    with pytest.raises(BadEvent) as raised:
        read_event(headers, value)
    assert raised.value.reason == reason
    assert what in raised.value.what
    assert "4155550177" not in str(raised.value)


some_headers = some.lists(
    some.tuples(
        some.one_of(some.sampled_from([*HEADERS, "CE_ID"]), some.text(max_size=8)),
        some.one_of(some.none(), some.binary(max_size=30), some.sampled_from([*HEADERS.values(), STRUCTURED[0][1]])),
    ),
    max_size=9,
)


@given(some_headers, some.one_of(some.none(), some.binary(max_size=60), some.just(structured())))
def test_any_record_is_read_or_refused(headers: list[tuple[str, bytes | None]], value: bytes | None) -> None:
    try:
        found = read_event(headers, value)
    except BadEvent as fault:
        assert fault.what  # noqa: PT017 -- some are read
    else:
        assert found.type


@given(
    some.dictionaries(
        some.sampled_from([*ENVELOPE, "data", "data_base64", "datacontenttype"]),
        some.one_of(some.none(), some.integers(), some.text()),
    )
)
def test_any_structured_envelope_is_read_or_refused(changed: dict[str, object]) -> None:
    try:
        read_event(STRUCTURED, structured(**changed))
    except BadEvent as fault:
        assert fault.what  # noqa: PT017 -- some are read


texts = some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)


@given(texts, texts, texts, some.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=some.just(UTC)), some.binary())  # noqa: DTZ001
def test_what_is_written_is_read(event_type: str, event_id: str, source: str, time: datetime, data: bytes) -> None:
    headers, value = write_binary(
        event_type=event_type, event_id=event_id, source=source, time=time, data=data, traceparent=TRACE
    )
    kept = time.replace(microsecond=time.microsecond // 1000 * 1000)
    assert read_event(headers, value) == ReceivedEvent(event_type, event_id, source, kept, data, TRACE)


def test_a_written_record_byte_by_byte() -> None:
    headers, value = write_binary(event_type="sms.status.changed.v1", event_id="e-1", source="sms-gateway", time=NOW, data=DATA)
    assert value == DATA
    assert headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e-1"),
        ("ce_source", b"sms-gateway"),
        ("ce_type", b"sms.status.changed.v1"),
        ("ce_time", b"2026-05-01T09:30:00.123Z"),
        ("content-type", b"application/json"),
    ]
