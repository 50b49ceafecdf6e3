"""Catch-up: texts that people sent while our web was away, learned from the provider's list before anything is claimed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from gateway.domain.errors import BadWebhook, GatewayError, Unavailable
from gateway.domain.reports import InboundText
from gateway.flow.fuse import clock
from gateway.flow.replies import Replies
from gateway.telemetry import get_logger

__all__ = ["Barrier", "CatchUp", "CatchUpStore", "InboundList"]

_OVERLAP: Final = timedelta(minutes=10)  # a list may show a text late, and providers have clocks of their own
_FIRST_WAIT: Final = 1.0  # seconds, doubled with every failure
_LONGEST_WAIT: Final = 30.0
_SOON: Final = 2.0
_SOON_AGAIN: Final = 10.0

log = get_logger("catch-up")


@dataclass(frozen=True, slots=True)
class Barrier:
    """An account of which nothing is claimed until its list has been read. ``since``: when it was last read to its end."""

    account: str
    raised_at: datetime
    since: datetime | None


@dataclass(frozen=True, slots=True)
class _Wait:
    """How long to leave an account whose list could not be read, in seconds, and until when."""

    seconds: float
    until: float


@dataclass(slots=True)
class _Reading:
    """What has been read for a barrier. An account may allow fewer calls at once than it has senders: none is read twice for that."""

    raised_at: datetime
    senders: set[str] = field(default_factory=set)
    texts: dict[str, InboundText] = field(default_factory=dict)


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
        self._needed = set(lists)  # accounts whose barriers have to be raised
        self._owed = False  # our barriers may still stand
        self._reading = asyncio.Lock()
        self._waits: dict[str, _Wait] = {}  # accounts whose lists could not be read
        self._begun: dict[str, _Reading] = {}  # of accounts whose barrier stands
        self._unread: set[str] = set()  # accounts to look at without a barrier
        self._look_at = 0.0

    @property
    def open(self) -> bool:
        """Whether no text is missing that this process knows of and no barrier says."""
        return not self._needed

    def shut(self, accounts: Collection[str] | None = None) -> None:
        """Texts to these accounts, or to any, may be missing: look for them before anything is claimed that goes by them."""
        self._needed.update(self._lists if accounts is None else self._lists.keys() & accounts)

    def look_soon(self) -> None:
        """Texts may be missing: look for them within seconds, and hold nothing up. However often it is called, that is calm."""
        if not self._unread:
            self._look_at = clock() + _SOON
        self._unread.update(self._lists)

    async def ensure(self) -> bool:
        """Raise the barriers once for each occasion, and read the lists. True once nothing is missing; False to try again.

        An account whose list cannot be read keeps its barrier, and is tried again ever more seldom; the others are not held up.
        """
        try:
            if self._needed:
                raised = sorted(self._needed)
                await self._store.raise_barriers(raised)
                self._owed = True
                self._needed.difference_update(raised)  # from here on the barriers say it, to every worker
            if self._owed:
                self._owed = not await self.finish()
            if self._unread and clock() >= self._look_at:
                await self._look()
        except GatewayError as fault:
            log.warning("catch-up waits", why=str(fault))
            return False
        return not (self._needed or self._owed)

    async def finish(self) -> bool:
        """Read the list of every account whose barrier stands, whoever raised it, and take the barrier away."""
        async with self._reading:
            barriers = [barrier for barrier in await self._store.raised() if barrier.account in self._lists]
            return all(await asyncio.gather(*(self._finish(barrier) for barrier in barriers)))

    async def refresh(self) -> None:
        """Read the lists although nothing is known to be missing, without a barrier: so that a catch-up never has far to go."""
        await self._refresh(set(self._lists))

    async def _look(self) -> None:
        unread, self._unread = self._unread, set()
        left = unread
        try:
            left = unread - await self._refresh(unread)
        finally:  # an account with a barrier, too: its reading may have begun before the text
            if left:
                self._unread |= left
                self._look_at = clock() + _SOON_AGAIN

    async def _refresh(self, accounts: set[str]) -> set[str]:
        """Those of the accounts whose lists were read."""
        read = set()
        for account in await self._store.caught_up():
            if account.account in accounts and await self._read_if_possible(account, _Reading(account.raised_at)):
                await self._store.read_again(account)
                read.add(account.account)
        return read

    async def _finish(self, barrier: Barrier) -> bool:
        wait = self._waits.get(barrier.account)
        if wait is not None and clock() < wait.until:
            return False
        begun = self._begun.get(barrier.account)
        if begun is None or begun.raised_at != barrier.raised_at:
            begun = self._begun[barrier.account] = _Reading(barrier.raised_at)
        if not await self._read_if_possible(barrier, begun):
            seconds = min(wait.seconds * 2, _LONGEST_WAIT) if wait is not None else _FIRST_WAIT
            self._waits[barrier.account] = _Wait(seconds, clock() + seconds)
            return False
        self._waits.pop(barrier.account, None)
        self._begun.pop(barrier.account, None)
        return await self._store.lower(barrier)

    async def _read_if_possible(self, barrier: Barrier, begun: _Reading) -> bool:
        """False when the list could not be read. Whatever is the matter, it does not end the process: the barrier stands."""
        try:
            await self._read(barrier, begun)
        except GatewayError as fault:
            log.warning("catch-up waits", account=barrier.account, why=str(fault))
            return False
        except Exception as fault:
            log.exception("catch-up waits", account=barrier.account, exc_info=fault)
            return False
        return True

    async def _read(self, barrier: Barrier, begun: _Reading) -> None:
        now = await self._store.now()
        since = barrier.since - _OVERLAP if barrier.since is not None else now - self._lookback
        texts = begun.texts
        for sender in self._senders.get(barrier.account, ()):
            if sender in begun.senders:
                continue
            for text in await self._lists[barrier.account].list_inbound(sender, since):
                known = texts.get(text.provider_message_id)
                if (
                    known is None or known.service is None
                ):  # a text to a number of a service is listed for both, and says more by one
                    texts[text.provider_message_id] = text
            begun.senders.add(sender)
        oldest = datetime.min.replace(tzinfo=now.tzinfo)
        for text in sorted(texts.values(), key=lambda one: one.created_at or oldest):
            if not await self._store.seen(text.account, text.provider_message_id):
                await self._heed(text)

    async def _heed(self, text: InboundText) -> None:
        """A text that can never be heeded does not keep the others waiting for ever."""
        try:
            await self._replies.receive(text, found_by="catch_up")
        except Unavailable:
            raise
        except BadWebhook as fault:
            log.warning("listed text passed over", account=text.account, why=str(fault))
        except Exception as fault:
            log.exception("listed text passed over", account=text.account, exc_info=fault)
            await self._pass_over(text)

    async def _pass_over(self, text: InboundText) -> None:
        try:
            await self._replies.pass_over(text)
        except Unavailable:
            raise
        except Exception as fault:
            log.exception("listed text could not even be passed over in order", account=text.account, exc_info=fault)
