"""RingCentral's list of opt-outs: what is told to it, and what it tells. Pure functions.

https://developers.ringcentral.com/guide/messaging/sms/messaging-consent-management. A word holds for one pair of sender and person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.domain.personal import PhoneNumber
from gateway.domain.reports import OptOutNews
from gateway.providers.reading import PERSON
from gateway.providers.ringcentral.errors import error_code
from gateway.providers.ringcentral.records import BadRecord, time_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.flow.provider import OptOutWord, Told

__all__ = ["failed_pairs", "is_about_a_pair", "news_of_consents", "told_records"]

# A parameter that is not valid will not be so tomorrow.
_FOR_GOOD: Final = frozenset({"CMN-101", "CMN-102"})


def told_records(words: Sequence[OptOutWord]) -> dict[str, object]:
    """What people said, as RingCentral takes it."""
    return {
        "records": [
            {
                "from": word.sender,
                "to": word.to.reveal(),
                "optStatus": "OptOut" if word.opted_out else "OptIn",
                "source": "Api",
            }
            for word in words
        ]
    }


def failed_pairs(said: object) -> dict[tuple[str, str], Told]:
    """Which pairs of sender and person were not taken. Raises BadRecord when the answer can't be read: it confirms nothing then."""
    failed = said.get("failedRecords", []) if isinstance(said, dict) else None
    if not isinstance(failed, list):
        raise BadRecord("its answer could not be read")
    fates: dict[tuple[str, str], Told] = {}
    for record in failed:
        sender, to = (record.get("from"), record.get("to")) if isinstance(record, dict) else (None, None)
        if not (isinstance(sender, str) and isinstance(to, str)):
            raise BadRecord("its answer could not be read")
        error = record.get("error")
        code = error_code(error.get("errorCode")) if isinstance(error, dict) else None
        fates[sender, to] = "refused" if code in _FOR_GOOD else "later"
    return fates


def is_about_a_pair(status: int, code: str | None) -> bool:
    """Whether a refusal of all that was told together means what is in some pair of it."""
    return 400 <= status <= 499 and code in _FOR_GOOD


def news_of_consents(account: str, records: Iterable[dict[str, object]]) -> list[OptOutNews]:
    """What the list says. An opt-out counts whoever entered it; an opt-in only where the person said so."""
    news = []
    for record in records:
        sender, to, status = record.get("from"), record.get("to"), record.get("optStatus")
        if not (isinstance(sender, str) and isinstance(to, str) and PERSON.fullmatch(sender) and PERSON.fullmatch(to)):
            continue
        if status == "OptOut" or (status == "OptIn" and record.get("source") == "Recipient"):
            at = time_of(record.get("lastModifiedTime"))
            news.append(OptOutNews(account, PhoneNumber(to), sender, opted_out=status == "OptOut", at=at))
    return news
