"""RingCentral's lists: every record on every page, or a fault. A list with a gap would mislead.

Only where a list is read for news is a record that cannot be read passed over: it would keep back all the others, each time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gateway.domain.errors import ProviderUnavailable
from gateway.providers.ringcentral.records import BadRecord, a2p_record, store_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.providers.ringcentral.api import RingCentralApi
    from gateway.providers.ringcentral.records import Record

__all__ = ["Lists"]

PER_PAGE: Final = 1000  # the most that RingCentral gives
PAGES: Final = 1000  # a list that is longer does not end
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)  # before RingCentral: without a date a list begins yesterday

STORE: Final = "/restapi/v1.0/account/~/extension/~/message-store"
A2P: Final = "/restapi/v1.0/account/~/a2p-sms/messages"
CONSENTS: Final = "/restapi/v2/accounts/~/sms/consents/search"


class Lists:
    """The lists of one account: of high-volume texts, or of its message store. All raise the API's faults, too."""

    def __init__(self, api: RingCentralApi, *, high_volume: bool) -> None:
        self._api = api
        self._high_volume = high_volume

    async def texts(
        self,
        direction: str,
        since: datetime,
        *,
        number: str | None = None,
        batch: str | None = None,
        keep: int = 0,
        passed_over: list[BadRecord] | None = None,
    ) -> list[Record]:
        """Texts of one direction since then: of one number on whichever side, or of one batch.

        With ``passed_over`` what is wrong with a record that cannot be read is put there; else it is a fault.
        """
        query = [("direction", direction), ("perPage", str(PER_PAGE)), ("dateFrom", _written(since))]
        query += [("phoneNumber", number)] if number is not None else []
        if not self._high_volume:
            return await self._numbered([*query, ("messageType", "SMS")], keep, passed_over)
        query += [("batchId", batch)] if batch is not None else []
        return await self._by_token([*query, ("view", "Detailed")], keep, passed_over)

    async def oldest(self, before: datetime, keep: int = 0) -> tuple[list[Record], bool]:
        """The last page of the message store's texts of before then, with the first; and whether there are no more between them."""
        dates = [("dateFrom", _written(EARLIEST)), ("dateTo", _written(before))]
        query = [
            *dates,
            ("messageType", "SMS"),
            ("availability", "Alive"),
            ("availability", "Deleted"),
            ("perPage", str(PER_PAGE)),
        ]
        said = await self._api.call("GET", STORE, "light", query=[*query, ("page", "1")], keep=keep)
        found = {record.name: record for record in map(self._read, _records(said))}
        paging = said.get("paging") if isinstance(said, dict) else None
        pages = paging.get("totalPages") if isinstance(paging, dict) else None
        if not isinstance(pages, int) or pages < 2:
            return list(found.values()), len(found) < PER_PAGE or pages == 1
        said = await self._api.call("GET", STORE, "light", query=[*query, ("page", str(pages))], keep=keep)
        found |= {record.name: record for record in map(self._read, _records(said))}
        return list(found.values()), pages == 2

    async def one(self, record_id: str, keep: int = 0) -> Record:
        """One record by its id."""
        path = f"{A2P if self._high_volume else STORE}/{record_id}"
        return self._read(await self._api.call("GET", path, "light", keep=keep))

    async def newest(self) -> None:
        """Ask for one text, whichever: who may not read them is refused."""
        kind = [] if self._high_volume else [("messageType", "SMS")]
        _records(await self._api.call("GET", A2P if self._high_volume else STORE, "light", query=[*kind, ("perPage", "1")]))

    async def consents(self, wish: dict[str, object], keep: int = 0) -> list[dict[str, object]]:
        """The records of people's opt-outs that match."""
        found: list[dict[str, object]] = []
        token: dict[str, object] = {}
        for _ in range(PAGES):
            said = await self._api.call("POST", CONSENTS, "light", json={**wish, "perPage": PER_PAGE, **token}, keep=keep)
            found += [record for record in _records(said) if isinstance(record, dict)]
            more = _next_token(said)
            if more is None:
                return found
            token = {"pageToken": more}
        raise ProviderUnavailable("the list does not end")

    async def _by_token(self, query: list[tuple[str, str]], keep: int, passed_over: list[BadRecord] | None) -> list[Record]:
        found: list[Record] = []
        token: list[tuple[str, str]] = []
        for _ in range(PAGES):
            said = await self._api.call("GET", A2P, "light", query=[*query, *token], keep=keep)
            found += self._read_all(said, passed_over)
            more = _next_token(said)
            if more is None:
                return found
            token = [("pageToken", more)]
        raise ProviderUnavailable("the list does not end")

    async def _numbered(self, query: list[tuple[str, str]], keep: int, passed_over: list[BadRecord] | None) -> list[Record]:
        """Newest first, so that a text which comes while pages are turned is met twice rather than pushes one out of sight."""
        found: dict[str, Record] = {}
        for page in range(1, PAGES + 1):
            said = await self._api.call("GET", STORE, "light", query=[*query, ("page", str(page))], keep=keep)
            for record in self._read_all(said, passed_over):
                found.setdefault(record.name, record)
            navigation = said.get("navigation") if isinstance(said, dict) else None
            if not isinstance(navigation, dict) or not navigation.get("nextPage"):
                return list(found.values())
        raise ProviderUnavailable("the list does not end")

    def _read_all(self, said: object, passed_over: list[BadRecord] | None) -> list[Record]:
        found = []
        for record in _records(said):
            try:
                found.append(self._read(record))
            except BadRecord as fault:
                if passed_over is None:
                    raise
                passed_over.append(fault)
        return found

    def _read(self, said: object) -> Record:
        read: Callable[[object], Record] = a2p_record if self._high_volume else store_record
        return read(said)


def _records(said: object) -> list[object]:
    records = said.get("records") if isinstance(said, dict) else None
    if not isinstance(records, list):
        raise BadRecord("the list could not be read")
    return records


def _next_token(said: object) -> str | None:
    paging = said.get("paging") if isinstance(said, dict) else None
    token = paging.get("nextPageToken") if isinstance(paging, dict) else None
    return token if isinstance(token, str) and token else None


def _written(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
