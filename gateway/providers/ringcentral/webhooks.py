"""RingCentral's webhooks: is it a handshake, does it show our token, and what does it speak of? Pure functions.

https://developers.ringcentral.com/guide/notifications/webhooks/creating-webhooks. They are not signed: all that speaks for one is the
verification token, which the subscription was told. So nothing in an event is believed but ids and numbers, to ask RingCentral about.
Texts of faults name a field and never its value.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.domain.errors import BadWebhook
from gateway.domain.payloads import NotJSON, parse_json
from gateway.domain.personal import PhoneNumber
from gateway.domain.webhooks import Handshake
from gateway.providers.reading import PERSON
from gateway.providers.ringcentral.records import BATCH_ID, RECORD_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Asked", "Consents", "Event", "Inbound", "Outbound", "asked_for", "event_of", "filters", "handshake_of", "shows"]

_TOKEN: Final = re.compile(r"[!-~]{1,512}")  # the whole answer to a handshake may have 1024 bytes
_MOST: Final = 20  # numbers and ids of one event: RingCentral sends one, and searches for no more at once

# What an event is about, without its query; the ids in the path are the account's and the extension's.
_STORE: Final = re.compile(r"/restapi/v1\.0/account/[^/?]+/extension/[^/?]+/message-store(/instant)?")
_A2P: Final = re.compile(r"/restapi/v1\.0/account/[^/?]+/a2p-sms/messages")
_CONSENTS: Final = re.compile(r"/restapi/v2/accounts/[^/?]+/sms/consents")
_OWN_ID: Final = re.compile(r"/(accounts?|extension)/[0-9]+(?=/)")


@dataclass(frozen=True, slots=True)
class Inbound:
    """A person sent a text, and this is its record."""

    record_id: str


@dataclass(frozen=True, slots=True)
class Outbound:
    """Something became of these: a batch's messages, one record, or, without an id, the newest that went out."""

    batch_id: str | None = None
    record_id: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A person and a sender of ours."""

    sender: PhoneNumber
    to: PhoneNumber


@dataclass(frozen=True, slots=True)
class Consents:
    """These people's opt-outs changed, or came to be; so many more were named of which no pair can be read."""

    pairs: tuple[Asked, ...]
    passed_over: int = 0


Event = Inbound | Outbound | Consents


def filters(*, high_volume: bool) -> tuple[str, ...]:
    """What the subscription is for: inbound texts, what became of ours, and opt-outs."""
    account = "/restapi/v1.0/account/~"
    texts = (
        (f"{account}/a2p-sms/messages?direction=Inbound", f"{account}/a2p-sms/messages?direction=Outbound")
        if high_volume
        else (
            f"{account}/extension/~/message-store/instant?type=SMS",
            f"{account}/extension/~/message-store?type=SMS&direction=Outbound",
        )
    )
    return (*texts, "/restapi/v2/accounts/~/sms/consents")


def asked_for(said: object) -> frozenset[str]:
    """Filters as RingCentral shows them in a subscription, which has our own ids in place of ``~``, as we wrote them."""
    return (
        frozenset(_OWN_ID.sub(r"/\1/~", one) for one in said if isinstance(one, str)) if isinstance(said, list) else frozenset()
    )


def handshake_of(headers: Mapping[str, str], body: bytes) -> Handshake | None:
    """The answer to a handshake; None for what is none. It comes when a subscription is made, and its body is empty."""
    token = headers.get("validation-token", "")
    if body.strip() or not _TOKEN.fullmatch(token):
        return None
    # Without a type the answer is refused, although it is empty (SUB-525).
    return Handshake({"validation-token": token, "content-type": "application/json"})


def shows(headers: Mapping[str, str], verification_token: str) -> bool:
    """Whether a webhook shows our verification token."""
    shown = headers.get("verification-token", "")
    return hmac.compare_digest(shown.encode("utf-8", "replace"), verification_token.encode())


def event_of(body: bytes) -> Event | None:
    """What an event speaks of; None for a kind that is not ours, as RingCentral may add some. Raises BadWebhook."""
    try:
        envelope = parse_json(body)
    except NotJSON:
        raise BadWebhook("webhook: the body is not JSON") from None
    if not isinstance(envelope, dict) or not isinstance(envelope.get("event"), str):
        raise BadWebhook("webhook: event is missing")
    what = envelope["event"].partition("?")[0]
    if _CONSENTS.fullmatch(what):
        return _consents(_content(envelope))
    if _A2P.fullmatch(what):
        fields = _content(envelope)
        record_id = _record_id(fields)
        if fields.get("direction") == "Inbound":
            return Inbound(record_id)
        batch = fields.get("batchId")
        if isinstance(batch, str) and BATCH_ID.fullmatch(batch):
            return Outbound(batch_id=batch)
        return Outbound(record_id=record_id)
    if store := _STORE.fullmatch(what):
        fields = _content(envelope)
        return Inbound(_record_id(fields)) if store[1] else Outbound()
    return None


def _content(envelope: dict[str, object]) -> dict[str, object]:
    content = envelope.get("body")
    if not isinstance(content, dict):
        raise BadWebhook("webhook: body is missing")
    return content


def _record_id(fields: dict[str, object]) -> str:
    said = fields.get("id")
    name = str(said) if isinstance(said, int | str) and not isinstance(said, bool) else ""
    if not RECORD_ID.fullmatch(name):
        raise BadWebhook("webhook: id is not a record's id")
    return name


def _consents(fields: dict[str, object]) -> Consents:
    records = fields.get("records")
    if not isinstance(records, list):
        raise BadWebhook("webhook: records is missing")
    pairs = []
    for record in records[:_MOST]:
        sender, to = (record.get("from"), record.get("to")) if isinstance(record, dict) else (None, None)
        if isinstance(sender, str) and isinstance(to, str) and PERSON.fullmatch(sender) and PERSON.fullmatch(to):
            pairs.append(Asked(PhoneNumber(sender), PhoneNumber(to)))
    if not pairs:
        raise BadWebhook("webhook: records holds no pair of numbers")
    return Consents(tuple(pairs), passed_over=len(records[:_MOST]) - len(pairs))
