"""One message: fetch, redact, cancel, delete."""

from __future__ import annotations

from gateway.simulator.book import Book
from gateway.simulator.records import Message
from gateway.simulator.twilio.checks import Refusal
from gateway.simulator.twilio.render import API_VERSION, message_json

__all__ = ["delete_message", "fetch_message", "update_message"]


def fetch_message(book: Book, account: str, sid: str) -> bytes | Refusal:
    """The message as it is now, or 20404."""
    message = _find(book, account, sid)
    return message if isinstance(message, Refusal) else message_json(message, book.clock()).encode()


def update_message(book: Book, account: str, sid: str, form: dict[str, str]) -> bytes | Refusal:
    """Redact (an empty Body) or cancel (Status=canceled, while scheduled); one at a time."""
    message = _find(book, account, sid)
    if isinstance(message, Refusal):
        return message
    now = book.clock()
    fault: Refusal | None = None
    match form.get("Body"), form.get("Status"):
        case "", None:
            fault = None if message.complete(now) else _not_complete("redact")
        case None, "canceled":
            if message.step(now).status != "scheduled":
                fault = Refusal(409, 30409, "This message cannot be canceled")
        case _:
            fault = Refusal(400, 30400, "Invalid parameters: give an empty Body, or Status=canceled")
    if fault is not None:
        return fault
    message.changed_at = now
    if "Body" in form:
        message.body = ""
    else:
        message.canceled = True
    book.changed()
    return message_json(message, now).encode()


def delete_message(book: Book, account: str, sid: str) -> Refusal | None:
    """Delete a message; 20009 while something may still become of it."""
    message = _find(book, account, sid)
    if isinstance(message, Refusal):
        return message
    if not message.complete(book.clock()):
        return _not_complete("delete")
    message.deleted = True
    message.body = ""
    book.changed()
    return None


def _find(book: Book, account: str, sid: str) -> Message | Refusal:
    message = book.messages.get(sid)
    if message is None or message.deleted or message.account != account:
        uri = f"/{API_VERSION}/Accounts/{account}/Messages/{sid}.json"
        return Refusal(404, 20404, f"The requested resource {uri} was not found")
    return message


def _not_complete(verb: str) -> Refusal:
    return Refusal(409, 20009, f"Cannot {verb} message because delivery has not been completed.")
