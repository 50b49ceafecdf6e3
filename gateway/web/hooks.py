"""Providers' webhooks: status callbacks and inbound texts. Raw ASGI, because every text sent comes back here.

What is refused is refused before anything is read from the store: size, type, signature, the attempt's token. Signatures are checked
against the public URL of the settings, whatever ``Host`` a proxy passes on. Nothing about a request is logged; each is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol
from uuid import UUID

from starlette.types import Receive, Scope, Send

from gateway.domain.errors import BadWebhook, Unavailable
from gateway.domain.reports import InboundText, Receipt
from gateway.flow.receipts import ReceiptFate
from gateway.flow.replies import ReplyFate
from gateway.telemetry import Metrics, get_logger
from gateway.web.answers import FAILED, OVERLOADED, UNAVAILABLE, Answer, answer, problem
from gateway.web.bodies import BodyFault, Limits, header, is_form, parse_form, read_body
from gateway.web.room import Room

__all__ = ["AttemptTokens", "Receipts", "Replies", "WebhookAccount", "WebhookProvider", "Webhooks"]

Form = Sequence[tuple[str, str]]
Kind = Literal["status", "inbound", "other"]

_SIGNATURE: Final = b"x-twilio-signature"
_DONE: Final = answer(204)
_EMPTY_TWIML: Final = answer(200, b'<?xml version="1.0" encoding="UTF-8"?><Response/>', "text/xml")
_REFUSALS: Final[dict[str, Answer]] = {
    "not_found": problem(404, "not_found", "There is nothing here", close=True),
    "wrong_method": problem(405, "wrong_method", "Webhooks are sent by POST", headers={"allow": "POST"}, close=True),
    "unknown_account": problem(404, "not_found", "There is nothing here", close=True),
    "bad_token": problem(404, "not_found", "There is nothing here"),
    "unsupported_type": problem(
        415, "unsupported_type", "Webhooks are forms: application/x-www-form-urlencoded in UTF-8", close=True
    ),
    "too_large": problem(413, "too_large", "The body is too large", close=True),
    "timed_out": problem(408, "timed_out", "The body did not arrive in time", close=True),
    "unreadable": problem(400, "unreadable", "The body is not a form in UTF-8"),
    "bad_signature": problem(403, "bad_signature", "The signature does not match"),
    "foreign_account": problem(403, "foreign_account", "The webhook speaks of an account that is not this one"),
    "malformed": problem(400, "malformed", "The webhook lacks a field, or one is not what it should be"),
    "unavailable": UNAVAILABLE,
    "overloaded": OVERLOADED,
    "failed": FAILED,
}
_LOG = get_logger(__name__)


class WebhookProvider(Protocol):
    """What the web asks of a provider account; see providers/."""

    @property
    def name(self) -> str: ...
    def verify(self, url: str, form: list[tuple[str, str]], signature: str) -> bool: ...
    def read_inbound(self, form: list[tuple[str, str]]) -> InboundText: ...
    def read_receipt(self, form: list[tuple[str, str]], uid: UUID, attempt: int) -> Receipt: ...


class AttemptTokens(Protocol):
    """Reads the token in a callback's URL: the message and attempt, or None when we did not make it for this account."""

    def read(self, token: str, account: str) -> tuple[UUID, int] | None: ...


class Receipts(Protocol):
    """Takes a status callback; when it returns, what it said is durable."""

    async def receive(self, receipt: Receipt) -> ReceiptFate: ...


class Replies(Protocol):
    """Takes an inbound text; when it returns, what it said is durable, and a STOP has waited to be in force."""

    async def receive(self, text: InboundText) -> ReplyFate: ...


@dataclass(frozen=True, slots=True)
class WebhookAccount:
    """A provider account whose webhooks are taken: ``account_sid`` is the provider's own name for it."""

    provider: WebhookProvider
    account_sid: str


class Webhooks:
    """The ASGI application below ``/webhooks/``; ``accounts`` are by alias.

    ``missed`` is called for every inbound text that is answered with "later" or "failed": with True when its signature was right,
    with False when it was turned away unread.
    """

    def __init__(
        self,
        *,
        public_url: str,
        accounts: Mapping[str, WebhookAccount],
        tokens: AttemptTokens,
        receipts: Receipts,
        replies: Replies,
        metrics: Metrics,
        room: Room,
        limits: Limits | None = None,
        missed: Callable[[bool], object] = lambda _verified: None,
    ) -> None:
        self._public_url = public_url.rstrip("/")
        self._accounts = dict(accounts)
        self._tokens = tokens
        self._receipts = receipts
        self._replies = replies
        self._webhooks_total = metrics.webhooks_total
        self._room = room
        self._limits = limits or Limits()
        self._missed = missed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind, alias, token = _route(scope["path"])
        if not self._room.enter(receipt=kind == "status"):
            result = "overloaded"
            if kind == "inbound":
                self._missed(False)
        else:
            try:
                result = await self._result(scope, receive, kind, alias, token)
            except Unavailable:
                result = "unavailable"
            except Exception as fault:  # noqa: BLE001 -- every webhook is answered and counted; the log says where it failed
                _LOG.error("webhook failed", kind=kind, exc_info=fault)
                result = "failed"
            finally:
                self._room.leave()
        self._webhooks_total.labels(kind=kind, result=result).inc()
        if result != "disconnected":
            refusal = _REFUSALS.get(result)
            await (refusal or (_DONE if kind == "status" else _EMPTY_TWIML)).send(send)

    async def _result(self, scope: Scope, receive: Receive, kind: Kind, alias: str, token: str) -> str:
        """What became of a webhook: a key of the refusals, or the fate of what it said."""
        if kind == "other":
            return "not_found"
        if scope["method"] != "POST":
            return "wrong_method"
        account = self._accounts.get(alias)
        if account is None or not scope["path"].startswith(f"/webhooks/{account.provider.name}/"):
            return "unknown_account"
        if not is_form(scope):
            return "unsupported_type"
        body: bytes | BodyFault | None = None
        try:
            async with asyncio.timeout(self._limits.seconds):
                body = await read_body(scope, receive, self._limits.body)
                return body if isinstance(body, str) else await self._read(scope, body, account, kind, alias, token)
        except TimeoutError:
            return "timed_out" if body is None else "unavailable"
        except BadWebhook:
            return "malformed"

    async def _read(self, scope: Scope, body: bytes, account: WebhookAccount, kind: Kind, alias: str, token: str) -> str:
        form = parse_form(body)
        if form is None:
            return "unreadable"
        signature = header(scope, _SIGNATURE)
        if signature is None or not account.provider.verify(self._url(scope), form, signature.decode("latin-1")):
            return "bad_signature"
        # A subaccount's webhooks may be signed with its parent's token.
        if any(name == "AccountSid" and value != account.account_sid for name, value in form):
            return "foreign_account"
        return await self._take(account.provider, form, kind, alias, token)

    async def _take(self, provider: WebhookProvider, form: list[tuple[str, str]], kind: Kind, alias: str, token: str) -> str:
        if kind == "inbound":
            try:
                return await self._replies.receive(provider.read_inbound(form))
            except BadWebhook:
                raise
            except BaseException:  # the time limit and the end of the process are a cancellation
                self._missed(True)
                raise
        named = self._tokens.read(token, alias)
        if named is None:
            return "bad_token"
        return await self._receipts.receive(provider.read_receipt(form, *named))

    def _url(self, scope: Scope) -> str:
        """The URL as the provider called it: the public one, not what a proxy made of it."""
        path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8")
        query: bytes = scope.get("query_string") or b""
        return self._public_url + (path + b"?" + query if query else path).decode("latin-1")


def _route(path: str) -> tuple[Kind, str, str]:
    """``/webhooks/{provider}/{account}/inbound`` and ``/webhooks/{provider}/{account}/status/{token}``."""
    match path.split("/"):
        case ["", "webhooks", _, alias, "inbound"]:
            return "inbound", alias, ""
        case ["", "webhooks", _, alias, "status", token]:
            return "status", alias, token
        case _:
            return "other", "", ""
