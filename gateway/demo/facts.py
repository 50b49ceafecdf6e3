"""What was published, told, texted and taken, side by side: questions about it that checks and summary ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from gateway.demo.backend import Backend
from gateway.demo.evidence import Evidence, text_key
from gateway.demo.people import BULK, CARRIER_SCRIPTS
from gateway.demo.scenes import Scenes
from gateway.demo.traffic import Message, Traffic
from gateway.demo.watch import Watch
from gateway.domain.events import ConsentEvent, StatusEvent

__all__ = ["HELD_BY_RINGCENTRAL", "TAKEN", "Facts", "ending"]

HELD_BY_RINGCENTRAL: Final = "SMS-RC-413"
"""The code with which RingCentral refuses a text to somebody who has opted out there."""

TAKEN: Final = frozenset({"sent", "delivered", "undelivered"})
"""States of a message that the carrier has accepted."""


class Facts:
    """All sides of one demo."""

    def __init__(self, backend: Backend, watch: Watch, scenes: Scenes, traffic: Traffic, evidence: Evidence) -> None:
        self.backend = backend
        self.watch = watch
        self.scenes = scenes
        self.traffic = traffic
        self.evidence = evidence
        self._by_text: dict[tuple[str, str], Message] = {}
        for message in backend.messages.values():
            number, _, digest = text_key(message.person.number.reveal(), "", message.body)
            self._by_text[number, digest] = message

    def message_of(self, request: dict[str, Any]) -> Message | None:
        """The message that a request in the carrier's book is for; None for an answer of the gateway's own."""
        return self._by_text.get((request["to"], request["body_sha256"]))

    def told(self) -> Iterator[tuple[Message, StatusEvent | None]]:
        """Each message with the last that was told of it."""
        for key, message in self.backend.messages.items():
            yield message, self.watch.latest.get(key)

    def settled(self) -> int:
        """How many messages came to a final state."""
        return sum(event is not None and event.final for _, event in self.told())

    def parts(self, keys: Iterable[tuple[str, str]]) -> list[str]:
        """Who these messages are for: the parts of the cast, and the ids of messages to anybody else."""
        by_ref = {self.traffic.people[part].ref: part for part in CARRIER_SCRIPTS}
        known = (self.backend.messages[key] for key in keys if key in self.backend.messages)
        return sorted(by_ref.get(message.person.ref, message.message_id) for message in known)

    def in_state(self, state: str) -> list[tuple[str, str]]:
        """The messages in a state."""
        return [key for key, event in self.watch.latest.items() if event.state == state]

    def stopped_while_waiting(self) -> int:
        """How many messages were already accepted when a STOP ended them."""
        return sum("blocked" in states and len(states) > 1 for states in self.watch.seen.values())

    def answered_once(self, kind: str) -> tuple[int, int]:
        """How many answers of the gateway's own there must be, and how many the carrier took exactly once.

        A STOP to RingCentral is confirmed by RingCentral, which has the person's word before we do and takes no text of ours after it.
        """
        accepted = self.evidence.accepted()
        keys = [text_key(one.person.number.reveal(), one.sender, one.text) for one in self.scenes.replies if one.kind == kind]
        itself = {key for key in self._refused(HELD_BY_RINGCENTRAL) if key[1] == BULK} if kind == "stop" else set()
        return len(keys), sum(accepted[key] == 1 or (key in itself and not accepted[key]) for key in keys)

    def _refused(self, code: str) -> Iterator[tuple[str, str, str]]:
        for one in self.evidence.requests:
            if one.get("code") == code:
                yield one["to"], one["from"], one["body_sha256"]

    def texts_taken(self) -> Iterator[tuple[dict[str, Any], Message]]:
        """Requests in the carrier's book that it accepted, each with its message; no answers of the gateway's own."""
        for request in self.evidence.requests:
            message = self.message_of(request)
            if message is not None and request["accepted_at"] is not None:
                yield request, message

    def never_taken(self) -> list[tuple[str, str]]:
        """Messages that were under way when the gateway was killed and that the carrier never took: nobody can know that."""
        taken = {message.key for _, message in self.texts_taken()}
        return sorted(self.evidence.interrupted - taken)

    def cut_short(self, message: Message, event: StatusEvent | None) -> bool:
        """Whether a message ended otherwise than it should, as it must where the gateway was killed.

        What it was killed with and the carrier never took is ``unknown``; what nobody was there to hear the end of is ``sent``.
        """
        if ending(event) == "unknown":
            return message.key in self.never_taken()
        requests = [request for request, taken in self.texts_taken() if taken.key == message.key]
        return ending(event) == "sent" and bool(requests) and not any(map(_heard, requests))

    def foreign_texts(self) -> int:
        """Texts that the carrier took and that are neither a message nor an answer that was due."""
        answers = {text_key(one.person.number.reveal(), one.sender, one.text) for one in self.scenes.replies}
        return sum(
            (to, digest) not in self._by_text and (to, sender, digest) not in answers
            for to, sender, digest in self.evidence.accepted()
        )

    def opt_outs_of_known_people(self) -> int:
        """How many opt-outs came into force of which the backend knows whose they are: only theirs can be compared with requests."""
        return sum((tenant, event.recipient_ref or "") in self._numbers() for event, tenant, *_ in self._in_force())

    def _numbers(self) -> dict[tuple[str, str], str]:
        return {
            (message.tenant, message.person.ref): message.person.number.reveal() for message in self.backend.messages.values()
        }

    def begun_after_stop(self) -> list[str]:
        """Messages whose request began while an opt-out was in force, by the carrier's clock, which is this machine's.

        Confirmations and answers to HELP are exempt; they are no messages.
        """
        numbers = self._numbers()
        spans = [(numbers.get((event.tenant, event.recipient_ref or "")), *span) for event, *span in self._in_force()]
        found = []
        for request in self.evidence.requests:
            message = self.message_of(request)
            for number, tenant, programme, begins, ends in spans:
                if (
                    message is not None
                    and (number, tenant) == (request["to"], message.tenant)
                    and programme in ("", message.programme)
                    and begins < request["begun_at"] < ends
                ):
                    found.append(message.message_id)
        return found

    def _in_force(self) -> Iterator[tuple[ConsentEvent, str, str, float, float]]:
        """Every opt-out that came into force: of which tenant and programme, from when, until when."""
        for event in self.watch.consents:
            if event.status == "out" and event.in_force_at is not None:
                undone = [
                    other.written_at.timestamp()
                    for other in self.watch.consents
                    if (other.person, other.scope, other.name) == (event.person, event.scope, event.name)
                    and other.status == "in"
                    and other.version > event.version
                ]
                yield event, event.tenant, event.name, event.in_force_at.timestamp(), min(undone, default=float("inf"))

    def disagreements(self) -> list[str]:
        """Where our state and the carrier's differ. A message of whose end no news was answered may be no more than `sent` for us.

        What RingCentral refuses because of the person's word it takes first, so that it is `undelivered` for us.
        """
        wrong = []
        held = set(self._refused(HELD_BY_RINGCENTRAL))
        taken = {
            key
            for key, message in self.backend.messages.items()
            if text_key(message.person.number.reveal(), BULK, message.body) in held
            and ending(self.watch.latest.get(key)) == "undelivered"
        }
        for request, message in self.texts_taken():
            taken.add(message.key)
            event = self.watch.latest.get(message.key)
            theirs = "undelivered" if request["state"] == "failed" else request["state"]
            if event is None or not (event.state == theirs or (event.state == "sent" and not _heard(request))):
                wrong.append(f"{message.message_id}: {theirs} at the carrier, {ending(event)} here")
        return wrong + [
            f"{key[1]}: {event.state} here, not at the carrier"
            for key, event in self.watch.latest.items()
            if event.state in TAKEN and key not in taken
        ]

    def stories(self) -> dict[str, list[str]]:
        """The steps of those messages whose story was asked for, with the evidence for a step where there is one."""
        return {
            self.parts([key])[0]: [
                f"{step['step']} by {step['evidence']}" if step.get("evidence", "none") != "none" else step["step"]
                for step in steps
            ]
            for key, steps in self.evidence.stories.items()
        }

    def states_told(self) -> dict[str, int]:
        """By state and reason: how many messages the topics say so of."""
        return dict(sorted(Counter(f"{event.state} {event.reason}" for event in self.watch.latest.values()).items()))


def _heard(request: dict[str, Any]) -> bool:
    """Whether the gateway has answered the news of what became of a message in the end."""
    return any(one["http"] in (200, 204) and one["status"].lower() != "sent" for one in request["callbacks"])


def ending(event: StatusEvent | None) -> str:
    """How a message ended, as :attr:`Message.ends` names it."""
    if event is None:
        return "nothing"
    if not event.final:
        return f"{event.state}, not final"
    return f"blocked {event.reason}" if event.state == "blocked" else event.state
