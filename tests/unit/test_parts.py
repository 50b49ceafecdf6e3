from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gateway.domain.parts import parts
from gateway.domain.personal import MessageBody

GSM = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
WIDE = "\f^{}\\[~]|€"


@pytest.mark.parametrize(
    "text, count",
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("é" * 160, 1),  # é is in GSM-7
        ("ê" * 70, 1),  # ê is not
        ("ê" * 71, 2),
        ("ê" * 134, 2),
        ("ê" * 135, 3),
        ("a" * 159 + "ê", 3),  # one character switches the whole message
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("€" * 152, 2),
        ("€" * 153, 3),  # 76 escapes a part: the 153rd septet cannot hold half of one
        ("a" * 152 + "€" + "a" * 151, 2),
        ("a" * 152 + "€" + "a" * 152, 3),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 66, 2),
        ("😀" * 67, 3),  # 33 pairs a part: the 67th unit cannot hold half of one
        ("`", 1),
        ("`" * 71, 2),  # a grave accent is not in GSM-7
        ("ç" * 71, 2),  # only the capital is
        ("Ç" * 160, 1),
        ("\f" * 80, 1),
    ],
)
def test_parts(text: str, count: int) -> None:
    assert parts(MessageBody(text)) == count


def test_the_alphabet_is_whole() -> None:
    assert len(GSM) == len(set(GSM)) == 127  # 128 less the escape
    assert parts(MessageBody(GSM + "a" * 33)) == 1
    assert parts(MessageBody(GSM + "a" * 34)) == 2
    assert len(set(WIDE)) == 10
    assert parts(MessageBody(WIDE * 8)) == 1
    assert parts(MessageBody(WIDE * 8 + "a")) == 2


@given(some.text(some.sampled_from(GSM + WIDE), max_size=500))
def test_gsm_parts_by_laying_out_each_septet(text: str) -> None:
    assert parts(MessageBody(text)) == laid_out([2 if c in WIDE else 1 for c in text], 160, 153)


@given(some.text(max_size=300))
def test_other_parts_by_laying_out_each_unit(text: str) -> None:
    if set(text) <= set(GSM + WIDE):
        return
    assert parts(MessageBody(text)) == laid_out([len(c.encode("utf-16-le", "surrogatepass")) // 2 for c in text], 70, 67)


def laid_out(sizes: list[int], alone: int, joined: int) -> int:
    if sum(sizes) <= alone:
        return 1
    rows = [0]
    for size in sizes:
        if rows[-1] + size > joined:
            rows.append(0)
        rows[-1] += size
    return len(rows)
