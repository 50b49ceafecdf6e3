"""The account: what became of every event, by the carrier's own book and the topics. The gateway's word about itself is not asked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from tests.chaos.book import Request, requests_of
from tests.chaos.calm import Calm
from tests.chaos.schedule import number_of
from tests.chaos.stops import Stops
from tests.chaos.witnessed import Witnessed

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


def draw_up(witnessed: Witnessed, book: Mapping[str, Any], lease: float, calm: Calm) -> Account:
    """The account. ``lease`` in seconds: how much later than its answer a STOP may be in force. ``calm``: what was hurt when."""
    requests = requests_of(witnessed, book)
    stops = Stops(witnessed, calm, lease)
    return Account(
        _counts(witnessed, requests) | stops.counts(),
        {
            "events neither settled nor dead-lettered": list(witnessed.unsettled()),
            "accepted twice": _twice(requests),
            **stops.violations(requests),
            "states that the carrier contradicts": _contradicted(witnessed, requests),
            "requests for another message, person or sender than theirs": _crossed(witnessed, requests),
            "begun while paused": _while_paused(witnessed, requests, lease),
            "canceled, and not so": _not_canceled(witnessed),
            "unknown, though a callback proved acceptance": _unheeded(witnessed, requests),
            "webhooks answered 500": _failed_webhooks(witnessed, book),
            "messages whose events have gaps or lost their order": _out_of_order(witnessed),
        },
    )


def _twice(requests: Sequence[Request]) -> list[str]:
    """By person and text, whichever sender, account and provider it left by; and by the message in the callback's URL, where there is one.

    No two messages have the same text, but for answers of the gateway's own, which a person may be given twice.
    """
    texts = Counter((one.row["to"], one.published.message_id) for one in requests if one.accepted and one.published is not None)
    uids = Counter(one.uid for one in requests if one.accepted and one.uid is not None)
    found = [f"{message_id}: its text was accepted {count} times" for (_, message_id), count in texts.items() if count > 1]
    return found + [f"{uid}: accepted {count} times" for uid, count in uids.items() if count > 1]


def _while_paused(witnessed: Witnessed, requests: Sequence[Request], lease: float) -> list[str]:
    """A pause stops every mark that comes after it: what was marked before has begun within a lease."""
    return [
        f"{one.published.message_id}: begun {one.row['begun_at'] - pause.begins:.3f} s after"
        for one in requests
        for pause in witnessed.pauses
        if one.published is not None
        and (one.published.programme.tenant, one.published.programme.name) == (pause.tenant, pause.programme)
        and pause.begins + lease < one.begun_at < pause.ends
    ]


def _not_canceled(witnessed: Witnessed) -> list[str]:
    return [
        f"{message[1]}: {'nothing told' if last is None else last.state}"
        for message, last in ((message, witnessed.last.get(message)) for message in sorted(witnessed.canceled))
        if last is None or last.state != "canceled"
    ]


def _unheeded(witnessed: Witnessed, requests: Sequence[Request]) -> list[str]:
    """The web has taken a callback that carries the attempt: it must have told. An event that only says where to look proves nothing."""
    proved = {one.named for one in requests if any(call["http"] in (200, 204) for call in one.row["callbacks"])} - {None}
    return [last.message[1] for last in witnessed.last.values() if last.state == "unknown" and last.uid in proved]


def _failed_webhooks(witnessed: Witnessed, book: Mapping[str, Any]) -> list[str]:
    """A web that can't take a webhook says so with 503; 500 is a fault that nobody has thought of."""
    callbacks = [
        f"{'.'.join(witnessed.messages.get(one.uid, ('?', '?')) if one.uid is not None else '?')}: its callback"
        for one in requests_of(witnessed, book)
        for call in one.row["callbacks"]
        if call["http"] == 500
    ]
    return callbacks + [f"text {one['sid']}" for one in book["inbound"] if 500 in one["webhooks"]]


def _contradicted(witnessed: Witnessed, requests: Sequence[Request]) -> list[str]:
    at_carrier = _at_carrier(requests)
    return [
        f"{last.message[1]}: {last.state} ({last.reason}), and at the carrier {at_carrier.get(last.uid) or 'never accepted'}"
        for last in witnessed.last.values()
        if last.state in _AGREES and at_carrier.get(last.uid, "") not in _AGREES[last.state]
    ]


def _crossed(witnessed: Witnessed, requests: Sequence[Request]) -> list[str]:
    """By the callback's URL; and whoever is texted, and by which sender, must be its message's."""
    found = []
    for one in requests:
        if one.published is None:
            continue
        programme, message_id = one.published.programme, one.published.message_id
        if one.named is not None and witnessed.messages.get(one.named) != (programme.tenant, message_id):
            found.append(f"{message_id}: its request names {one.named}")
        if one.row["to"] != number_of(one.published.person):
            found.append(f"{message_id}: its request was to somebody else")
        if one.row["from"] not in {way.sender for way in programme.ways}:
            found.append(f"{message_id}: its request was from a sender of another programme")
    return found


def _out_of_order(witnessed: Witnessed) -> list[str]:
    """Events may come again, but the first of each version come in order, and none is missing."""
    return [
        f"{message[1]}: versions {versions}"
        for message, versions in witnessed.versions.items()
        if versions != list(range(1, len(versions) + 1))
    ]


def _at_carrier(requests: Sequence[Request]) -> dict[UUID, str]:
    """What the carrier has of each message. One that it took down and never accepted failed, unless another attempt was accepted."""
    kept = sorted((one for one in requests if one.taken_down), key=lambda one: one.accepted)
    return {one.uid: one.row["state"] for one in kept if one.uid is not None}


def _counts(witnessed: Witnessed, requests: Sequence[Request]) -> dict[str, object]:
    states = Counter(last.state for last in witnessed.last.values())
    at_carrier = _at_carrier(requests)
    unknown = [last for last in witnessed.last.values() if last.state == "unknown"]
    return {
        "events published": len(witnessed.published),
        "events that the broker never acknowledged": witnessed.unacknowledged,
        "ended as": ", ".join(f"{count} {state}" for state, count in states.most_common()),
        "dead-lettered": f"{len(witnessed.dead_letters)} {dict(Counter(witnessed.dead_letters.values()))}",
        "unknown": len(unknown),
        "unknown, and accepted: the carrier's list could have told": sum(last.uid in at_carrier for last in unknown),
        "create requests, accepted": f"{len(requests)}, {sum(one.accepted for one in requests)}",
        **_by_way(requests),
        "requests whose client was killed before the answer": sum(one.row["ending"] == "left" for one in requests),
        "answers of the gateway's own": sum(one.accepted and one.published is None for one in requests),
        "texts from people, answered 200": f"{len(witnessed.texts)}, {sum(one.answered_at is not None for one in witnessed.texts)}",
        "programmes paused, messages canceled": f"{len(witnessed.pauses)}, {len(witnessed.canceled)}",
        "events read from the topics": witnessed.events,
    }


def _by_way(requests: Sequence[Request]) -> dict[str, object]:
    """How the messages went out: by which sender, in how large batches, and which were asked of more than one."""
    ours = [one for one in requests if one.published is not None]
    senders = Counter(one.row["from"] for one in ours if one.accepted)
    tried: defaultdict[UUID | None, set[str]] = defaultdict(set)
    for one in ours:
        tried[one.uid].add(one.row["from"])
    together = Counter((one.row["account"], one.begun_at) for one in requests if one.named is None)
    sizes = sorted(together.values()) or [0]
    parted = {
        (one.row["account"], one.begun_at)
        for one in requests
        if one.named is None and one.row["answer"] == 201 and one.row["code"]
    }
    return {
        "accepted by sender": ", ".join(f"{count} by {sender}" for sender, count in sorted(senders.items())),
        "messages asked of more than one sender": sum(len(some) > 1 for some in tried.values()),
        "requests for batches": f"{len(together)}, of more than one message {sum(size > 1 for size in sizes)}, the largest of {sizes[-1]},"
        f" accepted without some of their messages {len(parted)}",
    }
