"""Twilio, for the conformance suite."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit
from uuid import UUID

from gateway.domain.outcome import Later, Outcome, Refused
from gateway.domain.reasons import Reason
from gateway.domain.webhooks import WebhookRequest
from gateway.flow.provider import Provider
from gateway.providers.twilio.errors import error_table
from gateway.providers.twilio.provider import Twilio, TwilioAccount
from tests.contract.conformance.subject import NUMBER, WEBHOOKS, Books, Came, Reply, Sent, Subject, with_header
from tests.contract.wire import Received

__all__ = ["TwilioSubject"]

ACCOUNT = "AC" + "0" * 32
TOKEN = "the-auth-token"
MESSAGES = f"/2010-04-01/Accounts/{ACCOUNT}/Messages"


def _sid(number: int) -> str:
    return f"SM{number:032x}"


def _refusal(code: int, status: int = 400) -> dict[str, object]:
    return {"code": code, "message": f"The 'To' number {NUMBER} is wrong", "more_info": "x", "status": status}


class TwilioSubject(Subject):
    label = "twilio"
    sender = "+15005550006"
    longest = 1600
    secrets: Sequence[str] = (TOKEN,)

    @property
    def refusals(self) -> Sequence[tuple[Reply, Outcome]]:
        return (
            *(((400, _refusal(row.code)), row.outcome) for row in error_table()),
            ((401, _refusal(20003, 401)), Later(Reason.CONFIGURATION, "20003", holds="account", operator=True)),
            ((400, _refusal(99999)), Refused(Reason.REFUSED, "99999")),
        )

    @property
    def unreadable(self) -> Sequence[Reply]:
        return ((201, {}), (201, {"sid": "SMx"}), (201, {"sid": None}), (201, {"sid": [_sid(1)]}))

    @property
    def filtered(self) -> Sequence[str]:
        return ("30007",)

    @property
    def too_early(self) -> Reply:
        return (409, _refusal(20009, 409))

    def open(self, url: str, **changed: Any) -> Provider:
        return Twilio(replace(TwilioAccount("main", ACCOUNT, TOKEN, url, 5.0, 8), **changed))

    def is_create(self, request: Received) -> bool:
        return request.method == "POST" and request.target == f"{MESSAGES}.json"

    def asked(self, request: Received) -> list[tuple[str, str]]:
        assert request.form["From"] == self.sender
        return [(request.form["To"], request.form["Body"])]

    def accepts(self, request: Received) -> Reply:
        return 201, self._message(Sent(1, request.form["To"], request.form["Body"]))

    def accepted_id(self, sent: Sent) -> str:
        return _sid(sent.number)

    def throttled(self, seconds: int | None) -> Reply:
        return 429, _refusal(20429, 429), "" if seconds is None else f"Retry-After: {seconds}\r\n"

    def answer(self, request: Received, books: Books) -> Reply:
        parts = urlsplit(request.target)
        if parts.path == f"{MESSAGES}.json":
            return self._list(parts.query, books)
        sid = parts.path.rpartition("/")[2].removesuffix(".json")
        found = [record for record in self._records(books) if record["sid"] == sid]
        if not found:
            return 404, _refusal(20404, 404)
        return (204, b"") if request.method == "DELETE" else (200, found[0])

    def _list(self, query: str, books: Books) -> Reply:
        fields = {name: values[0] for name, values in parse_qs(query).items()}
        page = int(fields.get("Page", "0"))
        records = [
            record
            for record in self._records(books)
            if fields.get("To", record["to"]) == record["to"] and fields.get("From", record["from"]) == record["from"]
        ]
        last = (page + 1) * books.page >= len(records)
        more = urlencode({**fields, "Page": page + 1})
        return 200, {
            "messages": records[page * books.page : (page + 1) * books.page],
            "next_page_uri": None if last else f"{MESSAGES}.json?{more}",
        }

    def _records(self, books: Books) -> list[dict[str, object]]:
        return [*map(self._message, books.sent), *map(self._came, books.came)]

    def _message(self, sent: Sent) -> dict[str, object]:
        return {
            "account_sid": ACCOUNT,
            "body": sent.body,
            "date_created": format_datetime(sent.at),
            "direction": "outbound-api",
            "error_code": None if sent.code is None else int(sent.code),
            "from": sent.sender or self.sender,
            "messaging_service_sid": None,
            "num_segments": "1",
            "sid": _sid(sent.number),
            "status": sent.state or "queued",
            "to": sent.to,
        }

    def _came(self, came: Came) -> dict[str, object]:
        both = {"direction": "inbound", "from": came.person, "to": came.to or self.sender, "status": "received"}
        time = {"date_created": None if came.at is None else format_datetime(came.at)}
        return self._message(Sent(came.number, body=came.body)) | both | time

    def came(self, came: Came) -> WebhookRequest:
        fields = {"MessageSid": _sid(came.number), "From": came.person, "To": came.to or self.sender, "Body": came.body}
        return self._signed(("inbound",), fields)

    def became(self, sent: Sent) -> WebhookRequest:
        fields = {"MessageSid": _sid(sent.number), "From": self.sender, "To": sent.to, "MessageStatus": sent.state or "queued"}
        fields |= {} if sent.code is None else {"ErrorCode": sent.code}
        return replace(self._signed(("status", "token"), fields), named=(UUID(int=sent.number), 1))

    def _signed(self, tail: tuple[str, ...], fields: Mapping[str, str]) -> WebhookRequest:
        form = {"AccountSid": ACCOUNT, **fields}
        url = f"{WEBHOOKS}/twilio/main/{'/'.join(tail)}"
        return _sign(WebhookRequest(url, tail, {"content-type": "application/x-www-form-urlencoded"}, urlencode(form).encode()))

    def forged(self, request: WebhookRequest) -> Mapping[str, WebhookRequest]:
        return {
            "unsigned": with_header(request, x_twilio_signature=None),
            "signed by another": with_header(request, x_twilio_signature=_signature(request, "another-token")),
            "other body": replace(request, body=request.body.replace(b"MessageSid=SM0", b"MessageSid=SM1")),
            "other address": replace(request, url=request.url + "x"),
            "another account's": _sign(replace(request, body=request.body.replace(b"AC0", b"AC1"))),
            "no such address": replace(request, tail=("events",)),
            "another type": with_header(request, content_type="application/json"),
        }

    def malformed(self, request: WebhookRequest) -> Mapping[str, WebhookRequest]:
        return {
            "no id": _sign(replace(request, body=request.body.replace(b"MessageSid", b"OtherSid"))),
            "no such id": _sign(replace(request, body=request.body.replace(b"MessageSid=SM", b"MessageSid=XX"))),
        }


def _signature(request: WebhookRequest, token: str) -> str:
    form = sorted(parse_qsl(request.body.decode(), keep_blank_values=True))
    text = request.url + "".join(f"{name}{value}" for name, value in form)
    return base64.b64encode(hmac.digest(token.encode(), text.encode(), "sha1")).decode()


def _sign(request: WebhookRequest) -> WebhookRequest:
    return with_header(request, x_twilio_signature=_signature(request, TOKEN))
