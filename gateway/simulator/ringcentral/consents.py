"""Consents: who wants no texts from which of our numbers, by a person's own word or by the API.

https://developers.ringcentral.com/guide/messaging/sms/messaging-consent-management
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal

from gateway.simulator.ringcentral.errors import Fault, parameter
from gateway.simulator.ringcentral.pages import Query, token_page
from gateway.simulator.ringcentral.records import Consent
from gateway.simulator.ringcentral.render import consent_json

__all__ = ["Consents", "read_word"]

_OUT: Final = frozenset({"STOP", "UNSUBSCRIBE", "QUIT", "CANCEL", "END"})
_IN: Final = frozenset({"START", "SUBSCRIBE", "RESUME", "CONTINUE", "UNSTOP"})
_E164: Final = re.compile(r"\+[1-9]\d{1,14}")
_EVERY: Final = "*"
_MOST_RECORDS: Final = 1000
_MOST_ASKED: Final = 20
_MOST_HISTORY: Final = 100_000
_SOURCES: Final = frozenset({"Recipient", "Api", "Upstream", "Carrier"})
_COVERAGES: Final = frozenset({"phonenumber", "account", "campaigntype"})
_STATUSES: Final = frozenset({"OptIn", "OptOut"})

Status = Literal["OptIn", "OptOut"]


def read_word(body: str) -> Status | None:
    """What a person's text says of consent: the whole of it one of RingCentral's words, in any case."""
    word = body.strip().upper()
    return "OptOut" if word in _OUT else "OptIn" if word in _IN else None


class Consents:
    """The consents of one account. ``owns`` tells whether a number is one of its own."""

    def __init__(self, clock: Callable[[], float], owns: Callable[[str], bool]) -> None:
        self._clock = clock
        self._owns = owns
        self._number = 0
        self.clear()

    def clear(self) -> None:
        """Nobody has said anything."""
        self._by_person: dict[str, dict[str, Consent]] = {}
        self._history: deque[Consent] = deque(maxlen=_MOST_HISTORY)

    def opted_out(self, sender: str | None, to: str) -> bool:
        """Whether the person wants no texts from this sender: by the word about it, or else about all."""
        said = self._by_person.get(to)
        if said is None:
            return False
        consent = said.get(sender or "") or said.get(_EVERY)
        return consent is not None and consent.status == "OptOut"

    def opt_outs(self) -> Iterator[tuple[str, str]]:
        """Each sender, and the person who wants no texts from it."""
        said = (one for by_sender in self._by_person.values() for one in by_sender.values())
        return ((one.sender, one.to) for one in said if one.status == "OptOut")

    def put(self, sender: str, to: str, status: Status, source: str, coverage: str | None = None) -> Consent:
        """Note a consent. One about all senders takes the place of those about one."""
        self._number += 1
        consent = Consent(self._number, sender, to, status, source, coverage, self._clock())
        said = self._by_person.setdefault(to, {})
        if sender == _EVERY:
            said.clear()
        said[sender] = consent
        self._history.append(consent)
        return consent

    def update(self, body: object) -> tuple[dict[str, Any], list[Consent]] | Fault:
        """``PATCH .../sms/consents``: the answer, and what was noted. A record about a number of somebody else does not hinder the others."""
        records = body.get("records") if isinstance(body, dict) else None
        if not isinstance(records, list) or not 1 <= len(records) <= _MOST_RECORDS:
            return parameter("records")
        for place, record in enumerate(records):
            if (name := _wrong(record)) is not None:
                return parameter(f"records[{place}].{name}")
        failed, noted = [], []
        for record in records:
            if record["from"] == _EVERY or self._owns(record["from"]):
                noted.append(
                    self.put(record["from"], record["to"], record["optStatus"], record["source"], record.get("coverage"))
                )
            else:
                error = {"errorCode": "CMN-102", "message": "Resource for parameter [from] is not found", "parameterName": "from"}
                failed.append({**record, "error": error})
        return ({"failedRecords": failed} if failed else {}), noted

    def search(self, body: object) -> dict[str, Any] | Fault:
        """``POST .../sms/consents/search``: by senders, persons, status and coverage."""
        if not isinstance(body, dict):
            return Fault(400, "CMN-103", "JSON can't be parsed")
        query: Query = {}
        for name in ("from", "to", "coverage"):
            asked = body.get(name)
            if asked is None:
                continue
            if (
                not isinstance(asked, list)
                or not 1 <= len(asked) <= _MOST_ASKED
                or not all(isinstance(one, str) for one in asked)
            ):
                return parameter(name)
            query[name] = asked
        for name in ("optStatus", "pageToken", "perPage"):
            if body.get(name) is not None:
                query[name] = [str(body[name])]
        return self.find(query, usual=())

    def find(self, query: Query, usual: Iterable[str] = ("OptOut",)) -> dict[str, Any] | Fault:
        """``GET .../sms/consents``: latest first; without a status those of the ``usual`` ones, or all."""
        statuses = set(query.get("optStatus", usual)) or _STATUSES
        if statuses - _STATUSES:
            return parameter("optStatus")
        senders, people = set(query.get("from", ())), set(query.get("to", ()))
        coverages = {one.lower() for one in query.get("coverage", ())}
        said = people & set(self._by_person) if people else self._by_person
        found = sorted((one for to in said for one in self._by_person[to].values()), key=lambda one: one.number, reverse=True)
        kept = (
            one
            for one in found
            if one.status in statuses
            and (not senders or one.sender in senders | {_EVERY})
            and (not coverages or (one.coverage or "PhoneNumber").lower() in coverages)
        )
        return token_page(kept, query, lambda one: one.number, lambda one: consent_json(one, "lastModifiedTime"), default=100)

    def history(self, query: Query) -> dict[str, Any] | Fault:
        """``GET .../sms/consents/history``: every word, latest first."""
        people = set(query.get("to", ()))
        if len(people) > _MOST_ASKED:
            return parameter("to")
        kept = (one for one in reversed(self._history) if not people or one.to in people)
        return token_page(kept, query, lambda one: one.number, lambda one: consent_json(one, "createdAt"), default=100)


def _wrong(record: object) -> str | None:
    """The name of the first field of a record that can't be."""
    if not isinstance(record, dict):
        return "from"
    for name in ("from", "to"):
        number = record.get(name)
        if not isinstance(number, str) or not (_E164.fullmatch(number) or (name == "from" and number == _EVERY)):
            return name
    if record.get("optStatus") not in _STATUSES:
        return "optStatus"
    if record.get("source") not in _SOURCES:
        return "source"
    coverage = record.get("coverage")
    return None if coverage is None or str(coverage).lower() in _COVERAGES else "coverage"
