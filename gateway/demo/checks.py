"""The summary is checked, not recited: the topics against the carrier's own book, the database and the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from gateway.demo.facts import TAKEN, Facts, ending
from gateway.demo.ways import batches, delivered_by, opt_outs_astray, taken_by

__all__ = ["Check", "checked", "summary"]

_IN_FORCE_SECONDS: Final = 12.0
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, and what was found. Neither shows a number or a text."""

    name: str
    expected: Any
    found: Any

    @property
    def passed(self) -> bool:
        """Whether it holds."""
        return bool(self.expected == self.found)


def checked(facts: Facts) -> list[Check]:
    """Every check."""
    return [*_accounted(facts), *_ended(facts), *_stopped(facts), *_taken(facts), *_both(facts), *_inside(facts)]


def _accounted(facts: Facts) -> Iterator[Check]:
    """Nothing is lost."""
    backend, watch = facts.backend, facts.watch
    told = {place: letter.reason for place, letter in watch.dead_letters.items()}
    accounted = facts.settled() + len(told) + backend.again
    yield Check("messages in = settled + dead-lettered + repeated", backend.records, accounted)
    yield Check("dead letters that lack their reason or origin", [], _few(backend.malformed.items() ^ told.items()))
    yield Check("messages told of that nobody published", 0, len(watch.latest.keys() - backend.messages.keys()))
    yield Check("events that do not fit their schema, or were lost", [], [*watch.unreadable, *watch.gaps][:_SHOWN])
    letters = Counter(backend.malformed.values())
    yield Check("dead letters in the database", dict(sorted(letters.items())), dict(sorted(facts.evidence.dead_letters.items())))


def _ended(facts: Facts) -> Iterator[Check]:
    """Every message came to the end that it must."""
    wrong = [
        f"{message.message_id}: {ending(event)} instead of {' or '.join(sorted(message.ends))}"
        for message, event in facts.told()
        if ending(event) not in message.ends and not facts.cut_short(message, event)
    ]
    yield Check("messages that ended otherwise than they must", [], _few(wrong))
    lost = sorted(["vanishing", *facts.parts(facts.never_taken())])
    yield Check(
        "unknown: the one that the carrier neither took nor refused, and those of the killed gateway that it never saw",
        lost,
        facts.parts(facts.in_state("unknown")),
    )
    yield Check(
        "evidence: the carrier's list proves the one that it took silently", True, "silent" in facts.parts(facts.evidence.proved)
    )
    stored = {f"{state} {reason}": count for (state, reason), count in facts.evidence.states.items()}
    yield Check("states and reasons in the database", facts.states_told(), dict(sorted(stored.items())))
    stories = facts.stories()
    for part, last in (("silent", "delivered by list"), ("vanishing", "settled")):
        yield Check(f"the last step in the story of the {part} one", last, stories[part][-1] if part in stories else None)


def _stopped(facts: Facts) -> Iterator[Check]:
    """STOP is final, START and HELP are heard."""
    scenes = facts.scenes
    yield Check("scenes that went wrong", [], _few(scenes.troubles))
    stops = sum(reply.kind == "stop" for reply in scenes.replies)
    yield Check("STOPs in force, each within 12 s", stops, sum(one.seconds <= _IN_FORCE_SECONDS for one in scenes.stopped))
    # one more: the carrier itself said of somebody that they had opted out elsewhere
    yield Check("opt-outs told of, each with the backend's name for the person", stops + 1, facts.opt_outs_of_known_people())
    yield Check("requests begun after a STOP was in force", [], _few(facts.begun_after_stop()))
    for kind, name in (
        ("stop", "STOPs confirmed, once each"),
        ("help", "HELPs answered, once each"),
        ("start", "STARTs confirmed, once each"),
    ):
        yield Check(name, *facts.answered_once(kind))
    again = [ending(facts.watch.latest.get(message.key)) for message in scenes.started]
    yield Check("later texts to those who texted START", ["delivered"] * 3, again)
    yield Check(
        "questions passed on to their tenant", scenes.asked, [e.recipient_ref for e in facts.watch.inbound].count("cast-asker")
    )
    yield Check("answers to STOPs that are forged, at either provider", [403], sorted(scenes.forged_answers, key=str))


def _taken(facts: Facts) -> Iterator[Check]:
    """The carrier's own book says the same."""
    yield Check("duplicates at the carrier", 0, facts.evidence.duplicates)
    yield Check("texts that the carrier took more than once", 0, sum(count > 1 for count in facts.evidence.accepted().values()))
    yield Check("texts that the carrier took and nobody wrote", 0, facts.foreign_texts())
    yield Check("states that differ from the carrier's", [], _few(facts.disagreements()))
    yield Check("the carrier was too busy now and then", True, facts.evidence.carrier.get("refused_20429", 0) > 0)


def _both(facts: Facts) -> Iterator[Check]:
    """Both providers took part, and the gateway's sudden end cost nobody a second text."""
    found, sent = batches(facts), taken_by(facts)
    yield Check("both providers took texts", ["ringcentral", "twilio"], list(sent))
    yield Check("RingCentral took texts in batches", True, found["requests"] < sent.get("ringcentral", 0))
    yield Check("texts delivered by RingCentral, as its events say", True, delivered_by(facts, "ringcentral") > 0)
    yield Check("opt-outs and opt-ins that an account was not told", [], _few(opt_outs_astray(facts)))
    yield Check("the gateway was killed with texts under way", True, bool(facts.evidence.interrupted))


def _inside(facts: Facts) -> Iterator[Check]:
    """The gateway's own alarms are silent."""
    yield Check("opt-ins granted by the API", len(facts.traffic.registered), facts.scenes.opted_in)
    yield Check("sms_gateway_sends_after_stop_total", 0, _metric(facts, "sends_after_stop_total"))
    yield Check("sms_gateway_duplicate_sends_total", 0, _metric(facts, "duplicate_sends_total"))
    yield Check("readiness, as an HTTP status", 200, facts.evidence.ready)


def summary(facts: Facts) -> dict[str, Any]:
    """The numbers, as they were found."""
    watch, backend, carrier = facts.watch, facts.backend, facts.evidence.carrier
    states = watch.count()
    milliseconds = sorted(round(one.seconds * 1000, 1) for one in facts.scenes.stopped)
    return {
        "messages_in": backend.records,
        "settled": facts.settled(),
        "dead_lettered": len(watch.dead_letters),
        "repeated": backend.again,
        "sent": sum(states[state] for state in TAKEN),
        "delivered": states["delivered"],
        "states": dict(sorted(states.items())),
        "blocked": dict(sorted(watch.blocked().items())),
        "dead_letters": dict(sorted(Counter(letter.reason for letter in watch.dead_letters.values()).items())),
        "unknown": states["unknown"],
        "evidence_resolved": len(facts.evidence.proved),
        "stories": facts.stories(),
        "stops_in_force": len(milliseconds),
        "stop_in_force_ms": {"median": round(median(milliseconds), 1), "most": milliseconds[-1]} if milliseconds else {},
        "stopped_while_waiting": facts.stopped_while_waiting(),
        "requests_begun_after_stop_in_force": len(facts.begun_after_stop()),
        "duplicates_at_carrier": facts.evidence.duplicates,
        "taken_by": taken_by(facts),
        "batches": batches(facts),
        "under_way_when_killed": len(facts.evidence.interrupted),
        "carrier": {
            name: carrier.get(name, 0) for name in ("requests", "accepted", "refused_20429", "hangs", "inbound", "callbacks")
        },
    }


def _metric(facts: Facts, name: str) -> int | None:
    found = facts.evidence.metrics.get(f"sms_gateway_{name}")
    return None if found is None else int(found)


def _few(found: Iterable[object]) -> list[str]:
    """What was found, in order, and no more of it than can be read."""
    listed = sorted(map(str, found))
    return listed[:_SHOWN] + ([f"and {len(listed) - _SHOWN} more"] if len(listed) > _SHOWN else [])
