"""Look a chain through, record by record, and say where it is not what it was.

What is found is a value. Nothing here can see a chain that was made anew from some record to its end, head included, by somebody who
can write every copy of it: compare the head with one that is kept elsewhere.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal
from uuid import UUID

from gateway.domain.chain import Anchor, Chained, hash_of

__all__ = ["UNSEEN", "ChainCheck", "Finding", "Wrong", "wrong_numbers"]

Wrong = Literal[
    "changed",  # the content does not give the record's own hash
    "unlinked",  # whole by itself, but it does not follow the record before it: one of both was put in another's place
    "missing",  # records in the middle are not there
    "cut",  # records at the end are not there
    "beyond",  # there are more records than the head, or the other copy, knows of
    "twice",  # another record with the same sequence
    "disordered",  # it comes after a later one: two were swapped
    "differs",  # whole by itself, and not what PostgreSQL holds
    "head",  # the head is not the hash of the last record
    "anchor",  # the record is not the one that an anchor was made of
    "unreadable",  # no record of a chain
    "counter",  # a message's own counter says that a record of it is missing, or one too many
]

UNSEEN: Final = (
    "Not seen: a chain that was made anew, from some record to its end, by somebody who can write every copy of it that is looked at; and a"
    " beginning that was taken out of PostgreSQL together with a false note that its time was over."
    " Compare the heads with ones that were noted elsewhere."
)
_SHOWN: Final = 3
_WINDOW: Final = 20_000  # records back that a repeat is compared with: a relay repeats no more than some batches
_SPELT: Final[dict[Wrong, str]] = {
    "changed": "changed: the content does not give the record's hash",
    "unlinked": "does not follow the record before it: one of the two was put in another's place",
    "missing": "missing",
    "cut": "missing at the end",
    "beyond": "more records than are known of",
    "twice": "there twice, with different content",
    "disordered": "comes after a later record",
    "differs": "is not the record that PostgreSQL holds",
    "head": "the head is not the hash of the last record",
    "anchor": "is not the record that the anchor was made of",
    "unreadable": "is no record of a chain",
    "counter": "the message's own counter does not add up",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written. ``sequence`` to ``last`` are records; ``uid`` is a message's, for its counter."""

    what: Wrong
    place: str
    tenant: str = ""
    sequence: int | None = None
    last: int | None = None
    uid: UUID | None = None
    detail: str = ""

    def __str__(self) -> str:
        records = "" if self.sequence is None else f"record {self.sequence}"
        if self.last is not None and self.last != self.sequence:
            records = f"records {self.sequence} to {self.last}"
        about = " ".join(part for part in (self.tenant, records, "" if self.uid is None else f"message {self.uid}") if part)
        return f"{about or 'a record'} in {self.place}: {_SPELT[self.what]}{f' ({self.detail})' if self.detail else ''}"


class ChainCheck:
    """One tenant's chain in one place. ``start`` is what its first record must follow; None where a copy may begin anywhere.

    ``anchors`` are hashes by sequence that records must have. ``repeats`` allows a record to come again unchanged, as a topic's do.
    """

    def __init__(
        self,
        tenant: str,
        place: str,
        start: Anchor | None,
        *,
        anchors: Mapping[int, bytes] | None = None,
        repeats: bool = False,
    ) -> None:
        self.tenant = tenant
        self.findings: list[Finding] = []
        self.records = 0
        self.repeated = 0
        self._place = place
        self._next = None if start is None else start.sequence + 1
        self._previous = None if start is None else start.hash
        self._anchors = anchors or {}
        self._repeats = repeats
        self._hashes: OrderedDict[int, bytes] = OrderedDict()
        self._missing: list[tuple[int, int]] = []

    @property
    def last(self) -> int | None:
        """The highest sequence so far, or that of the start; None before the first record of a copy that may begin anywhere."""
        return None if self._next is None else self._next - 1

    def take(self, link: Chained, at: str = "", *, known: bytes | None = None) -> None:
        """The next record that is there. ``at`` says more exactly where; ``known``: the hash that another copy has for it."""
        whole = hash_of(*link[:-1]) == link.hash
        number = link.sequence
        self.records += 1
        if self._next is not None and number < self._next:
            self._again(link, at, whole=whole, known=known)
            return
        if self._next is not None and number > self._next:
            self._missing.append((self._next, number - 1))
            self._previous = None
        if not whole:
            self._found("changed", number, at)
        elif known is not None and known != link.hash:
            self._found("differs", number, at)
        elif self._previous is not None and link.previous != self._previous:
            self._found("unlinked", number, at)
        elif self._anchors.get(number, link.hash) != link.hash:
            self._found("anchor", number, at)
        # What follows a changed record is bound to what that was: as the other copy has it, else nobody can say.
        self._previous = known if known is not None else link.hash if whole else None
        self._next = number + 1
        self._remember(link)

    def end(self, head: Anchor | None) -> list[Finding]:
        """All that was found, in order. ``head`` is what the last record must be; None where nothing is known of that."""
        for first, last in self._missing:
            self._found("missing", first, last=last)
        self._missing.clear()
        last_one = self.last
        if head is not None and last_one is not None:
            if last_one < head.sequence:
                self._found("cut", last_one + 1, last=head.sequence)
            elif last_one > head.sequence:
                self._found("beyond", head.sequence + 1, last=last_one)
            elif self._previous is not None and self._previous != head.hash:
                self._found("head", head.sequence)
        return sorted(self.findings, key=lambda one: one.sequence or 0)

    def _again(self, link: Chained, at: str, *, whole: bool, known: bytes | None) -> None:
        """A record at or before one that was there already: a repeat, another in its place, or one that comes too late."""
        number = link.sequence
        late = next((gap for gap in self._missing if gap[0] <= number <= gap[1]), None)
        if late is not None:
            self._missing.remove(late)
            self._missing += [gap for gap in ((late[0], number - 1), (number + 1, late[1])) if gap[0] <= gap[1]]
            self._found("disordered" if whole else "changed", number, at)
            self._remember(link)
            return
        before = self._hashes.get(number, known)
        if whole and before == link.hash and self._repeats:
            self.repeated += 1
        else:
            detail = "" if before is not None else "the other one is too far back, or before the beginning"
            self._found("twice" if whole else "changed", number, at, detail=detail)

    def _remember(self, link: Chained) -> None:
        self._hashes[link.sequence] = link.hash
        if len(self._hashes) > _WINDOW:
            self._hashes.popitem(last=False)

    def _found(self, what: Wrong, first: int, at: str = "", *, last: int | None = None, detail: str = "") -> None:
        before = self.findings[-1] if self.findings else None
        if before is not None and before.what == what and (before.last or 0) + 1 == first and last is None:
            self.findings[-1] = replace(before, last=first)  # a run of them is told as one
            return
        place = f"{self._place}, {at}" if at else self._place
        self.findings.append(Finding(what, place, self.tenant, first, last or first, detail=detail))


def wrong_numbers(steps: int, numbers: Sequence[int], *, begun_later: bool) -> str:
    """What is wrong with a message's records by their numbers, which must be 1 to ``steps``; "" for nothing.

    ``begun_later``: the first of them may be gone with what lies before the chain's anchor.
    """
    there = set(numbers)
    first = min(there, default=steps + 1) if begun_later else 1
    missing = [number for number in range(first, steps + 1) if number not in there]
    wrong = [f"number {number} of {steps} is missing" for number in missing[:_SHOWN]]
    if len(missing) > _SHOWN:
        wrong = [f"{len(missing)} of {steps} are missing"]
    wrong += [f"number {number} is there twice" for number in sorted(there) if numbers.count(number) > 1][:_SHOWN]
    wrong += [f"number {number} is one too many" for number in sorted(there) if not 1 <= number <= steps][:_SHOWN]
    return ", ".join(wrong)
