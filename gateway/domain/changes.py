"""Every change of a message, as a pure function of where it stands and what is learned.

A :class:`Change` is what one statement of the store then writes together: the queue, the message, its audit record and, where it
is told, its status event. The functions are named as the steps of docs/protocol.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, assert_never
from uuid import UUID

from gateway.domain.decide import Decision, Kind
from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Refused, Unknown
from gateway.domain.reasons import Reason
from gateway.domain.reports import ListedText, Receipt, ReportedState
from gateway.domain.states import State, may_move

__all__ = [
    "Change",
    "Held",
    "Horizons",
    "Queued",
    "Recorded",
    "claim",
    "contradicted",
    "end",
    "give_up_waiting",
    "look_again",
    "prove",
    "put_back",
    "report",
    "rescue",
    "settle",
]

_LANE_HOLD = timedelta(seconds=60)  # a message backing off holds up the person's next one no longer than this

_REPORTED_REASON: dict[ReportedState, Reason] = {
    "sent": Reason.ACCEPTED,
    "delivered": Reason.DELIVERED,
    "undelivered": Reason.NOT_DELIVERED,
}
_MOST_PARTS = 1_000  # a provider that says more is not believed


@dataclass(frozen=True, slots=True)
class Recorded:
    """A message's record, locked by the transaction that asks."""

    uid: UUID
    tenant: str
    programme: str
    category: str
    kind: Kind
    subject_id: bytes
    state: State
    final: bool
    version: int
    steps: int
    attempt: int
    account: str | None
    sender: str | None
    provider_message_id: str | None
    policy: str
    rule: str
    settle_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class Queued:
    """A message's row in the queue, locked by the transaction that asks.

    ``tries`` counts known refusals. ``provider``, ``account`` and ``sender`` are the way out of its current attempt, or of the
    next one while it waits. ``lease_over`` and ``expired`` were read with the lock.
    """

    uid: UUID
    tenant: str
    state: Literal["waiting", "claimed", "marked"]
    attempt: int
    tries: int
    steps: int
    provider: str
    account: str
    sender: str
    worker_id: str | None = None
    marked_at: datetime | None = None
    lease_over: bool = False
    expired: bool = False

    def way(self) -> dict[str, object]:
        """The attempt and its way out, as fields of a :class:`Change`."""
        return {"attempt": self.attempt, "provider": self.provider, "account": self.account, "sender": self.sender}


@dataclass(frozen=True, slots=True)
class Held:
    """A message as it stands under a transaction's lock; ``queued`` is None once it has left the queue."""

    message: Recorded
    queued: Queued | None


@dataclass(frozen=True, slots=True)
class Horizons:
    """How long news is waited for: until an unknown outcome ends so, until ``sent`` is final, until evidence is first looked for."""

    unknown_after: timedelta = timedelta(hours=1)
    sent_final_after: timedelta = timedelta(hours=72)
    first_look: timedelta = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one step writes of one message. ``state`` None leaves the message's state as it is; ``told`` makes a status event.

    ``category`` is the message's, for who counts the change; it is known where the state moves.
    """

    uid: UUID
    tenant: str
    step: str
    number: int
    queue: Literal["stay", "claim", "wait", "leave"] = "stay"
    due_at: datetime | None = None
    lane_until: datetime | None = None
    attempt: int | None = None
    state: State | None = None
    reason: Reason | None = None
    final: bool | None = None
    version: int | None = None
    told: bool = False
    correction: bool = False
    policy: str | None = None
    rule: str | None = None
    provider: str | None = None
    account: str | None = None
    sender: str | None = None
    provider_message_id: str | None = None
    code: str | None = None
    parts: int | None = None
    begun_at: datetime | None = None
    settle_by: datetime | None = None
    check_at: datetime | None = None
    evidence: str | None = None
    next_route: int | None = None
    next_sender: str | None = None
    category: str = ""


def _steps(message: Recorded, queued: Queued | None) -> int:
    """The number of the next audit record: the queue counts while a message is in it."""
    return max(message.steps, queued.steps if queued is not None else 0) + 1


def _move(
    message: Recorded, queued: Queued | None, step: str, state: State, reason: Reason, *, final: bool, **more: object
) -> Change:
    return Change(
        uid=message.uid,
        tenant=message.tenant,
        step=step,
        number=_steps(message, queued),
        queue="leave",
        state=state,
        reason=reason,
        final=final or message.final,  # what was settled stays settled: later news is a correction
        version=message.version + 1,
        told=message.kind == "outbound",
        correction=message.final,
        category=message.category,
        **more,  # type: ignore[arg-type] # field names are checked by Change itself
    )


def claim(queued: Queued, decision: Decision) -> Change:
    """A worker takes a message: a new attempt, bound to its provider account and sender."""
    return Change(
        uid=queued.uid,
        tenant=queued.tenant,
        step="claimed",
        number=queued.steps + 1,
        queue="claim",
        attempt=queued.attempt + 1,
        reason=decision.reason,
        policy=decision.policy,
        rule=decision.rule,
        provider=queued.provider,
        account=queued.account,
        sender=queued.sender,
    )


def end(message: Recorded, queued: Queued | None, state: State, reason: Reason, rule: str, policy: str | None = None) -> Change:
    """The gateway ends a message that no request has begun for: blocked, expired or canceled."""
    return _move(message, queued, str(state), state, reason, final=True, rule=rule, policy=policy or message.policy)


def put_back(queued: Queued, now: datetime, *, step: str) -> Change:
    """A claimed message that has surely not started waits again, due at once."""
    return Change(
        uid=queued.uid, tenant=queued.tenant, step=step, number=queued.steps + 1, queue="wait", due_at=now, attempt=queued.attempt
    )


def settle(
    message: Recorded,
    queued: Queued | None,
    attempt: int,
    outcome: Outcome,
    now: datetime,
    horizons: Horizons,
    *,
    wait: float = 0.0,
    begun_at: datetime | None = None,
    instead: tuple[int, str] | None = None,
) -> Change | None:
    """What the answer to an attempt changes; None when others have already learned as much.

    Only the holder of the mark may put a message back or end it as refused. ``wait`` is the back-off, in seconds, for
    :class:`Later`; ``instead`` is the route and sender that the message waits for then, if what refused it holds more than this message.
    An acceptance is always news: it may come after a rescue gave the message up as unknown.
    """
    mine = queued if queued is not None and queued.attempt == attempt and queued.state == "marked" else None
    if isinstance(outcome, Accepted):
        return _accepted(message, queued, attempt, outcome, now, horizons, begun_at)
    if mine is None:
        return None
    match outcome:
        case Refused(reason, code):
            return _move(
                message, mine, "refused", State.FAILED, reason, final=True, code=code, rule="provider.refused", **mine.way()
            )
        case OptedOut(code):
            return _move(
                message,
                mine,
                "refused",
                State.BLOCKED,
                Reason.OPTED_OUT,
                final=True,
                code=code,
                rule="provider.opted_out",
                **mine.way(),
            )
        case Later(reason, code, holds=holds):
            route, sender = instead if instead is not None and holds != "message" else (None, None)
            due_at = now + timedelta(seconds=wait)
            return Change(
                uid=message.uid,
                tenant=message.tenant,
                step="put_back",
                number=_steps(message, mine),
                queue="wait",
                due_at=due_at,
                lane_until=min(due_at, now + _LANE_HOLD),
                attempt=attempt,
                reason=reason,
                code=code,
                provider=mine.provider,
                account=mine.account,
                sender=mine.sender,
                next_route=route,
                next_sender=sender,
                rule="routing.failover" if route is not None else None,
                evidence=f"next by {sender}" if sender is not None else None,
            )
        case Unknown(why):
            return _unknown(message, mine, "unknown", why, now, horizons, begun_at)
        case _:
            assert_never(outcome)


def _accepted(
    message: Recorded,
    queued: Queued | None,
    attempt: int,
    outcome: Accepted,
    now: datetime,
    horizons: Horizons,
    begun_at: datetime | None,
) -> Change | None:
    if may_move(message.state, State.SENT):
        way = queued.way() if queued is not None else {}
        return _move(
            message,
            queued,
            "sent",
            State.SENT,
            Reason.ACCEPTED,
            final=False,
            provider_message_id=outcome.provider_message_id,
            parts=outcome.parts if outcome.parts is not None and 0 < outcome.parts <= _MOST_PARTS else None,
            begun_at=begun_at,
            settle_by=None if message.final else now + horizons.sent_final_after,
            **{**way, "attempt": attempt},
        )
    if message.provider_message_id == outcome.provider_message_id:
        return None
    return contradicted(message, queued, outcome.provider_message_id, "answer")


def _unknown(
    message: Recorded, queued: Queued, step: str, why: str, now: datetime, horizons: Horizons, begun_at: datetime | None
) -> Change:
    return _move(
        message,
        queued,
        step,
        State.UNKNOWN,
        Reason.NO_ANSWER,
        final=False,
        code=why,
        begun_at=begun_at,
        settle_by=now + horizons.unknown_after,
        check_at=now + min(horizons.first_look, horizons.unknown_after / 2),
        **queued.way(),
    )


def rescue(message: Recorded, queued: Queued, now: datetime, horizons: Horizons, *, why: str = "lease_over") -> Change:
    """A claim that its worker no longer answers for: unmarked, it has surely not started and waits again; marked, nobody can say.

    A marked message that something has already been learned of never gets here: it left the queue.
    """
    if queued.state == "marked":
        return _unknown(message, queued, "rescued", why, now, horizons, queued.marked_at)
    return put_back(queued, now, step="rescued")


def report(message: Recorded, queued: Queued | None, receipt: Receipt, now: datetime, horizons: Horizons) -> Change | None:
    """What a status callback changes; None when it says nothing new.

    Any callback for an attempt proves that the attempt was accepted, also one whose own status (``sending``) says little.
    """
    return _learn(
        message,
        queued,
        State(receipt.state or "sent"),
        receipt.code,
        receipt.filtered,
        now,
        horizons,
        attempt=receipt.attempt,
        account=receipt.account,
        provider_message_id=receipt.provider_message_id,
        parts=None,
        evidence="callback",
    )


def prove(message: Recorded, found: ListedText, now: datetime, horizons: Horizons) -> Change | None:
    """What a match in the provider's list changes of a message whose outcome is unknown."""
    return _learn(
        message,
        None,
        State(found.state or "sent"),
        found.code,
        found.filtered,
        now,
        horizons,
        attempt=message.attempt,
        account=message.account,
        provider_message_id=found.provider_message_id,
        parts=found.parts,
        evidence="list",
    )


def _learn(
    message: Recorded,
    queued: Queued | None,
    state: State,
    code: str | None,
    filtered: bool,
    now: datetime,
    horizons: Horizons,
    *,
    attempt: int,
    account: str | None,
    provider_message_id: str,
    parts: int | None,
    evidence: str,
) -> Change | None:
    known = message.provider_message_id
    if known is not None and known != provider_message_id:
        return contradicted(message, queued, provider_message_id, evidence)
    if not may_move(message.state, state):
        ended_without_request = known is None and message.state not in (State.SENT, State.DELIVERED, State.UNDELIVERED)
        return contradicted(message, queued, provider_message_id, evidence) if ended_without_request else None
    if message.final and message.state is not State.UNKNOWN:
        return None  # only an unknown is corrected, and once
    reported: ReportedState = "sent" if state is State.SENT else "delivered" if state is State.DELIVERED else "undelivered"
    reason = Reason.FILTERED if filtered and reported == "undelivered" else _REPORTED_REASON[reported]
    settled = state is not State.SENT
    return _move(
        message,
        queued,
        reported,
        state,
        reason,
        final=settled,
        provider_message_id=provider_message_id,
        parts=parts,
        code=code,
        begun_at=queued.marked_at if queued is not None else None,
        settle_by=None if settled or message.final else now + horizons.sent_final_after,
        evidence=evidence,
        **{**(queued.way() if queued is not None else {}), "attempt": attempt, "account": account},
    )


def contradicted(message: Recorded, queued: Queued | None, provider_message_id: str, evidence: str) -> Change:
    """The provider speaks of an acceptance that ours do not know of: a second one, or one of a message that had ended.

    The state stays; the audit keeps it and a metric that must stay 0 counts it.
    """
    return Change(
        uid=message.uid,
        tenant=message.tenant,
        step="contradicted",
        number=_steps(message, queued),
        code=provider_message_id,
        evidence=evidence,
    )


def look_again(message: Recorded, check_at: datetime) -> Change:
    """Evidence was looked for and not found: look again later."""
    return Change(
        uid=message.uid, tenant=message.tenant, step="looked", number=message.steps + 1, check_at=check_at, evidence="none"
    )


def give_up_waiting(message: Recorded) -> Change:
    """The time for news is over: ``sent`` or ``unknown`` is final as it stands."""
    reason = Reason.NO_EVIDENCE if message.state is State.UNKNOWN else Reason.NO_RECEIPT
    return _move(message, None, "settled", message.state, reason, final=True)
