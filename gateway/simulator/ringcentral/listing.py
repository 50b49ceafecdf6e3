"""The lists of the two message stores: filters by time, number and direction, and pages of either kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from gateway.simulator.book import Book
from gateway.simulator.records import Message
from gateway.simulator.ringcentral.account import RingCentralState
from gateway.simulator.ringcentral.errors import Fault, parameter
from gateway.simulator.ringcentral.pages import LARGEST, Query, count_asked, one_asked, token_page
from gateway.simulator.ringcentral.render import a2p_message, batch_json, stored_message

__all__ = ["list_a2p", "list_batches", "list_store"]

_DAY: Final = 24 * 3600
_MOST_NUMBERS: Final = 15
_DIRECTIONS: Final = {"Inbound": "inbound", "Outbound": "outbound-api"}


def list_a2p(book: Book, state: RingCentralState, query: Query) -> dict[str, Any] | Fault:
    """A page of the A2P store, newest first; without dates that of the last 24 hours.

    https://developers.ringcentral.com/guide/messaging/sms/high-volume/message-store
    """
    now = book.clock()
    keep = _filter(query, now)
    view = one_asked(query, "view", "Simple")
    numbers = set(query.get("phoneNumber", ()))
    if isinstance(keep, Fault):
        return keep
    if view not in {"Simple", "Detailed"}:
        return parameter("view")
    if len(numbers) > _MOST_NUMBERS:
        return parameter("phoneNumber")
    found: Iterable[Message]
    if "batchId" in query:
        batch = state.batches.get(one_asked(query, "batchId"))
        sids = () if batch is None else reversed(batch.messages)
        found = [message for sid in sids if (message := book.messages.get(sid)) is not None and not message.deleted]
    else:
        found = (message for message in book.newest_first(state.sid, None) if state.in_a2p(message))
    found = (one for one in found if keep(one) and (not numbers or {one.to, one.sender} & numbers))
    return token_page(
        found, query, lambda one: one.number, lambda one: a2p_message(one, now, text=view == "Detailed"), default=LARGEST
    )


def list_batches(book: Book, state: RingCentralState, query: Query) -> dict[str, Any] | Fault:
    """A page of the batches, newest first."""
    now = book.clock()
    bounds = _bounds(query, now)
    if isinstance(bounds, Fault):
        return bounds
    first, last = bounds
    sender, statuses = one_asked(query, "from"), set(query.get("status", ()))
    told = (
        (place, batch_json(batch, [one for sid in batch.messages if (one := book.messages.get(sid))], now))
        for place, batch in reversed(list(enumerate(state.batches.values())))
        if first <= batch.created_at <= last and sender in {"", batch.sender}
    )
    found = (one for one in told if not statuses or one[1]["status"] in statuses)
    return token_page(found, query, lambda one: one[0], lambda one: one[1], default=LARGEST)


def list_store(book: Book, state: RingCentralState, query: Query, uri: Callable[[str], str]) -> dict[str, Any] | Fault:
    """A page of the extension's message store, newest first; without dates that of the last 24 hours."""
    now = book.clock()
    keep = _filter(query, now)
    page, size = count_asked(query, "page", 1), count_asked(query, "perPage", 100)
    if isinstance(keep, Fault):
        return keep
    if page is None or size is None:
        return parameter("page" if page is None else "perPage")
    size = min(size, LARGEST)
    available = set(query.get("availability", ("Alive",)))
    number = one_asked(query, "phoneNumber")
    kinds = query.get("messageType", ["SMS"])
    found = [
        message
        for message in (book.newest_first(state.sid, None) if "SMS" in kinds else ())
        if state.in_store(message)
        and keep(message)
        and ("Deleted" if message.binned else "Alive") in available
        and number in {"", message.to, message.sender}
    ]
    start = (page - 1) * size
    shown = found[start : start + size]
    pages = max(-(-len(found) // size), 1)

    def link(to: int) -> dict[str, str]:
        return {"uri": uri(f"/message-store?{urlencode({**query, 'page': [to], 'perPage': [size]}, doseq=True)}")}

    navigation = {"firstPage": link(1), "lastPage": link(pages)}
    if page < pages:
        navigation["nextPage"] = link(page + 1)
    if page > 1:
        navigation["previousPage"] = link(page - 1)
    paging = {"page": page, "perPage": size, "totalPages": pages, "totalElements": len(found)}
    if shown:
        paging |= {"pageStart": start, "pageEnd": start + len(shown) - 1}
    return {
        "uri": link(page)["uri"],
        "records": [stored_message(message, now, uri, state.settings.extension) for message in shown],
        "paging": paging,
        "navigation": navigation,
    }


def _filter(query: Query, now: float) -> Callable[[Message], bool] | Fault:
    bounds = _bounds(query, now)
    if isinstance(bounds, Fault):
        return bounds
    first, last = bounds
    asked: Sequence[str] = query.get("direction", ())
    if set(asked) - set(_DIRECTIONS):
        return parameter("direction")
    directions = {_DIRECTIONS[one] for one in asked} or set(_DIRECTIONS.values())
    return lambda message: first <= message.created_at <= last and message.direction in directions


def _bounds(query: Query, now: float) -> tuple[float, float] | Fault:
    times: dict[str, float] = {}
    for name in ("dateFrom", "dateTo"):
        if name in query:
            try:
                at = datetime.fromisoformat(query[name][-1])
            except ValueError:
                return parameter(name)
            times[name] = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    last = times.get("dateTo", now)
    return times.get("dateFrom", last - _DAY), last
