"""What became of texts, by RingCentral's records: one question for all the events that it answers.

An event comes for every message of a batch, and each call counts. So events are gathered for a moment, and one list of the batch's
messages answers them all. What cannot be asked about now is asked about with the next event: no news is lost for good, as a text
may be, and a webhook that is refused too often ends the subscription.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from gateway.domain.errors import GatewayError
from gateway.domain.reports import OptOutNews
from gateway.domain.webhooks import Reports
from gateway.providers.ringcentral.api import RingCentralRefused
from gateway.providers.ringcentral.errors import OPTED_OUT
from gateway.providers.ringcentral.records import BadRecord
from gateway.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from gateway.providers.ringcentral.lists import Lists
    from gateway.providers.ringcentral.records import Record
    from gateway.providers.ringcentral.webhooks import Outbound

__all__ = ["News"]

MOST_OWED: Final = 1000
MOST_AT_ONCE: Final = 5
# RingCentral lists the last day unless it is told otherwise.
OLDEST: Final = timedelta(days=3)
# Events of the message store name no message. What becomes of a text becomes of it soon.
NEWEST: Final = timedelta(hours=1)

log = get_logger("ringcentral")


class News:
    """Answers the events of one account in one process. ``keep`` calls are left to others."""

    def __init__(self, account: str, lists: Lists, *, gather_seconds: float, keep: int, now: Callable[[], datetime]) -> None:
        self._account = account
        self._lists = lists
        self._gather = gather_seconds
        self._keep = keep
        self._now = now
        self._gathering: dict[Outbound, asyncio.Event] = {}
        self._owed: dict[Outbound, None] = {}

    async def of(self, event: Outbound) -> Reports:
        """What the records say; nothing where another event of the same moment brings the answer."""
        if (others := self._gathering.get(event)) is not None:
            await others.wait()
            return Reports()
        self._gathering[event] = done = asyncio.Event()
        self._owed[event] = None
        try:
            try:
                await asyncio.sleep(self._gather)
            finally:
                del self._gathering[event]  # who comes now may know of more than the answer will
            return await self._ask(event)
        finally:
            done.set()

    async def _ask(self, event: Outbound) -> Reports:
        found: list[Record] = []
        passed_over: list[BadRecord] = []
        for owed in [event, *(other for other in self._owed if other != event)][:MOST_AT_ONCE]:
            try:
                found += await self._records(owed, passed_over)
            except BadRecord as fault:
                passed_over.append(fault)
                if owed.record_id is None:  # a list of which nothing can be read may be whole next time: behind the others
                    self._owed[owed] = self._owed.pop(owed, None)
                    continue
            except RingCentralRefused as refusal:
                if refusal.status not in {400, 404}:
                    break
            except GatewayError:
                break
            self._owed.pop(owed, None)
        for bad in passed_over:
            log.warning("news passed over", account=self._account, why=str(bad))
        while len(self._owed) > MOST_OWED:
            del self._owed[next(iter(self._owed))]
        ours = [record for record in found if not record.inbound]
        return Reports(
            statuses=tuple(news for record in ours for news in record.news(self._account)),
            opt_outs=tuple(
                # Said by then: a text that was refused before a START, and is listed after it, undoes no START.
                OptOutNews(self._account, to, record.sender.reveal(), opted_out=True, at=record.created_at, met=True)
                for record in ours
                if record.code in OPTED_OUT and record.sender is not None
                for to in record.to
            ),
        )

    async def _records(self, subject: Outbound, passed_over: list[BadRecord]) -> list[Record]:
        if subject.batch_id is not None:
            since = self._now() - OLDEST
            return await self._lists.texts("Outbound", since, batch=subject.batch_id, keep=self._keep, passed_over=passed_over)
        if subject.record_id is not None:
            return [await self._lists.one(subject.record_id, keep=self._keep)]
        return await self._lists.texts("Outbound", self._now() - NEWEST, keep=self._keep, passed_over=passed_over)
