"""Keeps personal data out of what is written for operators, also where a library or a mistake put it there."""

from __future__ import annotations

import re
import traceback
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final
from uuid import UUID

from gateway.domain.errors import GatewayError
from gateway.domain.personal import Personal

__all__ = ["describe_exception", "hide_numbers", "hide_personal"]

HIDDEN: Final = "•••"
_MOST_FRAMES: Final = 30
_DEEPEST: Final = 6

# A plus sign (or its form in a URL) and at least seven digits, with what people write between them.
_NUMBER = re.compile(r"(?:\+|%2[Bb])\s?\(?\d(?:[\s().\-/]{0,2}\d){6,}")


def hide_numbers(text: str) -> str:
    """The text with everything that looks like a telephone number hidden."""
    return _NUMBER.sub(HIDDEN, text) if "+" in text or "%2" in text else text


def hide_personal(value: object, depth: int = 0) -> Any:
    """A copy of a log entry's value in which personal types and numbers are hidden; what is unknown shows its type alone.

    An exception shows its type, and its text only when it is a :class:`GatewayError`.
    """
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return hide_numbers(value)
        case Personal():
            return HIDDEN
        case BaseException():
            return _named(value)
        case dict() if depth < _DEEPEST:
            return {hide_numbers(str(key)): hide_personal(held, depth + 1) for key, held in value.items()}
        case list() | tuple() | set() | frozenset() if depth < _DEEPEST:
            return [hide_personal(held, depth + 1) for held in value]
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case type():
            return f"{value.__module__}.{value.__qualname__}"
        case UUID() | PurePath() | date() | timedelta() | Decimal() | Enum():
            return hide_numbers(str(value))
        case _:  # a record of ours, or a library's, would say all that it holds
            return f"<{type(value).__qualname__}>"


def describe_exception(fault: BaseException) -> dict[str, Any]:
    """Where a fault came from, without what it says: its type, the lines it passed and the faults behind it.

    The texts of foreign exceptions hold values (a UniqueViolation its key, a ValueError its input), so that only a
    :class:`GatewayError` shows its own, and then no lines: it names what a person can act on.
    """
    if isinstance(fault, GatewayError):
        return {"error": type(fault).__qualname__, "message": hide_numbers(str(fault))}
    described: dict[str, Any] = {"error": _name(fault), "frames": _frames(fault.__traceback__)}
    behind, seen = _behind(fault), {id(fault)}
    causes: list[dict[str, Any]] = []
    while behind is not None and id(behind) not in seen and len(causes) < _DEEPEST:
        seen.add(id(behind))
        causes.append({"error": _named(behind), "frames": _frames(behind.__traceback__)})
        behind = _behind(behind)
    if causes:
        described["causes"] = causes
    if isinstance(fault, BaseExceptionGroup):
        described["group"] = [describe_exception(part) for part in fault.exceptions[:_DEEPEST]]
    return described


def _behind(fault: BaseException) -> BaseException | None:
    return fault.__cause__ or (None if fault.__suppress_context__ else fault.__context__)


def _name(fault: BaseException) -> str:
    kind = type(fault)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _named(fault: BaseException) -> str:
    return f"{_name(fault)}: {hide_numbers(str(fault))}" if isinstance(fault, GatewayError) else _name(fault)


def _frames(trace: TracebackType | None) -> list[str]:
    lines = [f"{frame.f_globals.get('__name__', '?')}:{line} {frame.f_code.co_name}" for frame, line in traceback.walk_tb(trace)]
    return lines[-_MOST_FRAMES:]
