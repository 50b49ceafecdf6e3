"""The oldest end of Twilio's list, which it shows from its newest: found by halving the time, in a bounded number of questions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from twilio.base import values

if TYPE_CHECKING:
    from twilio.rest.api.v2010.account.message import MessageInstance, MessageList

__all__ = ["oldest_records"]

_PAGE_SIZE: Final = 1000  # the most that Twilio gives
_QUESTIONS: Final = 24  # halve twenty years to some seconds
_EARLIEST: Final = datetime(2008, 1, 1, tzinfo=UTC)  # before Twilio
_OVERLAP: Final = timedelta(days=1)  # it may round to days in GMT


async def oldest_records(
    messages: MessageList, before: datetime, *, to: str | None, from_: str | None
) -> tuple[list[MessageInstance], bool]:
    """Records that were sent before then, up to a day later among them: all, or a page of the oldest; and whether they are all."""
    last = before + _OVERLAP
    records, more = await _page(messages, last, to, from_)
    if not more:
        return records, True
    first, oldest = _EARLIEST, records
    for _ in range(_QUESTIONS):
        between = first + (last - first) / 2
        records, more = await _page(messages, between, to, from_)
        if records and not more:
            return records, False
        if records:
            last, oldest = between, records
        else:
            first = between
    return oldest, False


async def _page(messages: MessageList, before: datetime, to: str | None, from_: str | None) -> tuple[list[MessageInstance], bool]:
    page = await messages.page_async(
        to=to or values.unset, from_=from_ or values.unset, date_sent_before=before, page_size=_PAGE_SIZE
    )
    return list(page), page.next_page_url is not None
