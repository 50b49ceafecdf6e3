"""The topics as an AsyncAPI 3.0 document, made from the settings and the events. schemas/asyncapi.yaml is this.

https://www.asyncapi.com/docs/reference/specification/v3.0.0; the Kafka bindings are those of version 0.5.0.
"""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from ruamel.yaml import YAML

from gateway.app.kafka import topics_wanted
from gateway.domain.event_examples import examples
from gateway.domain.events import (
    SOURCE,
    SUBJECT_HEADER,
    AuditEvent,
    ConsentEvent,
    DeadLetterEvent,
    InboundEvent,
    MetricsEvent,
    OutboundMessage,
    StatusEvent,
)
from gateway.domain.policy import Policies
from gateway.domain.schemas import current
from gateway.settings import Settings
from gateway.settings.parts import Kafka

__all__ = ["asyncapi", "export", "stale"]

_FILE: Final = "asyncapi.yaml"
_BINDING: Final = "0.5.0"


class _Topic(NamedTuple):
    """``name`` is that of the setting, ``action`` the gateway's; ``id`` is an example of a ``ce_id``."""

    name: str
    type: str
    action: str
    title: str
    key: str
    id: str


_PERSON: Final = "A pseudonym of the person, its own for each tenant."
_PRODUCERS: Final = "The producer's; the gateway never reads it. Best the recipient_ref: it keeps one person's messages in order, and is no number."
# The spool of STOPs is not here: the gateway alone writes and reads it, and nobody is to rely on its form.
_TOPICS: Final = (
    _Topic("outbound", OutboundMessage.TYPE, "receive", "Messages to send", _PRODUCERS, "order-1234-shipped"),
    _Topic("status", StatusEvent.TYPE, "send", "What became of each message", _PERSON, "019de43c-1d2f-7000-8000-6e0b5d9a4f03:3"),
    _Topic("inbound", InboundEvent.TYPE, "send", "What people texted", _PERSON, "019de43c-30fb-7000-8000-3b1f6a2e9c01:1"),
    _Topic(
        "consent",
        ConsentEvent.TYPE,
        "send",
        "Who opted in or out",
        "The person, scope and name. The partition is chosen by the person alone.",
        "019de43e-0c44-7000-8000-27d5b8e6f104:2",
    ),
    _Topic(
        "dead_letter",
        DeadLetterEvent.TYPE,
        "send",
        "What could not be processed",
        "The dead letter's own.",
        "019de43d-5a10-7000-8000-9c27d4f80b02:1",
    ),
    _Topic(
        "metrics",
        MetricsEvent.TYPE,
        "send",
        "How many status events",
        "The count's own.",
        "019de43f-7b12-7000-8000-51c9e0a3d205:1",
    ),
    _Topic("audit", AuditEvent.TYPE, "send", "Each tenant's chained audit", "The tenant.", "harbour-books:1"),
)

_DESCRIPTION: Final = (
    "Events come in by Kafka and become texts; what became of them goes out by Kafka. Names of topics are settings: these are their "
    "defaults. Partitions and configuration are what gateway topics apply makes. Every event is a CloudEvent 1.0 in the binary mode: its "
    "attributes are headers, its data is the record's value, JSON; of what comes in the structured mode is read too. A tenant may have "
    "topics of its own beside sms.outbound.v1, with the same events. Read with isolation.level=read_committed. Delivery is at least "
    "once and in order for one person: drop what comes again with the same ce_id."
)


def asyncapi() -> dict[str, Any]:
    """The document, ready for YAML. It names the events' schemas by the files beside it.

    AsyncAPI's own format of schemas is a superset of draft 07. The files are of 2020-12, but use no keyword that means something else
    there, so that they are named without a ``schemaFormat``, which few tools would know.
    """
    addresses: dict[str, str] = Kafka().topics.model_dump()
    wanted = {spec.name: spec for spec in topics_wanted(Settings.model_construct(kafka=Kafka()), Policies([]))}
    shown = examples()
    schemas = current()
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for topic in _TOPICS:
        spec = wanted[addresses[topic.name]]
        channels[topic.name] = {
            "address": spec.name,
            "title": topic.title,
            "messages": {topic.type: {"$ref": f"#/components/messages/{topic.type}"}},
            "bindings": {
                "kafka": {
                    "partitions": spec.partitions,
                    "topicConfiguration": {name: _configured(name, value) for name, value in spec.config.items()},
                    "bindingVersion": _BINDING,
                }
            },
        }
        operations[f"{topic.action}.{topic.name}"] = {
            "action": topic.action,
            "channel": {"$ref": f"#/channels/{topic.name}"},
            "summary": f"{topic.title}: {'read' if topic.action == 'receive' else 'written'} by the gateway.",
            "messages": [{"$ref": f"#/channels/{topic.name}/messages/{topic.type}"}],
        }
        messages[topic.type] = _message(topic, schemas[topic.type]["description"], shown[topic.type])
    return {
        "asyncapi": "3.0.0",
        "id": "urn:sms-gateway:events",
        "info": {
            "title": "SMS gateway",
            "version": "1",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{broker}",
                "protocol": "kafka",
                "variables": {"broker": {"default": "localhost:9092", "description": "A broker to ask first."}},
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def export(directory: Path) -> Path:
    """Write the document to ``asyncapi.yaml``, the same bytes for the same code."""
    path = directory / _FILE
    path.write_text(_text(), encoding="utf-8")
    return path


def stale(directory: Path) -> list[Path]:
    """The file, if :func:`export` would change it."""
    path = directory / _FILE
    return [] if path.is_file() and path.read_text(encoding="utf-8") == _text() else [path]


def _text() -> str:
    yaml = YAML()
    yaml.width = 130
    yaml.representer.add_representer(type(None), lambda made, _: made.represent_scalar("tag:yaml.org,2002:null", "null"))
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = StringIO()
    yaml.dump(asyncapi(), out)
    return out.getvalue()


def _configured(name: str, value: str) -> Any:
    """A topic's setting in the type that the binding gives it."""
    return value.split(",") if name == "cleanup.policy" else int(value) if value.lstrip("-").isdigit() else value


def _message(topic: _Topic, description: str, payload: dict[str, Any]) -> dict[str, Any]:
    incoming = topic.action == "receive"
    headers = {
        "ce_specversion": "1.0",
        "ce_id": topic.id,
        "ce_source": "/harbour-books/orders" if incoming else SOURCE,
        "ce_type": topic.type,
        "ce_time": "2026-05-01T16:29:59.871Z",
        "content-type": "application/json",
    }
    return {
        "name": topic.type,
        "title": topic.title,
        "summary": description.splitlines()[0],
        "contentType": "application/json",
        "headers": _headers(topic.type, incoming=incoming),
        "payload": {"$ref": f"./{topic.type}.json"},
        "bindings": {"kafka": {"key": {"type": "string", "description": topic.key}, "bindingVersion": _BINDING}},
        "examples": [{"name": "example", "headers": headers, "payload": payload}],
    }


def _headers(event_type: str, *, incoming: bool) -> dict[str, Any]:
    needed = ["ce_specversion", "ce_id", "ce_source", "ce_type"]
    source = {"type": "string", "minLength": 1, "maxLength": 1024} if incoming else {"type": "string", "const": SOURCE}
    found: dict[str, Any] = {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Unique for its source."},
        "ce_source": source,
        "ce_type": {"type": "string", "const": event_type},
        "ce_time": {"type": "string", "format": "date-time"},
        "content-type": {"type": "string", "const": "application/json"},
        "ce_traceparent": {"type": "string", "description": "The W3C trace context."},
    }
    if incoming:
        found["signature"] = {"type": "string", "description": "A detached JWS, where the tenant's policy asks for one."}
    if event_type == ConsentEvent.TYPE:
        found[SUBJECT_HEADER] = {"type": "string", "description": "For the gateway alone, sealed: it reads it after a restore."}
    return {"type": "object", "required": needed if incoming else [*needed, "ce_time", "content-type"], "properties": found}
