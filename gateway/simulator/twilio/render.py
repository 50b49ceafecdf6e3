"""The API's answers as JSON: a message with all the fields of the specification, and an error."""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Final

from gateway.simulator.records import Message

__all__ = ["API_VERSION", "ERROR_MESSAGES", "error_code", "error_json", "message_json"]

API_VERSION: Final = "2010-04-01"
_PRICE: Final = 0.0079

#: What `error_message` says of a message that did not arrive. https://www.twilio.com/docs/api/errors
ERROR_MESSAGES: Final = {
    30001: "Queue overflow",
    30003: "Unreachable destination handset",
    30004: "Message blocked",
    30005: "Unknown destination handset",
    30006: "Landline or unreachable carrier",
    30007: "Carrier violation",
    30008: "Unknown error",
    30036: "Validity Period Expired",
}


@lru_cache(maxsize=16)
def _date(second: int) -> str:
    return f'"{formatdate(second)[:-5]}+0000"'


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring_ascii(value)


def message_json(message: Message, now: float) -> str:
    """A Message resource as at ``now``: null, strings and RFC 2822 dates as the specification's examples have them."""
    step = message.step(now)
    sent_at = message.sent_at(now)
    pending = message.service is not None and sent_at is None
    updated_at = max(message.created_at, message.changed_at, 0 if message.plan is None else message.starts_at + step.after)
    uri = f"/{API_VERSION}/Accounts/{message.account}/Messages/{message.sid}"
    price = "null" if sent_at is None else f'"-{_PRICE * message.segments:.5f}"'
    feedback = "" if sent_at is None else f', "feedback": "{uri}/Feedback.json"'
    code = reason = "null"
    if step.code is not None:
        number = error_code(step.code)
        code, reason = str(number), _text(ERROR_MESSAGES.get(number, "Unknown error"))
    return (
        f'{{"body": {_text(message.body)}, "num_segments": "{0 if pending else message.segments}", '
        f'"direction": "{message.direction}", "from": {_text(message.pool_sender if sent_at and not message.sender else message.sender)}, '
        f'"date_updated": {_date(int(min(updated_at, now)))}, "price": {price}, "error_message": {reason}, '
        f'"uri": "{uri}.json", "account_sid": "{message.account}", "num_media": "0", "to": {_text(message.to)}, '
        f'"date_created": {_date(int(message.created_at))}, "status": "{step.status}", "sid": "{message.sid}", '
        f'"date_sent": {"null" if sent_at is None else _date(int(sent_at))}, "messaging_service_sid": {_text(message.service)}, '
        f'"error_code": {code}, "price_unit": "USD", "api_version": "{API_VERSION}", '
        f'"subresource_uris": {{"media": "{uri}/Media.json"{feedback}}}}}'
    )


def error_code(code: int | str) -> int:
    """A script's code as Twilio has it: what only RingCentral has words for is 30008, an unknown error."""
    return code if isinstance(code, int) else 30008


def error_json(status: int, code: int, message: str) -> bytes:
    """An error: exactly code, message, more_info and status."""
    return (
        f'{{"code": {code}, "message": {_text(message)}, "more_info": "https://www.twilio.com/docs/errors/{code}", '
        f'"status": {status}}}'
    ).encode()
