"""How many parts a text takes on the air."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["count_segments"]

_BASIC: Final = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
_EXTENDED: Final = "\f^{}\\[~]|€"
_GSM: Final = re.compile(f"[{re.escape(_BASIC + _EXTENDED)}]*")
_ESCAPED: Final = re.compile(f"[{re.escape(_EXTENDED)}]")


def count_segments(body: str) -> int:
    """The number of parts: 160 septets or 70 UTF-16 units alone, 153 or 67 in a chain; no escape or surrogate pair is split.

    3GPP TS 23.038, 23.040.
    """
    if _GSM.fullmatch(body):
        single, part, wide = 160, 153, _ESCAPED
        units = len(body) + len(_ESCAPED.findall(body))
    else:
        single, part, wide = 70, 67, re.compile("[\U00010000-\U0010ffff]")
        units = len(body.encode("utf-16-le", "surrogatepass")) // 2
    if units <= single:
        return 1
    parts, room = 1, part
    for character in body:
        size = 2 if wide.match(character) else 1
        if size > room:
            parts, room = parts + 1, part
        room -= size
    return parts
