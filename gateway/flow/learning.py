"""Learning: opt-outs that providers keep of themselves are taken into the gateway's own list, from their lists and their webhooks.

What comes back of what the gateway told is an echo, and changes nothing: two providers do not tell each other through us without end.
No echo is an opt-out that was said after an opt-in which the account is still to be told: it would be undone there, unheard of here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Protocol

from gateway.domain.consent import Consent, ConsentKey
from gateway.domain.errors import GatewayError, KeyMissing, KeyRingAway, KeyUnreadable, Unavailable
from gateway.domain.reports import OptOutNews
from gateway.domain.senders import SenderUse
from gateway.domain.telling import Holding, Word, is_echo, is_said_anew, met_before
from gateway.flow.conversation import OptIn
from gateway.flow.fuse import clock
from gateway.flow.hearing import person_of
from gateway.flow.stop import OptOut, Stop, key_for
from gateway.flow.vault import Hasher, Vault, owner_of
from gateway.telemetry import Metrics, get_logger

__all__ = ["DueList", "Learning", "ListStore", "OptOutList"]

_EVERY: Final = 300.0  # seconds between two readings of an account's list
_OVERLAP: Final = timedelta(minutes=10)  # a list may show an opt-out late, and providers have clocks of their own
_WAIT: Final = 30.0  # seconds, after a list that could not be read
_CLOCKS_APART: Final = timedelta(seconds=5)  # the provider's clock, and PostgreSQL's
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

LearnedResult = Literal["learned", "echo", "unchanged", "earlier", "not_heeded", "unknown_sender", "passed_over"]
"""``earlier``: it was said before the opt-in that stands. ``not_heeded``: an opt-in that was not surely later. ``passed_over``: one that
cannot be heeded at all.
"""

log = get_logger("learning")


@dataclass(frozen=True, slots=True)
class DueList:
    """An account whose list is to be read: when the last complete reading began, None before the first, and PostgreSQL's time."""

    account: str
    read_at: datetime | None
    now: datetime


@dataclass(frozen=True, slots=True)
class _Reading:
    """A reading that has begun. An account may allow fewer calls at once than it has senders: none is read twice for that."""

    due: DueList
    senders: set[str] = field(default_factory=set)


class ListStore(Protocol):
    """How far lists are read, and what accounts hold."""

    async def lists_due(self, accounts: Sequence[str], every: float) -> Sequence[DueList]:
        """Those that were read longer ago than this, or before the last catch-up."""
        ...

    async def list_read(self, account: str, began_at: datetime) -> None:
        """A list was read to its end."""
        ...

    async def learned(self, account: str, sender: str, subject_id: bytes, word: Word, at: datetime | None) -> None:
        """The account has told what it held at a moment, by its own clock; None: now."""
        ...


class Consenting(Protocol):
    """What is on record of people."""

    async def now(self) -> datetime: ...

    async def consents(self, subject_id: bytes) -> Sequence[Consent]: ...

    async def holding(self, account: str, sender: str, subject_id: bytes) -> Holding | None: ...

    async def opt_in(self, opt_in: OptIn) -> Literal["granted", "not_proven", "repeated"]: ...


class OptOutList(Protocol):
    """A provider account's own list of opt-outs."""

    async def list_opt_outs(self, sender: str, since: datetime) -> list[OptOutNews]:
        """What changed since then, of one sender. Raises ProviderUnavailable."""
        ...


class Learning:
    """The chapter. ``lists`` are the accounts that can be asked. ``within`` is how many seconds what an account was told may still take."""

    def __init__(
        self,
        store: ListStore,
        consents: Consenting,
        lists: Mapping[str, OptOutList],
        uses: Mapping[str, SenderUse],
        stop: Stop,
        hasher: Hasher,
        vault: Vault,
        metrics: Metrics,
        *,
        within: float = 60.0,
    ) -> None:
        self._within = timedelta(seconds=within) + _CLOCKS_APART
        self._store = store
        self._consents = consents
        self._lists = lists
        self._uses = uses
        self._stop = stop
        self._hasher = hasher
        self._vault = vault
        self._metrics = metrics
        self._not_before: dict[str, float] = {}
        self._begun: dict[str, _Reading] = {}

    async def read(self) -> None:
        """Read the lists that are due; the first time all of them, from their beginnings."""
        for due in await self._store.lists_due(sorted(self._lists), _EVERY):
            if clock() < self._not_before.get(due.account, 0.0):
                continue
            try:
                await self._read(due)
            except GatewayError as fault:
                log.warning("list of opt-outs waits", account=due.account, why=str(fault))
                self._not_before[due.account] = clock() + _WAIT

    async def heed(self, news: Sequence[OptOutNews]) -> None:
        """Learn what a provider tells, in order of its times. An opt-out is in force when this returns, or will be within a lease.

        Raises Unavailable, and what keeps the key ring from being read: the provider's list tells it again.
        """
        for one in sorted(news, key=lambda each: each.at or datetime.max.replace(tzinfo=UTC)):
            result = await self._heed_if_possible(one)
            self._metrics.opt_outs_learned_total.labels(account=one.account, result=result).inc()

    async def _read(self, due: DueList) -> None:
        since = due.read_at - _OVERLAP if due.read_at is not None else _EVER
        begun = self._begun.get(due.account)
        if begun is None or begun.due.read_at != due.read_at:
            begun = self._begun[due.account] = _Reading(due)
        for use in self._uses.values():
            if use.account == due.account and use.sender not in begun.senders:
                await self.heed(await self._lists[due.account].list_opt_outs(use.sender, since))
                begun.senders.add(use.sender)
        del self._begun[due.account]
        await self._store.list_read(due.account, begun.due.now)

    async def _heed_if_possible(self, news: OptOutNews) -> LearnedResult:
        """One that can never be heeded does not keep those after it waiting for ever."""
        try:
            return await self._heed(news)
        except (Unavailable, KeyMissing, KeyRingAway, KeyUnreadable):
            raise
        except Exception as fault:
            log.exception("news of an opt-out passed over", account=news.account, exc_info=fault)
            return "passed_over"

    async def _heed(self, news: OptOutNews) -> LearnedResult:
        use = self._uses.get(news.sender)
        if use is None or use.account != news.account:
            return "unknown_sender"  # it holds for that sender alone, and nothing of ours leaves by it
        subject_id = self._hasher.subject_id(person_of(news.to))
        word: Word = "out" if news.opted_out else "in"
        holding = await self._consents.holding(news.account, news.sender, subject_id)
        if news.met and met_before(holding, news.at, _CLOCKS_APART):
            return "echo"
        key = key_for(use, subject_id)
        standing = next((one for one in await self._consents.consents(subject_id) if one.key == key), None)
        if is_echo(word, holding) and not self._said_anew(news, holding, standing):
            return "echo"
        if news.opted_out:
            return await self._opt_out(news, key, standing)
        return await self._opt_in(news, key, standing)

    def _said_anew(self, news: OptOutNews, holding: Holding | None, standing: Consent | None) -> bool:
        """Whether an opt-out that looks like an echo was said after the opt-in that stands here, and that its account is still to be told."""
        return (
            news.opted_out
            and not news.met
            and holding is not None
            and standing is not None
            and standing.status == "in"
            and is_said_anew(holding, news.at, standing.stated_at, self._within)
        )

    async def _opt_out(self, news: OptOutNews, key: ConsentKey, standing: Consent | None) -> LearnedResult:
        if standing is not None and standing.status == "in" and _later(standing.stated_at, news.at):
            return "earlier"
        if standing is not None and standing.status == "out" and not _later(news.at, standing.stated_at):
            await self._store.learned(news.account, news.sender, key.subject_id, "out", news.at or _EVER)
            return "unchanged"
        said_at = news.at if news.at is not None and news.at <= await self._consents.now() else None
        await self._stop.opt_out(
            OptOut(
                key,
                "provider",
                said_at,
                actor="provider",
                number=self._vault.keep_number(owner_of(key), person_of(news.to)),
                learned_from=(news.account, news.sender),
            )
        )
        return "learned"

    async def _opt_in(self, news: OptOutNews, key: ConsentKey, standing: Consent | None) -> LearnedResult:
        """It undoes an opt-out as a START does, if it was surely later; it never makes an opt-in where no opt-out stood."""
        if standing is None or standing.status == "in":
            return "unchanged"
        if news.at is None:
            return "not_heeded"
        granted = await self._consents.opt_in(
            OptIn(
                key,
                "provider",
                news.at - _CLOCKS_APART,
                actor="provider",
                number=self._vault.keep_number(owner_of(key), person_of(news.to)),
                learned_from=(news.account, news.sender),
            )
        )
        return "learned" if granted == "granted" else "not_heeded"


def _later(one: datetime | None, other: datetime | None) -> bool:
    """Whether one moment was surely after the other, by clocks that may differ."""
    return one is not None and other is not None and one > other + _CLOCKS_APART
