"""Whether everything that one JSON Schema allows another allows too, for the part of JSON Schema that our models use.

In doubt the answer is no: a keyword that is not compared here and differs is a break.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Break", "breaks"]

Schema = Mapping[str, Any]

_SAYS_NOTHING: Final = frozenset({"$schema", "$id", "$defs", "title", "description", "default", "examples", "x-extensible-enum"})
_AT_MOST: Final = ("maxLength", "maxItems", "maxProperties", "maximum", "exclusiveMaximum")
_AT_LEAST: Final = ("minLength", "minItems", "minProperties", "minimum", "exclusiveMinimum")
_COMPARED: Final = frozenset(
    {"$ref", "anyOf", "type", "enum", "const", "properties", "required", "additionalProperties", "items", "propertyNames"}
    | {*_AT_MOST, *_AT_LEAST},
)


@dataclass(frozen=True, slots=True)
class Break:
    """What a reader could meet and not take: in which event, at which field, and what."""

    event: str
    field: str
    what: str

    def __str__(self) -> str:
        return f"{self.event}: {self.field or 'the event'}: {self.what}"


def breaks(event: str, *, writer: Schema, reader: Schema) -> list[Break]:
    """Each thing that ``writer`` allows and ``reader`` does not; none when the reader takes all that the writer may write."""
    return [Break(event, field, what) for field, what in _Comparison(writer, reader).differences(writer, reader, "", 0)]


class _Comparison:
    def __init__(self, writer: Schema, reader: Schema) -> None:
        self._writer_root = writer
        self._reader_root = reader

    def differences(self, writer: Schema, reader: Schema, field: str, depth: int) -> Iterator[tuple[str, str]]:
        writer, reader = _resolved(writer, self._writer_root), _resolved(reader, self._reader_root)
        if depth > 20 or writer == reader == {}:
            return
        options = _options(writer)
        taken = _options(reader)
        if len(options) > 1 or len(taken) > 1:
            for option in options:
                why = [list(self.differences(option, one, field, depth + 1)) for one in taken]
                if all(why):  # no option of the reader's takes it
                    yield min(why, key=len)[0] if len(taken) == 1 else (field, f"{_named(option)} is written and not read")
            return
        yield from self._plain(options[0], taken[0], field, depth)

    def _plain(self, writer: Schema, reader: Schema, field: str, depth: int) -> Iterator[tuple[str, str]]:
        if "type" in reader and (written := _types(writer)) - _types(reader):
            yield field, f"{' or '.join(sorted(written))} is written, {' or '.join(sorted(_types(reader)))} is read"
            return
        yield from self._values(writer, reader, field)
        yield from _bounds(writer, reader, field)
        if "object" in _types(writer):
            yield from self._object(writer, reader, field, depth)
        if "items" in reader:
            yield from self.differences(writer.get("items", {}), reader["items"], f"{field}[]", depth + 1)
        for keyword in sorted((writer.keys() | reader.keys()) - _COMPARED - _SAYS_NOTHING):
            if keyword in reader and writer.get(keyword) != reader[keyword]:
                yield field, f"{keyword} is not the same"

    def _values(self, writer: Schema, reader: Schema, field: str) -> Iterator[tuple[str, str]]:
        taken = _values(reader)
        if taken is None:
            return
        written = _values(writer)
        if written is None:
            yield field, "only some values are read, and any is written"
        elif not reader.get("x-extensible-enum") and (more := [value for value in written if value not in taken]):
            yield field, f"{', '.join(map(str, more))} may be written and is not read"

    def _object(self, writer: Schema, reader: Schema, field: str, depth: int) -> Iterator[tuple[str, str]]:
        written, read = writer.get("properties", {}), reader.get("properties", {})
        always = set(writer.get("required", ()))
        for name in sorted(set(reader.get("required", ())) - always):
            yield _below(field, name), "is needed and not always written" if name in written else "is needed and never written"
        open_to = reader.get("additionalProperties", True)
        for name, schema in written.items():
            if name in read:
                yield from self.differences(schema, read[name], _below(field, name), depth + 1)
            elif open_to is False:
                yield _below(field, name), "is written and not known to the reader"
            elif isinstance(open_to, Mapping):
                yield from self.differences(schema, open_to, _below(field, name), depth + 1)
        if "propertyNames" in reader:
            yield from self.differences(
                writer.get("propertyNames", {}), reader["propertyNames"], _below(field, "(names)"), depth + 1
            )
        others = writer.get("additionalProperties", True)
        if others is False or open_to is True:
            return
        if open_to is False:
            yield field, "any further fields are written and none are read"
        else:
            yield from self.differences(others if isinstance(others, Mapping) else {}, open_to, _below(field, "*"), depth + 1)


def _resolved(schema: Schema, root: Schema) -> Schema:
    for _ in range(10):
        if "$ref" not in schema:
            return schema
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def _options(schema: Schema) -> list[Schema]:
    options: list[Schema] = schema.get("anyOf", [schema])
    return options


def _types(schema: Schema) -> set[str]:
    said = schema.get("type")
    if said is None:
        return {"any type"} if _values(schema) is None else {_type_of(value) for value in _values(schema) or ()}
    types = {said} if isinstance(said, str) else set(said)
    return types | {"integer"} if "number" in types else types


def _type_of(value: object) -> str:
    return (
        "boolean" if isinstance(value, bool) else "integer" if isinstance(value, int) else "null" if value is None else "string"
    )


def _values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values: list[Any] | None = schema.get("enum")
    return values


def _bounds(writer: Schema, reader: Schema, field: str) -> Iterator[tuple[str, str]]:
    for keywords, wider in ((_AT_MOST, operator.gt), (_AT_LEAST, operator.lt)):
        for keyword in keywords:
            bound = reader.get(keyword)
            if bound is None or (keyword in {"minLength", "minItems", "minProperties"} and bound == 0):
                continue
            if keyword not in writer or wider(writer[keyword], bound):
                yield field, f"{keyword} is {bound} for the reader and {writer.get(keyword, 'unbounded')} for the writer"


def _named(schema: Schema) -> str:
    return " or ".join(sorted(_types(schema)))


def _below(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name
