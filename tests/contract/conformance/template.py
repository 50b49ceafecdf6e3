"""A provider to begin a new one from: all of the port, in one file, for an API that does not exist. docs/adding-a-provider.md.

Copy it to gateway/providers/<name>/provider.py, and its subject beside it. Put the vendor's page above each thing that surprises.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, final
from urllib.parse import quote, urlencode
from uuid import UUID

from gateway.domain.errors import BadWebhook, GatewayError, ProviderUnavailable, WebhookRefused
from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Refused, Unknown
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import InboundText, ListedText, Receipt, ReportedState
from gateway.domain.webhooks import Reports, WebhookRequest
from gateway.flow.provider import Abilities, Copies, Copy, Erasure, Told
from gateway.providers.http import Answer, HttpClient, MaybeSent, NotSent
from gateway.providers.reading import PERSON, is_unicode, read_json, readable, retry_after
from gateway.providers.refusals import outcome_by

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gateway.domain.reports import OptOutNews, Text
    from gateway.flow.provider import OptOutWord

__all__ = ["ERRORS", "Example", "ExampleAccount"]

PAGES: Final = 1000  # a list that is longer does not end

MESSAGE_ID: Final = re.compile(r"m-[0-9]{1,18}")

STATES: Final[dict[str, ReportedState]] = {"sent": "sent", "arrived": "delivered", "failed": "undelivered"}

# One row for each error of the vendor's that means something other than "this text is refused". https://vendor.example/errors
ERRORS: Final[dict[str, Outcome]] = {
    "recipient_opted_out": OptedOut("recipient_opted_out"),
    "recipient_invalid": Refused(Reason.NOT_TEXTABLE, "recipient_invalid"),
    "spam": Refused(Reason.FILTERED, "spam"),
    "sender_unknown": Later(Reason.CONFIGURATION, "sender_unknown", holds="sender", operator=True),
    "key_invalid": Later(Reason.CONFIGURATION, "key_invalid", holds="account", operator=True),
    "sender_busy": Later(Reason.QUEUE_FULL, "sender_busy", holds="sender"),
}
# The codes of a record that mean: filtered out on the way. https://vendor.example/errors#records
FILTERED: Final = frozenset({"spam"})
CODE: Final = re.compile(r"[a-z_]{1,40}")


@dataclass(frozen=True, slots=True)
class ExampleAccount:
    """One account, and how to reach the API. ``time_limit_seconds`` is for one whole request."""

    alias: str
    key: str = field(repr=False)
    api_base: str = "https://api.vendor.example"
    time_limit_seconds: float = 8.0
    connections: int = 20


@final
class Example:
    """Sends through one account, reads its lists and its webhooks. It keeps and logs nothing of what passes."""

    name: Final = "example"
    abilities: Final = Abilities(
        batch=1, news="callback", signs=True, redacts=False, deletes=True, tells_opt_outs=False, lists_opt_outs=False
    )

    def __init__(self, account: ExampleAccount) -> None:
        self.account: Final = account.alias
        self._key = account.key
        self._base = account.api_base.rstrip("/")
        self._http = HttpClient(time_limit_seconds=account.time_limit_seconds, connections=account.connections)

    async def send(self, texts: Sequence[Text]) -> Sequence[Outcome]:
        """One request for one text; whatever happens is an outcome."""
        (text,) = texts
        return [await self._send(text)]

    async def _send(self, text: Text) -> Outcome:
        body = text.body.reveal()
        if not is_unicode(body):
            return Refused(Reason.REFUSED, "not_unicode")
        wish = {"from": text.sender, "to": text.to.reveal(), "text": body, "callback": text.callback_url}
        try:
            answer = await self._request("POST", "/messages", json=wish)
        except NotSent as proof:  # nothing left this machine
            if proof.why == "bad_request":
                return Later(Reason.CONFIGURATION, proof.why, holds="account", operator=True)
            return Later(Reason.UNREACHABLE, proof.why, holds="account")
        except MaybeSent as doubt:  # it may have arrived: never again without evidence
            return Unknown(doubt.why)
        said = read_json(answer.body)
        fields = said if isinstance(said, dict) else {}
        if 200 <= answer.status <= 299:
            name = fields.get("id")
            known = isinstance(name, str) and MESSAGE_ID.fullmatch(name)
            return Accepted(str(name)) if known else Unknown("unreadable_answer")
        code = fields.get("error")
        code_in_table = code if isinstance(code, str) and code in ERRORS else None  # what else stands there goes nowhere
        return outcome_by(ERRORS, answer.status, code_in_table, retry_after(answer.headers))

    async def list_sent(self, to: PhoneNumber, sender: str, since: datetime) -> list[ListedText]:
        """Raises ProviderUnavailable when any of it cannot be read: a list with a gap would mislead."""
        wish = {"direction": "out", "to": to.reveal(), "from": sender, "since": since.isoformat()}
        return [listed for record in await self._records(wish) if (listed := self._listed(record)).created_at >= since]

    async def list_inbound(self, to: str, since: datetime) -> list[InboundText]:
        """Oldest first; a text without a readable time is given too, as a STOP must not be lost for that."""
        records = await self._records({"direction": "in", "to": to, "since": since.isoformat()})
        texts = [self._inbound(record) for record in records if PERSON.fullmatch(str(record.get("from")))]
        texts = [text for text in texts if text.created_at is None or text.created_at >= since]
        return sorted(texts, key=lambda text: text.created_at or since)

    async def inbound_created_at(self, provider_message_id: str) -> datetime | None:
        """None where there is no such text of a person's."""
        if not MESSAGE_ID.fullmatch(provider_message_id):
            return None  # nothing is asked for at an address that another's id would make
        answer = await self._ask("GET", f"/messages/{provider_message_id}")
        if answer.status == 404:
            return None
        record = self._said(answer)
        return _time(record.get("at")) if record.get("direction") == "in" else None

    async def hear(self, request: WebhookRequest) -> Reports:
        """What a webhook reports, once its signature is right. https://vendor.example/webhooks#signature"""
        if request.tail[0] not in ("inbound", "status"):
            raise WebhookRefused("not_found")
        signature = hmac.digest(self._key.encode(), request.url.encode() + request.body, "sha256").hex()
        if not hmac.compare_digest(signature.encode(), request.headers.get("x-signature", "").encode("utf-8", "replace")):
            raise WebhookRefused("bad_signature")
        record = read_json(request.body)
        if not isinstance(record, dict):
            raise WebhookRefused("unreadable")
        try:
            if request.tail[0] == "inbound":
                return Reports(texts=[self._inbound(record)])
            if request.named is None:
                raise WebhookRefused("bad_token")
            return Reports(receipts=[self._receipt(record, *request.named)])
        except ProviderUnavailable:
            raise BadWebhook("webhook: a field is missing, or not what it should be") from None

    async def redact(self, provider_message_id: str) -> Erasure:
        """The vendor changes no text that it has."""
        return "never"

    async def delete(self, provider_message_id: str) -> Erasure:
        """Delete the vendor's copy. What is not there is gone."""
        if not MESSAGE_ID.fullmatch(provider_message_id):
            raise self._unavailable("this is no message's id")
        answer = await self._ask("DELETE", f"/messages/{provider_message_id}")
        if answer.status in {409, 429}:
            return "later"
        if answer.status not in {204, 404}:
            raise self._unavailable(f"HTTP {answer.status}")
        return "done"

    async def oldest_copies(self, sender: str, before: datetime) -> Copies:
        """The vendor lists from its oldest, so that the first page of each direction has them."""
        found: list[Copy] = []
        all_seen = True
        for wish in ({"direction": "out", "from": sender}, {"direction": "in", "to": sender}):
            said = self._said(await self._ask("GET", f"/messages?{urlencode(wish, quote_via=quote)}"))
            records = said.get("records")
            if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
                raise self._unavailable("its answer could not be read")
            all_seen = all_seen and not isinstance(said.get("after"), str)
            for record in records:
                at = _time(record.get("at"))
                if at is None:
                    raise self._unavailable("a record has no time")
                if at < before:
                    found.append(Copy(self._id(record), at, bool(record.get("text"))))
        return Copies(sorted(found, key=lambda copy: copy.created_at), all_seen)

    async def tell_opt_outs(self, words: Sequence[OptOutWord]) -> Sequence[Told]:
        """The vendor has no list that could be told."""
        return ["never"] * len(words)

    async def list_opt_outs(self, sender: str, since: datetime) -> list[OptOutNews]:
        """The vendor shows none."""
        return []

    async def cancel_scheduled(self, to: PhoneNumber, senders: Collection[str]) -> int:
        """Nothing can be scheduled there: none."""
        return 0

    async def keep_up(self, webhooks_url: str) -> None:
        """Nothing of the vendor's runs out."""

    async def check(self) -> None:
        """The cheapest question that needs our key."""
        self._said(await self._ask("GET", "/account"))

    async def close(self) -> None:
        """Wait for the requests under way."""
        await self._http.close()

    async def _request(self, method: str, path: str, json: object = None) -> Answer:
        headers = {"authorization": f"Bearer {self._key}", "accept": "application/json"}
        return await self._http.request(method, self._base + path, headers=headers, json=json)

    async def _ask(self, method: str, path: str) -> Answer:
        try:
            return await self._request(method, path)
        except GatewayError as fault:
            raise self._unavailable(str(fault)) from None

    async def _records(self, wish: Mapping[str, str]) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        after: object = ""
        for _ in range(PAGES):
            query = urlencode({**wish, "after": after}, quote_via=quote)
            said = self._said(await self._ask("GET", f"/messages?{query}"))
            records = said.get("records")
            if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
                raise self._unavailable("its answer could not be read")
            found += records
            after = said.get("after")
            if not isinstance(after, str):
                return found
        raise self._unavailable("the list does not end")

    def _said(self, answer: Answer) -> dict[str, object]:
        said = read_json(answer.body)
        if answer.status != 200 or not isinstance(said, dict):
            raise self._unavailable(f"HTTP {answer.status}" if answer.status != 200 else "its answer could not be read")
        return said

    def _listed(self, record: Mapping[str, object]) -> ListedText:
        at = _time(record.get("at"))
        if at is None:
            raise self._unavailable("a record has no time")
        to, body, state = PhoneNumber(str(record.get("to"))), str(record.get("text")), STATES.get(str(record.get("state")))
        code, sender = _code(record), str(record.get("from"))
        return ListedText(self._id(record), to, sender, MessageBody(readable(body)), state, code, None, at, code in FILTERED)

    def _inbound(self, record: Mapping[str, object]) -> InboundText:
        sender, to, body = record.get("from"), record.get("to"), record.get("text")
        if not (isinstance(sender, str) and PERSON.fullmatch(sender) and isinstance(to, str) and isinstance(body, str)):
            raise self._unavailable("a record lacks a field")
        text, at = MessageBody(readable(body)), _time(record.get("at"))
        return InboundText(self.account, self._id(record), PhoneNumber(sender), to, None, text, None, at)

    def _receipt(self, record: Mapping[str, object], uid: UUID, attempt: int) -> Receipt:
        state, code = STATES.get(str(record.get("state"))), _code(record)
        return Receipt(self.account, uid, attempt, self._id(record), state, code, code in FILTERED)

    def _id(self, record: Mapping[str, object]) -> str:
        name = record.get("id")
        if not isinstance(name, str) or not MESSAGE_ID.fullmatch(name):
            raise self._unavailable("a record has no id")
        return name

    def _unavailable(self, why: str) -> ProviderUnavailable:
        return ProviderUnavailable(f"Example account {self.account}: {why}")


def _code(record: Mapping[str, object]) -> str | None:
    code = record.get("error")
    return code if isinstance(code, str) and CODE.fullmatch(code) else None


def _time(said: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        return None
    return time if time is not None and time.tzinfo is not None else None
