"""The account: what became of every event, by the carrier's own book and the topics. The gateway's word about itself is not asked."""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from tests.chaos.schedule import Outgoing
from tests.chaos.witnessed import Consent, ConsentSeen, TextSent, Witnessed

__all__ = ["Account", "draw_up"]

_ENDED_BY_GATEWAY: Final = ("blocked", "expired", "failed", "canceled")
#: What the carrier may say of a message, by what the gateway said last. The carrier's "" is: it accepted no such message.
_AGREES: Final[Mapping[str, frozenset[str]]] = {
    "delivered": frozenset({"delivered"}),
    "undelivered": frozenset({"undelivered", "failed"}),
    "sent": frozenset({"queued", "sent", "delivered", "undelivered", "failed"}),
    **dict.fromkeys(_ENDED_BY_GATEWAY, frozenset({""})),
}


@dataclass(slots=True)
class Account:
    """Counts to be shown, and violations by promise: each must be empty."""

    counts: dict[str, object] = field(default_factory=dict)
    violations: dict[str, list[str]] = field(default_factory=dict)

    def broken(self) -> dict[str, list[str]]:
        return {promise: found for promise, found in self.violations.items() if found}


@dataclass(frozen=True, slots=True)
class _Request:
    """A create request in the carrier's book; ``published`` is None for an answer of the gateway's own."""

    row: Mapping[str, Any]
    published: Outgoing | None
    uid: UUID

    @property
    def accepted(self) -> bool:
        return self.row["accepted_at"] is not None


@dataclass(frozen=True, slots=True)
class _OptOut:
    """A time in which nothing may begin: from when the opt-out was in force to when the person opted in again."""

    begins: float
    ends: float


_OptOuts = dict[tuple[str, Consent], list[_OptOut]]


def draw_up(witnessed: Witnessed, book: Mapping[str, Any], lease: float) -> Account:
    """The account. ``lease`` in seconds: how much later than its answer a STOP may be in force."""
    by_body = {one.record.body_sha256: one.record for one in witnessed.published if one.record.kind == "message"}
    requests = [_Request(row, by_body.get(row["body_sha256"]), _uid(row["callback"])) for row in book["requests"]]
    outs = _opt_outs(witnessed)
    return Account(
        _counts(witnessed, requests, outs),
        {
            "events neither settled nor dead-lettered": list(witnessed.unsettled()),
            "accepted twice": _twice(requests),
            "begun after STOP was in force": _after_stop(witnessed, requests, outs),
            "STOP answered, and not in force within a lease": _late_stops(witnessed, outs, lease),
            "STOP lost": _lost_stops(witnessed, outs),
            "states that the carrier contradicts": _contradicted(witnessed, requests),
            "requests for another message than their callback says": _crossed(witnessed, requests),
            "begun while paused": _while_paused(witnessed, requests, lease),
            "canceled, and not so": _not_canceled(witnessed),
            "unknown, though a callback proved acceptance": _unheeded(witnessed, requests),
            "webhooks answered 500": _failed_webhooks(witnessed, book),
            "messages whose events have gaps or lost their order": _out_of_order(witnessed),
        },
    )


def _uid(callback: str) -> UUID:
    """The message in a callback's URL: the first 16 bytes of its token."""
    token = callback.rpartition("/")[2]
    return UUID(bytes=base64.urlsafe_b64decode(token)[:16])


def _opt_outs(witnessed: Witnessed) -> _OptOuts:
    """By person and consent. An opt-out lasts until the opt-in of the next version."""
    told: defaultdict[tuple[str, Consent], dict[int, ConsentSeen]] = defaultdict(dict)
    for seen in witnessed.consents:
        told[seen.person, seen.consent][seen.version] = seen
    outs: _OptOuts = {}
    for key, versions in told.items():
        back = {number: seen.at for number, seen in versions.items() if seen.status == "in"}
        outs[key] = [
            _OptOut(seen.at, min((at for later, at in back.items() if later > number), default=float("inf")))
            for number, seen in sorted(versions.items())
            if seen.status == "out"
        ]
    return outs


def _covering(record: Outgoing) -> list[Consent]:
    """The consents by which a person can have opted out of a message."""
    programme = record.programme
    return [(programme.tenant, "tenant", ""), (programme.tenant, "programme", programme.name), ("*", "all", "")]


def _stops(witnessed: Witnessed) -> Iterator[tuple[TextSent, tuple[str, Consent]]]:
    """The STOPs, each with whose consent to what it ends; somebody of whom no event ever told has no message to be stopped."""
    pseudonyms = {
        (one.record.programme.tenant, one.record.person): witnessed.persons[one.message]
        for one in witnessed.published
        if one.message in witnessed.persons
    }
    for sent in witnessed.texts:
        person = pseudonyms.get((sent.text.programme.tenant, sent.text.person))
        if sent.text.word == "STOP" and person is not None:
            yield sent, (person, sent.text.programme.consent)


def _twice(requests: Sequence[_Request]) -> list[str]:
    """By the text, which only one message has, and by the message in the callback's URL, which every request has."""
    texts = Counter(one.published.message_id for one in requests if one.accepted and one.published is not None)
    uids = Counter(one.uid for one in requests if one.accepted)
    found = [f"{message_id}: its text was accepted {count} times" for message_id, count in texts.items() if count > 1]
    return found + [f"{uid}: accepted {count} times" for uid, count in uids.items() if count > 1]


def _after_stop(witnessed: Witnessed, requests: Sequence[_Request], outs: _OptOuts) -> list[str]:
    """Requests whose first byte came to the carrier while an opt-out was in force. The gateway's own answers are exempt."""
    found = []
    for one in requests:
        if one.published is None:
            continue
        person = witnessed.persons.get((one.published.programme.tenant, one.published.message_id), "")
        begun = one.row["begun_at"]
        for consent in _covering(one.published):
            found += [
                f"{one.published.message_id}: begun {begun - out.begins:.3f} s after"
                for out in outs.get((person, consent), ())
                if out.begins < begun < out.ends
            ]
    return found


def _while_paused(witnessed: Witnessed, requests: Sequence[_Request], lease: float) -> list[str]:
    """A pause stops every mark that comes after it: what was marked before has begun within a lease."""
    return [
        f"{one.published.message_id}: begun {one.row['begun_at'] - pause.begins:.3f} s after"
        for one in requests
        for pause in witnessed.pauses
        if one.published is not None
        and (one.published.programme.tenant, one.published.programme.name) == (pause.tenant, pause.programme)
        and pause.begins + lease < one.row["begun_at"] < pause.ends
    ]


def _not_canceled(witnessed: Witnessed) -> list[str]:
    return [
        f"{message[1]}: {'nothing told' if last is None else last.state}"
        for message, last in ((message, witnessed.last.get(message)) for message in sorted(witnessed.canceled))
        if last is None or last.state != "canceled"
    ]


def _unheeded(witnessed: Witnessed, requests: Sequence[_Request]) -> list[str]:
    """The web has taken a callback that carries the attempt: it must have told."""
    proved = {one.uid for one in requests if any(call["http"] in (200, 204) for call in one.row["callbacks"])}
    return [last.message[1] for last in witnessed.last.values() if last.state == "unknown" and last.uid in proved]


def _failed_webhooks(witnessed: Witnessed, book: Mapping[str, Any]) -> list[str]:
    """A web that can't take a webhook says so with 503; 500 is a fault that nobody has thought of."""
    callbacks = [
        f"{'.'.join(witnessed.messages.get(_uid(row['callback']), ('?', '?')))}: its callback"
        for row in book["requests"]
        for call in row["callbacks"]
        if call["http"] == 500
    ]
    return callbacks + [f"text {one['sid']}" for one in book["inbound"] if 500 in one["webhooks"]]


def _late_stops(witnessed: Witnessed, outs: _OptOuts, lease: float) -> list[str]:
    found = []
    for sent, key in _stops(witnessed):
        if sent.answered_at is not None:
            in_force = [out.begins for out in outs.get(key, ()) if out.ends > sent.sent_at]
            late = min(in_force, default=float("inf")) - sent.answered_at
            if late > lease:
                found.append(
                    f"texted at {sent.text.at:.1f} s to {sent.text.programme.name}: in force {late:.1f} s after its answer"
                )
    return found


def _lost_stops(witnessed: Witnessed, outs: _OptOuts) -> list[str]:
    """STOPs that came to nothing, their webhook answered or not: the carrier has them, and its list tells of them.

    Of one that a START undid before it was in force no event tells: the opt-in's version leaves room for it. One that the person followed
    with a START is not judged at all: it may have been found in the list after that.
    """
    began_again: defaultdict[tuple[int, Consent], float] = defaultdict(float)
    for sent in witnessed.texts:
        if sent.text.word == "START":
            again = sent.text.person, sent.text.programme.consent
            began_again[again] = max(began_again[again], sent.sent_at)
    told = {(seen.person, seen.consent, seen.version) for seen in witnessed.consents}
    undone = {
        (seen.person, seen.consent)
        for seen in witnessed.consents
        if seen.status == "in" and seen.version > 1 and (seen.person, seen.consent, seen.version - 1) not in told
    }
    return [
        f"texted at {sent.text.at:.1f} s to {sent.text.programme.name}, answered: {sent.answered_at is not None}"
        for sent, key in _stops(witnessed)
        if key not in undone
        and began_again[sent.text.person, sent.text.programme.consent] < sent.sent_at
        and not any(out.ends > sent.sent_at for out in outs.get(key, ()))
    ]


def _contradicted(witnessed: Witnessed, requests: Sequence[_Request]) -> list[str]:
    at_carrier = _at_carrier(requests)
    return [
        f"{last.message[1]}: {last.state} ({last.reason}), and at the carrier {at_carrier.get(last.uid) or 'never accepted'}"
        for last in witnessed.last.values()
        if last.state in _AGREES and at_carrier.get(last.uid, "") not in _AGREES[last.state]
    ]


def _crossed(witnessed: Witnessed, requests: Sequence[_Request]) -> list[str]:
    return [
        f"{one.published.message_id}: its request names {one.uid}"
        for one in requests
        if one.published is not None
        and witnessed.messages.get(one.uid) != (one.published.programme.tenant, one.published.message_id)
    ]


def _out_of_order(witnessed: Witnessed) -> list[str]:
    """Events may come again, but the first of each version come in order, and none is missing."""
    return [
        f"{message[1]}: versions {versions}"
        for message, versions in witnessed.versions.items()
        if versions != list(range(1, len(versions) + 1))
    ]


def _at_carrier(requests: Sequence[_Request]) -> dict[UUID, str]:
    return {one.uid: one.row["state"] for one in requests if one.accepted}


def _counts(witnessed: Witnessed, requests: Sequence[_Request], outs: _OptOuts) -> dict[str, object]:
    states = Counter(last.state for last in witnessed.last.values())
    at_carrier = _at_carrier(requests)
    unknown = [last for last in witnessed.last.values() if last.state == "unknown"]
    waits = sorted(
        (max(0.0, min(in_force) - sent.sent_at), sent.attempts, sent.text.at)
        for sent, key in _stops(witnessed)
        if sent.answered_at is not None and (in_force := [out.begins for out in outs.get(key, ()) if out.ends > sent.sent_at])
    )
    return {
        "events published": len(witnessed.published),
        "events that the broker never acknowledged": witnessed.unacknowledged,
        "ended as": ", ".join(f"{count} {state}" for state, count in states.most_common()),
        "dead-lettered": f"{len(witnessed.dead_letters)} {dict(Counter(witnessed.dead_letters.values()))}",
        "unknown": len(unknown),
        "unknown, and accepted: the carrier's list could have told": sum(last.uid in at_carrier for last in unknown),
        "create requests, accepted": f"{len(requests)}, {sum(one.accepted for one in requests)}",
        "requests whose client was killed before the answer": sum(one.row["ending"] == "left" for one in requests),
        "answers of the gateway's own": sum(one.accepted and one.published is None for one in requests),
        "texts from people, answered 200": f"{len(witnessed.texts)}, {sum(one.answered_at is not None for one in witnessed.texts)}",
        "STOPs answered 200, in force after": "; ".join(
            f"{name} {waited:.2f} s (at {at:.1f} s, attempt {attempts})"
            for name, share in (("half", 0.5), ("99 %", 0.99), ("all", 1.0))
            for waited, attempts, at in waits[round(share * (len(waits) - 1)) :][:1]
        ),
        "STOPs not answered, found in the carrier's list": sum(
            sent.answered_at is None and bool(outs.get(key)) for sent, key in _stops(witnessed)
        ),
        "programmes paused, messages canceled": f"{len(witnessed.pauses)}, {len(witnessed.canceled)}",
        "events read from the topics": witnessed.events,
    }
