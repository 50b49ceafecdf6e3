"""Bytes to events: what cannot be read is refused with a reason, and never shows what it held."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.domain.errors import BadEvent, DeadLetterReason
from gateway.domain.events import OptInProof, OutboundMessage

__all__ = ["LONGEST_EVENT", "check_text", "one_key_each", "read_message"]

LONGEST_EVENT: Final = 262_144
"""Bytes of an event, 256 KiB: a longer one is not read."""

_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_FIELDS: Final = frozenset({*OutboundMessage.model_fields, *OptInProof.model_fields})
_FIELD_LIKE = re.compile(r"[A-Za-z][A-Za-z_]{0,31}")
_POSITION = re.compile(r"at line \d+ column \d+")
_validate = OutboundMessage.__pydantic_validator__.validate_json


class _KeyTwice(ValueError):
    """A key stands twice in one object; it is not kept, for it may be personal."""


def one_key_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For ``json.loads``: an object in which no key stands twice. ``ValueError`` when one does; readers differ in which they take."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _KeyTwice("a key stands twice in an object")
    return found


_decode = json.JSONDecoder(object_pairs_hook=one_key_each).decode


def read_message(data: bytes) -> OutboundMessage:
    """The message that an event's data holds. :class:`BadEvent` names the field and what is wrong with it, and nothing that it held."""
    text = check_text(data)
    fault: BadEvent
    try:
        message: OutboundMessage = _validate(data)
        _decode(text)
    except ValidationError as error:
        fault = _fault(error)
    except ValueError as error:
        fault = BadEvent("not_json", str(error) if isinstance(error, _KeyTwice) else "not JSON")
    else:
        return message
    raise fault  # outside the handler: a traceback would show the library's error, and that holds the event


def check_text(data: bytes) -> str:
    """The text of an event that is not too long, is UTF-8 and holds no NUL, plain or escaped; else :class:`BadEvent`."""
    if len(data) > LONGEST_EVENT:
        raise BadEvent("too_large", f"{len(data)} bytes; at most {LONGEST_EVENT} are read")
    text = None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        place = error.start
    else:
        place = 0
    if text is None:
        raise BadEvent("not_utf8", f"not UTF-8 at byte {place}")
    if b"\0" in data or (b"\\u0000" in data and _ESCAPED_NUL.search(data)):
        raise BadEvent("nul", "a NUL character")
    return text


def _fault(error: ValidationError) -> BadEvent:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    reason: DeadLetterReason = "wrong_schema"
    if faults[0]["type"] == "json_invalid":
        said = faults[0]["msg"]
        reason = "not_utf8" if "surrogate" in said or "hex escape" in said else "not_json"
        position = _POSITION.search(said)
        what = "half of a surrogate pair, or a broken escape" if reason == "not_utf8" else "not JSON"
        return BadEvent(reason, f"{what} {position.group()}" if position else what)
    more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
    return BadEvent(reason, "; ".join(map(_described, faults[:3])) + more)


def _described(fault: ErrorDetails) -> str:
    """The field's name and the rule it breaks. Names that the producer made up, as metadata's keys, are not shown: they may be personal."""
    path = [_shown(step, inside=index > 0) for index, step in enumerate(fault["loc"]) if step != "[key]"]
    if fault["type"] == "extra_forbidden":
        return f"{'.'.join(path)}: no field of this event"
    if fault["type"] == "missing":
        return f"{'.'.join(path)}: is missing"
    return f"{'.'.join(path) or 'the event'}: {fault['msg'][:120]}"


def _shown(step: str | int, *, inside: bool) -> str:
    if isinstance(step, int):
        return str(step)
    return step if step in _FIELDS or (not inside and _FIELD_LIKE.fullmatch(step)) else "…"
