"""Twilio's webhooks: is it Twilio's signature, and what does the form say? Pure functions.

https://www.twilio.com/docs/usage/webhooks/webhooks-security and
https://www.twilio.com/docs/messaging/guides/webhook-request. Parameters are added to webhooks without notice: unknown ones are
left alone. Texts of faults name a field and never its value.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import TYPE_CHECKING, Final, cast, get_args
from urllib.parse import urlsplit

from gateway.domain.errors import BadWebhook
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reports import InboundText, OptOutType, Receipt, ReportedState
from gateway.providers.reading import PERSON, readable
from gateway.providers.twilio.errors import FILTERED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from uuid import UUID

__all__ = [
    "MESSAGE_SID",
    "SERVICE_SID",
    "STATES",
    "form_is_signed",
    "inbound_of",
    "receipt_of",
]

MESSAGE_SID: Final = re.compile(r"(?:SM|MM)[0-9a-fA-F]{32}")
SERVICE_SID: Final = re.compile(r"MG[0-9a-fA-F]{32}")
ERROR_CODE: Final = re.compile(r"[1-9][0-9]{0,8}")
OPT_OUT_TYPES: Final = frozenset(get_args(OptOutType))

# What is not here (queued, accepted, scheduled, sending, and words that Twilio may add) is no news. ``canceled`` ends a message
# that Twilio had accepted and will not deliver. https://www.twilio.com/docs/messaging/api/message-resource#message-status-values
STATES: Final[dict[str, ReportedState]] = {
    "sent": "sent",
    "partially_delivered": "sent",
    "delivered": "delivered",
    "read": "delivered",
    "undelivered": "undelivered",
    "failed": "undelivered",
    "canceled": "undelivered",
}


def form_is_signed(auth_token: str, url: str, form: Iterable[tuple[str, str]], signature: str) -> bool:
    """Whether Twilio signed this form for this public URL: HMAC-SHA1 over the URL and every name with its values, all sorted."""
    text = "".join(f"{name}{value}" for name, value in sorted(set(form)))
    claimed = signature.encode("utf-8", "replace")
    return any(hmac.compare_digest(_signature(auth_token, known_as + text), claimed) for known_as in _names_of(url))


def inbound_of(account: str, account_sid: str, form: Sequence[tuple[str, str]]) -> InboundText:
    """The text that a person sent to us.

    Raises BadWebhook when a needed field is missing or malformed, when it is another account's, and when the sender is no
    telephone number in E.164 form (a short code, a name, another channel's address): that is no person who could opt out, and
    nobody to answer.
    """
    fields = _fields(form, account_sid)
    sender = _needed(fields, "From")
    if not PERSON.fullmatch(sender):
        raise BadWebhook("inbound text: From is not a telephone number in E.164 form")
    to = _needed(fields, "To")
    if not to.isprintable():
        raise BadWebhook("inbound text: To holds what no address has")
    service = fields.get("MessagingServiceSid", "")
    opt_out = fields.get("OptOutType", "").upper()
    return InboundText(
        account=account,
        provider_message_id=_message_sid(fields),
        sender=PhoneNumber(sender),
        to=to,
        service=service if SERVICE_SID.fullmatch(service) else None,
        body=MessageBody(readable(_needed(fields, "Body", empty=True))),
        replied=cast("OptOutType", opt_out) if opt_out in OPT_OUT_TYPES else None,
        created_at=None,
    )


def receipt_of(account: str, account_sid: str, form: Sequence[tuple[str, str]], uid: UUID, attempt: int) -> Receipt:
    """What a status callback reports of one attempt. Raises BadWebhook as :func:`inbound_of` does."""
    fields = _fields(form, account_sid)
    code = fields.get("ErrorCode", "")
    return Receipt(
        account=account,
        uid=uid,
        attempt=attempt,
        provider_message_id=_message_sid(fields),
        state=STATES.get(_needed(fields, "MessageStatus").lower()),
        code=code if ERROR_CODE.fullmatch(code) else None,
        filtered=code in FILTERED,
    )


def _signature(auth_token: str, text: str) -> bytes:
    return base64.b64encode(hmac.digest(auth_token.encode(), text.encode("utf-8", "replace"), "sha1"))


def _names_of(url: str) -> Iterator[str]:
    """The URL as it is, without its port and with it: Twilio signs one or the other, and its SDKs accept all."""
    whole = url.partition("#")[0]
    yield whole
    try:
        parts = urlsplit(whole)
        port = parts.port
    except ValueError:
        return
    if port is None:
        yield parts._replace(netloc=f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}").geturl()
    else:
        yield parts._replace(netloc=parts.netloc.rpartition(":")[0]).geturl()


def _fields(form: Sequence[tuple[str, str]], account_sid: str) -> dict[str, str]:
    fields = dict(form)
    if len(fields) < len(form) and len(set(form)) > len(fields):
        raise BadWebhook("webhook: a field stands twice with different values")
    if _needed(fields, "AccountSid") != account_sid:
        raise BadWebhook("webhook: AccountSid is not this account's")
    return fields


def _needed(fields: dict[str, str], name: str, *, empty: bool = False) -> str:
    value = fields.get(name)
    if value is None or not (value or empty):
        raise BadWebhook(f"webhook: {name} is missing")
    return value


def _message_sid(fields: dict[str, str]) -> str:
    sid = _needed(fields, "MessageSid")
    if not MESSAGE_SID.fullmatch(sid):
        raise BadWebhook("webhook: MessageSid is not a message's id")
    return sid
