"""The template, for the conformance suite: what a new provider's subject has to say."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from gateway.domain.outcome import Outcome, Refused
from gateway.domain.reasons import Reason
from gateway.domain.webhooks import WebhookRequest
from gateway.flow.provider import Provider
from tests.contract.conformance.subject import NUMBER, WEBHOOKS, Books, Came, Reply, Sent, Subject, with_header
from tests.contract.conformance.template import ERRORS, Example, ExampleAccount
from tests.contract.wire import Received

__all__ = ["TemplateSubject"]

KEY = "the-api-key"
STATES = {None: "waiting", "sent": "sent", "delivered": "arrived", "undelivered": "failed"}


def _error(code: str) -> dict[str, str]:
    return {"error": code, "message": f"{NUMBER} is wrong"}


class TemplateSubject(Subject):
    label = "template"
    sender = "+15005550006"
    longest = 1600
    secrets: Sequence[str] = (KEY,)

    @property
    def refusals(self) -> Sequence[tuple[Reply, Outcome]]:
        rows: list[tuple[Reply, Outcome]] = [((422, _error(code)), outcome) for code, outcome in ERRORS.items()]
        return [*rows, ((422, _error("brand_new")), Refused(Reason.REFUSED, "http_422"))]

    @property
    def unreadable(self) -> Sequence[Reply]:
        return [(202, {}), (202, {"id": 7}), (202, {"id": "x"})]

    @property
    def filtered(self) -> Sequence[str]:
        return ("spam",)

    @property
    def too_early(self) -> Reply:
        return 409, _error("not_final")

    def open(self, url: str, **changed: Any) -> Provider:
        return Example(replace(ExampleAccount("main", KEY, url, 5.0, 8), **changed))

    def is_create(self, request: Received) -> bool:
        return (request.method, request.target) == ("POST", "/messages")

    def asked(self, request: Received) -> list[tuple[str, str]]:
        said = json.loads(request.body)
        assert said["from"] == self.sender
        return [(said["to"], said["text"])]

    def accepts(self, request: Received) -> Reply:
        return 202, {"id": "m-1"}

    def accepted_id(self, sent: Sent) -> str:
        return f"m-{sent.number}"

    def throttled(self, seconds: int | None) -> Reply:
        return 429, _error("too_fast"), "" if seconds is None else f"Retry-After: {seconds}\r\n"

    def answer(self, request: Received, books: Books) -> Reply:
        parts = urlsplit(request.target)
        records = [*map(self._message, books.sent), *map(self._came, books.came)]
        if parts.path == "/account":
            return 200, {"active": True}
        if parts.path == "/messages":
            wish = dict(parse_qsl(parts.query))
            found = [one for one in records if all(wish.get(key, one[key]) == one[key] for key in ("direction", "from", "to"))]
            first = int(wish.get("after", "0"))
            more = first + books.page < len(found)
            return 200, {"records": found[first : first + books.page], **({"after": str(first + books.page)} if more else {})}
        one = next((one for one in records if parts.path == f"/messages/{one['id']}"), None)
        if one is None:
            return 404, _error("not_found")
        return (204, b"") if request.method == "DELETE" else (200, one)

    def _message(self, sent: Sent) -> dict[str, object]:
        record = {"id": f"m-{sent.number}", "direction": "out", "from": sent.sender or self.sender, "to": sent.to}
        return {**record, "text": sent.body, "state": STATES[sent.state], "error": sent.code, "at": sent.at.isoformat()}

    def _came(self, came: Came) -> dict[str, object]:
        record = {"id": f"m-{came.number}", "direction": "in", "from": came.person, "to": came.to or self.sender}
        return {**record, "text": came.body, "at": None if came.at is None else came.at.isoformat()}

    def came(self, came: Came) -> WebhookRequest:
        return self._signed(("inbound",), self._came(came))

    def became(self, sent: Sent) -> WebhookRequest:
        return replace(self._signed(("status", "token"), self._message(sent)), named=(UUID(int=sent.number), 1))

    def _signed(self, tail: tuple[str, ...], record: Mapping[str, object]) -> WebhookRequest:
        url = f"{WEBHOOKS}/example/main/{'/'.join(tail)}"
        return _sign(WebhookRequest(url, tail, {"content-type": "application/json"}, json.dumps(record).encode()))

    def forged(self, request: WebhookRequest) -> Mapping[str, WebhookRequest]:
        return {
            "unsigned": with_header(request, x_signature=None),
            "another body": replace(request, body=request.body.replace(b"m-1", b"m-2")),
            "another address": replace(request, url=request.url + "x"),
            "no such address": replace(request, tail=("events",)),
        }

    def malformed(self, request: WebhookRequest) -> Mapping[str, WebhookRequest]:
        return {
            "no id": _sign(replace(request, body=request.body.replace(b'"id"', b'"other"'))),
            "no sender": _sign(replace(request, body=request.body.replace(b'"from"', b'"other"'))),
        }


def _sign(request: WebhookRequest) -> WebhookRequest:
    return with_header(request, x_signature=hmac.digest(KEY.encode(), request.url.encode() + request.body, "sha256").hex())
