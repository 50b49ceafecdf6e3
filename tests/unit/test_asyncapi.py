"""schemas/asyncapi.yaml: whole, of today, true to the code. tests/integration/test_asyncapi.py gives it to AsyncAPI's own parser."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from gateway.app.asyncapi import asyncapi, export, stale
from gateway.domain import events
from gateway.domain.chain import decode
from gateway.domain.cloudevents import read_event, write_binary
from gateway.domain.event_examples import examples
from gateway.domain.event_reading import read_message
from gateway.domain.schemas import current
from gateway.settings.parts import Topics

SCHEMAS = Path("schemas")
DOCUMENT: dict[str, Any] = asyncapi()
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
INCOMING = events.OutboundMessage.TYPE
INTERNAL = {"stop_spool"}
REFERENCE = {"type": "object", "required": ["$ref"], "properties": {"$ref": {"type": "string"}}, "additionalProperties": False}
BINDINGS = {"type": "object", "required": ["kafka"], "properties": {"kafka": {"required": ["bindingVersion"]}}}
#: What AsyncAPI 3.0 asks of the parts that we use (https://www.asyncapi.com/docs/reference/specification/v3.0.0).
STRUCTURE = {
    "type": "object",
    "required": ["asyncapi", "info"],
    "additionalProperties": False,
    "properties": {
        "asyncapi": {"const": "3.0.0"},
        "id": {"type": "string", "format": "uri"},
        "info": {"type": "object", "required": ["title", "version"], "properties": {"version": {"type": "string"}}},
        "defaultContentType": {"type": "string"},
        "servers": {"additionalProperties": {"type": "object", "required": ["host", "protocol"]}},
        "channels": {
            "propertyNames": {"pattern": r"^[A-Za-z0-9._-]+$"},
            "additionalProperties": {
                "type": "object",
                "required": ["address", "messages"],
                "additionalProperties": False,
                "properties": {
                    "address": {"type": "string"},
                    "title": {"type": "string"},
                    "messages": {"propertyNames": {"pattern": r"^[A-Za-z0-9._-]+$"}, "additionalProperties": REFERENCE},
                    "bindings": BINDINGS,
                },
            },
        },
        "operations": {
            "additionalProperties": {
                "type": "object",
                "required": ["action", "channel"],
                "additionalProperties": False,
                "properties": {
                    "action": {"enum": ["send", "receive"]},
                    "channel": REFERENCE,
                    "summary": {"type": "string"},
                    "messages": {"type": "array", "items": REFERENCE},
                },
            }
        },
        "components": {
            "additionalProperties": False,
            "properties": {
                "messages": {
                    "propertyNames": {"pattern": r"^[A-Za-z0-9._-]+$"},
                    "additionalProperties": {
                        "type": "object",
                        "required": ["payload", "headers", "examples"],  # ours: AsyncAPI asks for none
                        "additionalProperties": False,
                        "properties": {
                            **{name: {"type": "string"} for name in ("name", "title", "summary", "contentType")},
                            "headers": {"type": "object", "properties": {"type": {"const": "object"}}, "required": ["type"]},
                            "payload": REFERENCE,
                            "bindings": BINDINGS,
                            "examples": {"type": "array", "minItems": 1, "items": {"required": ["headers", "payload"]}},
                        },
                    },
                }
            },
        },
    },
}


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def resolved(reference: str, document: Any = DOCUMENT) -> Any:
    """What a reference leads to. KeyError, or FileNotFoundError, when that is nothing."""
    file, _, pointer = reference.partition("#")
    found = json.loads((SCHEMAS / file).read_text(encoding="utf-8")) if file else document
    for step in pointer.split("/")[1:]:
        found = found[step]
    return found


def test_the_file_is_what_the_code_makes(tmp_path: Path) -> None:
    assert stale(SCHEMAS) == [], "run `gateway schemas export`"
    assert YAML(typ="safe").load(SCHEMAS / "asyncapi.yaml") == DOCUMENT, "a text was not written as one"
    assert export(tmp_path).read_bytes() == (SCHEMAS / "asyncapi.yaml").read_bytes()
    (tmp_path / "asyncapi.yaml").write_text("{}")
    assert stale(tmp_path) == [tmp_path / "asyncapi.yaml"]


def test_every_topic_and_every_event_is_in_it() -> None:
    topics = {name: address for name, address in Topics().model_dump().items() if name not in INTERNAL}
    assert {name: channel["address"] for name, channel in DOCUMENT["channels"].items()} == topics
    assert set(MESSAGES) == set(current())
    carried = [name for channel in DOCUMENT["channels"].values() for name in channel["messages"]]
    assert sorted(carried) == sorted(MESSAGES)


def test_what_comes_in_is_received_and_all_else_is_sent() -> None:
    for operation in DOCUMENT["operations"].values():
        (message,) = operation["messages"]
        event_type = message["$ref"].rsplit("/", 1)[1]
        assert operation["action"] == ("receive" if event_type == INCOMING else "send")
        assert message["$ref"].startswith(operation["channel"]["$ref"] + "/messages/")
    assert {one["channel"]["$ref"] for one in DOCUMENT["operations"].values()} == {
        f"#/channels/{name}" for name in DOCUMENT["channels"]
    }


def test_what_the_relay_puts_beside_a_consent_is_told() -> None:
    messages = DOCUMENT["components"]["messages"].items()
    told = {name for name, message in messages if events.SUBJECT_HEADER in message["headers"]["properties"]}
    assert told == {events.ConsentEvent.TYPE}


def test_it_is_built_as_asyncapi_asks() -> None:
    jsonschema.validate(DOCUMENT, STRUCTURE, format_checker=jsonschema.FormatChecker())


def test_every_reference_leads_somewhere() -> None:
    assert all(resolved(reference) for reference in references(DOCUMENT))
    for event_type, message in MESSAGES.items():
        assert resolved(message["payload"]["$ref"]) == current()[event_type]


def test_the_schemas_mean_the_same_in_the_draft_that_asyncapi_builds_on() -> None:
    newer = {
        "prefixItems",
        "dependentRequired",
        "dependentSchemas",
        "unevaluatedItems",
        "unevaluatedProperties",
        "minContains",
        "$dynamicRef",
    }
    for schema in current().values():
        assert not newer & set(re.findall(r'"([$\w]+)":', json.dumps(schema)))
        jsonschema.Draft7Validator.check_schema(schema)


@pytest.mark.parametrize("event_type", list(MESSAGES))
class TestExamples:
    def test_its_data_is_valid(self, event_type: str) -> None:
        schema = current()[event_type]
        for validator in (jsonschema.Draft202012Validator, jsonschema.Draft7Validator):
            for example in MESSAGES[event_type]["examples"]:
                validator(schema, format_checker=jsonschema.FormatChecker()).validate(example["payload"])

    def test_its_headers_are_valid_and_those_of_the_binary_mode(self, event_type: str) -> None:
        schema = MESSAGES[event_type]["headers"]
        jsonschema.Draft7Validator.check_schema(schema)
        for example in MESSAGES[event_type]["examples"]:
            jsonschema.validate(example["headers"], schema, format_checker=jsonschema.FormatChecker())
            event = read_event([(name, text.encode()) for name, text in example["headers"].items()], b"{}")
            assert event.time is not None
            written, _ = write_binary(
                event_type=event.type, event_id=event.id, source=event.source, time=event.time, data=b"{}", traceparent="00-…"
            )
            named = [name for name, _ in written]
            assert set(example["headers"]) == set(named) - {"ce_traceparent"}
            assert set(named) <= set(schema["properties"])

    def test_the_models_take_it(self, event_type: str) -> None:
        data = json.dumps(examples()[event_type]).encode()
        if event_type == INCOMING:
            assert read_message(data).message_id == "order-1234-shipped"
        else:
            (model,) = (one for one in events.OutgoingEvent.__subclasses__() if event_type == one.TYPE)
            assert json.loads(events.encode(model.model_validate_json(data))).keys() == json.loads(data).keys()


def test_the_hash_of_the_audits_example_is_right() -> None:
    line = json.dumps(examples()[events.AuditEvent.TYPE], separators=(",", ":")).encode()
    form = line[: line.rindex(b',"hash":')] + b"}"
    assert hashlib.sha256(form).digest() == decode(line).hash


def test_the_documents_show_the_same_examples() -> None:
    shown = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", Path("docs/events.md").read_text("utf-8"), re.DOTALL)]
    assert shown == [examples()[INCOMING], examples()[events.StatusEvent.TYPE]]
