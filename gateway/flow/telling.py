"""Telling: what people have said of our senders is told to the provider accounts that keep opt-outs of their own.

A change of consent notes, in its transaction, the pairs of person and sender that an account may now hold wrongly. Here they are taken,
many at a time; the word is read from the consents at that moment, so that what is told is never older than what was told before; and
what the account confirms is settled. A request that nobody answered is repeated: a pair is set, not counted, so that telling twice is
telling once. While one may still be on its way no other word is told of its pair.

An account at which other systems may have scheduled texts is also asked to cancel those, on every opt-out: see flow/canceling.py. A pair
of which something may be left is tried again, whatever else became of it.

Opt-outs that stood before an account, or a sender of it, could be told are told as well: where nothing is due, the next of them are noted,
so that no word of today waits behind them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

from gateway.domain.consent import Consent
from gateway.domain.errors import CannotOpen, GatewayError, KeyDestroyed
from gateway.domain.personal import PhoneNumber
from gateway.domain.retry import BackOff
from gateway.domain.senders import SenderUse
from gateway.domain.telling import Holding, Word, is_owed, opted_out_of, said_at
from gateway.flow.canceling import Canceler, cancel_all
from gateway.flow.fuse import clock
from gateway.flow.provider import Abilities, OptOutWord, Told
from gateway.flow.vault import KeptNumber, Vault
from gateway.telemetry import Metrics, get_logger

__all__ = ["Propagations", "Settled", "Taken", "Teller", "Telling", "TellingTimes"]

Result = Literal[Told, "held", "no_number", "not_a_sender"]
"""``held``: nothing was to be told, the account held the word already or holds none."""

log = get_logger("telling")


@dataclass(frozen=True, slots=True)
class Taken:
    """A pair that was taken to be told. ``changes`` is the count of the person's words that it stands for."""

    sender: str
    subject_id: bytes
    changes: int
    tried_at: datetime
    tries: int
    holding: Holding
    number: KeptNumber | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a pair; ``wait`` is in seconds, until it is tried again."""

    taken: Taken
    word: Word
    result: Result
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class TellingTimes:
    """In seconds: how long a pair is taken for, and how much of that must be left when its request begins."""

    lease: float
    begin: float


class Propagations(Protocol):
    """Where pairs that are owed a word stand. Everything raises StoreUnavailable."""

    async def take(self, account: str, most: int, lease: float) -> Sequence[Taken]:
        """Pairs that are due, for the length of a lease."""
        ...

    async def consents(self, subject_ids: Sequence[bytes]) -> Mapping[bytes, Sequence[Consent]]:
        """All that these people have said, as of now."""
        ...

    async def say(self, account: str, words: Sequence[tuple[Taken, Word]]) -> Sequence[tuple[str, bytes]]:
        """The sender and person of those that may be told: their word has not changed. From now on the account may hold it."""
        ...

    async def settle(self, account: str, settled: Sequence[Settled]) -> None:
        """Write down what became of them, unless somebody else has taken them since."""
        ...

    async def choose(self, accounts: Sequence[str], told: Sequence[SenderUse]) -> None:
        """These accounts are heard of, and no others; these senders are told of, also of what was said before they were."""
        ...

    async def note_older(self, account: str, uses: Mapping[str, SenderUse], most: int) -> int:
        """Note standing opt-outs of the next people, about so many pairs; how many were owed to these senders."""
        ...

    async def waiting(self) -> Mapping[str, tuple[int, float]]:
        """How many pairs of each account wait, and the age of the oldest in seconds."""
        ...


class Teller(Canceler, Protocol):
    """A provider account that can be told, or at which an opt-out cancels what is scheduled."""

    @property
    def abilities(self) -> Abilities: ...

    async def tell_opt_outs(self, words: Sequence[OptOutWord]) -> Sequence[Told]:
        """What became of each, in its place."""
        ...


class Telling:
    """The chapter. ``uses`` are all senders; a sender that is none of them any more is not told of."""

    def __init__(
        self,
        store: Propagations,
        tellers: Mapping[str, Teller],
        uses: Mapping[str, SenderUse],
        vault: Vault,
        metrics: Metrics,
        times: TellingTimes,
        *,
        back_off: BackOff = BackOff(5.0, 300.0),  # noqa: B008 - frozen
        chance: Callable[[], float] = random.random,
        now: Callable[[], float] = clock,
    ) -> None:
        self._store = store
        self._tellers = tellers
        self._uses = uses
        self._vault = vault
        self._metrics = metrics
        self._times = times
        self._back_off = back_off
        self._chance = chance
        self._now = now
        self._chosen = False
        self._next: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    async def tell(self) -> int:
        """Tell each account that is due one call's worth; returns how many pairs were looked at. An account does not wait for another."""
        if not self._chosen:
            await self._store.choose(sorted(self._tellers), self._told())
            self._chosen = True
        due = [account for account in self._tellers if self._now() >= self._next.get(account, 0.0)]
        return sum(await asyncio.gather(*(self._if_possible(account) for account in due)))

    async def measure(self) -> None:
        """Set the gauges of what waits."""
        waiting = await self._store.waiting()
        for account in self._tellers:
            count, oldest = waiting.get(account, (0, 0.0))
            self._metrics.opt_outs_untold_records.labels(account=account).set(count)
            self._metrics.opt_outs_untold_oldest_seconds.labels(account=account).set(oldest)

    async def _if_possible(self, account: str) -> int:
        """What is wrong with one account keeps no other waiting."""
        try:
            return await self._tell(account)
        except GatewayError as fault:
            log.warning("telling waits", account=account, why=str(fault))
        except Exception:
            log.exception("telling waits", account=account)
        self._failed(account)
        return 0

    async def _tell(self, account: str) -> int:
        abilities = self._tellers[account].abilities
        began = self._now()
        taken = await self._store.take(account, abilities.opt_outs_per_call, self._times.lease)
        if not taken:
            if abilities.tells_opt_outs:
                await self._store.note_older(account, self._uses, abilities.opt_outs_per_call)
            return 0
        self._next[account] = began + abilities.opt_out_call_seconds
        consents = await self._store.consents(sorted({pair.subject_id for pair in taken}))
        settled: list[Settled] = []
        owed: dict[tuple[str, bytes], tuple[Taken, Word, OptOutWord]] = {}
        numbers: dict[bytes, PhoneNumber] = {}
        for pair in taken:
            one = self._judge(account, pair, consents.get(pair.subject_id, ()))
            if isinstance(one, Settled):
                settled.append(one)
                continue
            word, told = one
            numbers[pair.subject_id] = told.to
            if _is_told(word, pair, abilities):
                owed[pair.sender, pair.subject_id] = (pair, word, told)
            else:
                settled.append(Settled(pair, word, "held"))
        said = await self._store.say(account, [(pair, word) for pair, word, _ in owed.values()]) if owed else []
        if said:
            settled += await self._request(account, [owed[key] for key in said], began)
        if abilities.cancels_scheduled:
            settled = await self._cancel(account, settled, numbers)
        await self._store.settle(account, settled)
        for one in settled:
            self._metrics.opt_outs_told_total.labels(account=account, result=one.result).inc()
        return len(taken)

    def _told(self) -> list[SenderUse]:
        """The senders that accounts are told of."""
        tellers = {account for account, teller in self._tellers.items() if teller.abilities.tells_opt_outs}
        return [use for use in self._uses.values() if use.account in tellers]

    def _judge(self, account: str, pair: Taken, consents: Sequence[Consent]) -> Settled | tuple[Word, OptOutWord]:
        use = self._uses.get(pair.sender)
        if use is None or use.account != account:
            return Settled(pair, "out", "not_a_sender")
        word: Word = "out" if opted_out_of(use, consents) else "in"
        abilities = self._tellers[account].abilities
        if not _is_told(word, pair, abilities) and not (word == "out" and abilities.cancels_scheduled):
            return Settled(pair, word, "held")
        try:
            kept = pair.number
            number = self._vault.open_number(kept.tenant, kept.uid, kept.sealed) if kept is not None else None
        except (KeyDestroyed, CannotOpen):
            number = None  # its key is gone for good, and the number with it
        except GatewayError as fault:
            # The key ring is away, or lacks a key that somebody may put back: until retention takes the number, it is waited for.
            log.warning("a number is not opened now", account=account, why=str(fault))
            return Settled(pair, word, "later", self._back_off.delay(pair.tries, self._chance()))
        if number is None:
            return Settled(pair, word, "no_number")
        return word, OptOutWord(number, pair.sender, word == "out", said_at(use, word, consents) or pair.tried_at)

    async def _request(self, account: str, owed: Sequence[tuple[Taken, Word, OptOutWord]], began: float) -> list[Settled]:
        """Ask the provider; whatever goes wrong, nobody knows what it made of them."""
        if self._now() - began > self._times.lease - self._times.begin:
            return []  # this process was held up: who takes them next tells them
        told: Sequence[Told] = ()
        try:
            told = await self._tellers[account].tell_opt_outs([word for _, _, word in owed])
        except GatewayError as fault:
            log.warning("opt-outs not told", account=account, why=str(fault))
        if len(told) != len(owed):
            told = ["later"] * len(owed)
        if all(one == "later" for one in told):
            self._failed(account)
        else:
            self._failures.pop(account, None)
        return [
            Settled(pair, word, result, self._back_off.delay(pair.tries, self._chance()) if result == "later" else 0.0)
            for (pair, word, _), result in zip(owed, told, strict=True)
        ]

    async def _cancel(self, account: str, settled: Sequence[Settled], numbers: Mapping[bytes, PhoneNumber]) -> list[Settled]:
        """Cancel what is scheduled for who is opted out; where something may be left the pair is tried again."""
        senders: dict[bytes, list[str]] = {}
        for one in settled:
            if one.word == "out" and one.taken.subject_id in numbers:
                senders.setdefault(one.taken.subject_id, []).append(one.taken.sender)
        people = {numbers[subject_id]: theirs for subject_id, theirs in senders.items()}
        canceled, left = await cancel_all(account, self._tellers[account], people)
        self._metrics.scheduled_canceled_total.labels(account=account).inc(canceled)
        if left and len(left) == len(people):
            self._failed(account)
        elif people and not self._tellers[account].abilities.tells_opt_outs:
            self._failures.pop(account, None)
        return [
            replace(one, result="later", wait=self._back_off.delay(one.taken.tries, self._chance()))
            if one.taken.subject_id in senders and one.word == "out" and numbers[one.taken.subject_id] in left
            else one
            for one in settled
        ]

    def _failed(self, account: str) -> None:
        """An account that confirms nothing is asked ever more seldom."""
        failures = self._failures[account] = self._failures.get(account, 0) + 1
        self._next[account] = self._now() + self._back_off.delay(failures, self._chance())


def _is_told(word: Word, pair: Taken, abilities: Abilities) -> bool:
    return abilities.tells_opt_outs and is_owed(word, pair.holding)
