"""What a provider account is told of a person's consent: for one pair of person and sender, as providers keep it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from gateway.domain.consent import Consent, ConsentKey, Reach, covers
from gateway.domain.senders import SenderUse

__all__ = [
    "Holding",
    "Word",
    "is_echo",
    "is_owed",
    "is_said_anew",
    "met_before",
    "opted_out_of",
    "said_at",
    "still_undone",
    "touched",
]

Word = Literal["in", "out"]


@dataclass(frozen=True, slots=True)
class Holding:
    """What an account holds of a pair: ``holds`` for sure, ``said`` if it took what it never answered. ``open``: it is still told.

    ``told_at``: when it last confirmed a word, or was last told an opt-out that it never answered.
    """

    holds: Word | None
    said: Word | None
    open: bool
    refused: bool
    told_at: datetime | None = field(default=None, compare=False)


def touched(keys: Sequence[ConsentKey], senders: Iterable[SenderUse]) -> list[SenderUse]:
    """The senders of which these consents cover some use."""
    return [use for use in senders if any(covers(key, reach) for key in keys for reach in _reaches(use))]


def opted_out_of(use: SenderUse, consents: Sequence[Consent]) -> bool:
    """Whether opt-outs cover *every* use of a sender.

    A provider knows no programmes and no tenants: told of an opt-out it stops the sender's other uses as well.
    """
    outs = [consent.key for consent in consents if consent.status == "out"]
    return all(any(covers(key, reach) for key in outs) for reach in _reaches(use))


def said_at(use: SenderUse, word: Word, consents: Sequence[Consent]) -> datetime | None:
    """When the person last said this word of the sender; None when nothing tells."""
    return max(
        (one.stated_at for one in consents if one.status == word and any(covers(one.key, reach) for reach in _reaches(use))),
        default=None,
    )


def is_owed(word: Word, holding: Holding) -> bool:
    """Whether the account has to be told this word. It has nobody opted out of whom it never heard."""
    if holding.said is not None:
        return True  # also when it was this very word: nobody knows whether it arrived
    return holding.holds != word and not (word == "in" and holding.holds is None)


def is_echo(word: Word, holding: Holding | None) -> bool:
    """Whether news of an account is no more than what it was told, or what it told before. A word that it refused is none of that."""
    return holding is not None and not holding.refused and word in (holding.holds, holding.said)


def is_said_anew(holding: Holding, at: datetime | None, opted_in_at: datetime, within: timedelta) -> bool:
    """Whether an opt-out that an account tells of at ``at`` was surely said after the opt-in that it is still to be told.

    What it was told takes effect within ``within``.
    """
    return holding.open and at is not None and at > max(opted_in_at, holding.told_at or opted_in_at) + within


def met_before(holding: Holding | None, at: datetime | None, apart: timedelta) -> bool:
    """Whether a text of ``at`` met an opt-out that the account has been told since is undone. Its clock may be ``apart`` from ours."""
    return (
        holding is not None
        and holding.holds == "in"
        and holding.told_at is not None
        and (at is None or at <= holding.told_at + apart)
    )


def still_undone(holding: Holding | None) -> bool:
    """Whether the account may hold an opt-out that is about to be undone there: what it refuses for that, it refuses for the old word."""
    return holding is not None and holding.open and "out" in (holding.holds, holding.said)


def _reaches(use: SenderUse) -> list[Reach]:
    return [Reach(tenant, programme, use.sender) for tenant, programme in use.uses]
