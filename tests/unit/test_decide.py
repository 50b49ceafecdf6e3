"""The decision: total, fail-closed, and an opt-out always wins."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.domain.consent import Consent, ConsentKey, Reach, Scope, covers
from gateway.domain.decide import Asked, Decision, Facts, Kind, Verdict, decide
from gateway.domain.reasons import Reason

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
REACH = Reach("shop", "offers", "+14155550110")

moments = st.datetimes(datetime(2026, 4, 1), datetime(2026, 6, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- the strategy adds the zone
reaches = st.builds(
    Reach,
    st.sampled_from(["shop", "clinic"]),
    st.sampled_from(["offers", "orders"]),
    st.sampled_from([None, "+14155550110", "12345"]),
)
askeds = st.builds(
    Asked,
    kind=st.sampled_from(get_args(Kind)),
    category=st.sampled_from(["marketing", "service", "security"]),
    reach=reaches,
    expires_at=moments,
    not_before=st.none() | moments,
)
consents = st.builds(
    Consent,
    st.builds(
        ConsentKey,
        st.just(b"p" * 16),
        st.sampled_from(["shop", "clinic", "*"]),
        st.sampled_from(Scope),
        st.sampled_from(["", "offers", "orders", "+14155550110", "12345"]),
    ),
    st.sampled_from(["in", "out"]),
    st.integers(1, 9),
    moments,
)
facts = st.builds(
    Facts,
    policy=st.just("0123456789ab"),
    consents=st.lists(consents, max_size=6),
    problem=st.none() | st.sampled_from(Reason),
    allow_listed=st.booleans(),
    paused=st.booleans(),
)


def _asked(**more: object) -> Asked:
    values: dict[str, object] = {
        "kind": "outbound", "category": "service", "reach": REACH, "expires_at": NOW + timedelta(hours=1), "not_before": None
    }  # fmt: skip
    return Asked(**{**values, **more})  # type: ignore[arg-type] # values of many types


@given(askeds, facts, moments)
def test_there_is_always_an_answer_that_holds_together(asked: Asked, known: Facts, now: datetime) -> None:
    answer = decide(asked, known, now)
    assert answer.verdict in get_args(Verdict)
    assert answer.policy == known.policy
    assert answer.rule
    assert decide(asked, known, now) == answer
    assert (answer.until is not None) == (answer.verdict == "defer")
    if answer.verdict == "defer":
        assert answer.until == asked.not_before
        assert answer.until is not None
        assert now < answer.until < asked.expires_at
    if answer.verdict == "expire":
        assert answer.reason is Reason.EXPIRED
    if answer.verdict == "send":
        assert answer.reason is Reason.ALLOWED
        assert not known.paused
        assert known.allow_listed
        assert known.problem is None
        assert asked.expires_at > now
        assert asked.not_before is None or asked.not_before <= now


def _covering(reach: Reach, scope: Scope) -> Consent:
    name = {Scope.PROGRAMME: reach.programme, Scope.SENDER: reach.sender or ""}.get(scope, "")
    tenant = "*" if scope is Scope.ALL else reach.tenant
    return Consent(ConsentKey(b"p" * 16, tenant, scope, name), "out", 1, NOW)


@given(st.builds(replace, askeds, kind=st.sampled_from(["outbound", "welcome"])), facts, moments, st.sampled_from(Scope))
def test_an_opt_out_always_wins(asked: Asked, known: Facts, now: datetime, scope: Scope) -> None:
    assume(scope is not Scope.SENDER or asked.reach.sender is not None)
    out = _covering(asked.reach, scope)
    for beside in ([out], [*known.consents, out], [out, *reversed(known.consents)]):
        answer = decide(asked, Facts(known.policy, beside, known.problem, known.allow_listed, known.paused), now)
        assert answer.verdict == "block"
        if known.problem is None and known.allow_listed:
            assert answer.reason is Reason.OPTED_OUT


@given(askeds, facts, moments)
def test_marketing_never_leaves_without_an_opt_in(asked: Asked, known: Facts, now: datetime) -> None:
    asked = replace(asked, kind="outbound", category="marketing")
    if not any(consent.status == "in" and covers(consent.key, asked.reach) for consent in known.consents):
        assert decide(asked, known, now).verdict == "block"


@given(askeds, facts, moments)
def test_the_gateways_own_answers_are_exempt_from_consent_and_from_nothing_else(
    asked: Asked, known: Facts, now: datetime
) -> None:
    assume(asked.kind in ("confirmation", "help"))
    without = Facts(known.policy, (), known.problem, known.allow_listed, known.paused)
    assert decide(asked, known, now) == decide(asked, without, now)
    if known.problem is not None or not known.allow_listed:
        assert decide(asked, known, now).verdict == "block"


@pytest.mark.parametrize(
    "asked, known, verdict, reason, rule",
    [
        (_asked(), Facts("v"), "send", Reason.ALLOWED, "default.allowed"),
        (_asked(), Facts("v", problem=Reason.BAD_NUMBER), "block", Reason.BAD_NUMBER, "routing.bad_number"),
        (_asked(), Facts("v", allow_listed=False), "block", Reason.NOT_ON_ALLOW_LIST, "staging.allow_list"),
        (_asked(category="marketing"), Facts("v"), "block", Reason.NO_OPT_IN, "consent.marketing_needs_opt_in"),
        (_asked(expires_at=NOW), Facts("v"), "expire", Reason.EXPIRED, "time.expires_at"),
        (_asked(not_before=NOW + timedelta(hours=1)), Facts("v"), "expire", Reason.EXPIRED, "time.not_before_after_expiry"),
        (_asked(not_before=NOW + timedelta(minutes=1)), Facts("v"), "defer", Reason.NOT_BEFORE, "time.not_before"),
        (_asked(not_before=NOW), Facts("v"), "send", Reason.ALLOWED, "default.allowed"),
        (_asked(), Facts("v", paused=True), "hold", Reason.PAUSED, "operator.paused"),
    ],
)
def test_each_rule_has_its_name(asked: Asked, known: Facts, verdict: Verdict, reason: Reason, rule: str) -> None:
    answer = decide(asked, known, NOW)
    assert answer == Decision(verdict, reason, rule, "v", answer.until)


@pytest.mark.parametrize("scope", Scope)
def test_the_rule_of_a_block_names_the_scope(scope: Scope) -> None:
    name = {Scope.PROGRAMME: "offers", Scope.SENDER: "+14155550110"}.get(scope, "")
    out = Consent(ConsentKey(b"p" * 16, "*" if scope is Scope.ALL else "shop", scope, name), "out", 1, NOW)
    assert decide(_asked(), Facts("v", [out]), NOW).rule == f"consent.opted_out.{scope}"
