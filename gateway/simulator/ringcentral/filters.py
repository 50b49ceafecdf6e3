"""Event filters: which events a subscription is for.

https://developers.ringcentral.com/guide/notifications/event-filters
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from gateway.simulator.config import RingCentralAccount
from gateway.simulator.ringcentral.errors import Fault

__all__ = ["matches", "read_filter"]

_FILTER: Final = re.compile(r"(/restapi/(?:v1\.0/account|v2/accounts)/)([^/?]+)(/extension/([^/?]+))?(/[^?]*)(\?.*)?")
_OF_ACCOUNT: Final = frozenset({"/a2p-sms/messages", "/a2p-sms/batches", "/a2p-sms/opt-outs", "/sms/consents"})
_OF_EXTENSION: Final = frozenset({"/message-store", "/message-store/instant"})


def read_filter(text: str, settings: RingCentralAccount) -> str | Fault:
    """A filter with the identifiers that ``~`` stands for, or why the account can't have it."""
    found = _FILTER.fullmatch(text)
    if found is None:
        return Fault(400, "SUB-508", f"Invalid event filters: [{text}]")
    root, account, extension, owner, path, query = found.groups("")
    if account not in {"~", settings.sid}:
        return Fault(403, "SUB-406", "Not allowed subscribe for events to extensions of other account")
    if extension and owner not in {"~", settings.extension}:
        return Fault(403, "SUB-405", "Not allowed subscribe for messages to other extensions")
    if path not in (_OF_EXTENSION if extension else _OF_ACCOUNT):
        return Fault(400, "SUB-508", f"Invalid event filters: [{text}]")
    extension = f"/extension/{settings.extension}" if extension else ""
    return f"{root}{settings.sid}{extension}{path}{query}"


def matches(text: str, path: str, attributes: Mapping[str, str]) -> bool:
    """Whether a filter takes an event of this path that has these attributes."""
    mine, _, query = text.partition("?")
    if mine != path:
        return False
    asked = (unquote(pair).partition("=") for pair in query.split("&") if pair)
    return all(attributes.get(name) == value for name, _, value in asked)
