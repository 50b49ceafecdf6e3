"""What RingCentral refuses of a request to send."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.simulator.ringcentral.account import RingCentralState
from gateway.simulator.ringcentral.errors import Fault, parameter

__all__ = ["Asked", "BatchAsked", "read_batch", "read_sms"]

_E164: Final = re.compile(r"\+[1-9]\d{6,14}")
_NORTH_AMERICA: Final = re.compile(r"\+1[2-9]\d{9}")
_LONGEST: Final = 1000  # UTF-16 units


@dataclass(frozen=True, slots=True)
class Asked:
    """One message that was asked for; ``rejected`` says why it can't be sent, where that is plain at once."""

    to: str = field(repr=False)
    text: str = field(repr=False)
    rejected: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class BatchAsked:
    """A batch that was asked for."""

    sender: str = field(repr=False)
    messages: list[Asked]


def read_sms(body: object, state: RingCentralState) -> tuple[str, Asked] | Fault:
    """The sender and the message of a request to send a single SMS, or what is wrong with it."""
    if not isinstance(body, dict):
        return Fault(400, "CMN-103", "JSON can't be parsed")
    sender, people, text = _number(body.get("from")), body.get("to"), body.get("text")
    if sender is None:
        return parameter("from.phoneNumber")
    to = _number(people[0]) if isinstance(people, list) and len(people) == 1 else None
    if to is None or not _E164.fullmatch(to):
        return parameter("to.phoneNumber")
    if not isinstance(text, str) or not text or _units(text) > _LONGEST:
        return parameter("text")
    settings = state.settings
    if not state.is_single(sender):
        if sender in settings.a2p_senders:
            return Fault(403, "MSG-242", "Sending SMS is not available from the number specified.")
        return Fault(400, "MSG-245", "Cannot find the phone number which belongs to user", "from.phoneNumber")
    if not _NORTH_AMERICA.fullmatch(to):
        return Fault(403, "MSG-240", f"Specified recipient [{to}] isn't an US phone number", "to.phoneNumber")
    return sender, Asked(to, text)


def read_batch(body: object, state: RingCentralState) -> BatchAsked | Fault:
    """A batch, or what is wrong with the whole of it."""
    if not isinstance(body, dict):
        return Fault(400, "CMN-103", "JSON can't be parsed")
    sender, text, given = body.get("from"), body.get("text"), body.get("messages")
    if not isinstance(sender, str) or not _E164.fullmatch(sender) or not state.is_a2p(sender):
        return parameter("from")
    if not isinstance(given, list) or not given:
        return parameter("messages")
    if text is not None and not isinstance(text, str):
        return parameter("text")
    messages: list[Asked] = []
    for one in given:
        read = _batch_message(one, text)
        if isinstance(read, Fault):
            return read
        messages.append(read)
    return BatchAsked(sender, messages)


def _batch_message(one: Any, common: str | None) -> Asked | Fault:
    people = one.get("to") if isinstance(one, dict) else None
    if not isinstance(people, list) or len(people) != 1 or not isinstance(people[0], str):
        return parameter("messages.to")
    text = one.get("text", common)
    if not isinstance(text, str) or not text or _units(text) > _LONGEST:
        return parameter("messages.text" if "text" in one else "text")
    rejected = None if _NORTH_AMERICA.fullmatch(people[0]) else ("SMS-RC-410", "The recipient number is invalid")
    return Asked(people[0], text, rejected)


def _number(party: object) -> str | None:
    number = party.get("phoneNumber") if isinstance(party, dict) else None
    return number if isinstance(number, str) else None


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
