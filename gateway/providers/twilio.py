"""Twilio's Programmable Messaging as the provider port has it: one :class:`Twilio` for one account.

https://www.twilio.com/docs/messaging/api/message-resource. The twilio package takes a third of a second and 31 MB to import:
import this module only when an account is configured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, final

from twilio.base import values
from twilio.rest import Client

from gateway.domain.errors import ProviderUnavailable
from gateway.domain.outcome import Accepted, Later, Outcome, Refused, Unknown
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import InboundText, ListedText
from gateway.providers.http import HttpClient, MaybeSent, NotSent
from gateway.providers.twilio_errors import outcome_of_refusal
from gateway.providers.twilio_transport import TwilioRefused, TwilioTransport
from gateway.providers.twilio_webhooks import (
    MESSAGE_SID,
    PERSON,
    SERVICE_SID,
    STATES,
    body_is_signed,
    form_is_signed,
    inbound_of,
    readable,
    receipt_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from twilio.base.page import Page
    from twilio.rest.api.v2010.account.message import MessageInstance

    from gateway.domain.reports import Receipt, Text

__all__ = ["Twilio", "TwilioAccount"]

PAGE_SIZE: Final = 1000  # the most that Twilio gives
PAGES: Final = 1000  # a list that is longer does not end
PAGE_LIMIT_BYTES: Final = 32 << 20
# Twilio filters on when a message was *sent*, never on when it was made. No message is sent before it is made; the day's overlap
# is for its rounding to days in GMT. One that still waits at Twilio may be missing: a list proves acceptance, never refusal.
OVERLAP: Final = timedelta(days=1)
# The SDK reads TWILIO_EDGE and TWILIO_REGION from the environment and would change the host; an empty mapping it takes for none.
NO_ENVIRONMENT: Final = {"TWILIO_EDGE": ""}


@dataclass(frozen=True, slots=True)
class TwilioAccount:
    """One Twilio account, and how to reach it.

    ``api_base`` is the address before ``/2010-04-01``: ``https://api.twilio.com``, ``https://api.dublin.ie1.twilio.com``, or any
    server that speaks as they do. ``time_limit_seconds`` is for one whole request. Twilio takes some 100 requests of an account
    at once: that many ``connections``.
    ``trusted_certificates`` (PEM) are trusted beside the machine's own.
    """

    alias: str
    account_sid: str
    auth_token: str = field(repr=False)
    api_base: str = "https://api.twilio.com"
    time_limit_seconds: float = 8.0
    connections: int = 100
    trusted_certificates: bytes | None = field(default=None, repr=False)


@final
class Twilio:
    """Sends through one Twilio account, reads its lists, and reads its webhooks. It keeps and logs nothing of what passes."""

    name: Final = "twilio"

    def __init__(self, account: TwilioAccount) -> None:
        self.account: Final = account.alias
        self._sid = account.account_sid
        self._auth_token = account.auth_token
        self._http = HttpClient(
            time_limit_seconds=account.time_limit_seconds,
            connections=account.connections,
            answer_limit_bytes=PAGE_LIMIT_BYTES,
            trusted_certificates=account.trusted_certificates,
        )
        client = Client(
            account.account_sid,
            account.auth_token,
            http_client=TwilioTransport(self._http, account.api_base),
            environment=NO_ENVIRONMENT,
        )
        client.api.base_url = account.api_base
        self._messages = client.messages

    async def send(self, text: Text, callback_url: str) -> Outcome:
        """Ask Twilio once to send one text; at most the time limit passes. Whatever Twilio or the network does is an outcome.

        A request that has begun cannot be called back: if this is cancelled, it still waits for the request's end.
        """
        body = text.body.reveal()
        if not _can_be_encoded(body):
            return Refused(Reason.REFUSED, "not_unicode")
        by_service = SERVICE_SID.fullmatch(text.sender) is not None
        try:
            created = await self._messages.create_async(
                to=text.to.reveal(),
                from_=values.unset if by_service else text.sender,
                messaging_service_sid=text.sender if by_service else values.unset,
                body=body,
                status_callback=callback_url,
            )
            return _accepted(created)
        except NotSent as proof:
            if proof.why == "bad_request":
                return Later(Reason.CONFIGURATION, proof.why, holds="account", operator=True)
            return Later(Reason.UNREACHABLE, proof.why, holds="account")
        except MaybeSent as doubt:
            return Unknown(doubt.why)
        except TwilioRefused as refusal:
            return outcome_of_refusal(refusal.status, refusal.code, refusal.retry_after)
        except Exception:  # noqa: BLE001 - the SDK could not read a 2xx: Twilio most likely has the message
            return Unknown("unreadable_answer")

    async def list_sent(self, to: PhoneNumber, sender: str, since: datetime) -> list[ListedText]:
        """Texts that Twilio took for this person from this sender (a number, or a messaging service) since then, by its clock.

        Raises ProviderUnavailable when Twilio does not answer, or a record cannot be read: a list with a gap would mislead.
        """
        by_service = SERVICE_SID.fullmatch(sender) is not None
        number, found = to.reveal(), []
        for record in await self._records(to=number, from_=None if by_service else sender, since=since):
            from_sender = record.messaging_service_sid if by_service else record.from_
            if str(record.direction).startswith("outbound") and (record.to, from_sender) == (number, sender):
                found.append(self._listed(record, to, sender))
        return [listed for listed in found if listed.created_at >= since.replace(microsecond=0)]

    async def list_inbound(self, to: str, since: datetime) -> list[InboundText]:
        """Texts that people sent to our number (or messaging service) since then, oldest first. Raises as :meth:`list_sent` does.

        A record without a readable time is given too: a STOP must not be lost for that.
        """
        by_service = SERVICE_SID.fullmatch(to) is not None
        found = []
        for record in await self._records(to=None if by_service else to, from_=None, since=since):
            addressed = record.messaging_service_sid if by_service else record.to
            if str(record.direction) == "inbound" and addressed == to and PERSON.fullmatch(str(record.from_)):
                found.append(self._inbound(record))
        from_when = since.replace(microsecond=0)  # Twilio's times have whole seconds
        found = [text for text in found if text.created_at is None or text.created_at >= from_when]
        return sorted(found, key=lambda text: text.created_at or from_when)

    async def inbound_created_at(self, provider_message_id: str) -> datetime | None:
        """When Twilio made the record of one inbound text; None when it knows none. Raises ProviderUnavailable."""
        if not MESSAGE_SID.fullmatch(provider_message_id):
            return None
        fault: str
        try:
            record = await self._messages(provider_message_id).fetch_async()
        except TwilioRefused as refusal:
            if refusal.status == 404:
                return None
            fault = _why(refusal)
        except Exception as error:  # noqa: BLE001 - the SDK's own texts must not pass
            fault = _why(error)
        else:
            created: datetime | None = record.date_created
            return created if str(record.direction) == "inbound" and record.sid == provider_message_id else None
        raise self._unavailable(fault)

    def verify(self, url: str, form: Sequence[tuple[str, str]], signature: str) -> bool:
        """Whether this account's token signed the form for this public URL."""
        return form_is_signed(self._auth_token, url, form, signature)

    def verify_body(self, url: str, body: bytes, signature: str) -> bool:
        """Whether this account's token signed a webhook with a JSON body for this public URL."""
        return body_is_signed(self._auth_token, url, body, signature)

    def read_inbound(self, form: Sequence[tuple[str, str]]) -> InboundText:
        """The text that a person sent to us, from its webhook; its time is not in it. Raises BadWebhook."""
        return inbound_of(self.account, self._sid, form)

    def read_receipt(self, form: Sequence[tuple[str, str]], uid: UUID, attempt: int) -> Receipt:
        """What a status callback reports of this attempt. Raises BadWebhook."""
        return receipt_of(self.account, self._sid, form, uid, attempt)

    async def close(self) -> None:
        """Wait for the requests under way, at most the time limit, and close the connections."""
        await self._http.close()

    def _unavailable(self, why: str) -> ProviderUnavailable:
        return ProviderUnavailable(f"Twilio account {self.account}: {why}")

    def _inbound(self, record: MessageInstance) -> InboundText:
        return InboundText(
            account=self.account,
            provider_message_id=self._sid_of(record),
            sender=PhoneNumber(str(record.from_)),
            to=str(record.to),
            service=record.messaging_service_sid,
            body=MessageBody(readable(record.body or "")),
            replied=None,
            created_at=record.date_created,
        )

    def _listed(self, record: MessageInstance, to: PhoneNumber, sender: str) -> ListedText:
        if record.date_created is None:
            raise self._unavailable("a record has no time")
        return ListedText(
            provider_message_id=self._sid_of(record),
            to=to,
            sender=sender,
            body=MessageBody(readable(record.body or "")),
            state=STATES.get(str(record.status)),
            code=None if record.error_code is None else str(record.error_code),
            parts=_parts(record.num_segments),
            created_at=record.date_created,
        )

    def _sid_of(self, record: MessageInstance) -> str:
        sid = str(record.sid)
        if not MESSAGE_SID.fullmatch(sid):
            raise self._unavailable("a record has no id")
        return sid

    async def _records(self, *, to: str | None, from_: str | None, since: datetime) -> list[MessageInstance]:
        """Every record on every page of a list."""
        records: list[MessageInstance] = []
        fault = "the list does not end"
        try:
            page: Page | None = await self._messages.page_async(
                to=to or values.unset, from_=from_ or values.unset, date_sent_after=since - OVERLAP, page_size=PAGE_SIZE
            )
            for _ in range(PAGES):
                if page is None:
                    return records
                records.extend(page)
                page = await page.next_page_async()
        except Exception as error:  # noqa: BLE001 - the SDK's own texts must not pass
            fault = _why(error)
        raise self._unavailable(fault)


def _accepted(created: MessageInstance) -> Outcome:
    sid, segments = created.sid, created.num_segments
    if not (isinstance(sid, str) and MESSAGE_SID.fullmatch(sid)):
        return Unknown("unreadable_answer")
    return Accepted(sid, _parts(segments))


def _parts(segments: object) -> int | None:
    """Twilio's number of segments: a string of digits; ``0`` while a messaging service has not chosen its sender yet."""
    return int(segments) or None if isinstance(segments, str) and segments.isdecimal() else None


def _can_be_encoded(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _why(error: Exception) -> str:
    """A fault in our words: the SDK's hold Twilio's answer."""
    return str(error) if isinstance(error, NotSent | MaybeSent | TwilioRefused) else "its answer could not be read"
