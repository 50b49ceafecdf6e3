"""Replies: what people text to us. STOP, START and HELP are heeded here; anything else is the tenant's to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Literal

from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.errors import ProviderUnavailable, Unavailable
from gateway.domain.events import InboundEvent, encode
from gateway.domain.ids import new_uid
from gateway.domain.parts import parts
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.phone import is_toll_free
from gateway.domain.policy import Policies
from gateway.domain.reports import InboundText
from gateway.domain.senders import SenderUse
from gateway.domain.words import Word
from gateway.flow.conversation import Conversation, InboundSource, LastText, OptIn
from gateway.flow.hearing import Heard, keys_of, person_of, senders_of, whom_for, word_of
from gateway.flow.stop import OptOut, ReadyReply, Stop
from gateway.flow.vault import SYSTEM_TENANT, Hasher, KeptNumber, Vault, owner_of
from gateway.telemetry import Metrics, get_logger

__all__ = ["Replies", "ReplyFate"]

ReplyFate = Literal["stop", "start", "help", "other", "repeated", "spooled"]
"""``spooled``: PostgreSQL was away, and a STOP is written where it will be applied from."""

# The confirmation of a STOP is presumed consented to within five minutes: 47 CFR 64.1200(a)(12).
_CONFIRM_WITHIN: Final = timedelta(minutes=5)
_ANSWER_WITHIN: Final = timedelta(hours=1)

# A webhook carries no time, so that its STOP has PostgreSQL's; a START has the provider's. By so much may the two clocks differ.
_CLOCKS_APART: Final = timedelta(seconds=5)

# Only the confirmation of a STOP and the answer to HELP are exempt from consent: the answer to a START is a text like any other.
_KINDS: Final[dict[Literal["stop", "start", "help"], Literal["confirmation", "welcome", "help"]]] = {
    "stop": "confirmation",
    "start": "welcome",
    "help": "help",
}

log = get_logger("replies")


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
        heard = await self._hear(text)
        fate = await self._heed(heard)
        self._metrics.replies_total.labels(kind=fate).inc()
        if found_by == "catch_up" and fate != "repeated":
            self._metrics.catch_up_total.inc()
        return fate

    async def pass_over(self, text: InboundText) -> None:
        """Count a text that cannot be heeded; of a STOP, write at least the opt-out. Raises what writing it raises."""
        self._metrics.replies_total.labels(kind="passed_over").inc()
        stop = self.stop_without_store(text)
        if stop is not None:
            keys, _ = stop
            await self._write_stop(Heard(text, None, keys, None, None, keys[0].subject_id, None), None)

    def stop_without_store(self, text: InboundText) -> tuple[list[ConsentKey], str] | None:
        """What a STOP covers, and its word, told without PostgreSQL; None when the text is anything else. Raises BadWebhook.

        Nothing of it hangs on who texted the person last: every language's STOP is one, and it speaks of all uses of the sender.
        """
        word = word_of(text, None)
        if word is None or word.kind != "stop":
            return None
        return keys_of(senders_of(text, self._senders), self._subject_id(text)), word.word

    async def heed_spooled(self, text: InboundText, keys: Sequence[ConsentKey]) -> ReplyFate:
        """A STOP that was spooled, for what it covered then. ``text.created_at`` is when it was spooled, by another clock than the
        store's: it bounds the confirmation, and the STOP counts as said now.
        """
        heard = await self._hear(text)
        reply = await self._reply_if_possible(heard)
        return await self._write_stop(replace(heard, keys=list(keys), text=replace(text, created_at=None)), reply)

    async def opt_out_each(self, keys: Sequence[ConsentKey], opt_out: OptOut) -> bool:
        """Write an opt-out for each of the keys, one text's; False when that text was there before, as something else or undone since.

        The text's id, which ``opt_out`` bears, goes with the last: once it is stored, all of them are.
        """
        note = opt_out.inbound
        *others, first = [replace(opt_out, key=key) for key in reversed(keys)]
        if others and (note is None or await self._conversation.seen(note.account, note.provider_message_id)):
            others = []
        return await self._stop.opt_out_each([*(replace(other, reply=None, inbound=None) for other in others), first]) is not None

    async def _hear(self, text: InboundText) -> Heard:
        uses = senders_of(text, self._senders)
        subject_id = self._subject_id(text)
        use, last = await self._last(text, uses, subject_id)
        whom = whom_for(use, last)
        policy = self._policies.tenant(whom[0]) if whom is not None else None
        word = word_of(text, policy)
        keys = keys_of(uses, subject_id)
        if word is not None and word.kind == "yes":
            word = await self._yes(word, text, keys)
        closed = whom is not None and await self._conversation.is_closed(whom[0])
        return Heard(text, use, keys, whom, policy, subject_id, word, uses, closed)

    def _subject_id(self, text: InboundText) -> bytes:
        return self._hasher.subject_id(person_of(text.sender))

    async def _last(
        self, text: InboundText, uses: Sequence[SenderUse], subject_id: bytes
    ) -> tuple[SenderUse | None, LastText | None]:
        """The sender that has texted the person, and its last text; without any, the first of the senders."""
        first = uses[0] if uses else None
        try:
            for use in uses:
                if (last := await self._conversation.last_text(subject_id, use.sender)) is not None:
                    return use, last
            return first, None if uses else await self._conversation.last_text(subject_id, text.to)
        except Unavailable:
            raise
        except Exception as fault:  # noqa: BLE001 - a STOP needs none of this
            log.warning("last text not found", account=text.account, why=type(fault).__name__)
            return first, None

    async def _yes(self, word: Word, text: InboundText, keys: Sequence[ConsentKey]) -> Word | None:
        """YES is an opt-in only from someone who has opted out; on toll-free numbers only START and UNSTOP undo a STOP."""
        if is_toll_free(PhoneNumber(text.to)):
            return None
        outs = [consent for consent in await self._conversation.consents(keys[0].subject_id) if consent.status == "out"]
        return Word("start", word.language, word.word) if any(consent.key in keys for consent in outs) else None

    async def _heed(self, heard: Heard) -> ReplyFate:
        match heard.word.kind if heard.word is not None else None:
            case "stop":
                return await self._write_stop(heard, await self._reply_if_possible(heard))
            case "start":
                return await self._heed_start(heard)
            case "help":
                reply = await self._reply(heard, "help", _ANSWER_WITHIN)
                return "help" if await self._conversation.note(heard.note("help"), reply, None) else "repeated"
            case _:
                return (
                    "other" if await self._conversation.note(heard.note("other"), None, await self._event(heard)) else "repeated"
                )

    async def _write_stop(self, heard: Heard, reply: ReadyReply | None) -> ReplyFate:
        said_at = heard.text.created_at
        opt_out = OptOut(
            heard.keys[0],
            "text",
            said_at,
            actor="person",
            reply=reply,
            inbound=heard.note("stop"),
            number=self._number(heard),
            learned_from=heard.held_by("STOP"),
        )
        return "stop" if await self.opt_out_each(heard.keys, opt_out) else "repeated"

    def _number(self, heard: Heard) -> KeptNumber | None:
        # that tenant's keys are at their end, and its provider account is told all the same
        owner = SYSTEM_TENANT if heard.closed else owner_of(heard.keys[0])
        return self._vault.keep_number(owner, person_of(heard.text.sender))

    async def _reply_if_possible(self, heard: Heard) -> ReadyReply | None:
        """The confirmation of a STOP, or None: a STOP is never lost for want of its answer, as with a key folder that is full."""
        try:
            return await self._reply(heard, "stop", _CONFIRM_WITHIN)
        except Unavailable:
            raise
        except Exception as fault:  # noqa: BLE001 - whatever it is, the STOP counts
            log.warning("stop not confirmed", account=heard.text.account, why=type(fault).__name__)
            return None

    async def _heed_start(self, heard: Heard) -> ReplyFate:
        text = heard.text
        if await self._conversation.seen(text.account, text.provider_message_id):
            return "repeated"
        said = await self._said_at(heard)
        number, known = self._number(heard), heard.held_by("START")
        if said is None:
            log.warning("nobody knows when a start was said: the person stays opted out", account=text.account)
            noted = await self._conversation.note_start(heard.note("start_not_proven"), number, known)
            return "start" if noted else "repeated"
        *others, first = [
            OptIn(key, "text", said[0], actor="person", proven=said[1], number=number, learned_from=known)
            for key in reversed(await self._undone(heard))
        ]
        for opt_in in others:  # the text's id goes with the last: once it is stored, all of them are
            await self._conversation.opt_in(opt_in)
        reply = await self._reply(heard, "start", _ANSWER_WITHIN)
        match await self._conversation.opt_in(replace(first, reply=reply, inbound=heard.note("start"))):
            case "granted":
                return "start"
            case "repeated":
                return "repeated"
            case "not_proven":
                log.warning("start not proven later than the stop: the person stays opted out", account=text.account)
                return "start"

    async def _undone(self, heard: Heard) -> list[ConsentKey]:
        """What a START undoes: as far as a STOP reaches now, and an opt-out from this sender alone, as by the API."""
        stands = {consent.key for consent in await self._conversation.consents(heard.subject_id) if consent.status == "out"}
        senders = [ConsentKey(heard.subject_id, key.tenant, Scope.SENDER, use.sender) for use in heard.uses for key in heard.keys]
        return list(dict.fromkeys([*heard.keys, *(key for key in senders if key in stands)]))

    async def _said_at(self, heard: Heard) -> tuple[datetime, bool] | None:
        """The earliest moment, by PostgreSQL's clock, at which a START can have been said, and whether the provider told it; None when
        nobody knows.

        Webhooks do not say, and may be late repeats: the provider is asked where it matters. A doubt goes to STOP.
        """
        said_at = heard.text.created_at
        if said_at is None:
            now = await self._conversation.now()
            if not any(consent.status == "out" for consent in await self._conversation.consents(heard.subject_id)):
                return now, False
            try:
                said_at = await self._sources[heard.text.account].inbound_created_at(heard.text.provider_message_id)
            except (ProviderUnavailable, KeyError):
                return None
        return (said_at - _CLOCKS_APART, True) if said_at is not None else None

    async def _reply(self, heard: Heard, kind: Literal["stop", "start", "help"], within: timedelta) -> ReadyReply | None:
        """The answer, sealed; None where the provider or the network has answered, no way out is known, or the account is closed."""
        text, use = heard.text, heard.use
        if (
            heard.closed
            or text.replied is not None
            or use is None
            or heard.whom is None
            or heard.policy is None
            or heard.word is None
        ):
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
            kind=_KINDS[kind],
            to_sealed=self._vault.seal_number(tenant, uid, text.sender),
            body_sealed=self._vault.seal_body(tenant, uid, body),
            parts=parts(body),
            expires_at=until,
            policy=heard.policy.version,
            rule=f"replies.{kind}",
        )

    async def _event(self, heard: Heard) -> tuple[bytes, bytes] | None:
        """The tenant's event of a text, sealed until the relay publishes it; none where nobody can say whose it is, or it is closed."""
        if heard.whom is None or heard.use is None or heard.closed:
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
            recipient_ref=self._recipient(last) if last is not None else None,
            provider=self._sources[text.account].name,
            account=text.account,
            received_at=now,
        )
        return uid.bytes, self._vault.seal_payload(tenant, "inbound", uid, encode(event))

    def _recipient(self, last: LastText) -> str | None:
        return self._vault.open_recipient(last.tenant, last.uid, last.recipient_sealed, last.recipient_ref)
