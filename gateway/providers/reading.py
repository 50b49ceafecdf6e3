"""What the providers' answers and webhooks have in common, and how it is read. Pure functions; none raises for what a peer may send."""

from __future__ import annotations

import json
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PERSON", "is_unicode", "read_json", "readable", "retry_after"]

PERSON: Final = re.compile(r"\+[1-9][0-9]{6,14}")
"""A telephone number in E.164 form: who has one is a person that can opt out and be answered."""

_SECONDS: Final = re.compile(r"[0-9]{1,9}")


def read_json(body: bytes) -> object:
    """What a JSON body says, None for one that is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def readable(body: str) -> str:
    """A text that can be encoded: half a character, cut off somewhere on its way, becomes U+FFFD."""
    return body.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded, so that it arrives as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The wait in seconds by ``Retry-After`` (RFC 9110, 10.2.3); a date counts from the answer's own ``Date``."""
    asked = (headers.get("retry-after") or "").strip()
    if _SECONDS.fullmatch(asked):
        return float(asked)
    try:
        until, now = (parsedate_to_datetime(date) for date in (asked, headers.get("date") or ""))
        return max(0.0, (until.astimezone(UTC) - now.astimezone(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None
