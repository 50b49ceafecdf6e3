"""A person and texts that are sent through everything and must turn up nowhere but where they belong.

The digits and the words occur in nothing else, so that a search for TRACES finds leaks only. The number is one of those set aside for
fiction, valid as a mobile number.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CANARY_BODY", "CANARY_NUMBER", "CANARY_REPLY", "TRACES", "traces_in"]

CANARY_NUMBER: Final = "+13105550193"
CANARY_BODY: Final = "kanarienvogel-7f3a your code is 402917, say nothing"
CANARY_REPLY: Final = "wellensittich-c81d what is this"

# The national number is in E.164 with and without its plus sign, and in a URL's encoding.
TRACES: Final = ("3105550193", "(310) 555-0193", "310-555-0193", "kanarienvogel-7f3a", "402917", "wellensittich-c81d")


def traces_in(text: str | bytes) -> list[str]:
    """The traces of the canary found in ``text``; the empty list is what a test wants."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return [trace for trace in TRACES if trace in text]
