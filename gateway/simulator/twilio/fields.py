"""The forms of Twilio's webhooks."""

from __future__ import annotations

from gateway.simulator.plan import Step
from gateway.simulator.records import Message
from gateway.simulator.twilio.render import API_VERSION, error_code

__all__ = ["inbound_fields", "status_fields"]

_PLACES = ("City", "State", "Zip")


def status_fields(message: Message, step: Step) -> list[tuple[str, str]]:
    """The form of a status callback.

    https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks
    """
    fields = [
        ("SmsSid", message.sid),
        ("SmsStatus", step.status),
        ("MessageStatus", step.status),
        ("To", message.to),
        ("MessageSid", message.sid),
        ("AccountSid", message.account),
        ("ApiVersion", API_VERSION),
    ]
    sender = message.sender or message.pool_sender
    if sender:
        fields.append(("From", sender))
    if message.service:
        fields.append(("MessagingServiceSid", message.service))
    if step.code is not None:
        fields.append(("ErrorCode", str(error_code(step.code))))
    return fields


def inbound_fields(message: Message) -> list[tuple[str, str]]:
    """The form of an inbound webhook.

    https://www.twilio.com/docs/messaging/guides/webhook-request
    """
    fields = [("ToCountry", _country(message.to)), ("FromCountry", _country(message.sender or ""))]
    fields += [(f"{side}{place}", "") for side in ("To", "From") for place in _PLACES]
    fields += [
        ("SmsMessageSid", message.sid),
        ("NumMedia", "0"),
        ("SmsSid", message.sid),
        ("SmsStatus", "received"),
        ("Body", message.body),
        ("To", message.to),
        ("NumSegments", str(message.segments)),
        ("MessageSid", message.sid),
        ("AccountSid", message.account),
        ("From", message.sender or ""),
        ("ApiVersion", API_VERSION),
    ]
    if message.service:
        fields.append(("MessagingServiceSid", message.service))
    if message.opt_out_type:
        fields.append(("OptOutType", message.opt_out_type))
    return fields


def _country(number: str) -> str:
    return "US" if number.startswith("+1") else ""
