"""RingCentral's errors as JSON, and what the codes of the named scripts, which are Twilio's numbers, are called here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.simulator.scripts import Script

__all__ = ["Fault", "delivery_code", "fault_json", "not_found", "parameter", "scripted_fault"]

#: What a message can end with. https://developers.ringcentral.com/guide/messaging/sms/sms-errors
_DELIVERY: Final[Mapping[int, str]] = {
    21610: "SMS-RC-413", 21614: "SMS-RC-410", 30003: "SMS-CAR-412", 30004: "SMS-CAR-431", 30005: "SMS-CAR-411", 30006: "SMS-CAR-400",
    30007: "SMS-CAR-430", 30008: "SMS-CAR-199", 30036: "SMS-CAR-410",
}  # fmt: skip

#: What a request can be refused with, and its status. https://developers.ringcentral.com/guide/basics/errors
_REFUSAL: Final[Mapping[int, tuple[int, str, str]]] = {
    20429: (429, "CMN-301", "Request rate exceeded"),
    21611: (429, "MSG-305", "Request rate exceeded"),
    21614: (400, "MSG-243", "Phone number is blocked"),
}
_WORDS: Final[Mapping[str, str]] = {
    "SMS-RC-410": "The recipient number is invalid",
    "SMS-RC-413": "The destination subscriber opted out",
    "SMS-UP-413": "The destination subscriber opted out",
    "SMS-CAR-413": "The destination subscriber opted out",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of the API. ``headline`` is the outer code, where that is another than the one in ``errors``."""

    status: int
    code: str
    message: str = field(repr=False)
    parameter: str | None = None
    headline: str | None = None


def parameter(name: str) -> Fault:
    """A parameter that is missing or can't be."""
    return Fault(400, "CMN-101", f"Parameter [{name}] value is invalid", name)


def not_found(name: str) -> Fault:
    """404 for an identifier in the path."""
    return Fault(404, "CMN-102", f"Resource for parameter [{name}] is not found", name)


def fault_json(fault: Fault) -> bytes:
    """``{errorCode, message, errors: [{errorCode, message, parameterName}]}``."""
    one = {"errorCode": fault.code, "message": fault.message}
    if fault.parameter is not None:
        one["parameterName"] = fault.parameter
    outer = {"errorCode": fault.headline or fault.code, "message": fault.message}
    return json.dumps({**outer, "errors": [one]}).encode()


def delivery_code(code: int | str | None) -> str | None:
    """A script's code as the ``errorCode`` of a message; a number without a word of RingCentral's is an unknown error."""
    return _DELIVERY.get(code, "SMS-RC-500") if isinstance(code, int) else code


def scripted_fault(script: Script) -> Fault:
    """The error that a script which refuses gives."""
    if isinstance(script.code, int):
        status, code, message = _REFUSAL.get(script.code, (400, "CMN-101", "Parameter [to] value is invalid"))
        return Fault(script.status or status, code, message)
    return Fault(script.status or 400, script.code, script.message or _WORDS.get(script.code, "Refused"))
