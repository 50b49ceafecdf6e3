"""A STOP in the spool: all that is needed to apply it, without a number and without what was texted."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.reports import OptOutType

__all__ = ["SpooledStop", "SpooledText", "decode", "encode"]

_VERSION: Final = 1
_SOURCES: Final = ("text", "api", "cli")


@dataclass(frozen=True, slots=True)
class SpooledText:
    """The text that said it: ``word`` is the known word, ``sender_sealed`` the number, for the confirmation alone; None without one."""

    account: str
    provider_message_id: str
    to: str
    service: str | None
    word: str
    replied: OptOutType | None
    sender_sealed: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class SpooledStop:
    """An opt-out of one person for every key. ``event_id`` carries the writer's time; ``ring`` tells by which key ring people are hashed."""

    event_id: UUID
    ring: str
    source: Literal["text", "api", "cli"]
    actor: str
    keys: tuple[ConsentKey, ...]
    text: SpooledText | None = None


def encode(stop: SpooledStop) -> bytes:
    """A record of the spool, as JSON."""
    text = stop.text
    record: dict[str, Any] = {
        "v": _VERSION,
        "id": str(stop.event_id),
        "ring": stop.ring,
        "source": stop.source,
        "actor": stop.actor,
        "subject": stop.keys[0].subject_id.hex(),
        "reach": [[key.tenant, key.scope, key.name] for key in stop.keys],
    }
    if text is not None:
        sealed = text.sender_sealed.hex() if text.sender_sealed is not None else None
        record["text"] = [text.account, text.provider_message_id, text.to, text.service, text.word, text.replied, sealed]
    return json.dumps(record, separators=(",", ":")).encode()


def decode(record: bytes | None) -> SpooledStop:
    """The inverse of :func:`encode`. ValueError, whose text holds nothing of the record, when it is none of ours."""
    try:
        return _stop(json.loads(record or b""))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("not a spooled STOP") from None


def _stop(found: Any) -> SpooledStop:
    subject_id = bytes.fromhex(found["subject"])
    keys = tuple(ConsentKey(subject_id, str(tenant), Scope(scope), str(name)) for tenant, scope, name in found["reach"])
    if found["v"] != _VERSION or found["source"] not in _SOURCES or not keys or not subject_id:
        raise ValueError("not of this version")
    text = _text(*found["text"]) if "text" in found else None
    return SpooledStop(UUID(found["id"]), str(found["ring"]), found["source"], str(found["actor"]), keys, text)


def _text(
    account: str, message_id: str, to: str, service: str | None, word: str, replied: OptOutType | None, sealed: str | None
) -> SpooledText:
    if not all(isinstance(one, str) and one for one in (account, message_id, to, word)):
        raise ValueError("a field of the text is missing")
    return SpooledText(account, message_id, to, service, word, replied, bytes.fromhex(sealed) if sealed is not None else None)
