"""Hearing: which sender of ours a text is to, whom it is for and which word it says, by the policies alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from gateway.domain.consent import ConsentKey
from gateway.domain.errors import BadWebhook
from gateway.domain.personal import PhoneNumber
from gateway.domain.phone import BadNumber, normal_form
from gateway.domain.policy import Policy
from gateway.domain.reports import InboundText, OptOutType
from gateway.domain.senders import SenderUse
from gateway.domain.words import Word, WordKind, read
from gateway.flow.conversation import LastText
from gateway.flow.stop import InboundNote, key_for
from gateway.flow.vault import SYSTEM_TENANT

__all__ = ["Heard", "keys_of", "person_of", "senders_of", "whom_for", "word_of"]


@dataclass(frozen=True, slots=True)
class Heard:
    """A text with all that is known of it."""

    text: InboundText
    use: SenderUse | None
    keys: list[ConsentKey]
    whom: tuple[str, str] | None
    policy: Policy | None
    subject_id: bytes
    word: Word | None
    uses: Sequence[SenderUse] = ()
    closed: bool = False
    """Whether it is for a tenant whose customer account is closed: what it says of consent counts, and nothing of it is told or answered."""

    def held_by(self, word: OptOutType) -> tuple[str, str] | None:
        """The account and the sender whose provider says that it took the text for this word, and so holds it; None where it does not."""
        return (self.use.account, self.use.sender) if self.use is not None and self.text.replied == word else None

    def note(self, fate: Literal["stop", "start", "start_not_proven", "help", "other"]) -> InboundNote:
        """What is kept of it."""
        tenant = self.whom[0] if self.whom is not None else SYSTEM_TENANT
        return InboundNote(self.text.account, self.text.provider_message_id, self.text.created_at, fate, tenant, self.subject_id)


def person_of(number: PhoneNumber) -> PhoneNumber:
    """A person's number in its normal form where it has one, as providers tell it where not."""
    normal = normal_form(number.reveal())
    return number if isinstance(normal, BadNumber) else normal


def senders_of(text: InboundText, senders: Mapping[str, SenderUse]) -> list[SenderUse]:
    """The senders of ours that a text was sent to: a messaging service, a number, or a number of a service.

    Raises BadWebhook when it is for a sender of another account.
    """
    known = [use for name in dict.fromkeys((text.service, text.to)) if name and (use := senders.get(name)) is not None]
    uses = [use for use in known if use.account == text.account]
    if known and not uses:
        raise BadWebhook("the text is for a sender of another account")
    return uses


def whom_for(use: SenderUse | None, last: LastText | None) -> tuple[str, str] | None:
    """The tenant and programme that a text is for; None when nobody can say."""
    if last is not None:
        return last.tenant, last.programme
    if use is not None and len(use.tenants) == 1:
        return use.uses[0]
    return None


def word_of(text: InboundText, policy: Policy | None) -> Word | None:
    """The word of the text; what the provider took it for counts as well, and STOP before all."""
    languages = policy.languages if policy is not None else ("en",)
    word = read(text.body, languages)
    if text.replied is None or (word is not None and word.kind == "stop"):
        return word
    if text.replied == "START" and word is not None and word.kind == "yes":
        return word  # providers take every YES for a START; here it is one only from who has opted out
    kind = cast("WordKind", text.replied.lower())
    return word if word is not None and word.kind == kind else Word(kind, languages[0], kind)


def keys_of(uses: Sequence[SenderUse], subject_id: bytes) -> list[ConsentKey]:
    """What a STOP or START to these senders speaks of: all of them."""
    return list(dict.fromkeys(key_for(use, subject_id) for use in uses)) or [key_for(None, subject_id)]
