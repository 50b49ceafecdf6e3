"""Replies: what people text to us. STOP, START and HELP are heeded here; anything else is the tenant's to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol, cast
from uuid import UUID

from gateway.domain.consent import Consent, ConsentKey
from gateway.domain.errors import BadWebhook, ProviderUnavailable
from gateway.domain.events import InboundEvent, encode
from gateway.domain.ids import new_uid
from gateway.domain.parts import parts
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.phone import BadNumber, is_toll_free, normal_form
from gateway.domain.policy import Policies, Policy
from gateway.domain.reports import InboundText
from gateway.domain.senders import SenderUse
from gateway.domain.words import Word, WordKind, read
from gateway.flow.stop import InboundNote, OptOut, ReadyReply, Stop, key_for
from gateway.flow.vault import SYSTEM_TENANT, Hasher, Vault
from gateway.telemetry import Metrics, get_logger

__all__ = ["Conversation", "InboundSource", "LastText", "OptIn", "Replies", "ReplyFate"]

ReplyFate = Literal["stop", "start", "help", "other", "repeated"]

# The confirmation of a STOP is presumed consented to within five minutes: 47 CFR 64.1200(a)(12).
_CONFIRM_WITHIN: Final = timedelta(minutes=5)
_ANSWER_WITHIN: Final = timedelta(hours=1)

log = get_logger("replies")


@dataclass(frozen=True, slots=True)
class LastText:
    """The last message of ours to a person by a sender: whom a text to a shared sender is most likely for."""

    tenant: str
    programme: str
    recipient_ref: str | None


@dataclass(frozen=True, slots=True)
class OptIn:
    """An opt-in to write. It undoes only opt-outs said before ``stated_at``, looked at again under the lock."""

    key: ConsentKey
    source: Literal["text", "api", "cli", "import", "event"]
    stated_at: datetime
    actor: str
    proof_sealed: bytes | None = None
    proof_uid: UUID | None = None
    reply: ReadyReply | None = None
    inbound: InboundNote | None = None


class Conversation(Protocol):
    """What is kept of people's texts, and the consent that they change."""

    async def now(self) -> datetime:
        """The store's time."""
        ...

    async def consents(self, subject_id: bytes) -> Sequence[Consent]:
        """All that a person has said."""
        ...

    async def last_text(self, subject_id: bytes, sender: str) -> LastText | None:
        """The last message of ours to a person by a sender."""
        ...

    async def route_id(self, tenant: str, programme: str, sender: str) -> int | None:
        """The way out of a programme by a sender."""
        ...

    async def seen(self, account: str, provider_message_id: str) -> bool:
        """Whether this inbound text was there before."""
        ...

    async def opt_in(self, opt_in: OptIn) -> Literal["granted", "not_proven", "repeated"]:
        """Write an opt-in if nothing speaks against it."""
        ...

    async def note(self, inbound: InboundNote, reply: ReadyReply | None, event: tuple[bytes, bytes] | None) -> bool:
        """Keep a text that changes no consent, with its answer or its event (uid bytes and sealed payload). False if it was there."""
        ...


class InboundSource(Protocol):
    """A provider account that can be asked when a person's text was made."""

    async def inbound_created_at(self, provider_message_id: str) -> datetime | None:
        """The provider's own time; raises ProviderUnavailable."""
        ...


class Replies:
    """The chapter. Raises StoreUnavailable when PostgreSQL is away: then nothing has been answered."""

    def __init__(
        self,
        conversation: Conversation,
        stop: Stop,
        policies: Policies,
        sources: Mapping[str, InboundSource],
        vault: Vault,
        hasher: Hasher,
        metrics: Metrics,
    ) -> None:
        self._conversation = conversation
        self._stop = stop
        self._policies = policies
        self._senders = policies.sender_map()
        self._sources = sources
        self._vault = vault
        self._hasher = hasher
        self._metrics = metrics

    async def receive(self, text: InboundText, *, found_by: str = "webhook") -> ReplyFate:
        """Heed one text. A STOP is in force when this returns, or will be within a lease."""
        use = self._use(text)
        number = normal_form(text.sender.reveal())
        subject_id = self._hasher.subject_id(text.sender if isinstance(number, BadNumber) else number)
        last = await self._conversation.last_text(subject_id, use.sender if use is not None else text.to)
        whom = self._whom(use, last)
        policy = self._policies.tenant(whom[0]) if whom is not None else None
        word = self._word(text, policy)
        if word is not None and word.kind == "yes":
            word = await self._yes(word, text, key_for(use, subject_id))
        heard = _Heard(text, use, whom, policy, subject_id, word)
        fate = await self._heed(heard)
        self._metrics.replies_total.labels(kind=fate).inc()
        if found_by == "catch_up" and fate != "repeated":
            self._metrics.catch_up_total.inc()
        return fate

    def _use(self, text: InboundText) -> SenderUse | None:
        use = (self._senders.get(text.service) if text.service else None) or self._senders.get(text.to)
        if use is not None and use.account != text.account:
            raise BadWebhook("the text is for a sender of another account")
        return use

    @staticmethod
    def _whom(use: SenderUse | None, last: LastText | None) -> tuple[str, str] | None:
        if last is not None:
            return last.tenant, last.programme
        if use is not None and len(use.tenants) == 1:
            return use.uses[0]
        return None

    @staticmethod
    def _word(text: InboundText, policy: Policy | None) -> Word | None:
        """The word of the text; what the provider took it for counts as well, and STOP before all."""
        languages = policy.languages if policy is not None else ("en",)
        word = read(text.body, languages)
        if text.replied is None or (word is not None and word.kind == "stop"):
            return word
        kind = cast("WordKind", text.replied.lower())
        return word if word is not None and word.kind == kind else Word(kind, languages[0], kind)

    async def _yes(self, word: Word, text: InboundText, key: ConsentKey) -> Word | None:
        """YES is an opt-in only from someone who has opted out; on toll-free numbers only START and UNSTOP undo a STOP."""
        if is_toll_free(PhoneNumber(text.to)):
            return None
        outs = [consent for consent in await self._conversation.consents(key.subject_id) if consent.status == "out"]
        return Word("start", word.language, word.word) if any(consent.key == key for consent in outs) else None

    async def _heed(self, heard: _Heard) -> ReplyFate:
        match heard.word.kind if heard.word is not None else None:
            case "stop":
                return await self._heed_stop(heard)
            case "start":
                return await self._heed_start(heard)
            case "help":
                reply = await self._reply(heard, "help", _ANSWER_WITHIN)
                return "help" if await self._conversation.note(heard.note("help"), reply, None) else "repeated"
            case _:
                return (
                    "other" if await self._conversation.note(heard.note("other"), None, await self._event(heard)) else "repeated"
                )

    async def _heed_stop(self, heard: _Heard) -> ReplyFate:
        text = heard.text
        reply = await self._reply(heard, "stop", _CONFIRM_WITHIN)
        opt_out = OptOut(
            key_for(heard.use, heard.subject_id), "text", text.created_at, actor="person", reply=reply, inbound=heard.note("stop")
        )
        return "repeated" if await self._stop.opt_out(opt_out) is None else "stop"

    async def _heed_start(self, heard: _Heard) -> ReplyFate:
        text = heard.text
        if await self._conversation.seen(text.account, text.provider_message_id):
            return "repeated"
        key = key_for(heard.use, heard.subject_id)
        said_at = text.created_at or await self._asked_when(heard, key)
        opt_in = OptIn(
            key,
            "text",
            said_at,
            actor="person",
            reply=await self._reply(heard, "start", _ANSWER_WITHIN),
            inbound=heard.note("start"),
        )
        match await self._conversation.opt_in(opt_in):
            case "granted":
                return "start"
            case "repeated":
                return "repeated"
            case "not_proven":
                log.warning("start not proven later than the stop: the person stays opted out", account=text.account)
                return "start"

    async def _asked_when(self, heard: _Heard, key: ConsentKey) -> datetime:
        """When a START was texted. Webhooks do not say, and may be late repeats: the provider is asked where it matters."""
        now = await self._conversation.now()
        if not any(consent.status == "out" for consent in await self._conversation.consents(key.subject_id)):
            return now
        try:
            said_at = await self._sources[heard.text.account].inbound_created_at(heard.text.provider_message_id)
        except (ProviderUnavailable, KeyError):
            said_at = None
        return said_at or datetime.min.replace(tzinfo=now.tzinfo)  # a doubt goes to STOP

    async def _reply(self, heard: _Heard, kind: Literal["stop", "start", "help"], within: timedelta) -> ReadyReply | None:
        """The answer, sealed; None where the provider or the network has answered, or no way out is known."""
        text, use = heard.text, heard.use
        if text.replied is not None or use is None or heard.whom is None or heard.policy is None or heard.word is None:
            return None
        if kind == "stop" and is_toll_free(PhoneNumber(text.to)):
            return None
        tenant, programme = heard.whom
        route_id = await self._conversation.route_id(tenant, programme, use.sender)
        if route_id is None or heard.policy.programme(programme) is None:
            return None
        now = await self._conversation.now()
        until = min(text.created_at or now, now) + within
        if until <= now:
            return None  # a catch-up found it: nobody waits for the answer any more
        uid = new_uid(now)
        body = MessageBody(heard.policy.reply(programme, kind, heard.word.language))
        return ReadyReply(
            uid=uid,
            route_id=route_id,
            kind="help" if kind == "help" else "confirmation",
            to_sealed=self._vault.seal_number(tenant, uid, text.sender),
            body_sealed=self._vault.seal_body(tenant, uid, body),
            parts=parts(body),
            expires_at=until,
            policy=heard.policy.version,
            rule=f"replies.{kind}",
        )

    async def _event(self, heard: _Heard) -> tuple[bytes, bytes] | None:
        """The tenant's event of a text, sealed until the relay publishes it; none where nobody can say whose it is."""
        if heard.whom is None or heard.use is None:
            return None
        text, tenant = heard.text, heard.whom[0]
        now = await self._conversation.now()
        uid = new_uid(now)
        last = await self._conversation.last_text(heard.subject_id, heard.use.sender)
        event = InboundEvent(
            inbound_id=uid,
            tenant=tenant,
            programme=heard.whom[1] if last is not None or len(heard.use.uses) == 1 else None,
            number=text.sender,
            sender=heard.use.sender,
            body=text.body,
            recipient_ref=last.recipient_ref if last is not None else None,
            provider="twilio",
            account=text.account,
            received_at=now,
        )
        return uid.bytes, self._vault.seal_payload(tenant, "inbound", uid, encode(event))


@dataclass(frozen=True, slots=True)
class _Heard:
    """A text with all that is known of it."""

    text: InboundText
    use: SenderUse | None
    whom: tuple[str, str] | None
    policy: Policy | None
    subject_id: bytes
    word: Word | None

    def note(self, fate: Literal["stop", "start", "help", "other"]) -> InboundNote:
        tenant = self.whom[0] if self.whom is not None else SYSTEM_TENANT
        return InboundNote(self.text.account, self.text.provider_message_id, self.text.created_at, fate, tenant, self.subject_id)
