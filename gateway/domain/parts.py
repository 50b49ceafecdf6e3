"""How many parts (segments) a text is sent in: what senders are paced by and providers charge for (3GPP TS 23.038, 23.040)."""

from __future__ import annotations

from typing import Final

from gateway.domain.personal import MessageBody

__all__ = ["parts"]

_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà",
)
_EXTENSION: Final = frozenset("\f^{}\\[~]|€")  # an escape before each: two septets
_GSM_7: Final = _BASIC | _EXTENSION
_TWO_UNITS: Final = "\uffff"  # a character above it takes a surrogate pair in UCS-2


def parts(body: MessageBody) -> int:
    """The number of parts, at least 1.

    One part holds 160 septets of GSM-7, or 70 units of UCS-2 as soon as one character is outside GSM-7; parts of several hold 153
    and 67. Neither an escape and its character nor the halves of a surrogate pair are split.
    """
    text = body.reveal()
    letters = set(text)
    if letters <= _GSM_7:
        wide = letters & _EXTENSION
        return _count(text, frozenset(wide), 160, 153)
    return _count(text, frozenset(c for c in letters if c > _TWO_UNITS), 70, 67)


def _count(text: str, wide: frozenset[str], alone: int, joined: int) -> int:
    """Parts of a text whose ``wide`` characters take two units and all others one."""
    units = len(text) + sum(map(text.count, wide))
    if units <= alone:
        return 1
    if not wide:
        return -(-units // joined)
    count, room = 1, joined
    for character in text:
        size = 2 if character in wide else 1
        if size > room:
            count, room = count + 1, joined
        room -= size
    return count
