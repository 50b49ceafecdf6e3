"""A provider's OpenAPI document, of which a copy is given by its path, and what of an exchange is not as it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from ruamel.yaml import YAML

__all__ = ["Specification", "Taken"]

_URI: Final = "urn:specification"


@dataclass
class Taken:
    """One exchange as it went over the wire."""

    method: str
    path: str
    query: str
    request: bytes
    kind: str
    status: int = 0
    answer: bytes = b""


@dataclass
class Specification:
    """An OpenAPI document. ``differences`` judges an exchange, or an event by the name of its schema."""

    document: dict[str, Any]
    _paths: list[tuple[re.Pattern[str], str]] = field(init=False)

    def __post_init__(self) -> None:
        self.document = _as_json_schema(self.document)
        resource = Resource.from_contents(self.document, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(_URI, resource)
        # A path without parameters goes before one that would take its last part for one.
        paths = sorted(self.document["paths"], key=lambda path: path.count("{"))
        self._paths = [(re.compile(re.sub(r"\\\{[^/]*?\\\}", "[^/]+", re.escape(path))), path) for path in paths]

    @classmethod
    def read(cls, path: Path) -> Specification:
        """The document of a file, in JSON or YAML."""
        text = path.read_text("utf-8")
        return cls(json.loads(text) if path.suffix == ".json" else YAML(typ="safe").load(text))

    def differences(self, taken: Taken) -> list[str]:
        """What of an exchange is not as specified."""
        where = f"{taken.method} {taken.path}"
        path = next((path for pattern, path in self._paths if pattern.fullmatch(taken.path.rstrip("/"))), None)
        operation = self.document["paths"].get(path, {}).get(taken.method.lower())
        if operation is None:
            return [f"{where}: no such call, but it was answered with {taken.status}"] if taken.status < 300 else []
        found = self._of_answer(operation, taken)
        if taken.status < 300:
            shared = self.document["paths"][path].get("parameters", [])
            found += self._of_request(operation, shared, taken)
        return [f"{where} {taken.status} {one}" for one in found]

    def event_differences(self, name: str, event: object) -> list[str]:
        """What of an event is not as the schema of this name says."""
        schema = self.document["components"]["schemas"][name]
        return [f"{name} {one}" for one in (*self._wrong(schema, event), *self._undeclared(schema, event))]

    def _of_answer(self, operation: dict[str, Any], taken: Taken) -> list[str]:
        answer = self._resolved(operation["responses"].get(str(taken.status), {}))
        content = answer.get("content", {})
        schema = content.get("application/json", {}).get("schema")
        if taken.status >= 400 and schema is None:
            schema = self.document["components"]["schemas"].get("ParameterizedErrorResponseModel")
        elif not answer:
            return [f"answers with a status that is not among {', '.join(operation['responses'])}"]
        if not taken.answer:
            return ["answers with nothing"] if schema is not None and taken.status < 300 else []
        try:
            body = json.loads(taken.answer)
        except ValueError:
            return []
        if schema is None:
            return ["answers with a body"] if taken.status < 300 else []
        undeclared = self._undeclared(schema, body) if taken.status < 300 else []
        return [f"answers {one}" for one in (*self._wrong(schema, body), *undeclared)]

    def _of_request(self, operation: dict[str, Any], shared: list[Any], taken: Taken) -> list[str]:
        parameters = [self._resolved(one) for one in (*shared, *operation.get("parameters", ()))]
        known = {one["name"]: one for one in parameters if one["in"] == "query"}
        given: dict[str, list[str]] = {}
        for name, value in parse_qsl(taken.query, keep_blank_values=True):
            given.setdefault(name, []).append(value)
        found = [f"parameter {name} is not specified" for name in given if name not in known]
        for name, values in given.items():
            if name in known:
                schema = self._resolved(known[name].get("schema", {}))
                read = [_typed(value, self._resolved(schema.get("items", {})) or schema) for value in values]
                wrong = self._wrong(schema, read if schema.get("type") == "array" else read[-1])
                found += [f"parameter {name} {one}" for one in wrong]
        content = operation.get("requestBody", {}).get("content", {})
        if not taken.request:
            return found + (["sends no body"] if operation.get("requestBody", {}).get("required") else [])
        kind = taken.kind.partition(";")[0]
        if kind not in content:
            return [*found, f"sends {kind or 'no content type'}, not {', '.join(content) or 'no body at all'}"]
        schema = self._resolved(content[kind]["schema"])
        body = json.loads(taken.request) if kind == "application/json" else self._form(schema, taken.request)
        return found + [f"sends {one}" for one in (*self._wrong(schema, body), *self._undeclared(schema, body))]

    def _form(self, schema: dict[str, Any], body: bytes) -> dict[str, Any]:
        properties = self._properties(schema)
        form: dict[str, Any] = {}
        for name, value in parse_qsl(body.decode(), keep_blank_values=True):
            own = self._resolved(properties.get(name, {}))
            if own.get("type") == "array":
                form.setdefault(name, []).append(value)
            else:
                form[name] = _typed(value, own)
        return form

    def _wrong(self, schema: dict[str, Any], value: object) -> list[str]:
        validator = Draft202012Validator(schema, registry=self._registry)
        return [f"{'.'.join(map(str, one.absolute_path))}: {one.message}" for one in validator.iter_errors(value)]

    def _undeclared(self, schema: dict[str, Any], value: object, at: str = "") -> Iterator[str]:
        """Fields that no schema declares: JSON Schema takes them for granted, and a reader of the specification never sees them."""
        schema = self._resolved(schema)
        if isinstance(value, list):
            for one in value:
                yield from self._undeclared(schema.get("items", {}), one, f"{at}[]")
        properties = self._properties(schema)
        if isinstance(value, dict) and properties:
            for name, one in value.items():
                if name in properties:
                    yield from self._undeclared(properties[name], one, f"{at}.{name}")
                elif not schema.get("additionalProperties"):
                    yield f"{at}.{name}, which is not specified"

    def _properties(self, schema: dict[str, Any]) -> dict[str, Any]:
        schema = self._resolved(schema)
        properties = dict(schema.get("properties", {}))
        for kind in ("allOf", "anyOf", "oneOf"):
            for one in schema.get(kind, ()):
                properties |= self._properties(one)
        discriminator = schema.get("discriminator", {}).get("propertyName")
        return {**properties, **({discriminator: {}} if discriminator and discriminator not in properties else {})}

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            target: Any = self.document
            for part in schema["$ref"].removeprefix(f"{_URI}#/").split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            schema = target
        return schema


def _as_json_schema(node: Any) -> Any:
    """An OpenAPI 3.0 document with schemas that JSON Schema reads: what may be null says so in its type, references are absolute."""
    if isinstance(node, list):
        return [_as_json_schema(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {str(name): _as_json_schema(value) for name, value in node.items()}
    if isinstance(made.get("$ref"), str):
        # So that it leads into the document wherever the schema that has it is judged.
        made["$ref"] = made["$ref"].replace("#", f"{_URI}#", 1)
    if made.get("nullable") is True:
        if isinstance(made.get("type"), str):
            made["type"] = [made["type"], "null"]
        if isinstance(made.get("enum"), list):
            made["enum"] = [*made["enum"], None]
    return made


def _typed(text: str, schema: dict[str, Any]) -> object:
    """A parameter's text as the type that its schema has."""
    kinds = schema.get("type", "string")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "integer" in kinds and re.fullmatch(r"-?\d+", text):
        return int(text)
    if "boolean" in kinds and text in {"true", "false"}:
        return text == "true"
    return text
