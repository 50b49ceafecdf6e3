"""What Twilio's refusals mean: one table from error code to outcome, and what an HTTP status says where no code is in the table.

Twilio's own pages: ``https://www.twilio.com/docs/api/errors/{code}``. Twilio asks its callers not to build on codes, as new and
narrower ones appear; so a code that is not here still has a safe meaning: a 4xx was not sent, and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from gateway.domain.outcome import Later, OptedOut, Outcome, Refused
from gateway.domain.reasons import Reason
from gateway.providers.refusals import outcome_by

__all__ = ["FILTERED", "ErrorRow", "error_table", "outcome_of_refusal"]

FILTERED: Final = frozenset({"30007"})
"""Filtered by Twilio or a carrier, after acceptance. https://www.twilio.com/docs/api/errors/30007"""


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One of Twilio's error codes: what Twilio means by it, and the outcome of the create request that it answers."""

    code: int
    meaning: str
    outcome: Outcome


def _refused(code: int, reason: Reason, meaning: str) -> ErrorRow:
    return ErrorRow(code, meaning, Refused(reason, str(code)))


def _full(code: int, holds: Literal["sender", "account"], meaning: str) -> ErrorRow:
    return ErrorRow(code, meaning, Later(Reason.QUEUE_FULL, str(code), holds=holds))


def _set_up(code: int, holds: Literal["message", "sender", "account"], meaning: str) -> ErrorRow:
    return ErrorRow(code, meaning, Later(Reason.CONFIGURATION, str(code), holds=holds, operator=True))


_ROWS: Final = (
    # The person's own word. HTTP 400. The gateway learns the opt-out.
    ErrorRow(21610, "the recipient has opted out of this sender", OptedOut("21610")),
    # The account's set-up: nothing of it can be sent until an operator acts.
    _set_up(10001, "account", "the account is not active"),
    _set_up(20003, "account", "the credentials are wrong, or the account may not do this"),
    _set_up(20005, "account", "the account is not active"),
    _set_up(20404, "account", "the account, or the address of the API, is unknown"),
    _set_up(21609, "account", "the status callback's URL is not valid: the public URL of the gateway is wrong"),
    _set_up(30002, "account", "the account is suspended"),
    _set_up(30029, "account", "ContentRetention: Message Redaction is not switched on for the account"),
    _set_up(30030, "account", "AddressRetention: Message Redaction is not switched on for the account"),
    _set_up(30700, "account", "the account's region lacks something that the request asks for"),
    # The sender's set-up: other senders of the account go on.
    _set_up(21212, "sender", "the sender is not a valid number, short code or name"),
    _set_up(21601, "sender", "the sender is not a number of this account that can text"),
    _set_up(21603, "sender", "no sender was given"),
    _set_up(21606, "sender", "the sender cannot text this destination, or is not the account's"),
    _set_up(21659, "sender", "the sender is not a Twilio number"),
    _set_up(21660, "sender", "the sender belongs to another account"),
    _set_up(21661, "sender", "the sender cannot text"),
    _set_up(21663, "sender", "the sender is not set up to text"),
    _set_up(21703, "sender", "the messaging service has no sender"),
    _set_up(21705, "sender", "the messaging service is not valid"),
    _set_up(30034, "sender", "the US number belongs to no registered campaign (A2P 10DLC)"),
    # https://www.twilio.com/docs/api/errors/21608 - a trial account, or one without an approved profile, texts verified numbers
    # only. An operator can verify this number or upgrade the account, so it is no refusal for good; and it says nothing about the
    # next number, which may well be verified, so it holds this message alone.
    _set_up(21608, "message", "the account is on trial, and the recipient is not verified"),
    # This number, for good.
    _refused(21211, Reason.NOT_TEXTABLE, "the recipient's number is not valid"),
    _refused(21612, Reason.NOT_TEXTABLE, "this sender has no way to the recipient"),
    _refused(21614, Reason.NOT_TEXTABLE, "the recipient's number is not a mobile number"),
    _refused(21635, Reason.NOT_TEXTABLE, "the recipient's number is a landline"),
    _refused(30004, Reason.NOT_TEXTABLE, "the recipient blocks messages"),
    _refused(30005, Reason.NOT_TEXTABLE, "the recipient's number is unknown"),
    _refused(30006, Reason.NOT_TEXTABLE, "the recipient's number is a landline, or its carrier cannot be reached"),
    # https://www.twilio.com/docs/api/errors/21408 - a country that the account does not allow: a choice, often against fraud, so
    # the message ends; it does not hold the account, whose other countries work.
    _refused(21408, Reason.REGION_NOT_ENABLED, "the account does not allow texts to this country"),
    # This text, for good.
    _refused(21602, Reason.REFUSED, "the text is missing"),
    _refused(21617, Reason.REFUSED, "the text has more than 1600 characters"),
    _refused(21619, Reason.REFUSED, "the text is empty"),
    _refused(30450, Reason.REFUSED, "blocked as suspected traffic pumping"),
    _refused(30610, Reason.REFUSED, "blocked by the quiet hours set at Twilio"),
    _refused(30640, Reason.REFUSED, "blocked: the recipient is a known litigator"),
    # Full, for now.
    _full(21611, "sender", "the sender's queue is full"),
    _full(30001, "sender", "the queue is full"),
    _full(63017, "sender", "the sender's limit is reached"),
    # https://www.twilio.com/docs/api/errors/63038 - the account's limit over a rolling day, so no other sender of it can help.
    _full(63038, "account", "the account's daily limit is reached"),
    # https://www.twilio.com/docs/api/errors/14107 - between two numbers only; Twilio holds that pair for 30 s.
    ErrorRow(14107, "too many texts between these two numbers", Later(Reason.RATE_LIMITED, "14107", wait=30.0)),
    # https://www.twilio.com/docs/api/errors/20429 - comes with HTTP 429: never processed.
    ErrorRow(20429, "too many requests", Later(Reason.RATE_LIMITED, "20429", holds="account")),
)
_BY_CODE: Final = {str(row.code): row.outcome for row in _ROWS}


def error_table() -> tuple[ErrorRow, ...]:
    """Every row, in order of code: the table test and docs/ are made from it."""
    return tuple(sorted(_ROWS, key=lambda row: row.code))


def outcome_of_refusal(status: int, code: int | None, retry_after: float | None) -> Outcome:
    """What an answer to a create request means that is not a 2xx; ``code`` is Twilio's, None where the answer names none."""
    return outcome_by(_BY_CODE, status, None if code is None else str(code), retry_after)
