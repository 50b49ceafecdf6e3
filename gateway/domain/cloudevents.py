"""CloudEvents 1.0 in Kafka records: read in binary and structured mode, written in binary mode.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway.domain.errors import BadEvent
from gateway.domain.event_reading import LONGEST_EVENT, check_text, one_key_each

__all__ = ["ReceivedEvent", "read_event", "write_binary"]

_STRUCTURED: Final = "application/cloudevents+json"
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_LONGEST_ATTRIBUTE: Final = 1024  # characters
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event's envelope and its data, not yet read. ``traceparent`` is None where there is none or it is malformed (W3C: ignore it)."""

    type: str
    id: str
    source: str
    time: datetime | None
    data: bytes
    traceparent: str | None

    def __repr__(self) -> str:
        return f"ReceivedEvent(type={self.type!r}, {len(self.data)} bytes)"


def read_event(headers: Sequence[tuple[str, bytes | None]], value: bytes | None) -> ReceivedEvent:
    """The event that a record holds, by its headers in binary mode, by its value in structured mode.

    :class:`BadEvent` when the envelope is missing or wrong, or the record too long; it shows nothing of the record.
    """
    if value is None:
        raise BadEvent("bad_cloudevent", "the record has no value")
    if len(value) > LONGEST_EVENT:
        raise BadEvent("too_large", f"{len(value)} bytes; at most {LONGEST_EVENT} are read")
    attributes: dict[str, str] = {}
    content_type = ""
    for key, raw in headers:
        name = key.lower()
        if name == "content-type":
            content_type = _text(raw, "content-type").strip()
        elif name.startswith("ce_"):
            if name in attributes:
                raise BadEvent("bad_cloudevent", "an attribute stands twice in the headers")
            attributes[name] = _text(raw, name if name in _KNOWN else "a header")
    if content_type.lower().startswith("application/cloudevents"):
        if content_type.split(";")[0].strip().lower() != _STRUCTURED:
            raise BadEvent("bad_cloudevent", f"content-type: of the structured forms only {_STRUCTURED} is read")
        return _structured(value)
    if not attributes:
        raise BadEvent("bad_cloudevent", "neither ce_ headers nor a content-type of CloudEvents")
    if content_type and not _JSON.fullmatch(content_type):
        raise BadEvent("bad_cloudevent", "content-type: the data must be JSON")
    return _envelope({name.removeprefix("ce_"): text for name, text in attributes.items()}, value)


_KNOWN: Final = frozenset({"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_traceparent"})


def _text(raw: bytes | None, name: str) -> str:
    try:
        text = raw.decode() if raw is not None else None
    except UnicodeDecodeError:
        text = None
    if text is None or "\0" in text or len(text) > _LONGEST_ATTRIBUTE:
        raise BadEvent("bad_cloudevent", f"{name}: no text, or too long a one")
    return text


def _structured(value: bytes) -> ReceivedEvent:
    text = check_text(value)
    what = None
    event: Any = None
    try:
        event = json.loads(text, object_pairs_hook=one_key_each)
    except (ValueError, RecursionError) as error:
        what = "a key stands twice in an object" if "twice" in str(error) else "not JSON"
    if what is not None:
        raise BadEvent("not_json", what)
    if not isinstance(event, dict):
        raise BadEvent("bad_cloudevent", "the envelope is no JSON object")
    if ("data" in event) == ("data_base64" in event):
        raise BadEvent("bad_cloudevent", "exactly one of data and data_base64 must be there")
    content_type = event.get("datacontenttype", "application/json")
    if not isinstance(content_type, str) or not _JSON.fullmatch(content_type):
        raise BadEvent("bad_cloudevent", "datacontenttype: the data must be JSON")
    return _envelope(event, _data(event))


def _data(event: Mapping[str, Any]) -> bytes:
    found = None
    try:
        if "data" in event:
            return json.dumps(event["data"], separators=(",", ":")).encode()
        encoded = event["data_base64"]
        if isinstance(encoded, str):
            found = base64.b64decode(encoded, validate=True)
    except (RecursionError, ValueError):
        found = None
    if found is None:
        raise BadEvent("bad_cloudevent", "data_base64: not base64" if "data_base64" in event else "data: nested too deeply")
    return found


def _envelope(attributes: Mapping[str, Any], data: bytes) -> ReceivedEvent:
    if attributes.get("specversion") != "1.0":
        raise BadEvent("bad_cloudevent", "specversion: must be 1.0")
    values = {}
    for name in ("id", "source", "type"):
        value = attributes.get(name)
        if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_ATTRIBUTE:
            raise BadEvent("bad_cloudevent", f"{name}: is missing, empty or too long")
        values[name] = value
    trace = attributes.get("traceparent")
    traceparent = trace if isinstance(trace, str) and _TRACEPARENT.fullmatch(trace) else None
    return ReceivedEvent(values["type"], values["id"], values["source"], _time(attributes.get("time")), data, traceparent)


def _time(value: object) -> datetime | None:
    if value is None:
        return None
    moment = None
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            moment = None
    if moment is None:
        raise BadEvent("bad_cloudevent", "time: must be a date, a time and an offset (RFC 3339)")
    return moment


def write_binary(
    *, event_type: str, event_id: str, source: str, time: datetime, data: bytes, traceparent: str | None = None
) -> tuple[list[tuple[str, bytes]], bytes]:
    """The headers and value of a record in binary mode. ``time`` is aware; ``data`` is JSON."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", event_type.encode()),
        ("ce_time", time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()),
        ("content-type", b"application/json"),
    ]
    if traceparent is not None:
        headers.append(("ce_traceparent", traceparent.encode()))
    return headers, data
