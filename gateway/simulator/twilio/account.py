"""An account at Twilio as it stands: its services, whom it knows as opted out, and the webhooks that tell of its messages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from gateway.simulator.accounts import AccountState
from gateway.simulator.config import Account
from gateway.simulator.inbound import BadInbound
from gateway.simulator.plan import Step
from gateway.simulator.records import Message, Posted
from gateway.simulator.twilio.fields import inbound_fields, status_fields
from gateway.simulator.twilio.webhooks import Webhooks

__all__ = ["TwilioState"]


class TwilioState(AccountState[Account]):
    """An account at Twilio. ``seed`` makes its messages' identifiers."""

    fixed = frozenset({"sid", "token", "test"})

    def __init__(self, settings: Account, webhooks: Webhooks, seed: int) -> None:
        super().__init__(settings.sid, settings)
        self.opted_out: set[tuple[str, str]] = set()
        self._webhooks = webhooks
        self._seed = seed

    def clear(self) -> None:
        """As at the start."""
        super().clear()
        self.opted_out.clear()

    def owns(self, number: str) -> bool:
        """Whether the number is a sender, or one of a service."""
        settings = self.settings
        return number in settings.senders or any(number in pool for pool in settings.services.values())

    def service_of(self, number: str) -> str | None:
        """The messaging service that the number belongs to."""
        return next((sid for sid, pool in self.settings.services.items() if number in pool), None)

    def new_sid(self, number: int) -> str:
        """SM and 32 digits that depend on the seed and the number alone."""
        return f"SM{hashlib.blake2b(f'{self._seed}:{number}'.encode(), digest_size=16).hexdigest()}"

    def hear(self, message: Message) -> None:
        """Opt out, or in again, whom Twilio has replied to."""
        if not self.settings.keeps_opt_outs or message.sender is None:
            return
        pair = (message.sender, message.service or message.to)
        if message.opt_out_type == "STOP":
            self.opted_out.add(pair)
        elif message.opt_out_type == "START":
            self.opted_out.discard(pair)

    def opt_outs(self) -> Iterator[tuple[str, str]]:
        """Each sender, and the person who wants no texts from it."""
        return ((sender, person) for person, sender in self.opted_out)

    async def tell(self, message: Message, *, forged: bool) -> list[Posted]:
        """Post the inbound webhook. Raises BadInbound where no URL is known."""
        url = self.settings.inbound_urls.get(message.to) or self.settings.inbound_url
        if not url:
            raise BadInbound("no inbound URL is known for this number or its account")
        return [await self._webhooks.post(url, self._token(forged), "received", inbound_fields(message))]

    async def call_back(self, message: Message, step: Step, forged: bool) -> list[Posted]:
        """Post one status callback."""
        assert message.callback is not None, "messages without one are not scheduled"
        return [await self._webhooks.post(message.callback, self._token(forged), step.status, status_fields(message, step))]

    def _token(self, forged: bool) -> str:
        return f"not {self.settings.token}" if forged else self.settings.token
