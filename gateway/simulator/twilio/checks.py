"""What Twilio refuses in a create request, and the numbers that its test credentials answer to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from gateway.simulator.twilio.account import TwilioState

__all__ = ["TEST_FROM", "TEST_TO", "Refusal", "check", "read_send_at"]

_E164: Final = re.compile(r"\+[1-9]\d{6,14}")
_SENDER: Final = re.compile(r"\+[1-9]\d{6,14}|\d{3,8}|(?=[^a-zA-Z]*[a-zA-Z])[a-zA-Z0-9 &+_-]{1,11}")
_SERVICE: Final = re.compile(r"MG[0-9a-fA-F]{32}")
_URL: Final = re.compile(r"https?://([^/?#\s]*)[!-~]*")
_BODY_LIMIT: Final = 1600
_LONGEST_VALIDITY: Final = 36_000
_EARLIEST: Final = 15 * 60
_LATEST: Final = 35 * 24 * 3600

#: The numbers of Twilio's test credentials, with the error that each gives. They hold for every account of the simulator.
#: https://www.twilio.com/docs/iam/test-credentials
TEST_FROM: Final = {"+15005550001": 21212, "+15005550006": None, "+15005550007": 21606, "+15005550008": 21611}
TEST_TO: Final = {
    "+15005550001": 21211, "+15005550002": 21612, "+15005550003": 21408, "+15005550004": 21610, "+15005550009": 21614,
}  # fmt: skip

#: The words of each error as Twilio puts them, numbers included: a gateway that logs them leaks.
_WORDS: Final = {
    20008: "Resource not accessible with Test Account Credentials",
    21211: "Invalid 'To' Phone Number: {to}",
    21212: "The 'From' number {sender} is not a valid phone number, shortcode, or alphanumeric sender ID.",
    21408: "Permission to send an SMS has not been enabled for the region indicated by the 'To' number: {to}.",
    21602: "Message body is required.",
    21603: "A 'From' phone number is required.",
    21604: "A 'To' phone number is required.",
    21606: "The 'From' phone number provided ({sender}) is not a valid message-capable Twilio phone number for this destination/account",
    21609: "The 'StatusCallback' URL {callback} is not a valid URL.",
    21610: "Attempt to send to unsubscribed recipient",
    21611: "This 'From' number {sender} has exceeded the maximum number of queued messages",
    21612: "The 'To' phone number: {to}, is not currently reachable using the 'From' phone number: {sender} via SMS.",
    21614: "'To' number: {to}, is not a valid mobile number",
    21617: "The concatenated message body exceeds the 1600 character limit",
    21701: "The Messaging Service with Sid {service} does not exist",
    30029: "Invalid ContentRetention: the account is not enabled for message redaction",
    30030: "Invalid AddressRetention: the account is not enabled for message redaction",
    35114: "Scheduling does not support this timestamp",
    90007: "Invalid validity period value",
    90014: "Validity Period should be positive integer",
}
_STATUS: Final = {20008: 403, 21611: 429}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error of the API."""

    status: int
    code: int
    message: str = field(repr=False)


def check(form: dict[str, str], state: TwilioState, now: float) -> Refusal | None:
    """What is wrong with a create request, if anything; ``now`` is in seconds of the Unix epoch."""
    code = _first_fault(form, state, now)
    if code is None:
        return None
    words = _WORDS[code].format(
        to=form.get("To"), sender=form.get("From") or form.get("MessagingServiceSid"), callback=form.get("StatusCallback"),
        service=form.get("MessagingServiceSid"),
    )  # fmt: skip
    return Refusal(_STATUS.get(code, 400), code, words)


def _first_fault(form: dict[str, str], state: TwilioState, now: float) -> int | None:
    to, sender, service, body = (form.get(name, "") for name in ("To", "From", "MessagingServiceSid", "Body"))
    if not to:
        return 21604
    if not sender and not service:
        return 21603
    if not body and not form.get("MediaUrl") and not form.get("ContentSid"):
        return 21602
    if len(body) > _BODY_LIMIT:
        return 21617
    if not _E164.fullmatch(to):
        return 21211
    if sender and not _SENDER.fullmatch(sender):
        return 21212
    if (code := TEST_FROM.get(sender)) is not None or (code := TEST_TO.get(to)) is not None:
        return code
    if (code := _sender_fault(sender, service, state)) is not None:
        return code
    if form.get("StatusCallback") and not _url_is_valid(form["StatusCallback"]):
        return 21609
    if (code := _validity_fault(form.get("ValidityPeriod"))) is not None:
        return code
    if service and form.get("ScheduleType") and not _schedule_is_valid(form, now):
        return 35114
    if form.get("ContentRetention") == "discard" and not state.settings.redaction:
        return 30029
    if form.get("AddressRetention") == "obfuscate" and not state.settings.redaction:
        return 30030
    if {(to, sender), (to, service), (to, state.service_of(sender) or "")} & state.opted_out:
        return 21610
    return None


def _sender_fault(sender: str, service: str, state: TwilioState) -> int | None:
    settings = state.settings
    if settings.test:
        return 20008 if service else None if sender in TEST_FROM else 21606
    if service and (not _SERVICE.fullmatch(service) or (settings.services and service not in settings.services)):
        return 21701
    if sender and sender not in TEST_FROM and (settings.senders or settings.services) and not state.owns(sender):
        return 21606
    return None


def _url_is_valid(url: str) -> bool:
    found = _URL.fullmatch(url)
    return found is not None and _host_is_valid(found[1])


@lru_cache(maxsize=256)
def _host_is_valid(authority: str) -> bool:
    try:
        parts = urlsplit(f"//{authority}")
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.hostname) and "_" not in (parts.hostname or "")


def _validity_fault(value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()) or int(value) == 0:
        return 90014
    return 90007 if int(value) > _LONGEST_VALIDITY else None


def _schedule_is_valid(form: dict[str, str], now: float) -> bool:
    at = read_send_at(form.get("SendAt", ""))
    return form["ScheduleType"] == "fixed" and at is not None and _EARLIEST <= at - now <= _LATEST


def read_send_at(text: str) -> float | None:
    """An ISO 8601 time as seconds of the Unix epoch; without a zone it is UTC. None where it is none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
