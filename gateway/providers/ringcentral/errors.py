"""What RingCentral's refusals mean: one table from error code to outcome, and what an HTTP status says where no code is in the table.

RingCentral's own pages: https://developers.ringcentral.com/guide/basics/errors for those of the platform (``MSG``, ``CMN``, ``OAU``) and
https://developers.ringcentral.com/guide/messaging/sms/sms-errors for those of texts (``SMS-RC`` by RingCentral, ``SMS-UP`` by its
upstream, ``SMS-CAR`` by the person's carrier). The latter come in a batch's ``rejected`` before acceptance, and in a message's record
after it. A code that is not here still has a safe meaning: a 4xx was not sent, and is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from gateway.domain.outcome import Later, OptedOut, Outcome, Refused
from gateway.domain.reasons import Reason
from gateway.providers.refusals import outcome_by

__all__ = ["FILTERED", "OPTED_OUT", "ErrorRow", "error_code", "error_table", "outcome_of_refusal", "outcome_of_rejection"]

OPTED_OUT: Final = frozenset({"SMS-RC-413", "SMS-UP-413", "SMS-CAR-413"})
FILTERED: Final = frozenset({"SMS-RC-430", "SMS-UP-430", "SMS-CAR-430"})
"""Filtered out as spam, in ``rejected`` or in a record."""

_CODE: Final = re.compile(r"[A-Z]{2,5}(-[A-Z]{2,4})?-[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One of RingCentral's error codes: what it means by it, and the outcome of the text that it speaks of."""

    code: str
    meaning: str
    outcome: Outcome


def _refused(code: str, reason: Reason, meaning: str) -> ErrorRow:
    return ErrorRow(code, meaning, Refused(reason, code))


def _full(code: str, holds: Literal["sender", "account"], meaning: str) -> ErrorRow:
    return ErrorRow(code, meaning, Later(Reason.QUEUE_FULL, code, holds=holds))


def _set_up(code: str, holds: Literal["sender", "account"], meaning: str) -> ErrorRow:
    return ErrorRow(code, meaning, Later(Reason.CONFIGURATION, code, holds=holds, operator=True))


_ROWS: Final = (
    # The person's own word. The gateway learns the opt-out.
    *(ErrorRow(code, "the recipient has opted out of this sender", OptedOut(code)) for code in sorted(OPTED_OUT)),
    # The account's set-up: nothing of it can be sent until an operator acts.
    _set_up("CMN-109", "account", "the account has not this feature"),
    _set_up("CMN-120", "account", "the address of the API is unknown"),
    _set_up("CMN-401", "account", "the application lacks a permission"),
    _set_up("CMN-402", "account", "the user is no administrator"),
    _set_up("CMN-403", "account", "the extension's type has not this feature"),
    _set_up("CMN-404", "account", "the user may not use this extension"),
    _set_up("CMN-408", "account", "the user lacks a permission"),
    _set_up("MSG-314", "account", "the extension's type cannot text"),
    _set_up("SMS-RC-504", "account", "the account is not provisioned to text"),
    # The sender's set-up: other senders of the account go on.
    _set_up("MSG-241", "sender", "the sender is a fax number"),
    _set_up("MSG-242", "sender", "the sender cannot text"),
    _set_up("MSG-245", "sender", "the sender is not the user's number"),
    _set_up("MSG-304", "sender", "the sender is not the extension's number"),
    _set_up("MSG-310", "sender", "the sender is not assigned"),
    _set_up("SMS-CAR-414", "sender", "the sender cannot text, by the carrier's word"),
    _set_up("SMS-CAR-461", "sender", "the toll-free sender is not verified"),
    _set_up("SMS-RC-503", "sender", "the sender is not provisioned to text"),
    _set_up("SMS-UP-414", "sender", "the sender cannot text, by the upstream's word"),
    _set_up("SMS-UP-431", "sender", "the sender is barred for spam"),
    # This number, for good.
    _refused("MSG-240", Reason.REGION_NOT_ENABLED, "the recipient's number is not in the United States"),
    _refused("MSG-243", Reason.NOT_TEXTABLE, "the recipient's number is blocked"),
    _refused("SMS-CAR-400", Reason.NOT_TEXTABLE, "the recipient's carrier takes no such texts"),
    _refused("SMS-CAR-411", Reason.NOT_TEXTABLE, "the recipient's number is not valid, or cannot be texted"),
    _refused("SMS-CAR-412", Reason.NOT_TEXTABLE, "the recipient cannot be reached"),
    _refused("SMS-RC-410", Reason.NOT_TEXTABLE, "the recipient's number is not supported"),
    _refused("SMS-UP-410", Reason.NOT_TEXTABLE, "the recipient's number is not valid, or cannot be texted"),
    # This text, for good.
    _refused("MSG-338", Reason.REFUSED, "the text is too long"),
    _refused("SMS-CAR-430", Reason.FILTERED, "filtered by the carrier as spam"),
    _refused("SMS-CAR-432", Reason.REFUSED, "the text is too long for the carrier"),
    _refused("SMS-RC-430", Reason.FILTERED, "filtered by RingCentral as spam"),
    _refused("SMS-UP-430", Reason.FILTERED, "filtered by the upstream as spam"),
    _refused("SMS-UP-432", Reason.REFUSED, "the text is too long"),
    _refused("SMS-UP-433", Reason.REFUSED, "the text is refused as it is written"),
    # Full, for now.
    _full("SMS-CAR-450", "sender", "the brand's daily limit is reached"),
    _full("SMS-CAR-451", "sender", "the campaign's daily limit is reached"),
    _full("SMS-CAR-452", "sender", "the carriers' limit is reached"),
    _full("SMS-RC-403", "account", "the account's daily or monthly limit is reached"),
)
_BY_CODE: Final = {row.code: row.outcome for row in _ROWS}


def error_table() -> tuple[ErrorRow, ...]:
    """Every row, in order of code: the table test is made from it."""
    return tuple(sorted(_ROWS, key=lambda row: row.code))


def error_code(said: object) -> str | None:
    """A code as RingCentral writes them, or None: what stands in its place in a broken answer goes nowhere."""
    return said if isinstance(said, str) and _CODE.fullmatch(said) else None


def outcome_of_rejection(code: str | None) -> Outcome:
    """What a batch's ``rejected`` says of one of its texts: it is not in the batch."""
    return _BY_CODE.get(code or "") or Refused(Reason.REFUSED, code or "rejected")


def outcome_of_refusal(status: int, code: str | None, retry_after: float | None) -> Outcome:
    """What an answer to a create request means that is not a 2xx; for a batch, what it means for each of its texts."""
    return outcome_by(_BY_CODE, status, code, retry_after)
