"""RingCentral, for the conformance suite: texts one by one, and high-volume texts in batches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from gateway.domain.outcome import Later, Outcome, Refused
from gateway.domain.reasons import Reason
from gateway.domain.webhooks import WebhookRequest
from gateway.flow.provider import Provider
from gateway.providers.ringcentral.errors import error_table
from gateway.providers.ringcentral.provider import RingCentral, RingCentralAccount
from tests.contract.conformance.subject import NOON, NUMBER, WEBHOOKS, Books, Came, Reply, Sent, Subject, with_header
from tests.contract.wire import Received

__all__ = ["CLIENT_SECRET", "JWT", "VERIFICATION", "RingCentralBatches", "RingCentralSingles"]

CLIENT_SECRET = "the-client-secret"
JWT = "header.claims.the-jwt-signature"
ACCESS = "the-access-token"
VERIFICATION = "the-verification-token"

ACCOUNT = "/restapi/v1.0/account/~"
STORE = f"{ACCOUNT}/extension/~/message-store"
A2P = f"{ACCOUNT}/a2p-sms/messages"

UNLIMITED = "X-Rate-Limit-Limit: 9999\r\nX-Rate-Limit-Window: 60\r\n"

STATES = {None: "Queued", "sent": "Sent", "delivered": "Delivered", "undelivered": "DeliveryFailed"}


def _refusal(code: str, parameter: str | None = None) -> dict[str, object]:
    error = {"errorCode": code, "message": f"The number {NUMBER} is wrong"}
    return {**error, "errors": [error | ({} if parameter is None else {"parameterName": parameter, "parameterValue": NUMBER})]}


class _RingCentral(Subject):
    sender = "+15005550006"
    longest = 1000
    secrets: Sequence[str] = (CLIENT_SECRET, JWT, ACCESS, VERIFICATION)
    high_volume: bool

    @property
    def refusals(self) -> Sequence[tuple[Reply, Outcome]]:
        return (
            *(((400, _refusal(row.code), UNLIMITED), row.outcome) for row in error_table()),
            ((401, _refusal("OAU-146")), Later(Reason.CONFIGURATION, "OAU-146", holds="account", operator=True)),
            ((403, _refusal("CMN-999")), Refused(Reason.REFUSED, "CMN-999")),
            ((400, _refusal("CMN-101", "to.phoneNumber")), Refused(Reason.NOT_TEXTABLE, "CMN-101")),
            ((400, _refusal("CMN-101", "text")), Refused(Reason.REFUSED, "CMN-101")),
            (
                (400, _refusal("CMN-101", "from.phoneNumber")),
                Later(Reason.CONFIGURATION, "CMN-101", holds="sender", operator=True),
            ),
        )

    @property
    def filtered(self) -> Sequence[str]:
        return ("SMS-RC-430", "SMS-UP-430", "SMS-CAR-430")

    def open(self, url: str, **changed: Any) -> Provider:
        account = RingCentralAccount(
            "main", "client", CLIENT_SECRET, JWT, VERIFICATION, self.high_volume, url, 5.0, 8, gather_seconds=0.0
        )
        return RingCentral(replace(account, **changed), now=lambda: NOON)

    def sign_in(self, request: Received) -> Reply | None:
        if request.target != "/restapi/oauth/token":
            return None
        return 200, {
            "access_token": ACCESS,
            "token_type": "bearer",
            "expires_in": 3600,
            "scope": "SMS",
            "owner_id": "1",
            "session_id": "x",
        }

    def throttled(self, seconds: int | None) -> Reply:
        return 429, _refusal("CMN-301"), "" if seconds is None else f"Retry-After: {seconds}\r\n"

    def answer(self, request: Received, books: Books) -> Reply:
        parts = urlsplit(request.target)
        if parts.path == "/restapi/v2/accounts/~/sms/consents/search":
            return self._consents(json.loads(request.body), books)
        if parts.path == "/restapi/v2/accounts/~/sms/consents":
            return 200, {}
        place = A2P if self.high_volume else STORE
        if parts.path == place:
            return self._list(parse_qs(parts.query), books)
        found = [record for record in self._records(books) if parts.path == f"{place}/{record['id']}"]
        if not found:
            return 404, _refusal("CMN-102")
        return (204, b"") if request.method == "DELETE" else (200, found[0])

    def _list(self, query: Mapping[str, Sequence[str]], books: Books) -> Reply:
        fields = {name: values[0] for name, values in query.items()}
        records = [
            record
            for record in self._records(books)
            if record["direction"] == fields.get("direction", record["direction"])
            and fields.get("batchId", record.get("batchId")) == record.get("batchId")
            and fields.get("phoneNumber", NUMBER) in json.dumps([record["from"], record["to"], NUMBER])
        ]
        first = int(fields.get("pageToken", fields.get("page", "1"))) - 1
        some = records[first * books.page : (first + 1) * books.page]
        more = (first + 1) * books.page < len(records)
        return 200, {
            "records": some,
            "paging": {"perPage": books.page, **({"nextPageToken": str(first + 2)} if more else {})},
            "navigation": {"firstPage": {"uri": "x"}, **({"nextPage": {"uri": "https://elsewhere.example"}} if more else {})},
        }

    def _consents(self, wish: Mapping[str, Sequence[str]], books: Books) -> Reply:
        records = [
            {
                "from": word.sender or self.sender,
                "to": word.to,
                "optStatus": "OptOut" if word.opted_out else "OptIn",
                "source": "Recipient",
                "lastModifiedTime": word.at.isoformat(),
            }
            for word in books.words
            if (word.sender or self.sender) in wish["from"] and word.to in wish.get("to", [word.to])
        ]
        return 200, {"records": records, "paging": {"perPage": 1000}}

    def _records(self, books: Books) -> list[dict[str, object]]:
        return [*map(self._message, books.sent), *map(self._came, books.came)]

    def _message(self, sent: Sent) -> dict[str, object]:
        raise NotImplementedError

    def _came(self, came: Came) -> dict[str, object]:
        raise NotImplementedError

    def _event(self, path: str, body: Mapping[str, object]) -> WebhookRequest:
        said = {"uuid": "1", "event": path, "timestamp": NOON.isoformat(), "subscriptionId": "1", "ownerId": "1", "body": body}
        headers = {"content-type": "application/json", "verification-token": VERIFICATION}
        return WebhookRequest(f"{WEBHOOKS}/ringcentral/main/events?token=x", ("events",), headers, json.dumps(said).encode())

    def forged(self, request: WebhookRequest) -> Mapping[str, WebhookRequest]:
        return {
            "no token": with_header(request, verification_token=None),
            "another token": with_header(request, verification_token="another-token"),
            "no ASCII token": with_header(request, verification_token="\u00e9"),
            "half the token": with_header(request, verification_token=VERIFICATION[:-1]),
            "no such address": replace(request, tail=("inbound",)),
        }

    def malformed(self, request: WebhookRequest) -> Mapping[str, WebhookRequest]:
        return {
            "no JSON": replace(request, body=b"{"),
            "no object": replace(request, body=b"[]"),
            "no event": replace(request, body=request.body.replace(b'"event"', b'"other"')),
            "no body": replace(request, body=request.body.replace(b'"body"', b'"other"')),
        }


class RingCentralSingles(_RingCentral):
    label = "ringcentral"
    high_volume = False

    @property
    def unreadable(self) -> Sequence[Reply]:
        return ((200, {}), (200, {"id": 0}), (200, {"id": "x"}), (200, {"id": True}), (200, {"id": [1]}))

    @property
    def too_early(self) -> Reply:
        return (429, _refusal("CMN-301"))

    def is_create(self, request: Received) -> bool:
        return request.method == "POST" and request.target == f"{ACCOUNT}/extension/~/sms"

    def asked(self, request: Received) -> list[tuple[str, str]]:
        said = json.loads(request.body)
        assert said["from"] == {"phoneNumber": self.sender}
        return [(one["phoneNumber"], said["text"]) for one in said["to"]]

    def accepts(self, request: Received) -> Reply:
        ((to, body),) = self.asked(request)
        return 200, self._message(Sent(1, to, body))

    def accepted_id(self, sent: Sent) -> str:
        return f"sms:{sent.number}"

    def _message(self, sent: Sent) -> dict[str, object]:
        return {
            "id": sent.number,
            "type": "SMS",
            "direction": "Outbound",
            "from": {"phoneNumber": sent.sender or self.sender},
            "to": [{"phoneNumber": sent.to}],
            "subject": sent.body,
            "messageStatus": STATES[sent.state],
            "creationTime": sent.at.isoformat(),
            "availability": "Alive",
            **({} if sent.code is None else {"deliveryErrorCode": sent.code}),
        }

    def _came(self, came: Came) -> dict[str, object]:
        return {
            "id": came.number,
            "type": "SMS",
            "direction": "Inbound",
            "from": {"phoneNumber": came.person},
            "to": [{"phoneNumber": came.to or self.sender}],
            "subject": came.body,
            "messageStatus": "Received",
            "creationTime": None if came.at is None else came.at.isoformat(),
        }

    def came(self, came: Came) -> WebhookRequest:
        return self._event(
            "/restapi/v1.0/account/11/extension/12/message-store/instant?type=SMS", {"id": str(came.number), "type": "SMS"}
        )

    def became(self, sent: Sent) -> WebhookRequest:
        changes = [{"type": "SMS", "updatedCount": 1, "newCount": 0}]
        return self._event(
            "/restapi/v1.0/account/11/extension/12/message-store?type=SMS&direction=Outbound", {"changes": changes}
        )


class RingCentralBatches(_RingCentral):
    label = "ringcentral, high volume"
    high_volume = True

    @property
    def unreadable(self) -> Sequence[Reply]:
        rejected: list[object] = [
            {},
            [7],
            [{"index": 0, "errorCode": "SMS-RC-410"}],
            [{"index": 9, "errorCode": "SMS-RC-410"}],
            [{"index": True, "errorCode": "SMS-RC-410"}],
            [{"index": 1, "to": ["+15005550000"], "errorCode": "SMS-RC-410"}],
        ]
        return [(201, {}), (201, {"id": 7}), (201, {"id": "../x"}), *((201, {"id": "b-1", "rejected": one}) for one in rejected)]

    def is_create(self, request: Received) -> bool:
        return request.method == "POST" and request.target == f"{ACCOUNT}/a2p-sms/batches"

    def asked(self, request: Received) -> list[tuple[str, str]]:
        said = json.loads(request.body)
        assert said["from"] == self.sender
        return [(message["to"][0], message["text"]) for message in said["messages"] if len(message["to"]) == 1]

    def accepts(self, request: Received) -> Reply:
        size = len(self.asked(request))
        return 201, {"id": "batch-1", "from": self.sender, "batchSize": size, "status": "Processing", "rejected": []}

    def rejects(self, request: Received, index: int) -> Reply:
        to = self.asked(request)[index][0]
        one = {"index": index + 1, "to": [to], "errorCode": "SMS-RC-410", "description": f"The number {to} is invalid"}
        return 201, {"id": "batch-1", "from": self.sender, "rejected": [one]}

    def accepted_id(self, sent: Sent) -> str:
        return f"a2p:batch-{sent.batch}"

    def _message(self, sent: Sent) -> dict[str, object]:
        return {
            "id": sent.number,
            "batchId": f"batch-{sent.batch}",
            "direction": "Outbound",
            "from": sent.sender or self.sender,
            "to": [sent.to],
            "text": sent.body,
            "messageStatus": STATES[sent.state],
            "creationTime": sent.at.isoformat(),
            "segmentCount": 1,
            **({} if sent.code is None else {"errorCode": sent.code}),
        }

    def _came(self, came: Came) -> dict[str, object]:
        return {
            "id": str(came.number),
            "direction": "Inbound",
            "from": came.person,
            "to": [came.to or self.sender],
            "text": came.body,
            "messageStatus": "Delivered",
            "creationTime": None if came.at is None else came.at.isoformat(),
        }

    def came(self, came: Came) -> WebhookRequest:
        fields = {"id": str(came.number), "direction": "Inbound"}
        return self._event("/restapi/v1.0/account/11/a2p-sms/messages?direction=Inbound", fields)

    def became(self, sent: Sent) -> WebhookRequest:
        fields = {"id": sent.number, "batchId": f"batch-{sent.batch}", "direction": "Outbound"}
        return self._event("/restapi/v1.0/account/11/a2p-sms/messages?direction=Outbound", fields)
