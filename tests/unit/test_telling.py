"""What an account is told of a pair of person and sender: the rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.consent import EVERY_TENANT, Consent, ConsentKey, Reach, Scope, standing
from gateway.domain.senders import SenderUse
from gateway.domain.telling import Holding, Word, is_echo, is_owed, is_said_anew, opted_out_of, said_at, still_undone, touched

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
PERSON = b"p" * 16
OWN = SenderUse("+14155550110", "main", (("shop", "offers"),), Scope.SENDER)
SHARED = SenderUse("+14155550111", "main", (("shop", "offers"), ("shop", "orders"), ("clinic", "visits")), Scope.ALL)

TENANTS = st.sampled_from(["shop", "clinic"])
PROGRAMMES = st.sampled_from(["offers", "orders", "visits"])
SENDERS = st.sampled_from([OWN.sender, SHARED.sender])
USES = st.builds(
    lambda sender, uses: SenderUse(sender, "main", tuple(dict.fromkeys(uses)), Scope.SENDER),
    SENDERS,
    st.lists(st.tuples(TENANTS, PROGRAMMES), min_size=1, max_size=4),
)
KEYS = st.one_of(
    st.builds(lambda: ConsentKey(PERSON, EVERY_TENANT, Scope.ALL)),
    st.builds(lambda tenant: ConsentKey(PERSON, tenant, Scope.TENANT), TENANTS),
    st.builds(lambda tenant, name: ConsentKey(PERSON, tenant, Scope.PROGRAMME, name), TENANTS, PROGRAMMES),
    st.builds(lambda tenant, name: ConsentKey(PERSON, tenant, Scope.SENDER, name), TENANTS, SENDERS),
)
CONSENTS = st.lists(
    st.builds(lambda key, status: Consent(key, status, 1, NOON), KEYS, st.sampled_from(["in", "out"])), max_size=6
)
WORDS: st.SearchStrategy[Literal["in", "out"]] = st.sampled_from(["in", "out"])
HELD = st.builds(Holding, st.none() | WORDS, st.none() | WORDS, st.booleans(), st.booleans())


@given(USES, CONSENTS)
def test_a_sender_is_stopped_at_the_provider_when_the_gateway_would_send_nothing_by_it(
    use: SenderUse, consents: list[Consent]
) -> None:
    """Told of one use's opt-out alone, the provider would stop the others as well."""
    blocked = [standing(consents, Reach(*programme, use.sender)).out is not None for programme in use.uses]
    assert opted_out_of(use, consents) is all(blocked)


@given(USES, CONSENTS, KEYS)
def test_no_opt_out_changes_a_sender_that_it_does_not_touch(use: SenderUse, consents: list[Consent], key: ConsentKey) -> None:
    if not touched([key], [use]):
        assert opted_out_of(use, [*consents, Consent(key, "out", 1, NOON)]) is opted_out_of(use, consents)


def test_an_opt_out_of_one_programme_is_not_told_of_a_sender_that_others_use() -> None:
    one = Consent(ConsentKey(PERSON, "shop", Scope.PROGRAMME, "offers"), "out", 1, NOON)
    assert opted_out_of(OWN, [one])
    assert touched([one.key], [OWN, SHARED]) == [OWN, SHARED]
    assert not opted_out_of(SHARED, [one])
    rest = [Consent(ConsentKey(PERSON, tenant, Scope.TENANT), "out", 1, NOON) for tenant in ("shop", "clinic")]
    assert opted_out_of(SHARED, rest)


def test_a_word_is_told_with_the_moment_at_which_it_was_last_said() -> None:
    outs = [
        Consent(ConsentKey(PERSON, "shop", Scope.TENANT), "out", 1, NOON),
        Consent(ConsentKey(PERSON, "shop", Scope.PROGRAMME, "offers"), "out", 1, NOON + timedelta(hours=1)),
        Consent(ConsentKey(PERSON, "clinic", Scope.TENANT), "out", 1, NOON + timedelta(hours=2)),
    ]
    assert said_at(OWN, "out", outs) == NOON + timedelta(hours=1)
    assert said_at(OWN, "in", outs) is None


@pytest.mark.parametrize(
    "word, holds, said, owed",
    [
        ("out", None, None, True),
        ("out", "in", None, True),
        ("out", "out", None, False),
        ("in", "out", None, True),
        ("in", "in", None, False),
        ("in", None, None, False),  # nobody told it of an opt-out
        ("out", None, "out", True),  # told, and not answered
        ("in", None, "in", True),
        ("in", None, "out", True),  # it may have arrived
        ("out", "out", "in", True),
    ],
)
def test_what_an_account_may_hold_wrongly_is_owed(word: Word, holds: Word | None, said: Word | None, owed: bool) -> None:
    assert is_owed(word, Holding(holds, said, open=True, refused=False)) is owed


@given(HELD, WORDS)
def test_what_an_account_was_told_is_an_echo_unless_it_refused(held: Holding, word: Word) -> None:
    assert is_echo(word, held) is (not held.refused and word in (held.holds, held.said))


@given(HELD)
def test_a_refusal_is_old_only_while_the_account_is_about_to_hear_that_the_opt_out_is_undone(held: Holding) -> None:
    assert still_undone(held) is (held.open and "out" in (held.holds, held.said))


@pytest.mark.parametrize(
    "at, told_at, anew",
    [
        (None, None, False),  # nobody knows when
        (61, None, True),
        (59, None, False),  # what was told before the opt-in may have taken effect by then
        (90, 40, False),  # the opt-out was told after the moment at which the opt-in was said
        (101, 40, True),
    ],
)
def test_an_opt_out_was_said_anew_when_none_that_was_told_can_have_come_so_late(
    at: int | None, told_at: int | None, anew: bool
) -> None:
    held = Holding("out", "in", open=True, refused=False, told_at=NOON + timedelta(seconds=told_at) if told_at else None)
    moment = NOON + timedelta(seconds=at) if at else None
    assert is_said_anew(held, moment, NOON, timedelta(minutes=1)) is anew
    assert not is_said_anew(replace(held, open=False), moment, NOON, timedelta(minutes=1))


def test_of_an_account_that_was_never_told_everything_is_news() -> None:
    assert not is_echo("out", None)
    assert not still_undone(None)
