from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest

from gateway.domain.errors import DeadLetterReason, NotAllowedWhy, NotFound
from gateway.domain.events import encode
from gateway.domain.reasons import Reason
from gateway.domain.schema_breaks import Break, breaks
from gateway.domain.schema_tables import filled, tables
from gateway.domain.schemas import check, current, export, stale
from tests.unit.test_events import CONSENT, DEAD, INBOUND, LEAST, MOST, STATUS

Schema = dict[str, Any]
INCOMING = "sms.outbound.message.v1"
STATUS_TYPE = "sms.status.changed.v1"
RELEASED = Path("schemas/released/v1")


def after(event_type: str, change: Callable[[Schema], object]) -> list[str]:
    """What a change of today's schema would break, as text."""
    schemas = copy.deepcopy(current())
    change(schemas[event_type])
    return [str(found) for found in check(RELEASED, schemas)]


class TestExport:
    def test_the_files_are_those_that_the_models_make(self) -> None:
        assert stale(Path("schemas")) == [], "run `gateway schemas export`"

    def test_nothing_breaks_what_is_released(self) -> None:
        assert check(RELEASED) == []

    def test_the_same_models_make_the_same_bytes(self, tmp_path: Path) -> None:
        files = export(tmp_path / "new")
        first = [path.read_bytes() for path in files]
        assert [path.read_bytes() for path in export(tmp_path / "new")] == first
        assert stale(tmp_path / "new") == []
        files[0].write_text("{}")
        files[1].unlink()
        assert stale(tmp_path / "new") == files[:2]

    @pytest.mark.parametrize("event_type", list(current()))
    def test_each_is_a_schema_of_2020_12_with_a_name(self, event_type: str) -> None:
        schema = current()[event_type]
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema["$id"].endswith(event_type)
        assert schema["title"] == event_type
        assert schema["description"]

    @pytest.mark.parametrize("message", [LEAST, MOST])
    def test_events_that_are_read_are_valid(self, message: Schema) -> None:
        jsonschema.validate(message, current()[INCOMING], format_checker=jsonschema.FormatChecker())

    @pytest.mark.parametrize(
        "change", [{"extra": 1}, {"body": ""}, {"body": "  "}, {"category": "spam"}, {"tenant": "A B"}, {"to": 1}]
    )
    def test_events_that_are_refused_are_not(self, change: Schema) -> None:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**LEAST, **change}, current()[INCOMING])

    @pytest.mark.parametrize("event", [STATUS, INBOUND, CONSENT, DEAD], ids=lambda one: one.TYPE)
    def test_events_that_are_written_are_valid(self, event: Any) -> None:
        jsonschema.validate(json.loads(encode(event)), current()[event.TYPE], format_checker=jsonschema.FormatChecker())

    @pytest.mark.parametrize("event_type", [name for name in current() if name != INCOMING])
    def test_all_fields_of_what_is_written_are_always_there(self, event_type: str) -> None:
        schema = current()[event_type]
        assert set(schema["required"]) == set(schema["properties"])
        assert "additionalProperties" not in schema, "readers pass over what a later version adds"


INCOMING_BREAKS: list[tuple[str, Callable[[Schema], object], str]] = [
    (
        "a needed field is new",
        lambda s: (s["properties"].update(region={"type": "string"}), s["required"].append("region")),
        "region: is needed and never",
    ),
    ("a field becomes needed", lambda s: s["required"].append("sender"), "sender: is needed and not always"),
    ("a field is gone", lambda s: s["properties"].pop("sender"), "sender: is written and not known"),
    ("a value is gone", lambda s: s["properties"]["category"]["enum"].remove("security"), "category: security may be written"),
    ("only some values are left", lambda s: s["properties"]["body"].update(enum=["hello"]), "body: only some values"),
    ("a text is shorter", lambda s: s["properties"]["body"].update(maxLength=160), "body: maxLength is 160"),
    ("a text is longer at least", lambda s: s["properties"]["body"].update(minLength=2), "body: minLength is 2"),
    (
        "a bound is new",
        lambda s: s["properties"]["metadata"]["additionalProperties"].update(minLength=1),
        "metadata.*: minLength",
    ),
    ("a pattern is another", lambda s: s["properties"]["tenant"].update(pattern="^[a-z]+$"), "tenant: pattern is not the same"),
    ("a pattern is new", lambda s: s["properties"]["to"].update(pattern=r"^\+"), "to: pattern"),
    ("a type is another", lambda s: s["properties"]["to"].update(type="integer"), "to: string is written, integer is read"),
    (
        "null is no longer taken",
        lambda s: s["properties"].update(sender=s["properties"]["sender"]["anyOf"][0]),
        "sender: null is written",
    ),
    ("fewer items", lambda s: s["$defs"]["OptInProof"]["properties"]["confirmed_by"].update(maxItems=1), "opt_in_proof"),
    ("a part's field is needed", lambda s: s["$defs"]["OptInProof"]["required"].append("ip"), "opt_in_proof"),
    ("a part's field is gone", lambda s: s["$defs"]["OptInProof"]["properties"].pop("seller"), "opt_in_proof"),
    (
        "names are shorter",
        lambda s: s["properties"]["metadata"]["propertyNames"].update(maxLength=8),
        "metadata.(names): maxLength",
    ),
    ("fewer keys", lambda s: s["properties"]["metadata"].update(maxProperties=5), "metadata: maxProperties"),
    ("no keys at all", lambda s: s["properties"]["metadata"].update(additionalProperties=False), "metadata: any further fields"),
    ("a keyword is unknown here", lambda s: s["properties"]["body"].update({"not": {"const": "x"}}), "body: not is not the same"),
]
INCOMING_ALLOWED: list[tuple[str, Callable[[Schema], object]]] = [
    ("an optional field", lambda s: s["properties"].update(region={"type": "string"})),
    ("a field that is no longer needed", lambda s: s["required"].remove("body")),
    ("another value", lambda s: s["properties"]["category"]["enum"].append("survey")),
    ("any value", lambda s: s["properties"]["category"].pop("enum")),
    ("a longer text", lambda s: s["properties"]["body"].update(maxLength=2000)),
    ("no bound", lambda s: s["properties"]["body"].pop("maxLength")),
    ("no pattern", lambda s: s["properties"]["tenant"].pop("pattern")),
    ("null as well", lambda s: s["properties"].update(to={"anyOf": [s["properties"]["to"], {"type": "null"}]})),
    ("any type", lambda s: s["properties"].update(to={})),
    ("unknown fields pass", lambda s: s.update(additionalProperties=True)),
    ("words", lambda s: s["properties"]["to"].update(description="other words", examples=["+1"])),
]
OUTGOING_BREAKS: list[tuple[str, Callable[[Schema], object], str]] = [
    (
        "a field is gone",
        lambda s: (s["properties"].pop("rule"), s["required"].remove("rule")),
        "rule: is needed and never written",
    ),
    ("a field is not always there", lambda s: s["required"].remove("rule"), "rule: is needed and not always written"),
    (
        "a type is another",
        lambda s: s["properties"]["version"].update(type="string"),
        "version: string is written, integer is read",
    ),
    ("a number may have a fraction", lambda s: s["properties"]["version"].update(type="number"), "version: "),
    (
        "null may come",
        lambda s: s["properties"].update(version={"anyOf": [s["properties"]["version"], {"type": "null"}]}),
        "version: null is written",
    ),
    ("a state is new", lambda s: s["properties"]["state"]["enum"].append("lost"), "state: lost may be written"),
    ("any state", lambda s: s["properties"]["state"].pop("enum"), "state: only some values"),
    ("a bound is gone", lambda s: s["properties"]["version"].pop("minimum"), "version: minimum"),
    ("a format is gone", lambda s: s["properties"]["occurred_at"].pop("format"), "occurred_at: format"),
]
OUTGOING_ALLOWED: list[tuple[str, Callable[[Schema], object]]] = [
    ("a new field", lambda s: (s["properties"].update(cost={"type": "string"}), s["required"].append("cost"))),
    ("a state less", lambda s: s["properties"]["state"]["enum"].remove("canceled")),
    ("a new reason", lambda s: s["$defs"]["Reason"]["enum"].append("quiet_hours")),
    ("never null", lambda s: s["properties"].update(provider={"type": "string"})),
    ("a narrower number", lambda s: s["properties"]["version"].update(minimum=5)),
    ("a constant", lambda s: s["properties"].update(correction={"const": False})),
]


class TestCheck:
    @pytest.mark.parametrize("change, told", [row[1:] for row in INCOMING_BREAKS], ids=[row[0] for row in INCOMING_BREAKS])
    def test_what_breaks_those_who_write(self, change: Callable[[Schema], object], told: str) -> None:
        found = after(INCOMING, change)
        assert len(found) == 1
        assert found[0].startswith(f"{INCOMING}: {told}")

    @pytest.mark.parametrize("change", [row[1] for row in INCOMING_ALLOWED], ids=[row[0] for row in INCOMING_ALLOWED])
    def test_what_does_not(self, change: Callable[[Schema], object]) -> None:
        assert after(INCOMING, change) == []

    @pytest.mark.parametrize("change, told", [row[1:] for row in OUTGOING_BREAKS], ids=[row[0] for row in OUTGOING_BREAKS])
    def test_what_breaks_those_who_read(self, change: Callable[[Schema], object], told: str) -> None:
        found = after(STATUS_TYPE, change)
        assert len(found) == 1
        assert found[0].startswith(f"{STATUS_TYPE}: {told}")

    @pytest.mark.parametrize("change", [row[1] for row in OUTGOING_ALLOWED], ids=[row[0] for row in OUTGOING_ALLOWED])
    def test_what_does_not_break_them(self, change: Callable[[Schema], object]) -> None:
        assert after(STATUS_TYPE, change) == []

    def test_an_event_that_is_gone(self) -> None:
        schemas = {name: schema for name, schema in current().items() if name != STATUS_TYPE}
        assert check(RELEASED, schemas) == [Break(STATUS_TYPE, "", "the event is gone")]
        assert str(Break(STATUS_TYPE, "", "is gone")) == f"{STATUS_TYPE}: the event: is gone"

    def test_a_new_event_breaks_nobody(self) -> None:
        assert check(RELEASED, {**current(), "sms.new.v1": {"type": "object"}}) == []

    def test_nothing_released_is_no_success(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="no released schema"):
            check(tmp_path)

    @pytest.mark.parametrize("event_type", list(current()))
    def test_a_schema_allows_what_it_allows(self, event_type: str) -> None:
        schema = current()[event_type]
        assert breaks(event_type, writer=schema, reader=schema) == []
        assert breaks(event_type, writer=schema, reader={}) == []
        assert breaks(event_type, writer={}, reader=schema)


class TestDocument:
    def test_its_tables_are_today_s(self) -> None:
        document = Path("docs/events.md").read_text(encoding="utf-8")
        assert filled(document) == document, "put gateway.domain.schema_tables.filled(document) in its place"
        assert {f"<!-- table: {name} -->" for name in tables()} <= set(document.splitlines())

    def test_no_reason_is_left_out(self) -> None:
        assert [f"`{reason}`" for reason in Reason] == re.findall(r"^\| (`\w+`)", tables()["reasons"], re.MULTILINE)
        assert [f"`{name}`" for name in get_args(DeadLetterReason)] == re.findall(
            r"^\| (`\w+`)", tables()["dead_letters"], re.MULTILINE
        )
        assert [f"`{name}`" for name in get_args(NotAllowedWhy)] == re.findall(
            r"^\| (`\w+`)", tables()["not_allowed"], re.MULTILINE
        )

    def test_its_examples_are_events(self) -> None:
        examples = re.findall(r"```json\n(.*?)```", Path("docs/events.md").read_text(encoding="utf-8"), re.DOTALL)
        message, status = map(json.loads, examples)
        jsonschema.validate(message, current()[INCOMING])
        jsonschema.validate(status, current()[STATUS_TYPE])
        assert set(status) == set(current()[STATUS_TYPE]["required"])
