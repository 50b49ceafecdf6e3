"""An extension's message store, message by message: fetch and delete.

https://developers.ringcentral.com/api-reference/Message-Store
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gateway.simulator.book import Book
from gateway.simulator.records import Message
from gateway.simulator.ringcentral.account import RingCentralState
from gateway.simulator.ringcentral.errors import Fault, not_found
from gateway.simulator.ringcentral.render import stored_message

__all__ = ["delete_stored", "empty_store", "fetch_stored"]


def fetch_stored(book: Book, state: RingCentralState, sid: str, uri: Callable[[str], str]) -> dict[str, Any] | Fault:
    """One message, deleted or not; a purged one is gone."""
    message = _find(book, state, sid)
    return not_found("messageId") if message is None else stored_message(message, book.clock(), uri, state.settings.extension)


def delete_stored(book: Book, state: RingCentralState, sid: str, *, purge: bool) -> Fault | None:
    """Delete one message; a second time, or with ``purge``, it is gone for good."""
    message = _find(book, state, sid)
    if message is None:
        return not_found("messageId")
    _delete(book, [message], purge=purge)
    return None


def empty_store(book: Book, state: RingCentralState, *, purge: bool) -> None:
    """Delete every message of the store. It is what a DELETE does whose path has no identifier, or an empty one."""
    _delete(book, [one for one in book.newest_first(state.sid, None) if state.in_store(one)], purge=purge)


def _delete(book: Book, messages: Iterable[Message], *, purge: bool) -> None:
    for message in messages:
        if purge or message.binned:
            message.deleted = True
            message.body = ""
        message.binned = True
    book.changed()


def _find(book: Book, state: RingCentralState, sid: str) -> Message | None:
    message = book.messages.get(sid)
    if message is None or message.deleted or message.account != state.sid or not state.in_store(message):
        return None
    return message
