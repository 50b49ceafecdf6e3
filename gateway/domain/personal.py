"""Personal data as types that hide themselves.

A number or a text shows itself nowhere by accident: not in ``repr``, ``str``, ``format``, a traceback's message or JSON. The one
way to read it is :meth:`reveal`, a name that is easy to search for.
"""

from __future__ import annotations

import re
from typing import Final, final

__all__ = ["LIKE_A_NUMBER", "MessageBody", "Personal", "PhoneNumber"]

LIKE_A_NUMBER: Final = re.compile(r"[+(]?\d(?:[\s().\-/]{0,2}\d){6,}\)?")
"""What somebody may have meant for a telephone number: refused in words that are kept in the clear."""

HIDDEN: Final = "•••"


class Personal:
    """A value that must not be shown; equal to another of its kind when both hold the same."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. Every call is a place where personal data leaves its type: keep them few."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Personal) and other._value == self._value

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._value))

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError(f"{type(self).__name__} is not pickled: it would leave its type unseen")


@final
class PhoneNumber(Personal):
    """A telephone number in E.164 form, such as ``+`` and 8 to 15 digits."""

    __slots__ = ()


@final
class MessageBody(Personal):
    """The text of a message."""

    __slots__ = ()
