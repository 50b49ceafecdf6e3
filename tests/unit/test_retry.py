"""The bounds of back-off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.retry import LONGEST_WISH, BackOff

seconds = st.floats(0.001, 3600, allow_nan=False)
chances = st.floats(0, 1, exclude_max=True)


@given(seconds, seconds, st.integers(1, 10_000), chances)
def test_a_wait_lies_between_half_of_its_bound_and_its_bound(first: float, more: float, tries: int, chance: float) -> None:
    back_off = BackOff(first, first + more)
    bound = min(back_off.most, first * 2 ** min(tries - 1, 32))
    assert bound / 2 <= back_off.delay(tries, chance) <= bound


@given(seconds, st.integers(1, 60), chances)
def test_waits_grow_until_the_longest(first: float, tries: int, chance: float) -> None:
    back_off = BackOff(first, 3600.0)
    assert back_off.delay(tries, chance) <= back_off.delay(tries + 1, chance)
    assert back_off.delay(tries + 40, chance) >= back_off.most / 2


@given(st.integers(1, 100), chances, st.floats(0, 1e300))
def test_the_providers_wish_is_heeded_within_reason(tries: int, chance: float, asked: float) -> None:
    back_off = BackOff()
    wait = back_off.delay(tries, chance, asked)
    assert wait >= min(asked, LONGEST_WISH)
    assert wait >= back_off.delay(tries, chance)
    assert wait <= max(LONGEST_WISH, back_off.most)


def test_the_first_waits_are_what_the_documents_say() -> None:
    assert [BackOff(1.0, 300.0).delay(tries, 0.0) for tries in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert BackOff(1.0, 300.0).delay(1, 0.999) == pytest.approx(1.0, abs=0.01)
    assert BackOff(1.0, 300.0).delay(1, 0.0, 30.0) == 30.0
