"""Twilio's Programmable Messaging as the provider port has it: one :class:`Twilio` for one account.

https://www.twilio.com/docs/messaging/api/message-resource. The twilio package takes a third of a second and 31 MB to import:
import this module only when an account is configured.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal, final

from twilio.base import values
from twilio.rest import Client

from gateway.domain.errors import ProviderUnavailable, WebhookRefused
from gateway.domain.outcome import Accepted, Later, Outcome, Refused, Unknown
from gateway.domain.payloads import FORM, is_media, parse_form
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import InboundText, ListedText
from gateway.domain.webhooks import Reports, WebhookRequest
from gateway.flow.provider import Abilities, Copies, Copy, Erasure, Told
from gateway.providers.http import HttpClient, MaybeSent, NotSent
from gateway.providers.reading import PERSON, is_unicode, readable
from gateway.providers.twilio.consents import SECONDS_BETWEEN, WORDS_PER_CALL, TwilioConsents, consents_base
from gateway.providers.twilio.errors import FILTERED, outcome_of_refusal
from gateway.providers.twilio.oldest import oldest_records
from gateway.providers.twilio.services import NOT_SCHEDULED_ANY_MORE, numbers_of, scheduled_texts
from gateway.providers.twilio.transport import TwilioRefused, TwilioTransport
from gateway.providers.twilio.webhooks import (
    MESSAGE_SID,
    SERVICE_SID,
    STATES,
    form_is_signed,
    inbound_of,
    receipt_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from datetime import datetime

    from twilio.base.page import Page
    from twilio.rest.api.v2010.account.message import MessageContext, MessageInstance

    from gateway.domain.reports import OptOutNews, Text
    from gateway.flow.provider import OptOutWord

__all__ = ["Twilio", "TwilioAccount"]

PAGE_SIZE: Final = 1000  # the most that Twilio gives
PAGES: Final = 1000  # a list that is longer does not end
CANCELING_LIMITS: Final = (
    2  # time limits of a request: for how long one person's texts are gone through once one was not canceled
)
PAGE_LIMIT_BYTES: Final = 32 << 20
# Twilio filters on when a message was *sent*, never on when it was made. No message is sent before it is made; the day's overlap
# is for its rounding to days in GMT. One that still waits at Twilio may be missing: a list proves acceptance, never refusal.
OVERLAP: Final = timedelta(days=1)
# In a webhook URL's fragment: try again, five times, whatever went wrong. By default Twilio gives a 5xx up at once.
# https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
_AGAIN: Final = "#rc=5&rp=all"
# 20009: the message is not final yet, or so lately that it can't be changed. https://www.twilio.com/docs/api/errors/20009
_TOO_EARLY: Final = frozenset({20009})
# The SDK reads TWILIO_EDGE and TWILIO_REGION from the environment and would change the host; an empty mapping it takes for none.
NO_ENVIRONMENT: Final = {"TWILIO_EDGE": ""}


@dataclass(frozen=True, slots=True)
class TwilioAccount:
    """One Twilio account, and how to reach it.

    ``api_base`` is the address before ``/2010-04-01``: ``https://api.twilio.com``, ``https://api.dublin.ie1.twilio.com``, or any
    server that speaks as they do. ``time_limit_seconds`` is for one whole request. Twilio takes some 100 requests of an account
    at once: that many ``connections``.
    ``trusted_certificates`` (PEM) are trusted beside the machine's own. ``content_retention`` and ``address_retention`` go with each
    text, unless they are None: https://www.twilio.com/docs/messaging/guides/privacy-message-redaction
    ``consents_api``: the account has Twilio's Consent Management API.
    ``cancels_scheduled``: other systems may schedule texts by this account.
    """

    alias: str
    account_sid: str
    auth_token: str = field(repr=False)
    api_base: str = "https://api.twilio.com"
    time_limit_seconds: float = 8.0
    connections: int = 100
    trusted_certificates: bytes | None = field(default=None, repr=False)
    content_retention: Literal["retain", "discard"] | None = None
    address_retention: Literal["retain", "obfuscate"] | None = None
    consents_api: bool = False
    cancels_scheduled: bool = True


@final
class Twilio:
    """Sends through one Twilio account, reads its lists, and reads its webhooks. It keeps and logs nothing of what passes."""

    name: Final = "twilio"
    abilities: Abilities = Abilities(
        batch=1,
        news="callback",
        signs=True,
        redacts=True,
        deletes=True,
        tells_opt_outs=False,
        lists_opt_outs=False,
        cancels_scheduled=True,
        opt_outs_per_call=WORDS_PER_CALL,
        opt_out_call_seconds=SECONDS_BETWEEN,
    )

    def __init__(self, account: TwilioAccount) -> None:
        self.account: Final = account.alias
        self._seconds = account.time_limit_seconds
        self._sid = account.account_sid
        self._auth_token = account.auth_token
        self._retention = {
            "content_retention": account.content_retention or values.unset,
            "address_retention": account.address_retention or values.unset,
        }
        forgets = account.content_retention == "discard" or account.address_retention == "obfuscate"
        self.abilities = replace(self.abilities, lists_sent=not forgets, cancels_scheduled=account.cancels_scheduled)
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
        self._consents = (
            TwilioConsents(self._http, consents_base(account.api_base), account.account_sid, account.auth_token)
            if account.consents_api
            else None
        )
        if account.consents_api:
            self.abilities = replace(self.abilities, tells_opt_outs=True)

    async def send(self, texts: Sequence[Text]) -> Sequence[Outcome]:
        """Ask Twilio once to send one text; at most the time limit passes. Whatever Twilio or the network does is an outcome.

        A request that has begun cannot be called back: if this is cancelled, it still waits for the request's end.
        """
        (text,) = texts
        return (await self._send(text),)

    async def _send(self, text: Text) -> Outcome:
        body = text.body.reveal()
        if not is_unicode(body):
            return Refused(Reason.REFUSED, "not_unicode")
        by_service = SERVICE_SID.fullmatch(text.sender) is not None
        try:
            created = await self._messages.create_async(
                to=text.to.reveal(),
                from_=values.unset if by_service else text.sender,
                messaging_service_sid=text.sender if by_service else values.unset,
                body=body,
                status_callback=text.callback_url + _AGAIN,
                **self._retention,
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

        A record without a readable time is given too: a STOP must not be lost for that. Nor for a record that does not name the
        service: a text to a number that the service has sent from is the service's.
        """
        by_service = SERVICE_SID.fullmatch(to) is not None
        records = await self._records(to=None if by_service else to, from_=None, since=since)
        numbers = numbers_of(to, records) if by_service else frozenset()
        found = []
        for record in reversed(records):  # Twilio lists the newest first: of those of one second, too
            service = record.messaging_service_sid or (to if record.to in numbers else None)
            addressed = service if by_service else record.to
            if str(record.direction) == "inbound" and addressed == to and PERSON.fullmatch(str(record.from_)):
                found.append(self._inbound(record, service))
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

    async def hear(self, request: WebhookRequest) -> Reports:
        """What a form that this account's token signed reports: an inbound text, or what became of an attempt.

        Raises WebhookRefused and BadWebhook; see :mod:`gateway.providers.twilio.webhooks`.
        """
        if request.tail[0] not in ("inbound", "status"):
            raise WebhookRefused("not_found")
        form = self._verified(request)
        if request.tail[0] == "inbound":
            return Reports(texts=(inbound_of(self.account, self._sid, form),))
        if request.named is None:
            raise WebhookRefused("bad_token")
        return Reports(receipts=(receipt_of(self.account, self._sid, form, *request.named),))

    def _verified(self, request: WebhookRequest) -> Sequence[tuple[str, str]]:
        if not is_media(request.headers, FORM):
            raise WebhookRefused("unsupported_type")
        form = parse_form(request.body)
        if form is None:
            raise WebhookRefused("unreadable")
        if not form_is_signed(self._auth_token, request.url, form, request.headers.get("x-twilio-signature", "")):
            raise WebhookRefused("bad_signature")
        # A subaccount's webhooks may be signed with its parent's token.
        if any(name == "AccountSid" and value != self._sid for name, value in form):
            raise WebhookRefused("foreign_account")
        return form

    async def redact(self, provider_message_id: str) -> Erasure:
        """Empty the text of Twilio's copy; the number stays.

        https://www.twilio.com/docs/messaging/api/message-resource#redact-a-message
        """
        return await self._erase(provider_message_id, lambda message: message.update_async(body=""))

    async def delete(self, provider_message_id: str) -> Erasure:
        """Delete Twilio's copy.

        https://www.twilio.com/docs/messaging/api/message-resource#delete-a-message-resource
        """
        return await self._erase(provider_message_id, lambda message: message.delete_async())

    async def _erase(self, sid: str, ask: Callable[[MessageContext], Awaitable[object]]) -> Erasure:
        if not MESSAGE_SID.fullmatch(sid):
            raise self._unavailable("this is no message's id")  # nothing is to be asked at an address that an empty id would make
        fault: str
        try:
            await ask(self._messages(sid))
        except TwilioRefused as refusal:
            if refusal.status == 404:
                return "done"
            if refusal.code in _TOO_EARLY or refusal.status == 429:
                return "later"
            fault = _why(refusal)
        except Exception as error:  # noqa: BLE001 - the SDK's own texts must not pass
            fault = _why(error)
        else:
            return "done"
        raise self._unavailable(fault)

    async def oldest_copies(self, sender: str, before: datetime) -> Copies:
        """The oldest records of texts from and to this number or messaging service. Twilio filters on when they were sent.

        What never was sent it does not find so: a text that is scheduled, say.
        """
        by_service = SERVICE_SID.fullmatch(sender) is not None
        found: list[Copy] = []
        all_seen = True
        for to, from_ in [(None, None)] if by_service else [(None, sender), (sender, None)]:
            try:
                records, every_one = await oldest_records(self._messages, before, to=to, from_=from_)
            except Exception as error:  # noqa: BLE001 - the SDK's own texts must not pass
                raise self._unavailable(_why(error)) from None
            all_seen = all_seen and every_one
            for record in records:
                if record.date_created is None:
                    raise self._unavailable("a record has no time")
                if record.date_created < before and (not by_service or record.messaging_service_sid == sender):
                    found.append(Copy(self._sid_of(record), record.date_created, bool(record.body)))
        return Copies(sorted(found, key=lambda copy: copy.created_at), all_seen)

    async def tell_opt_outs(self, words: Sequence[OptOutWord]) -> Sequence[Told]:
        """Tell Twilio who opted out of which sender, or in again. Without the API for that its list is told by nobody but the person."""
        return await self._consents.tell(words) if self._consents is not None else ["never"] * len(words)

    async def list_opt_outs(self, sender: str, since: datetime) -> list[OptOutNews]:  # noqa: ARG002 -- the port's
        """Twilio shows no list: none."""
        return []

    async def cancel_scheduled(self, to: PhoneNumber, senders: Collection[str]) -> int:
        """Cancel what stands at Twilio to be sent to this person from these numbers and services; how many texts were.

        One that cannot be canceled keeps none of the others; only a Twilio that does not answer for long is not asked of every one.
        Raises ProviderUnavailable when one of them may still be sent. What was scheduled without its number kept is not found.
        """
        number = to.reveal()
        records = await self._records(to=number, from_=None, since=None)
        canceled, left = 0, None
        patient_until = monotonic() + CANCELING_LIMITS * self._seconds
        for record in scheduled_texts(records, number, frozenset(senders)):
            if left is not None and monotonic() >= patient_until:
                break
            try:
                canceled += await self._cancel(self._sid_of(record))
            except ProviderUnavailable as fault:
                left = fault
        if left is not None:
            raise left
        return canceled

    async def _cancel(self, sid: str) -> bool:
        """Whether this ended the text; False when it had been sent, canceled or deleted meanwhile."""
        fault: str
        try:
            record = await self._messages(sid).update_async(status="canceled")
        except TwilioRefused as refusal:
            if refusal.status == 404 or refusal.code == NOT_SCHEDULED_ANY_MORE:
                return False
            fault = _why(refusal)
        except Exception as error:  # noqa: BLE001 - the SDK's own texts must not pass
            fault = _why(error)
        else:
            if str(record.status) == "canceled":
                return True
            fault = "a text is not canceled although it was asked for"
        raise self._unavailable(fault)

    async def keep_up(self, webhooks_url: str) -> None:
        """Nothing of Twilio's runs out."""

    async def check(self) -> None:
        """Ask for the newest record, as only the account's own credentials may. Raises ProviderUnavailable."""
        try:
            await self._messages.page_async(page_size=1)
        except Exception as error:  # noqa: BLE001 - the SDK's own texts must not pass
            raise self._unavailable(_why(error)) from None

    async def close(self) -> None:
        """Wait for the requests under way, at most the time limit, and close the connections."""
        await self._http.close()

    def _unavailable(self, why: str) -> ProviderUnavailable:
        return ProviderUnavailable(f"Twilio account {self.account}: {why}")

    def _inbound(self, record: MessageInstance, service: str | None) -> InboundText:
        return InboundText(
            account=self.account,
            provider_message_id=self._sid_of(record),
            sender=PhoneNumber(str(record.from_)),
            to=str(record.to),
            service=service,
            body=MessageBody(readable(record.body or "")),
            replied=None,
            created_at=record.date_created,
        )

    def _listed(self, record: MessageInstance, to: PhoneNumber, sender: str) -> ListedText:
        if record.date_created is None:
            raise self._unavailable("a record has no time")
        code = None if record.error_code is None else str(record.error_code)
        return ListedText(
            provider_message_id=self._sid_of(record),
            to=to,
            sender=sender,
            body=MessageBody(readable(record.body or "")),
            state=STATES.get(str(record.status)),
            code=code,
            parts=_parts(record.num_segments),
            created_at=record.date_created,
            filtered=code in FILTERED,
        )

    def _sid_of(self, record: MessageInstance) -> str:
        sid = str(record.sid)
        if not MESSAGE_SID.fullmatch(sid):
            raise self._unavailable("a record has no id")
        return sid

    async def _records(self, *, to: str | None, from_: str | None, since: datetime | None) -> list[MessageInstance]:
        """Every record on every page of a list; without ``since`` also those that are not sent yet."""
        records: list[MessageInstance] = []
        fault = "the list does not end"
        try:
            page: Page | None = await self._messages.page_async(
                to=to or values.unset,
                from_=from_ or values.unset,
                date_sent_after=values.unset if since is None else since - OVERLAP,
                page_size=PAGE_SIZE,
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


def _why(error: Exception) -> str:
    """A fault in our words: the SDK's hold Twilio's answer."""
    return str(error) if isinstance(error, NotSent | MaybeSent | TwilioRefused) else "its answer could not be read"
