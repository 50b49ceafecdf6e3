"""What an opt-in or opt-out covers, and what undoes it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.consent import EVERY_TENANT, Consent, ConsentKey, Reach, Scope, covers, standing, undoes

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
REACH = Reach("shop", "offers", "+14155550110")


def key(tenant: str, scope: Scope, name: str = "") -> ConsentKey:
    return ConsentKey(b"p" * 16, tenant, scope, name)


@pytest.mark.parametrize(
    "consent, reach, covered",
    [
        (key(EVERY_TENANT, Scope.ALL), REACH, True),
        (key("shop", Scope.ALL), Reach("clinic", "visits", None), True),  # all is all, whoever wrote it
        (key("shop", Scope.TENANT), REACH, True),
        (key("clinic", Scope.TENANT), REACH, False),
        (key("shop", Scope.PROGRAMME, "offers"), REACH, True),
        (key("shop", Scope.PROGRAMME, "orders"), REACH, False),
        (key("clinic", Scope.PROGRAMME, "offers"), REACH, False),  # another tenant's programme of the same name
        (key("shop", Scope.SENDER, "+14155550110"), REACH, True),
        (key("shop", Scope.SENDER, "+14155550111"), REACH, False),
        (key("clinic", Scope.SENDER, "+14155550110"), REACH, False),
        (key("shop", Scope.SENDER, "+14155550110"), Reach("shop", "offers", None), False),
    ],
)
def test_what_a_consent_covers(consent: ConsentKey, reach: Reach, covered: bool) -> None:
    assert covers(consent, reach) is covered


keys = st.builds(
    key,
    st.sampled_from(["shop", "clinic", EVERY_TENANT]),
    st.sampled_from(Scope),
    st.sampled_from(["", "offers", "orders", "+14155550110", "+14155550111"]),
)
consents = st.builds(
    Consent,
    keys,
    st.sampled_from(["in", "out"]),
    st.integers(1, 5),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1), timezones=st.just(UTC)),  # noqa: DTZ001 -- the strategy adds the zone
)


@given(st.lists(consents, max_size=8), st.randoms(use_true_random=False))
def test_an_opt_out_stands_whatever_stands_beside_it_and_in_whatever_order(found: list[Consent], chance: random.Random) -> None:
    stands = standing(found, REACH)
    covering = [consent for consent in found if covers(consent.key, REACH)]
    assert (stands.out is not None) == any(consent.status == "out" for consent in covering)
    assert (stands.opted_in is not None) == any(consent.status == "in" for consent in covering)
    shuffled = list(found)
    chance.shuffle(shuffled)
    again = standing(shuffled, REACH)
    assert (again.out is None, again.opted_in is None) == (stands.out is None, stands.opted_in is None)


@given(st.timedeltas(timedelta(days=-3), timedelta(days=3)))
def test_only_what_was_provably_said_later_undoes_an_opt_out(later: timedelta) -> None:
    out = Consent(key("shop", Scope.TENANT), "out", 1, NOW)
    assert undoes(NOW + later, out) == (later > timedelta())


def test_an_unknown_moment_and_a_tie_go_to_stop() -> None:
    out = Consent(key("shop", Scope.TENANT), "out", 1, NOW)
    assert not undoes(None, out)
    assert not undoes(NOW, out)
    assert undoes(NOW + timedelta(microseconds=1), out)
