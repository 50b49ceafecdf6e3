"""Decide what may happen to a message: a pure function of what is asked, the facts and the time.

Intake asks once, the claim asks again with the consent of that moment; both get their answer here, with the rule that gave it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gateway.domain.consent import Consent, Reach, standing
from gateway.domain.reasons import Reason

__all__ = ["Asked", "Decision", "Facts", "Kind", "Verdict", "decide"]

Verdict = Literal["send", "defer", "hold", "block", "expire"]
Kind = Literal["outbound", "confirmation", "welcome", "help"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a message asks for."""

    kind: Kind
    category: Literal["marketing", "service", "security"]
    reach: Reach
    expires_at: datetime
    not_before: datetime | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when the question is put.

    ``policy`` is the version of the tenant's policy. ``problem`` is what routing or the number already spoke against it with, if
    anything. ``allow_listed`` is True where no allow-list is set.
    """

    policy: str
    consents: Sequence[Consent] = ()
    problem: Reason | None = None
    allow_listed: bool = True
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, the reason for it, and the rule of which policy version gave it. ``until`` is when a deferred message is due."""

    verdict: Verdict
    reason: Reason
    rule: str
    policy: str
    until: datetime | None = None


def decide(asked: Asked, facts: Facts, now: datetime) -> Decision:
    """The first rule that speaks decides; when none does, the message may be sent.

    The answer to HELP and the one confirmation of a STOP are exempt from consent (47 CFR 64.1200(a)(12)), from nothing else.
    """

    def answer(verdict: Verdict, reason: Reason, rule: str, until: datetime | None = None) -> Decision:
        return Decision(verdict, reason, rule, facts.policy, until)

    if facts.problem is not None:
        return answer("block", facts.problem, f"routing.{facts.problem}")
    if not facts.allow_listed:
        return answer("block", Reason.NOT_ON_ALLOW_LIST, "staging.allow_list")
    if asked.kind in ("outbound", "welcome"):
        stands = standing(facts.consents, asked.reach)
        if stands.out is not None:
            return answer("block", Reason.OPTED_OUT, f"consent.opted_out.{stands.out.key.scope}")
        if asked.category == "marketing" and stands.opted_in is None:
            return answer("block", Reason.NO_OPT_IN, "consent.marketing_needs_opt_in")
    if asked.expires_at <= now:
        return answer("expire", Reason.EXPIRED, "time.expires_at")
    if asked.not_before is not None and asked.not_before >= asked.expires_at:
        return answer("expire", Reason.EXPIRED, "time.not_before_after_expiry")
    if asked.not_before is not None and asked.not_before > now:
        return answer("defer", Reason.NOT_BEFORE, "time.not_before", asked.not_before)
    if facts.paused:
        return answer("hold", Reason.PAUSED, "operator.paused")
    return answer("send", Reason.ALLOWED, "default.allowed")
