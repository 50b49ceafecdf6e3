"""RingCentral's create requests: what they say, and what their answers mean for each text. Pure functions.

https://developers.ringcentral.com/api-reference/SMS/createSMSMessage for one text, and
https://developers.ringcentral.com/api-reference/High-Volume-SMS/createA2PSMS for many in a batch.
"""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Final

from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Refused, Unknown
from gateway.domain.reasons import Reason
from gateway.providers.http import MaybeSent, NotSent
from gateway.providers.reading import is_unicode
from gateway.providers.ringcentral.api import RingCentralRefused
from gateway.providers.ringcentral.errors import OPTED_OUT, error_code, outcome_of_refusal, outcome_of_rejection
from gateway.providers.ringcentral.rates import RateHeld
from gateway.providers.ringcentral.records import BATCH_ID, RECORD_ID
from gateway.providers.ringcentral.token import NoToken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.domain.errors import GatewayError
    from gateway.domain.reports import Text

__all__ = [
    "batch_outcomes",
    "batch_request",
    "is_about_one",
    "outcome_of_fault",
    "single_outcome",
    "single_request",
    "unsendable",
]

LONGEST: Final = 1000  # UTF-16 units: a character outside the Basic Multilingual Plane counts as two

_UNREADABLE: Final = Unknown("unreadable_answer")


def unsendable(text: Text) -> Refused | None:
    """Why a text can't be asked for at all: one bad text would spoil a batch."""
    body = text.body.reveal()
    if not is_unicode(body):
        return Refused(Reason.REFUSED, "not_unicode")
    if len(body.encode("utf-16-le")) // 2 > LONGEST:
        return Refused(Reason.REFUSED, "too_long")
    return None


def single_request(text: Text) -> dict[str, object]:
    """One text."""
    return {"from": {"phoneNumber": text.sender}, "to": [{"phoneNumber": text.to.reveal()}], "text": text.body.reveal()}


def batch_request(texts: Sequence[Text]) -> dict[str, object]:
    """Texts of one sender."""
    messages = [{"to": [text.to.reveal()], "text": text.body.reveal()} for text in texts]
    return {"from": texts[0].sender, "messages": messages}


def single_outcome(said: object) -> Outcome:
    """What a 2xx to one text says."""
    fields = said if isinstance(said, dict) else {}
    name = fields.get("id")
    shown = str(name) if isinstance(name, int | str) and not isinstance(name, bool) else ""
    if not RECORD_ID.fullmatch(shown):
        return _UNREADABLE
    # RingCentral looks into its own list of opt-outs before it hands the text on.
    code = error_code(fields.get("deliveryErrorCode"))
    if fields.get("messageStatus") == "SendingFailed" and code in OPTED_OUT:
        return OptedOut(str(code))
    return Accepted(f"sms:{shown}")


def batch_outcomes(said: object, texts: Sequence[Text]) -> list[Outcome]:
    """What a 2xx to a batch says of each text. ``rejected`` stands in this answer and never in another.

    An answer of which anything can't be read says nothing of anybody: who was rejected is not to be guessed.
    """
    fields = said if isinstance(said, dict) else {}
    name, rejected = fields.get("id"), fields.get("rejected")
    if not (isinstance(name, str) and BATCH_ID.fullmatch(name)) or not isinstance(rejected, list | NoneType):
        return [_UNREADABLE] * len(texts)
    outcomes: list[Outcome] = [Accepted(f"a2p:{name}")] * len(texts)
    for one in rejected or ():
        index = one.get("index") if isinstance(one, dict) else None
        if not isinstance(index, int) or isinstance(index, bool) or not 1 <= index <= len(texts):  # it counts from 1
            return [_UNREADABLE] * len(texts)
        if one.get("to") not in ([texts[index - 1].to.reveal()], None):
            return [_UNREADABLE] * len(texts)
        outcomes[index - 1] = outcome_of_rejection(error_code(one.get("errorCode")))
    return outcomes


def outcome_of_fault(fault: GatewayError) -> Outcome:
    """What a call that has no 2xx means for its texts."""
    match fault:
        case RateHeld():
            return Later(Reason.RATE_LIMITED, "rate_group", wait=fault.wait, holds="account")
        case NoToken(operator=True):
            return Later(Reason.CONFIGURATION, fault.why, wait=fault.wait, holds="account", operator=True)
        case NoToken():
            return Later(Reason.UNREACHABLE, "no_token", wait=fault.wait, holds="account")
        case NotSent(why="bad_request"):
            return Later(Reason.CONFIGURATION, fault.why, holds="account", operator=True)
        case NotSent():
            return Later(Reason.UNREACHABLE, fault.why, holds="account")
        case MaybeSent():
            return Unknown(fault.why)
        case RingCentralRefused(code="CMN-101" | "CMN-102", parameter="from", status=400 | 403 | 404):
            return Later(Reason.CONFIGURATION, str(fault.code), holds="sender", operator=True)
        case RingCentralRefused(code="CMN-101" | "CMN-102", parameter="to", status=400 | 403 | 404):
            return Refused(Reason.NOT_TEXTABLE, str(fault.code))
        case RingCentralRefused():
            return outcome_of_refusal(fault.status, fault.code, fault.wait)
        case _:
            return _UNREADABLE


def is_about_one(outcome: Outcome) -> bool:
    """Whether a refusal of a whole batch can only mean one of its texts, and does not say which."""
    return isinstance(outcome, Refused | OptedOut)
