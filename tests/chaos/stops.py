"""What became of every STOP, by the carrier's book, the topics and the spool. What a 200 promises hangs on how the STOP was taken.

Taken by PostgreSQL, it is in force, or will be within a lease. Taken by the spool, which answers 5.5 s after the record is there, it is
*written*: nothing of the person's is marked from then on, so that no request begins later than a lease after the answer, and it is applied
once PostgreSQL and Kafka are there (docs/protocol.md). Which way a STOP was answered is told by its record's time: the answer to one
that is younger was not the spool's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos.book import Request
from tests.chaos.calm import SERVERS, Calm, Hurt
from tests.chaos.schedule import Outgoing
from tests.chaos.witnessed import Consent, ConsentSeen, TextSent, Witnessed

__all__ = ["Stops"]

_ANSWERS_AFTER: Final = 5.5
"""Seconds after its record was written at which the spool answers at the earliest."""

_NAME_SECONDS: Final = 3.0
"""For so long an applier that was killed keeps the name, and nobody follows it."""

Key = tuple[str, Consent]
"""A person, as the tenant knows them, and a consent."""

_APPLYING: Final[frozenset[Hurt]] = SERVERS | {"process"}
_PUTTING_IN_FORCE: Final[frozenset[Hurt]] = SERVERS | {"sweep"}


@dataclass(frozen=True, slots=True)
class _OptOut:
    """A time in which nothing may begin: from when the opt-out was in force to when the person opted in again."""

    begins: float
    ends: float
    written_at: float


@dataclass(frozen=True, slots=True)
class _Written:
    """A STOP that stood in the spool from ``at`` on, and that the spool answered; what came of it is None when no event told of any."""

    sent: TextSent
    key: Key
    at: float
    answered_at: float
    opt_out: _OptOut | None


class Stops:
    """The STOPs of a run. ``lease`` in seconds."""

    def __init__(self, witnessed: Witnessed, calm: Calm, lease: float) -> None:
        self._witnessed = witnessed
        self._calm = calm
        self._lease = lease
        self._outs = _opt_outs(witnessed)
        self._texted = list(_texted(witnessed))
        self._undone = _undone(witnessed)
        spooled_at: defaultdict[str, list[float]] = defaultdict(list)
        for record in witnessed.spool:
            spooled_at[record.sid].append(record.at)
        self._written: list[_Written] = []
        self._direct: list[tuple[TextSent, Key, float]] = []
        for sent, key in self._texted:
            if sent.answered_at is not None:
                if answered := [at for at in spooled_at[sent.sid] if at + _ANSWERS_AFTER <= sent.answered_at]:
                    first = min(self._since(sent, key), key=lambda out: out.begins, default=None)
                    self._written.append(_Written(sent, key, min(answered), sent.answered_at, first))
                else:
                    self._direct.append((sent, key, sent.answered_at))

    def violations(self, requests: Sequence[Request]) -> dict[str, list[str]]:
        """What broke a promise, by promise."""
        return {
            "begun after STOP was in force": self._begun(requests, self._outs),
            "begun a lease after STOP was answered as written": self._begun(requests, self._promised()),
            "STOP answered, and not in force within a lease": self._late(),
            "STOP spooled, and not applied within a lease of PostgreSQL being back": self._not_applied(),
            "STOP lost": self._lost(),
        }

    def counts(self) -> dict[str, object]:
        """What is told of them."""
        waits = sorted(
            (max(0.0, min(in_force) - sent.sent_at), sent.attempts, sent.text.at)
            for sent, key, _ in self._direct
            if (in_force := [out.begins for out in self._since(sent, key)])
        )
        applied = sorted(self._applying(one, one.opt_out) for one in self._written if one.opt_out is not None) or [0.0]
        return {
            "STOPs answered 200, in force after": "; ".join(
                f"{name} {waited:.2f} s (at {at:.1f} s, attempt {attempts})"
                for name, share in (("half", 0.5), ("99 %", 0.99), ("all", 1.0))
                for waited, attempts, at in waits[round(share * (len(waits) - 1)) :][:1]
            ),
            "STOPs in the spool, answered by it": f"{len({one.sid for one in self._witnessed.spool})}, {len(self._written)}",
            "of these applied after, in quiet seconds in one piece": f"half {applied[len(applied) // 2]:.2f}, most {applied[-1]:.2f}",
            "STOPs not answered, found in the carrier's list": sum(
                sent.answered_at is None and bool(self._outs.get(key)) for sent, key in self._texted
            ),
        }

    def _since(self, sent: TextSent, key: Key) -> list[_OptOut]:
        """The opt-outs that may be this text's, or were there before it and stood."""
        return [out for out in self._outs.get(key, ()) if out.ends > sent.sent_at]

    def _begun(self, requests: Sequence[Request], outs: Mapping[Key, Sequence[_OptOut]]) -> list[str]:
        """Requests whose first byte came to the carrier in such a time. The gateway's own answers are exempt."""
        found = []
        for one in requests:
            if one.published is None:
                continue
            person = self._witnessed.persons.get((one.published.programme.tenant, one.published.message_id), "")
            for consent in _covering(one.published):
                found += [
                    f"{one.published.message_id}: begun {one.begun_at - out.begins:.3f} s after"
                    for out in outs.get((person, consent), ())
                    if out.begins < one.begun_at < out.ends
                ]
        return found

    def _promised(self) -> dict[Key, list[_OptOut]]:
        """From a lease after the spool's answer, to when the opt-out was in force, or the person had opted in again."""
        back: defaultdict[Key, list[float]] = defaultdict(list)
        for seen in self._witnessed.consents:
            if seen.status == "in":
                back[seen.person, seen.consent].append(seen.at)
        promised: defaultdict[Key, list[_OptOut]] = defaultdict(list)
        for one in self._written:
            ends = [at for at in back[one.key] if at > one.sent.sent_at]
            ends += [one.opt_out.begins] if one.opt_out is not None else []
            promised[one.key].append(_OptOut(one.answered_at + self._lease, min(ends, default=float("inf")), one.answered_at))
        return promised

    def _late(self) -> list[str]:
        found = []
        for sent, key, answered_at in self._direct:
            late = min((out.begins for out in self._since(sent, key)), default=float("inf")) - answered_at
            if late > self._lease:
                found.append(f"{_name(sent)}: in force {late:.1f} s after its answer")
        return found

    def _not_applied(self) -> list[str]:
        """Those for which there was a stretch, without any fault that concerns it, in which it should have been done and was not.

        Of one that a START undid before it was in force no event tells.
        """
        found = []
        for one in self._written:
            if one.opt_out is None:
                if one.key not in self._undone:
                    found.append(f"{_name(one.sent)}: spooled, and never in force")
                continue
            applying = self._applying(one, one.opt_out)
            written = max(one.at, one.opt_out.written_at)
            forcing = self._calm.longest(written, one.opt_out.begins, _PUTTING_IN_FORCE)
            if applying > self._lease + _NAME_SECONDS:
                found.append(f"{_name(one.sent)}: spooled, {applying:.1f} quiet seconds in one piece, and not applied")
            if forcing > self._lease + _NAME_SECONDS:
                found.append(f"{_name(one.sent)}: applied, {forcing:.1f} quiet seconds in one piece, and not in force")
        return found

    def _applying(self, one: _Written, opt_out: _OptOut) -> float:
        return self._calm.longest(one.at, opt_out.written_at, _APPLYING)

    def _lost(self) -> list[str]:
        """STOPs that came to nothing, their webhook answered or not: the carrier has them, and its list tells of them.

        Of one that a START undid before it was in force no event tells: the opt-in's version leaves room for it. One that the person
        followed with a START is not judged at all: it may have been found in the list after that.
        """
        began_again: defaultdict[tuple[int, Consent], float] = defaultdict(float)
        for sent in self._witnessed.texts:
            if sent.text.word == "START":
                again = sent.text.person, sent.text.programme.consent
                began_again[again] = max(began_again[again], sent.sent_at)
        return [
            f"{_name(sent)}, answered: {sent.answered_at is not None}"
            for sent, key in self._texted
            if key not in self._undone
            and began_again[sent.text.person, sent.text.programme.consent] < sent.sent_at
            and not self._since(sent, key)
        ]


def _name(sent: TextSent) -> str:
    return f"texted at {sent.text.at:.1f} s to {sent.text.programme.name}"


def _opt_outs(witnessed: Witnessed) -> dict[Key, list[_OptOut]]:
    """By person and consent. An opt-out lasts until the opt-in of the next version."""
    told: defaultdict[Key, dict[int, ConsentSeen]] = defaultdict(dict)
    for seen in witnessed.consents:
        told[seen.person, seen.consent][seen.version] = seen
    outs: dict[Key, list[_OptOut]] = {}
    for key, versions in told.items():
        back = {number: seen.at for number, seen in versions.items() if seen.status == "in"}
        outs[key] = [
            _OptOut(seen.at, min((at for later, at in back.items() if later > number), default=float("inf")), seen.written_at)
            for number, seen in sorted(versions.items())
            if seen.status == "out"
        ]
    return outs


def _undone(witnessed: Witnessed) -> set[Key]:
    """Who opted in where the version leaves room for an opt-out that no event tells of."""
    told = {(seen.person, seen.consent, seen.version) for seen in witnessed.consents}
    return {
        (seen.person, seen.consent)
        for seen in witnessed.consents
        if seen.status == "in" and seen.version > 1 and (seen.person, seen.consent, seen.version - 1) not in told
    }


def _covering(record: Outgoing) -> list[Consent]:
    """The consents by which a person can have opted out of a message."""
    programme = record.programme
    return [(programme.tenant, "tenant", ""), (programme.tenant, "programme", programme.name), ("*", "all", "")]


def _texted(witnessed: Witnessed) -> Iterator[tuple[TextSent, Key]]:
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
