"""RingCentral's records of texts, of the message store and of high-volume (A2P) texts, read into one form. Pure functions.

https://developers.ringcentral.com/api-reference/Message-Store and https://developers.ringcentral.com/api-reference/High-Volume-SMS. Texts
of faults name a field and never its value.

A message is called ``sms:{id}`` by its record in the message store, and ``a2p:{batch's id}`` if it went out in a batch: the answer to the
batch names no other id, so that all its messages share it. What people sent to a high-volume number is ``a2p-in:{id}``, and what went
out otherwise ``a2p-out:{id}``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.domain.errors import GatewayError
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reports import InboundText, ListedText, ReportedState, StatusNews
from gateway.flow.provider import Copy
from gateway.providers.reading import PERSON, readable
from gateway.providers.ringcentral.errors import FILTERED, error_code

__all__ = ["BATCH_ID", "RECORD_ID", "BadRecord", "Record", "a2p_record", "store_record", "time_of"]

RECORD_ID: Final = re.compile(r"[1-9][0-9]{0,18}")
BATCH_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")

STATES: Final[dict[str, ReportedState]] = {
    "Sent": "sent",
    "Delivered": "delivered",
    "DeliveryFailed": "undelivered",
    "SendingFailed": "undelivered",
}
# "Informational": the carrier tells nothing of the delivery. It may have taken place.
UNTOLD: Final = frozenset({"SMS-CAR-104", "SMS-CAR-199"})


class BadRecord(GatewayError):
    """A record that cannot be read; the text names the field."""


@dataclass(frozen=True, slots=True)
class Record:
    """One text. ``name`` is our name for it; ``sender`` is None where no telephone number sent it."""

    name: str
    inbound: bool
    sender: PhoneNumber | None
    to: tuple[PhoneNumber, ...]
    body: MessageBody
    state: ReportedState | None
    code: str | None
    parts: int | None
    created_at: datetime | None

    @property
    def filtered(self) -> bool:
        """Whether somebody on the way filtered it out as spam."""
        return self.code in FILTERED

    def sent_by(self, sender: str) -> bool:
        """Whether this is a text of ours from this sender."""
        return not self.inbound and self.sender is not None and self.sender.reveal() == sender

    def reached(self, sender: str) -> bool:
        """Whether a person sent this to this sender of ours."""
        return self.inbound and self.sender is not None and any(to.reveal() == sender for to in self.to)

    def listed(self, to: PhoneNumber, sender: str) -> ListedText:
        """As evidence. Raises BadRecord when it has no time."""
        if self.created_at is None:
            raise BadRecord("a record has no time")
        return ListedText(self.name, to, sender, self.body, self.state, self.code, self.parts, self.created_at, self.filtered)

    def copy(self) -> Copy:
        """As what the provider has. Raises BadRecord when it has no time."""
        if self.created_at is None:
            raise BadRecord("a record has no time")
        return Copy(self.name, self.created_at, bool(self.body.reveal()))

    def news(self, account: str) -> list[StatusNews]:
        """What became of it."""
        return [StatusNews(account, self.name, to, self.state, self.code, self.filtered) for to in self.to]

    def text(self, account: str, to: str) -> InboundText:
        """As what a person sent."""
        if self.sender is None:
            raise BadRecord("a text has no sender")
        return InboundText(account, self.name, self.sender, to, None, self.body, None, self.created_at)


def store_record(said: object) -> Record:
    """A record of the message store. Raises BadRecord."""
    fields = _fields(said)
    to = fields.get("to")
    return _record(
        fields,
        name=f"sms:{_id(fields)}",
        sender=_party(fields.get("from")),
        to=[_party(one) for one in (to if isinstance(to, list) else [])],
        body=fields.get("subject"),
        code=fields.get("deliveryErrorCode"),
    )


def a2p_record(said: object) -> Record:
    """A record of a high-volume text. Raises BadRecord."""
    fields = _fields(said)
    inbound = fields.get("direction") == "Inbound"
    batch, to = fields.get("batchId"), fields.get("to")
    known = not inbound and isinstance(batch, str) and BATCH_ID.fullmatch(batch)
    return _record(
        fields,
        name=f"a2p:{batch}" if known else f"a2p-{'in' if inbound else 'out'}:{_id(fields)}",
        sender=fields.get("from"),
        to=to if isinstance(to, list) else [to],
        body=fields.get("text"),
        code=fields.get("errorCode"),
    )


def time_of(said: object) -> datetime | None:
    """A time in ISO 8601 with its zone, in UTC; None for anything else."""
    if not isinstance(said, str):
        return None
    try:
        time = datetime.fromisoformat(said)
        return None if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _record(fields: dict[str, object], *, name: str, sender: object, to: list[object], body: object, code: object) -> Record:
    if fields.get("direction") not in ("Inbound", "Outbound"):
        raise BadRecord("a record has no direction")
    numbers = [PhoneNumber(one) for one in to if isinstance(one, str) and PERSON.fullmatch(one)]
    parts, status = fields.get("segmentCount"), fields.get("messageStatus")
    known_code = error_code(code)
    state = STATES.get(status) if isinstance(status, str) else None
    return Record(
        name=name,
        inbound=fields["direction"] == "Inbound",
        sender=PhoneNumber(sender) if isinstance(sender, str) and PERSON.fullmatch(sender) else None,
        to=tuple(numbers),
        body=MessageBody(readable(body) if isinstance(body, str) else ""),
        state="sent" if state == "undelivered" and known_code in UNTOLD else state,
        code=known_code,
        parts=parts if isinstance(parts, int) and not isinstance(parts, bool) and parts > 0 else None,
        created_at=time_of(fields.get("creationTime")),
    )


def _fields(said: object) -> dict[str, object]:
    if not isinstance(said, dict):
        raise BadRecord("a record is no object")
    return said


def _id(fields: dict[str, object]) -> str:
    """A record's id: a number in some answers, the same number as a string in others."""
    said = fields.get("id")
    name = str(said) if isinstance(said, int | str) and not isinstance(said, bool) else ""
    if not RECORD_ID.fullmatch(name):
        raise BadRecord("a record has no id")
    return name


def _party(said: object) -> object:
    return said.get("phoneNumber") if isinstance(said, dict) else None
