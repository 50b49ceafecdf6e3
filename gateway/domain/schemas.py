"""JSON Schemas (2020-12) of the events, made from the models, and what a change of them would break.

Between a released schema and today's one stands the question whether everything that the writer may write is something that the reader
takes. Of events that come in, producers write by the released one and the gateway reads by today's; of events that go out it is
the other way round.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema

from gateway.domain.errors import NotFound
from gateway.domain.events import (
    AuditEvent,
    ConsentEvent,
    DeadLetterEvent,
    InboundEvent,
    MetricsEvent,
    OutboundMessage,
    OutgoingEvent,
    StatusEvent,
)
from gateway.domain.schema_breaks import Break, breaks

__all__ = ["check", "current", "export", "stale"]

Schema = dict[str, Any]

_INCOMING: Final = (OutboundMessage,)
_OUTGOING: Final[tuple[type[OutgoingEvent], ...]] = (
    StatusEvent,
    InboundEvent,
    ConsentEvent,
    DeadLetterEvent,
    MetricsEvent,
    AuditEvent,
)


class _Untitled(GenerateJsonSchema):
    """Without a title for each field: it would repeat the name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 -- the library's signature
        return False


def current() -> dict[str, Schema]:
    """Today's schemas by the CloudEvents type, in the order of docs/events.md."""
    found = {
        model.TYPE: _finished(model.TYPE, model.model_json_schema(mode="validation", schema_generator=_Untitled))
        for model in _INCOMING
    }
    for outgoing in _OUTGOING:
        schema = outgoing.model_json_schema(mode="serialization", schema_generator=_Untitled)
        schema.pop("additionalProperties")  # readers pass over what a later version adds
        found[outgoing.TYPE] = _finished(outgoing.TYPE, schema)
    return found


def export(directory: Path) -> list[Path]:
    """Write each of today's schemas to ``<type>.json``, the same bytes for the same models; the files, in order."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for event_type, schema in current().items():
        path = directory / f"{event_type}.json"
        path.write_text(_text(schema), encoding="utf-8")
        written.append(path)
    return written


def stale(directory: Path) -> list[Path]:
    """The files that :func:`export` would change."""
    paths = {directory / f"{event_type}.json": _text(schema) for event_type, schema in current().items()}
    return [path for path, text in paths.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def check(released: Path, schemas: Mapping[str, Schema] | None = None) -> list[Break]:
    """What ``schemas``, by default today's, would break for those who hold a released one. A type that is not released breaks nobody.

    ``NotFound`` when the directory holds no released schema: nothing would be checked.
    """
    today = current() if schemas is None else schemas
    incoming = {model.TYPE for model in _INCOMING}
    files = sorted(released.glob("*.json"))
    if not files:
        raise NotFound(f"{released} holds no released schema")
    found = []
    for path in files:
        event_type = path.stem
        old = json.loads(path.read_text(encoding="utf-8"))
        new = today.get(event_type)
        if new is None:
            found.append(Break(event_type, "", "the event is gone"))
        elif event_type in incoming:
            found += breaks(event_type, writer=old, reader=new)
        else:
            found += breaks(event_type, writer=new, reader=old)
    return found


def _text(schema: Schema) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _finished(event_type: str, schema: Schema) -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:sms-gateway:schema:{event_type}",
        "title": event_type,
        **{key: value for key, value in schema.items() if key != "title"},
    }
