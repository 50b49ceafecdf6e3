"""Catch-up: texts that people sent while our web was away, learned from the provider's list before anything is claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from gateway.domain.errors import BadWebhook, GatewayError
from gateway.domain.reports import InboundText
from gateway.flow.replies import Replies
from gateway.telemetry import get_logger

__all__ = ["Barrier", "CatchUp", "CatchUpStore", "InboundList"]

_OVERLAP: Final = timedelta(minutes=10)  # a list may show a text late, and providers have clocks of their own

log = get_logger("catch-up")


@dataclass(frozen=True, slots=True)
class Barrier:
    """An account of which nothing is claimed until its list has been read. ``since``: when it was last read to its end."""

    account: str
    raised_at: datetime
    since: datetime | None


class CatchUpStore(Protocol):
    """Where barriers stand; the claim looks at them."""

    async def now(self) -> datetime: ...

    async def raise_barriers(self, accounts: Sequence[str]) -> None:
        """From now on nothing of these accounts is claimed."""
        ...

    async def raised(self) -> Sequence[Barrier]:
        """The barriers that stand."""
        ...

    async def lower(self, barrier: Barrier) -> bool:
        """Take a barrier away, unless it was raised again meanwhile."""
        ...

    async def caught_up(self) -> Sequence[Barrier]:
        """The accounts without a barrier, at this moment."""
        ...

    async def read_again(self, barrier: Barrier) -> None:
        """The list of an account without a barrier was read to its end."""
        ...

    async def seen(self, account: str, provider_message_id: str) -> bool: ...


class InboundList(Protocol):
    """A provider account's list of what people texted."""

    async def list_inbound(self, to: str, since: datetime) -> list[InboundText]:
        """Raises ProviderUnavailable."""
        ...


class CatchUp:
    """The chapter. ``lookback`` is how far back a store that has no text yet reads."""

    def __init__(
        self,
        store: CatchUpStore,
        lists: Mapping[str, InboundList],
        senders: Mapping[str, Sequence[str]],
        replies: Replies,
        lookback: timedelta,
    ) -> None:
        self._store = store
        self._lists = lists
        self._senders = senders
        self._replies = replies
        self._lookback = lookback
        self.needed = True
        """Set at the start, and by whoever could not store a webhook."""

    @property
    def open(self) -> bool:
        """Whether no text is missing that this process knows of."""
        return not self.needed

    def shut(self) -> None:
        """Texts may be missing: look for them before anything is claimed."""
        self.needed = True

    async def ensure(self) -> bool:
        """If a catch-up is needed, raise the barriers and read the lists. True once nothing is missing; False to try again."""
        if not self.needed:
            return True
        try:
            await self._store.raise_barriers(sorted(self._lists))
            self.needed = False  # from here on the barriers say it, to every worker
            done = await self.finish()
        except GatewayError as fault:
            log.warning("catch-up waits", why=str(fault))
            self.needed = True
            return False
        self.needed = self.needed or not done
        return done

    async def finish(self) -> bool:
        """Read the list of every account whose barrier stands, whoever raised it, and take the barrier away."""
        done = True
        for barrier in await self._store.raised():
            if barrier.account not in self._lists:
                continue
            try:
                await self._read(barrier)
            except GatewayError as fault:
                log.warning("catch-up waits", account=barrier.account, why=str(fault))
                done = False
            else:
                await self._store.lower(barrier)
        return done

    async def refresh(self) -> None:
        """Read the lists although nothing is known to be missing, without a barrier: so that a catch-up never has far to go."""
        for account in await self._store.caught_up():
            if account.account in self._lists:
                await self._read(account)
                await self._store.read_again(account)

    async def _read(self, barrier: Barrier) -> None:
        now = await self._store.now()
        since = barrier.since - _OVERLAP if barrier.since is not None else now - self._lookback
        texts: dict[str, InboundText] = {}
        for sender in self._senders.get(barrier.account, ()):
            for text in await self._lists[barrier.account].list_inbound(sender, since):
                texts[text.provider_message_id] = text
        oldest = datetime.min.replace(tzinfo=now.tzinfo)
        for text in sorted(texts.values(), key=lambda one: one.created_at or oldest):
            if not await self._store.seen(text.account, text.provider_message_id):
                try:
                    await self._replies.receive(text, found_by="catch_up")
                except BadWebhook as fault:
                    log.warning("listed text passed over", account=barrier.account, why=str(fault))
