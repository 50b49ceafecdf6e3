"""Providers' webhooks: status callbacks, inbound texts and whatever else a provider reports. Raw ASGI, because every text sent comes
back here.

What is refused is refused before anything is read from the store: size, signature, the attempt's token. Signatures are checked
against the public URL of the settings, whatever ``Host`` a proxy passes on. Nothing about a request is logged; each is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol
from uuid import UUID

from starlette.types import Receive, Scope, Send

from gateway.domain.errors import BadWebhook, Unavailable, WebhookRefused
from gateway.domain.reports import InboundText, OptOutNews, Receipt, StatusNews
from gateway.domain.webhooks import Handshake, Reports, WebhookRequest
from gateway.flow.receipts import ReceiptFate
from gateway.flow.replies import ReplyFate
from gateway.telemetry import Metrics, get_logger
from gateway.web.answers import FAILED, OVERLOADED, UNAVAILABLE, Answer, answer, problem
from gateway.web.bodies import Limits, headers_of, read_body
from gateway.web.room import Room

__all__ = ["AttemptTokens", "OptOuts", "Receipts", "Replies", "WebhookProvider", "Webhooks"]

Kind = Literal["status", "inbound", "events", "other"]

_DONE: Final = answer(204)
# RingCentral takes nothing but 200 for an answer, and ends a subscription that gets none for some minutes.
# https://developers.ringcentral.com/guide/notifications/webhooks/creating-webhooks
_EVENT_DONE: Final = answer(200, media="application/json")
_REFUSALS: Final[dict[str, Answer]] = {
    "not_found": problem(404, "not_found", "There is nothing here", close=True),
    "wrong_method": problem(405, "wrong_method", "Webhooks are sent by POST", headers={"allow": "POST"}, close=True),
    "unknown_account": problem(404, "not_found", "There is nothing here", close=True),
    "bad_token": problem(404, "not_found", "There is nothing here"),
    "unsupported_type": problem(415, "unsupported_type", "The body is not of the type that this provider's webhooks have"),
    "too_large": problem(413, "too_large", "The body is too large", close=True),
    "timed_out": problem(408, "timed_out", "The body did not arrive in time", close=True),
    "unreadable": problem(400, "unreadable", "The body is not what its type says, or not in UTF-8"),
    "bad_signature": problem(403, "bad_signature", "The signature does not match"),
    "foreign_account": problem(403, "foreign_account", "The webhook speaks of an account that is not this one"),
    "malformed": problem(400, "malformed", "The webhook lacks a field, or one is not what it should be"),
    "unavailable": UNAVAILABLE,
    "overloaded": OVERLOADED,
    "failed": FAILED,
}
_LOG = get_logger(__name__)


class WebhookProvider(Protocol):
    """What the web asks of a provider account; see :class:`~gateway.flow.provider.Provider`."""

    @property
    def name(self) -> str: ...
    async def hear(self, request: WebhookRequest) -> Reports | Handshake: ...


class AttemptTokens(Protocol):
    """Reads the token in a callback's URL: the message and attempt, or None when we did not make it for this account."""

    def read(self, token: str, account: str) -> tuple[UUID, int] | None: ...


class Receipts(Protocol):
    """Takes what became of messages; when it returns, what it said is durable."""

    async def receive(self, receipt: Receipt) -> ReceiptFate: ...
    async def learn(self, news: StatusNews) -> ReceiptFate: ...


class Replies(Protocol):
    """Takes an inbound text; when it returns, what it said is durable, and a STOP has waited to be in force."""

    async def receive(self, text: InboundText) -> ReplyFate: ...


class OptOuts(Protocol):
    """Takes what a provider tells of its own list of opt-outs; when it returns, an opt-out has waited to be in force."""

    async def heed(self, news: Sequence[OptOutNews]) -> object: ...


class Webhooks:
    """The ASGI application below ``/webhooks/``; ``accounts`` are by alias.

    ``missed`` is called for every inbound text that is answered with "later" or "failed": with its account's alias when its signature was
    right, with None when it was turned away unread.
    """

    def __init__(
        self,
        *,
        public_url: str,
        accounts: Mapping[str, WebhookProvider],
        tokens: AttemptTokens,
        receipts: Receipts,
        replies: Replies,
        opt_outs: OptOuts,
        metrics: Metrics,
        room: Room,
        limits: Limits | None = None,
        missed: Callable[[str | None], object] = lambda _account: None,
    ) -> None:
        self._public_url = public_url.rstrip("/")
        self._accounts = dict(accounts)
        self._tokens = tokens
        self._receipts = receipts
        self._replies = replies
        self._opt_outs = opt_outs
        self._webhooks_total = metrics.webhooks_total
        self._room = room
        self._limits = limits or Limits()
        self._missed = missed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        provider, alias, tail = _place(scope["path"])
        kind = _kind(tail)
        reply = _DONE
        if not self._room.enter(receipt=kind == "status"):
            result = "overloaded"
            if kind in ("inbound", "events"):
                self._missed(None)
        else:
            try:
                result, reply = await self._result(scope, receive, provider, alias, tail)
            except Unavailable:
                result = "unavailable"
            except Exception as fault:  # noqa: BLE001 -- every webhook is answered and counted; the log says where it failed
                _LOG.error("webhook failed", kind=kind, exc_info=fault)
                result = "failed"
            finally:
                self._room.leave()
        self._webhooks_total.labels(kind=kind, result=result).inc()
        if result != "disconnected":
            await _REFUSALS.get(result, reply).send(send)

    async def _result(
        self, scope: Scope, receive: Receive, provider_name: str, alias: str, tail: tuple[str, ...]
    ) -> tuple[str, Answer]:
        """What became of a webhook, a key of the refusals or the fate of what it said, and how it is answered if it was taken."""
        if not tail:
            return "not_found", _DONE
        if scope["method"] != "POST":
            return "wrong_method", _DONE
        provider = self._accounts.get(alias)
        if provider is None or provider.name != provider_name:
            return "unknown_account", _DONE
        body: bytes | str | None = None
        try:
            async with asyncio.timeout(self._limits.seconds):
                body = await read_body(scope, receive, self._limits.body)
                if isinstance(body, str):
                    return body, _DONE
                named = self._tokens.read(tail[1], alias) if _kind(tail) == "status" else None
                request = WebhookRequest(self._url(scope), tail, headers_of(scope), body, named)
                return await self._take(alias, provider, request)
        except TimeoutError:
            return "timed_out" if body is None else "unavailable", _DONE
        except WebhookRefused as refused:
            return refused.fault, _DONE
        except BadWebhook:
            return "malformed", _DONE

    async def _take(self, alias: str, provider: WebhookProvider, request: WebhookRequest) -> tuple[str, Answer]:
        try:
            heard = await provider.hear(request)
            if isinstance(heard, Handshake):
                return "handshake", answer(200, headers=heard.headers)
            return await self._heed(heard), _EVENT_DONE if _kind(request.tail) == "events" else _DONE
        except BadWebhook:
            raise
        except BaseException:  # the time limit and the end of the process are a cancellation
            if request.tail[0] != "status":
                self._missed(alias)
            raise

    async def _heed(self, reports: Reports) -> str:
        """Texts first: one may be a STOP. The first one's fate stands for all."""
        fates: list[str] = [await self._replies.receive(text) for text in reports.texts]
        if reports.opt_outs:
            await self._opt_outs.heed(reports.opt_outs)
            fates.append("opt_outs")
        fates += [await self._receipts.receive(receipt) for receipt in reports.receipts]
        fates += [await self._receipts.learn(news) for news in reports.statuses]
        return fates[0] if fates else "nothing"

    def _url(self, scope: Scope) -> str:
        """The URL as the provider called it: the public one, not what a proxy made of it."""
        path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8")
        query: bytes = scope.get("query_string") or b""
        return self._public_url + (path + b"?" + query if query else path).decode("latin-1")


def _place(path: str) -> tuple[str, str, tuple[str, ...]]:
    """``/webhooks/{provider}/{account}/…``: the provider, the account, and what stands after it; nothing where it is no such path."""
    match path.split("/"):
        case ["", "webhooks", provider, alias, "inbound" | "events" as what]:
            return provider, alias, (what,)
        case ["", "webhooks", provider, alias, "status", token]:
            return provider, alias, ("status", token)
        case _:
            return "", "", ()


def _kind(tail: tuple[str, ...]) -> Kind:
    match tail:
        case ("status", _):
            return "status"
        case ("inbound",):
            return "inbound"
        case ("events",):
            return "events"
        case _:
            return "other"
