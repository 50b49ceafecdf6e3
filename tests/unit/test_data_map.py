"""Nothing is kept, published, counted or logged that the data map does not speak of, and it speaks of nothing that is not there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.domain.data_map import Part
from gateway.domain.data_page import PARTS, data_page
from gateway.domain.mapped_events import EVENTS, TOPICS
from gateway.domain.mapped_rest import LABELS, LOGS, PROVIDERS
from gateway.domain.policy_retention import CLASSES
from gateway.domain.schemas import current
from gateway.providers.names import PROVIDERS as PROVIDER_NAMES
from gateway.settings import Settings
from gateway.settings.parts import Topics
from gateway.telemetry import Metrics

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
ADDED_BY_THE_SETUP = {"timestamp", "level", "logger", "event", "line", "error", "message", "frames", "causes"}
PORTS = {"web", "admin"}


def mapped(part: Part) -> dict[str, list[str]]:
    return {area.name: sorted(area.names) for area in part.areas}


def test_every_field_of_every_event_is_on_the_map() -> None:
    assert mapped(EVENTS) == {name: sorted(_fields(schema, schema)) for name, schema in current().items()}, (
        "say in gateway/domain/mapped_events.py what a new field is"
    )


def _fields(schema: dict[str, Any], whole: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        yield above + name
        for choice in [field, *field.get("anyOf", [])]:
            if "$ref" in choice:
                yield from _fields(whole["$defs"][choice["$ref"].rpartition("/")[2]], whole, f"{above}{name}.")


def test_every_topic_is_on_the_map() -> None:
    assert sorted(mapped(TOPICS)) == sorted(Topics.model_fields)


def test_every_provider_is_on_the_map() -> None:
    assert sorted(mapped(PROVIDERS)) == sorted(PROVIDER_NAMES)


def test_every_label_of_a_metric_is_on_the_map() -> None:
    metrics = Metrics(CollectorRegistry())
    labels = {label for held in vars(metrics).values() for label in getattr(held, "_labelnames", ())}
    assert set(mapped(LABELS)["metrics"]) == labels | {"version", "python", "le"}, (
        "say in gateway/domain/mapped_rest.py what a new label is"
    )


def test_every_key_of_a_log_entry_is_on_the_map() -> None:
    used = {key for file in Path("gateway").rglob("*.py") for key in _logged(ast.parse(file.read_text(encoding="utf-8")))}
    assert {key for key in used if key.startswith("**")} == {"**ports", "**child.ports"}
    keys = {key for key in used if not key.startswith("**")} - {"exc_info"}
    assert set(mapped(LOGS)["logs"]) == keys | PORTS | ADDED_BY_THE_SETUP, (
        "say in gateway/domain/mapped_rest.py what a new key is"
    )


def _logged(tree: ast.AST) -> Iterator[str]:
    """The names by which values are given to loggers, whatever a module calls its own."""
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and "get_logger(" in ast.unparse(node.value)]
    loggers = {ast.unparse(target) for node in made for target in node.targets}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS:
            logger = ast.unparse(call.func.value)
            if logger in loggers or "get_logger(" in logger:
                yield from (keyword.arg or f"**{ast.unparse(keyword.value)}" for keyword in call.keywords)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.title)
def test_nothing_is_on_the_map_twice(part: Part) -> None:
    for area in part.areas:
        assert len(set(area.names)) == len(area.names), area.name
    assert len({area.name for area in part.areas}) == len(part.areas)


def test_how_long_names_a_key_of_the_policies_or_a_setting() -> None:
    known = {f"retention.{name}" for name in CLASSES} | set(Settings.model_fields)
    known |= {f"routing.{name}" for name in Settings().routing.model_fields_set | type(Settings().routing).model_fields.keys()}
    keys = {held.until.key for part in PARTS for _, _, held in part.rows()}
    words = {key for key in keys if not key.replace("_", "").replace(".", "").isalpha()}
    assert keys - words <= known
    assert all(word.startswith(("none: ", "as each ", "the provider")) for word in words)


def test_the_page_is_todays() -> None:
    assert Path("docs/data-map.md").read_text(encoding="utf-8") == data_page(), (
        "run .venv/bin/gateway data-map --markdown > docs/data-map.md"
    )
