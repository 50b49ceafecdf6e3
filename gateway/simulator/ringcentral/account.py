"""An account at RingCentral as it stands: its tokens, limits, batches, consents and subscriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.simulator.accounts import AccountState
from gateway.simulator.config import RingCentralAccount
from gateway.simulator.outside import Outside
from gateway.simulator.plan import Step
from gateway.simulator.records import Message, Posted
from gateway.simulator.ringcentral.consents import Consents, read_word
from gateway.simulator.ringcentral.events import consents_event, instant_event, store_event
from gateway.simulator.ringcentral.rates import Rates
from gateway.simulator.ringcentral.records import Batch, Consent
from gateway.simulator.ringcentral.render import STATUSES, a2p_message, batch_json, stored_message, time_text
from gateway.simulator.ringcentral.subscriptions import Subscriptions
from gateway.simulator.ringcentral.tokens import Tokens
from gateway.simulator.wire import Exchange

__all__ = ["RingCentralState"]

_APART: Final = 1_000_000_000  # identifiers of one seed: more than any run gives
_SEEDS: Final = 4_000_000  # so that an identifier fits the 53 bits that every JSON reader has


class RingCentralState(AccountState[RingCentralAccount]):
    """An account at RingCentral. ``seed`` makes its messages' identifiers."""

    fixed = frozenset({"sid", "client_id", "client_secret", "jwt", "extension"})

    def __init__(
        self, settings: RingCentralAccount, outside: Outside, clock: Callable[[], float], seed: int, *, most_batches: int
    ) -> None:
        super().__init__(settings.sid, settings)
        self._most_batches = most_batches
        self.tokens = Tokens(clock)
        self.rates = Rates(clock)
        self.consents = Consents(clock, lambda number: self.is_single(number) or self.is_a2p(number))
        self.subscriptions = Subscriptions(outside, clock, lambda: self.settings)
        self.batches: dict[str, Batch] = {}
        self._queued: dict[str, set[str]] = {}
        self._seed = seed
        self._clock = clock

    def clear(self) -> None:
        """As at the start."""
        super().clear()
        self.tokens.clear()
        self.rates.clear()
        self.consents.clear()
        self.subscriptions.clear()
        self.batches.clear()
        self._queued.clear()

    def owns(self, number: str) -> bool:
        """Whether the number is one of the account's, for single SMS or for batches."""
        return number in self.settings.senders or number in self.settings.a2p_senders

    def service_of(self, _number: str) -> str | None:
        """None: there are no messaging services."""
        return None

    def is_a2p(self, number: str) -> bool:
        """Whether a number is one for batches. At RingCentral it is one or the other; where none is told, both."""
        return number in self.settings.a2p_senders or not (self.settings.senders or self.settings.a2p_senders)

    def is_single(self, number: str) -> bool:
        """Whether a number is one for single SMS."""
        return number in self.settings.senders or not (self.settings.senders or self.settings.a2p_senders)

    def in_a2p(self, message: Message) -> bool:
        """Whether the A2P store has the message."""
        return self.is_a2p(message.to) if message.plan is None else message.batch is not None

    def in_store(self, message: Message) -> bool:
        """Whether the extension's message store has the message."""
        return self.is_single(message.to) if message.plan is None else message.batch is None

    def new_sid(self, number: int) -> str:
        """A whole number that depends on the seed and the number alone."""
        return str((self._seed % _SEEDS + 1) * _APART + number)

    def keep(self, batch: Batch, messages: Iterable[Message]) -> None:
        """Remember a batch; the oldest go first."""
        self.batches[batch.id] = batch
        mode = self.settings.callbacks
        if queued := {one.sid for one in messages if one.plan is not None and one.plan.notices(mode)}:
            self._queued[batch.id] = queued
        if len(self.batches) > self._most_batches:
            oldest = next(iter(self.batches))
            del self.batches[oldest]
            self._queued.pop(oldest, None)

    def uri(self, exchange: Exchange) -> Callable[[str], str]:
        """What makes a link from a path within the extension, at the address that the client has used."""
        host = (exchange.header(b"host") or b"platform.ringcentral.com").decode("latin-1")
        return lambda path: f"http://{host}{self._extension}{path}"

    @property
    def _root(self) -> str:
        return f"/restapi/v1.0/account/{self.sid}"

    @property
    def _extension(self) -> str:
        return f"{self._root}/extension/{self.settings.extension}"

    def opted_out(self, sender: str | None, to: str) -> bool:
        """Whether the person does not want this sender's texts."""
        return self.settings.keeps_opt_outs and self.consents.opted_out(sender, to)

    def hear(self, message: Message) -> None:
        """RingCentral's words opt out, and in again, for the one number that the person has texted."""
        status = read_word(message.body)
        if status is not None and self.settings.keeps_opt_outs:
            self.consents.put(message.to, message.sender or "", status, "Recipient")

    def subscribed(self) -> int:
        """How many subscriptions there are."""
        return len(self.subscriptions.live())

    def opt_outs(self) -> Iterator[tuple[str, str]]:
        """Each sender (``*`` for all), and the person who wants no texts from it."""
        return self.consents.opt_outs()

    # -- events -------------------------------------------------------------------------------------------------------------------

    async def tell(self, message: Message, *, forged: bool) -> list[Posted]:
        """The events of a text that has come: in either store, and of the consent that it changes."""
        posted: list[Posted] = []
        sender, to = message.sender or "", message.to
        ends = {"from": sender, "to": to}

        async def publish(path: str, body: Mapping[str, Any], status: str, **more: str) -> None:
            posted.extend(await self.subscriptions.publish(
                path, {**ends, **more}, body, key=f"{message.sid} {path}", status=status, forged=forged
            ))  # fmt: skip

        if self.is_single(to):
            body = instant_event(
                stored_message(message, self._clock(), lambda path: self._extension + path, self.settings.extension)
            )
            await publish(f"{self._extension}/message-store/instant", body, "received", type="SMS")
        if self.is_a2p(to):
            body = a2p_message(message, self._clock(), text=True, whole=True)
            await publish(f"{self._root}/a2p-sms/messages", body, "received", direction="Inbound")
        status = read_word(message.body)
        if status is not None and self.settings.keeps_opt_outs:
            ends = {"from": to, "to": sender}
            if self.is_a2p(to):
                await publish(f"{self._root}/a2p-sms/opt-outs", {**ends, "active": status == "OptOut"}, status)
            consent = Consent(0, to, sender, status, "Recipient", None, message.created_at)
            await publish(f"/restapi/v2/accounts/{self.sid}/sms/consents", consents_event([consent]), status)
        return posted

    async def tell_consents(self, noted: Sequence[Consent]) -> list[Posted]:
        """The event of consents that the API has changed."""
        if not noted:
            return []
        return await self.subscriptions.publish(
            f"/restapi/v2/accounts/{self.sid}/sms/consents", {}, consents_event(noted), key=f"consent {noted[0].number}",
            status="consents", forged=False,
        )  # fmt: skip

    async def call_back(self, message: Message, step: Step, forged: bool) -> list[Posted]:
        """The event of a status that one of our messages has reached, and of its batch when that leaves none of it queued."""
        if not self.subscriptions.all:
            return []
        now, key, status = self._clock(), f"{message.sid} {step.status}", STATUSES[step.status]
        if message.batch is None:
            # Which message has changed it does not say: whoever wants to know looks into the store. A filter may ask for a kind.
            change = store_event(self.settings.extension, now)
            kind = {"type": "SMS", "direction": "Outbound"}
            return await self.subscriptions.publish(
                f"{self._extension}/message-store", kind, change, key=key, status=status, forged=forged
            )
        ends = {"from": message.sender or "", "to": message.to, "direction": "Outbound"}
        told = a2p_message(message, message.starts_at + step.after, text=True, whole=True)
        told["messageStatus"] = status
        posted = await self.subscriptions.publish(
            f"{self._root}/a2p-sms/messages", ends, told, key=key, status=status, forged=forged
        )
        queued = self._queued.get(message.batch)
        if queued is not None and not forged:
            queued.discard(message.sid)
            if not queued and (batch := self.batches.get(message.batch)) is not None:
                del self._queued[message.batch]
                posted += await self._tell_completed(batch, now)
        return posted

    async def _tell_completed(self, batch: Batch, now: float) -> list[Posted]:
        told = {**batch_json(batch, (), now), "lastModifiedTime": time_text(now)}
        return await self.subscriptions.publish(
            f"{self._root}/a2p-sms/batches", {"from": batch.sender}, told, key=batch.id, status="Completed", forged=False
        )
