"""The tables of docs/events.md, made from the models and lists that they describe."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.domain import errors, reasons
from gateway.domain.schemas import current

__all__ = ["filled", "tables"]

_ROW: Final = re.compile(r'^    (?:[A-Z_]+ = )?"([a-z0-9_]+)",?  # (.+)$', re.MULTILINE)
_PLACE: Final = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables() -> dict[str, str]:
    """Markdown tables by name: the fields of each event type, of ``OptInProof``, and the lists ``reasons``, ``dead_letters`` and ``not_allowed``."""
    found = {}
    for event_type, schema in current().items():
        found[event_type] = _fields(schema, schema.get("$defs", {}))
        if "OptInProof" in schema.get("$defs", {}):
            found["OptInProof"] = _fields(schema["$defs"]["OptInProof"], {})
    found["reasons"] = _list("reason", inspect.getsource(reasons.Reason))
    found["dead_letters"] = _list("reason", _literal("DeadLetterReason"))
    found["not_allowed"] = _list("why", _literal("NotAllowedWhy"))
    return found


def _literal(name: str) -> str:
    """The source of a list of ``gateway.domain.errors``."""
    return inspect.getsource(errors).split(f"{name} = ")[1].split("\n]\n")[0]


def filled(document: str) -> str:
    """The document with each table between ``<!-- table: NAME -->`` and ``<!-- end -->`` as it is today. ``KeyError`` for an unknown name."""
    today = tables()
    return _PLACE.sub(lambda place: place[1] + today[place[2]] + place[3], document)


def _fields(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    needed = set(schema.get("required", ()))
    rows = [
        (f"`{name}`", "yes" if name in needed else "", _kind(field, parts), field.get("description", ""))
        for name, field in schema["properties"].items()
    ]
    return _table(("field", "always", "is", "what it says"), rows)


def _kind(field: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_kind(option, parts) for option in field["anyOf"])
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        return _kind(parts[name], parts) if "enum" in parts.get(name, {}) and len(parts[name]["enum"]) < 8 else name
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"]) if len(field["enum"]) <= 10 else "one of a list"
    if field.get("format"):
        return str(field["format"])
    bound = field.get("maxLength") or field.get("maxItems") or field.get("maxProperties")
    return f"{field['type']}, at most {bound:,}" if bound else str(field["type"])


def _list(head: str, source: str) -> str:
    return _table((head, "what it says"), ((f"`{name}`", said) for name, said in _ROW.findall(source)))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)
