"""The calls that answer with what there is, or change it: everything but sending."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.simulator.book import Book
from gateway.simulator.callbacks import Callbacks
from gateway.simulator.ringcentral.account import RingCentralState
from gateway.simulator.ringcentral.errors import Fault, not_found
from gateway.simulator.ringcentral.listing import list_a2p, list_batches, list_store
from gateway.simulator.ringcentral.pages import Query
from gateway.simulator.ringcentral.records import Subscription
from gateway.simulator.ringcentral.render import a2p_message, batch_json
from gateway.simulator.ringcentral.store import delete_stored, empty_store, fetch_stored
from gateway.simulator.wire import Exchange

__all__ = ["ACCOUNT", "EXTENSION", "Answer", "Asked", "Calls"]

ACCOUNT: Final = r"/restapi/v1\.0/account/([^/]+)"
EXTENSION: Final = rf"{ACCOUNT}/extension/([^/]+)"
_V2: Final = r"/restapi/v2/accounts/([^/]+)"
_SUBSCRIPTION: Final = r"/restapi/v1\.0/subscription"

#: What a call answers: JSON for 200, None for 204, or an error.
Answer = dict[str, Any] | None | Fault
Call = Callable[["Asked"], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A call whose caller is known: and the parts of its path."""

    exchange: Exchange
    state: RingCentralState
    path: Sequence[str]

    @property
    def host(self) -> str:
        """The address that the client has used."""
        return f"http://{(self.exchange.header(b'host') or b'platform.ringcentral.com').decode('latin-1')}"

    async def json(self) -> object:
        """The body; None where it is no JSON, or empty."""
        try:
            body: object = json.loads(await self.exchange.body())
        except ValueError:
            return None
        return body

    def query(self) -> Query:
        """The query, with all values of each name."""
        query: Query = {}
        for name, value in self.exchange.query():
            query.setdefault(name, []).append(value)
        return query


class Calls:
    """The calls by method and path, each with its usage plan group."""

    def __init__(self, book: Book, callbacks: Callbacks) -> None:
        self._book = book
        self._callbacks = callbacks
        self.table: dict[tuple[str, str], tuple[str, Call]] = {
            ("GET", f"{ACCOUNT}/a2p-sms/batches"): ("Light", self._list_batches),
            ("GET", f"{ACCOUNT}/a2p-sms/batches/([^/]+)"): ("Light", self._batch),
            ("GET", f"{ACCOUNT}/a2p-sms/messages"): ("Light", self._list_a2p),
            ("GET", f"{ACCOUNT}/a2p-sms/messages/([^/]+)"): ("Light", self._a2p),
            ("GET", f"{EXTENSION}/message-store"): ("Light", self._list_store),
            ("GET", f"{EXTENSION}/message-store/([^/]+)"): ("Light", self._fetch),
            ("DELETE", f"{EXTENSION}/message-store/([^/]+)"): ("Medium", self._delete),
            ("DELETE", f"{EXTENSION}/message-store/?"): ("Medium", self._empty),
            ("GET", f"{_V2}/sms/consents"): ("Light", self._list_consents),
            ("PATCH", f"{_V2}/sms/consents"): ("Light", self._update_consents),
            ("POST", f"{_V2}/sms/consents/search"): ("Light", self._search_consents),
            ("GET", f"{_V2}/sms/consents/history"): ("Light", self._consent_history),
            ("GET", _SUBSCRIPTION): ("Light", self._list_subscriptions),
            ("POST", _SUBSCRIPTION): ("Medium", self._subscribe),
            ("GET", f"{_SUBSCRIPTION}/([^/]+)"): ("Light", self._subscription),
            ("PUT", f"{_SUBSCRIPTION}/([^/]+)"): ("Medium", self._renew),
            ("POST", f"{_SUBSCRIPTION}/([^/]+)/renew"): ("Light", self._renew),
            ("DELETE", f"{_SUBSCRIPTION}/([^/]+)"): ("Medium", self._unsubscribe),
        }

    async def _list_batches(self, asked: Asked) -> Answer:
        return list_batches(self._book, asked.state, asked.query())

    async def _batch(self, asked: Asked) -> Answer:
        batch = asked.state.batches.get(asked.path[-1])
        if batch is None:
            return not_found("batchId")
        kept = [one for sid in batch.messages if (one := self._book.messages.get(sid))]
        return batch_json(batch, kept, self._book.clock())

    async def _list_a2p(self, asked: Asked) -> Answer:
        return list_a2p(self._book, asked.state, asked.query())

    async def _a2p(self, asked: Asked) -> Answer:
        message = self._book.messages.get(asked.path[-1])
        if message is None or message.account != asked.state.sid or not asked.state.in_a2p(message):
            return not_found("messageId")
        return a2p_message(message, self._book.clock(), text=True, whole=True)

    async def _list_store(self, asked: Asked) -> Answer:
        return list_store(self._book, asked.state, asked.query(), asked.state.uri(asked.exchange))

    async def _fetch(self, asked: Asked) -> Answer:
        return fetch_stored(self._book, asked.state, asked.path[-1], asked.state.uri(asked.exchange))

    async def _delete(self, asked: Asked) -> Answer:
        return delete_stored(self._book, asked.state, asked.path[-1], purge=_purge(asked))

    async def _list_consents(self, asked: Asked) -> Answer:
        return asked.state.consents.find(asked.query())

    async def _update_consents(self, asked: Asked) -> Answer:
        updated = asked.state.consents.update(await asked.json())
        if isinstance(updated, Fault):
            return updated
        answer, noted = updated
        self._callbacks.soon(asked.state.tell_consents(noted))
        return answer

    async def _search_consents(self, asked: Asked) -> Answer:
        return asked.state.consents.search(await asked.json())

    async def _consent_history(self, asked: Asked) -> Answer:
        return asked.state.consents.history(asked.query())

    async def _list_subscriptions(self, asked: Asked) -> Answer:
        subscriptions = asked.state.subscriptions
        records = [subscriptions.as_json(one, asked.host) for one in subscriptions.live()]
        return {"uri": f"{asked.host}/restapi/v1.0/subscription", "records": records}

    async def _subscribe(self, asked: Asked) -> Answer:
        return _told(asked, await asked.state.subscriptions.create(await asked.json()))

    async def _subscription(self, asked: Asked) -> Answer:
        return _told(asked, asked.state.subscriptions.find(asked.path[-1]))

    async def _renew(self, asked: Asked) -> Answer:
        return _told(asked, asked.state.subscriptions.renew(asked.path[-1], await asked.json() or {}))

    async def _unsubscribe(self, asked: Asked) -> Answer:
        return asked.state.subscriptions.cancel(asked.path[-1])

    async def _empty(self, asked: Asked) -> Answer:
        empty_store(self._book, asked.state, purge=_purge(asked))
        return None


def _told(asked: Asked, one: Subscription | Fault) -> Answer:
    return one if isinstance(one, Fault) else asked.state.subscriptions.as_json(one, asked.host)


def _purge(asked: Asked) -> bool:
    return asked.query().get("purge", [""])[-1].lower() == "true"
