"""What Twilio's records tell of messaging services: which numbers are theirs, and what they are to send later. Pure functions.

A service chooses its sender when it sends: until then a record has the service and no number. Which numbers a service has stands in
another API, for which an account's credentials need not be good; what it has sent tells it as well, as far as it matters here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twilio.rest.api.v2010.account.message import MessageInstance

__all__ = ["NOT_SCHEDULED_ANY_MORE", "numbers_of", "scheduled_texts"]

NOT_SCHEDULED_ANY_MORE: Final = 30409
"""Twilio's refusal to cancel what has left the state "scheduled". https://www.twilio.com/docs/api/errors/30409"""


def numbers_of(service: str, records: Iterable[MessageInstance]) -> frozenset[str]:
    """The numbers that a messaging service has sent from, as far as these records tell."""
    return frozenset(
        record.from_
        for record in records
        if record.from_ and record.messaging_service_sid == service and str(record.direction).startswith("outbound")
    )


def scheduled_texts(records: Sequence[MessageInstance], to: str, senders: frozenset[str]) -> list[MessageInstance]:
    """What is to be sent to a number from these senders (numbers, or services) at a time that has not come.

    Of a service that has not chosen its number yet: when it has texted the person from one of the senders, it will again, as Twilio's
    sticky sender has it. https://www.twilio.com/docs/messaging/features/message-scheduling
    """
    theirs = {record.messaging_service_sid for record in records if record.messaging_service_sid and record.from_ in senders}
    return [
        record
        for record in records
        if str(record.status) == "scheduled"
        and record.to == to
        and (
            record.from_ in senders
            or record.messaging_service_sid in senders
            or (not record.from_ and record.messaging_service_sid in theirs)
        )
    ]
