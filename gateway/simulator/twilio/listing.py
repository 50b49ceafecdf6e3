"""The list of messages: filters by number and by the day or time of sending, and pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Final
from urllib.parse import urlencode

from gateway.simulator.book import Book
from gateway.simulator.records import Message
from gateway.simulator.twilio.checks import Refusal
from gateway.simulator.twilio.render import API_VERSION, message_json

__all__ = ["list_messages"]

_DAY: Final = 24 * 3600
_PAGE_SIZE: Final = 50
_LARGEST_PAGE: Final = 1000
_FILTERS: Final = ("To", "From", "DateSent", "DateSent<", "DateSent>")

Keep = Callable[[Message], bool]


def list_messages(book: Book, account: str, query: Iterable[tuple[str, str]]) -> bytes | Refusal:
    """One page, newest first, as the API answers it. A message that is not yet sent has no date, so no filter on it finds it."""
    asked = dict(query)
    now = book.clock()
    keep = _date_filter(asked, now)
    if keep is None:
        return Refusal(400, 20001, "Invalid parameter: DateSent is not a date")
    size = min(max(_number(asked.get("PageSize"), _PAGE_SIZE), 1), _LARGEST_PAGE)
    page = _number(asked.get("Page"), 0)
    sender = asked.get("From") or None
    token = asked.get("PageToken", "")
    anchor = book.messages.get(token[2:])
    if token and (token[:2] not in {"PA", "PB"} or anchor is None):
        return Refusal(400, 20006, "Invalid page token")
    found = (
        message
        for message in book.newest_first(account, asked.get("To") or None)
        if (sender is None or sender in {message.sender, message.pool_sender}) and keep(message)
    )
    if anchor is not None and token.startswith("PB"):
        before = [message for message in found if message.number > anchor.number]
        shown, more = before[-size:], True
    else:
        if anchor is not None:
            found = (message for message in found if message.number < anchor.number)
        shown = list(islice(found, size))
        more = next(found, None) is not None
    return _page(account, asked, shown, page, size, now, more=more)


def _page(account: str, asked: dict[str, str], shown: list[Message], page: int, size: int, now: float, *, more: bool) -> bytes:
    filters = [(name, asked[name]) for name in _FILTERS if name in asked]

    def uri(number: int, token: str = "") -> str:
        query = [*filters, ("PageSize", str(size)), ("Page", str(number))]
        if token:
            query.append(("PageToken", token))
        return f"/{API_VERSION}/Accounts/{account}/Messages.json?{urlencode(query)}"

    start = page * size
    head = {
        "first_page_uri": uri(0),
        "end": max(start + len(shown) - 1, start),
        "previous_page_uri": uri(page - 1, f"PB{shown[0].sid}") if page > 0 and shown else None,
        "uri": uri(page, asked.get("PageToken", "")),
        "page_size": size,
        "start": start,
        "next_page_uri": uri(page + 1, f"PA{shown[-1].sid}") if more and shown else None,
        "page": page,
    }
    messages = ", ".join(message_json(message, now) for message in shown)
    return f'{json.dumps(head)[:-1]}, "messages": [{messages}]}}'.encode()


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else default


def _date_filter(asked: dict[str, str], now: float) -> Keep | None:
    bounds: list[Callable[[int], bool]] = []
    for name in ("DateSent", "DateSent<", "DateSent>"):
        text = asked.get(name)
        if not text:
            continue
        bound = _read_time(text)
        if bound is None:
            return None
        first, last = bound
        bounds.append(_comparison(name, first, last))
    if not bounds:
        return lambda _message: True

    def keep(message: Message) -> bool:
        sent_at = message.sent_at(now)
        return sent_at is not None and all(holds(int(sent_at)) for holds in bounds)

    return keep


def _comparison(name: str, first: int, last: int) -> Callable[[int], bool]:
    if name == "DateSent>":
        return lambda at: at >= first
    if name == "DateSent<":
        return lambda at: at <= last
    return lambda at: first <= at <= last


def _read_time(text: str) -> tuple[int, int] | None:
    """The first and last second that a filter's value means: a whole day for a date, else one second."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    first = int(at.timestamp())
    return (first, first + _DAY - 1) if len(text) == len("2026-01-31") and "-" in text else (first, first)
