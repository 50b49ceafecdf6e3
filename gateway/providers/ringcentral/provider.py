"""RingCentral as the provider port has it: one :class:`RingCentral` for one account, which texts by high-volume (A2P) or plain numbers.

https://developers.ringcentral.com/guide/messaging. Beside this file: the token and the rate groups under every call
(``token``, ``rates``, ``api``), and the pure parts, which read and write what passes.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Final, final

from gateway.domain.errors import GatewayError, ProviderUnavailable, WebhookRefused
from gateway.domain.outcome import Later, Outcome
from gateway.domain.reasons import Reason
from gateway.domain.webhooks import Handshake, Reports, WebhookRequest
from gateway.flow.provider import Abilities, Copies, Erasure, Told
from gateway.providers.http import HttpClient
from gateway.providers.reading import PERSON
from gateway.providers.ringcentral.api import LIMITS, RingCentralApi, RingCentralRefused
from gateway.providers.ringcentral.consents import failed_pairs, is_about_a_pair, news_of_consents, told_records
from gateway.providers.ringcentral.lists import Lists
from gateway.providers.ringcentral.news import News
from gateway.providers.ringcentral.records import RECORD_ID
from gateway.providers.ringcentral.sending import (
    batch_outcomes,
    batch_request,
    is_about_one,
    outcome_of_fault,
    single_outcome,
    single_request,
    unsendable,
)
from gateway.providers.ringcentral.subscription import Subscription
from gateway.providers.ringcentral.token import Credentials
from gateway.providers.ringcentral.webhooks import Consents, Inbound, event_of, filters, handshake_of, shows
from gateway.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from gateway.domain.personal import PhoneNumber
    from gateway.domain.reports import InboundText, ListedText, OptOutNews, Text
    from gateway.flow.provider import OptOutWord

__all__ = ["RingCentral", "RingCentralAccount"]

SMS: Final = "/restapi/v1.0/account/~/extension/~/sms"
STORE: Final = "/restapi/v1.0/account/~/extension/~/message-store"
BATCHES: Final = "/restapi/v1.0/account/~/a2p-sms/batches"
CONSENTS: Final = "/restapi/v2/accounts/~/sms/consents"

PAGE_LIMIT_BYTES: Final = 32 << 20
# One request may carry 10,000. What goes out in one request is lost to doubt in one, so it carries what a claim takes at once.
BATCH: Final = 100
TOLD_AT_ONCE: Final = 1000

# Calls of a rate group that are left to what matters more: an inbound text is fetched, and the subscription kept, whatever is sent.
BATCHES_LEAVE: Final = 10
SINGLES_LEAVE: Final = 3
LISTS_LEAVE: Final = 5
HALVES_LEAVE: Final = 20
ERASURES_LEAVE: Final = 20
ERASURE_SECONDS: Final = 60 / (LIMITS["medium"] - ERASURES_LEAVE)

log = get_logger("ringcentral")


@dataclass(frozen=True, slots=True)
class RingCentralAccount:
    """One RingCentral account: an app, the user in whose name it texts, and how to reach RingCentral.

    ``high_volume`` says that its senders are high-volume (A2P) numbers. ``time_limit_seconds`` is for one whole call, the wait for a
    token with it. ``verification_token`` is what RingCentral shall show in each webhook. ``gather_seconds`` is for how long events are
    waited for that one question answers. ``trusted_certificates`` (PEM) are trusted beside the machine's own.
    """

    alias: str
    client_id: str
    client_secret: str = field(repr=False)
    jwt: str = field(repr=False)
    verification_token: str = field(repr=False)
    high_volume: bool = True
    api_base: str = "https://platform.ringcentral.com"
    time_limit_seconds: float = 8.0
    connections: int = 100
    gather_seconds: float = 0.3
    trusted_certificates: bytes | None = field(default=None, repr=False)


@final
class RingCentral:
    """Texts by one RingCentral account, reads its lists, hears its events. It keeps and logs nothing of what passes.

    ``clock`` is in seconds and never goes back, ``now`` is the time of day in UTC.
    """

    name: Final = "ringcentral"

    def __init__(
        self,
        account: RingCentralAccount,
        *,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.account: Final = account.alias
        self.abilities: Final = Abilities(
            batch=BATCH if account.high_volume else 1,
            news="subscription",
            signs=False,
            redacts=False,
            deletes=not account.high_volume,
            tells_opt_outs=True,
            lists_opt_outs=True,
            erasure_seconds=ERASURE_SECONDS,
        )
        self._high_volume = account.high_volume
        self._token = account.verification_token
        self._now = now
        self._http = HttpClient(
            time_limit_seconds=account.time_limit_seconds,
            connections=account.connections,
            answer_limit_bytes=PAGE_LIMIT_BYTES,
            trusted_certificates=account.trusted_certificates,
        )
        credentials = Credentials(account.client_id, account.client_secret, account.jwt)
        self._api = RingCentralApi(self._http, account.api_base, credentials, seconds=account.time_limit_seconds, clock=clock)
        self._lists = Lists(self._api, high_volume=account.high_volume)
        self._news = News(account.alias, self._lists, gather_seconds=account.gather_seconds, keep=LISTS_LEAVE, now=now)
        self._subscription = Subscription(self._api, account.verification_token, filters(high_volume=account.high_volume))

    async def send(self, texts: Sequence[Text]) -> Sequence[Outcome]:
        """Ask RingCentral to send texts of one sender, together where they are many; at most the time limit passes in all.

        Whatever RingCentral or the network does is an outcome, and one text's refusal is not another's: a batch that is refused for one
        of its texts without a word for which is asked for in halves.
        """
        refused = {text.uid: outcome for text in texts if (outcome := unsendable(text)) is not None}
        rest = [text for text in texts if text.uid not in refused]
        asked = await self._ask(rest, self._api.deadline()) if rest else []
        outcomes = refused | dict(zip((text.uid for text in rest), asked, strict=True))
        return [outcomes[text.uid] for text in texts]

    async def _ask(self, texts: Sequence[Text], deadline: float) -> list[Outcome]:
        try:
            if self._high_volume:
                body = batch_request(texts)
                said = await self._api.call("POST", BATCHES, "light", json=body, keep=BATCHES_LEAVE, deadline=deadline)
                return batch_outcomes(said, texts)
            (text,) = texts
            said = await self._api.call("POST", SMS, "medium", json=single_request(text), keep=SINGLES_LEAVE, deadline=deadline)
            return [single_outcome(said)]
        except GatewayError as fault:
            outcome = outcome_of_fault(fault)
        if len(texts) == 1 or not is_about_one(outcome):
            return [outcome] * len(texts)
        if monotonic() >= deadline:
            return [Later(Reason.UNREACHABLE, "late")] * len(texts)
        half = len(texts) // 2
        return [*await self._ask(texts[:half], deadline), *await self._ask(texts[half:], deadline)]

    async def list_sent(self, to: PhoneNumber, sender: str, since: datetime) -> list[ListedText]:
        """Texts that RingCentral took for this person from this sender since then, by its clock. Raises ProviderUnavailable."""
        with self._faults():
            found = await self._lists.texts("Outbound", since, number=to.reveal(), keep=LISTS_LEAVE)
            listed = [record.listed(to, sender) for record in found if record.sent_by(sender) and record.to == (to,)]
        return [text for text in listed if text.created_at >= since]

    async def list_inbound(self, to: str, since: datetime) -> list[InboundText]:
        """Texts that people sent to our number since then, oldest first. Raises ProviderUnavailable.

        A record without a readable time is given too: a STOP must not be lost for that.
        """
        with self._faults():
            found = await self._lists.texts("Inbound", since, number=to if self._high_volume else None)
            texts = [record.text(self.account, to) for record in found if record.reached(to)]
        texts = [text for text in texts if text.created_at is None or text.created_at >= since]
        return sorted(texts, key=lambda text: text.created_at or since)

    async def inbound_created_at(self, provider_message_id: str) -> datetime | None:
        """When RingCentral made the record of one inbound text; None when it knows none. Raises ProviderUnavailable."""
        kind, _, record_id = provider_message_id.partition(":")
        if kind != ("a2p-in" if self._high_volume else "sms") or not RECORD_ID.fullmatch(record_id):
            return None
        with self._faults():
            try:
                record = await self._lists.one(record_id)
            except RingCentralRefused as refusal:
                if refusal.status == 404:
                    return None
                raise
        return record.created_at if record.inbound and record.name == provider_message_id else None

    async def hear(self, request: WebhookRequest) -> Reports | Handshake:
        """What an event speaks of, by RingCentral's own records: anybody may write an event who knows the verification token.

        Raises WebhookRefused, BadWebhook, and ProviderUnavailable where a person's text cannot be fetched.
        """
        if request.tail != ("events",):
            raise WebhookRefused("not_found")
        if (handshake := handshake_of(request.headers, request.body)) is not None:
            return handshake
        if not shows(request.headers, self._token):
            raise WebhookRefused("bad_signature")
        match event_of(request.body):
            case None:
                return Reports()
            case Inbound(record_id):
                return Reports(texts=await self._text(record_id))
            case Consents(pairs, passed_over):
                if passed_over:
                    log.warning("news passed over", account=self.account, why="no pair of numbers", count=passed_over)
                wish: dict[str, object] = {
                    "from": sorted({pair.sender.reveal() for pair in pairs}),
                    "to": sorted({pair.to.reveal() for pair in pairs}),
                }
                with self._faults():
                    records = await self._lists.consents(wish)
                wanted = {(pair.sender.reveal(), pair.to) for pair in pairs}
                news = news_of_consents(self.account, records)
                return Reports(opt_outs=[one for one in news if (one.sender, one.to) in wanted])
            case outbound:
                return await self._news.of(outbound)

    async def _text(self, record_id: str) -> list[InboundText]:
        with self._faults():
            record = await self._lists.one(record_id)
        # From a short code or a name: nobody who could opt out, and nobody to answer.
        return [record.text(self.account, to.reveal()) for to in record.to[:1]] if record.inbound and record.sender else []

    async def redact(self, provider_message_id: str) -> Erasure:  # noqa: ARG002 -- the port's
        """RingCentral changes no text that it has."""
        return "never"

    async def delete(self, provider_message_id: str) -> Erasure:
        """Delete a text from the message store, at once and for good; high-volume texts cannot be deleted.

        The call without an id would delete every message of the extension: what is no record's id is never asked for.
        """
        kind, _, record_id = provider_message_id.partition(":")
        if kind != "sms":
            return "never"
        if not RECORD_ID.fullmatch(record_id):
            raise self._unavailable("this is no message's id")
        with self._faults():
            try:
                await self._api.call("DELETE", f"{STORE}/{record_id}", "medium", query=[("purge", "true")], keep=ERASURES_LEAVE)
            except RingCentralRefused as refusal:
                if refusal.status == 429:
                    return "later"
                if refusal.status != 404:
                    raise
        return "done"

    async def oldest_copies(self, sender: str, before: datetime) -> Copies:
        """The oldest texts of the message store from and to this number, also those that the user has deleted and not purged."""
        if self._high_volume:
            return Copies((), all_seen=False)  # from its oldest side that list cannot be read
        with self._faults():
            records, all_seen = await self._lists.oldest(before, keep=LISTS_LEAVE)
            found = [record.copy() for record in records if record.sent_by(sender) or record.reached(sender)]
        return Copies(sorted((one for one in found if one.created_at < before), key=lambda one: one.created_at), all_seen)

    async def tell_opt_outs(self, words: Sequence[OptOutWord]) -> Sequence[Told]:
        """Tell RingCentral what people said, a thousand at a time. Raises ProviderUnavailable.

        A pair that RingCentral cannot read makes it refuse all that are told with it, and it may not say which: they are told in halves.
        """
        fates: list[Told] = []
        for first in range(0, len(words), TOLD_AT_ONCE):
            some = words[first : first + TOLD_AT_ONCE]
            fit = [word for word in some if PERSON.fullmatch(word.sender)]
            with self._faults():
                told = iter(await self._tell(fit, self._api.deadline(), LISTS_LEAVE)) if fit else iter(())
            fates += [next(told) if PERSON.fullmatch(word.sender) else "refused" for word in some]
        return fates

    async def _tell(self, words: Sequence[OptOutWord], deadline: float, keep: int) -> list[Told]:
        """Each one's fate. Raises GatewayError where that is not about one of them."""
        try:
            body = told_records(words)
            said = await self._api.call("PATCH", CONSENTS, "light", json=body, keep=keep, deadline=deadline)
        except RingCentralRefused as refusal:
            if not is_about_a_pair(refusal.status, refusal.code):
                raise
        else:
            failed = failed_pairs(said)
            return [failed.get((word.sender, word.to.reveal()), "confirmed") for word in words]
        if len(words) == 1:
            return ["refused"]
        half = len(words) // 2
        fates: list[Told] = []
        for some in (words[:half], words[half:]):
            try:
                fates += await self._tell(some, deadline, HALVES_LEAVE)
            except GatewayError:  # also when the time or the calls are over: what was taken until then is taken
                fates += ["later"] * len(some)
        return fates

    async def list_opt_outs(self, sender: str, since: datetime) -> list[OptOutNews]:
        """What RingCentral's list has of people's words to this number since then. Raises ProviderUnavailable."""
        with self._faults():
            records = await self._lists.consents({"from": [sender]}, keep=LISTS_LEAVE)
        news = news_of_consents(self.account, records)
        return [one for one in news if one.sender == sender and (one.at is None or one.at >= since)]

    async def cancel_scheduled(self, to: PhoneNumber, senders: Collection[str]) -> int:  # noqa: ARG002 -- the port's
        """Nothing can be scheduled there: none."""
        return 0

    async def keep_up(self, webhooks_url: str) -> None:
        """See to the subscription of our webhooks. Raises ProviderUnavailable."""
        with self._faults():
            await self._subscription.keep(webhooks_url, self._now())

    async def check(self) -> None:
        """Sign in, and ask for the newest text, as only an app with the right permissions may. Raises ProviderUnavailable."""
        with self._faults():
            await self._lists.newest()

    async def close(self) -> None:
        """Wait for the requests under way, at most the time limit, and close the connections."""
        await self._http.close()
        await self._api.close()

    def _unavailable(self, why: str) -> ProviderUnavailable:
        return ProviderUnavailable(f"RingCentral account {self.account}: {why}")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """What goes wrong in a question, as one kind of fault, in words that hold nothing of what was asked or answered."""
        try:
            yield
        except GatewayError as fault:
            raise self._unavailable(str(fault)) from None
