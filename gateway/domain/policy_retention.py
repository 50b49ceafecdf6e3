"""How long a tenant's policy keeps what there is of a person, by class of data, and by when it answers who asks."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final, Literal, assert_never, get_args

from pydantic import Field, PlainValidator

from gateway.domain.policy_copies import CopiesPeriod
from gateway.domain.policy_part import PolicyPart
from gateway.domain.retention import UNSET, Duration, Span, Unset, merged, read_duration

__all__ = ["CLASSES", "Period", "Retention", "RetentionClass", "Rights"]

RetentionClass = Literal[
    "content", "address", "events", "customer_account", "consent_proof", "dead_letters", "exports", "suppression"
]
CLASSES: Final[tuple[RetentionClass, ...]] = get_args(RetentionClass)

Period = Annotated[Duration | Unset, PlainValidator(read_duration)]
LongestPeriod = Annotated[Duration | Unset, PlainValidator(partial(read_duration, longest=True))]

_MONTH: Final = Duration((Span(30, "d"),))
_WEEK: Final = Duration((Span(7, "d"),))
# Five years from when it was given and from each use: § 7a(2) UWG, https://www.gesetze-im-internet.de/uwg_2004/__7a.html
_PROOF: Final = Duration((Span(60, "mo"),), longest=True)
_SUPPRESSION: Final = Duration((), longest=True, reason="an opt-out must outlive whatever else is erased of the person")


class Retention(PolicyPart):
    """How long each class of data is kept, from when it was made or from when the customer account was closed.

    What holds a message's number or text ends with its content, unless the policy says otherwise: so do address, dead letters and
    exports where they are left out. Several duties merge to the shortest, those of a proof to the longest. No policy has a say in
    suppression: it stays. What is sealed as ``inbound`` is content too; what is sealed as ``consent`` is the proof.
    """

    content: Period = _MONTH  # a message's text and metadata; no request begins after it
    address: Period | None = None  # the number that a message is for; left out: as content
    events: Period = Duration((Span(13, "mo"),))  # what became of messages, and who they were for
    customer_account: Period = Duration(
        (Span(0, "d", closing=True),)
    )  # what is kept of a tenant's customer, whatever the messages
    consent_proof: LongestPeriod = _PROOF  # where, when and to which words a person opted in; from the end of that opt-in
    dead_letters: Period | None = None  # what could not be processed, whole; left out: as content, and 30d at most
    exports: Period | None = None  # files made for a person who asked; left out: as content, and 7d at most
    provider_copies: CopiesPeriod | None = None  # what a provider cannot delete; left out: it stays, and that is said

    def of(self, data_class: RetentionClass) -> Duration | Unset:
        """How long a class of data is kept: what the policy says, or what follows from it."""
        match data_class:
            case "content":
                return self.content
            case "address":
                return self.content if self.address is None else self.address
            case "events":
                return self.events
            case "customer_account":
                return self.customer_account
            case "consent_proof":
                return self.consent_proof
            case "dead_letters":
                return self._content_or(_MONTH) if self.dead_letters is None else self.dead_letters
            case "exports":
                return self._content_or(_WEEK) if self.exports is None else self.exports
            case "suppression":
                return _SUPPRESSION
            case _:
                assert_never(data_class)

    def _content_or(self, most: Duration) -> Duration | Unset:
        """As content, and at most that long."""
        return merged([self.content, most]) if isinstance(self.content, Duration) else UNSET


class Rights(PolicyPart):
    """What is promised to who asks for their data, and by when."""

    # One month of receipt at the latest: GDPR, art. 12(3), https://eur-lex.europa.eu/eli/reg/2016/679/oj
    answer: Period = Duration((Span(1, "mo"),))
    counted_from: Literal["request", "proof_of_identity"] = "request"
    kinds: Annotated[tuple[Literal["access", "rectify", "erase", "restrict", "port", "object"], ...], Field(min_length=1)] = ()
    complaint: Period | None = None  # by when a complaint is answered
