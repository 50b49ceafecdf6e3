"""Evidence: what proves the outcome of a request that nobody answered. A provider's list can prove acceptance, never refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from gateway.domain.changes import Change, Held, Horizons, look_again, prove
from gateway.domain.errors import GatewayError
from gateway.domain.personal import PhoneNumber
from gateway.domain.reports import ListedText
from gateway.domain.states import State
from gateway.flow.ledger import Ledger
from gateway.flow.vault import Hasher, Vault
from gateway.telemetry import Metrics, get_logger

__all__ = ["Doubt", "Doubts", "Evidence", "SentList"]

# Providers tell times to the second, by their own clock.
_SKEW: Final = timedelta(seconds=5)

log = get_logger("evidence")


@dataclass(frozen=True, slots=True)
class Doubt:
    """An unknown outcome, and what its acceptance would look like."""

    uid: UUID
    tenant: str
    account: str
    sender: str
    to_sealed: bytes
    body_sealed: bytes
    begun_at: datetime
    settle_by: datetime


class Doubts(Protocol):
    """Where unknown outcomes stand."""

    async def due(self, most: int) -> Sequence[Doubt]:
        """Those to be looked into now."""
        ...

    async def rivals(self, uid: UUID, person: bytes) -> int:
        """How many messages of the same person and sender are as open as this one: a text in the list could be theirs."""
        ...

    async def claimed_elsewhere(self, person: bytes, provider_message_ids: Sequence[str]) -> frozenset[str]:
        """Which of the provider's ids belong to a message of this person already."""
        ...


class SentList(Protocol):
    """A provider's list of what it accepted."""

    async def list_sent(self, to: PhoneNumber, sender: str, since: datetime) -> list[ListedText]:
        """Raises ProviderUnavailable."""
        ...


class Evidence:
    """The chapter. ``within``: seconds after ``begun_at`` in which an acceptance lies; of a request whose worker was killed only the mark
    is known, and it may have begun until T + F were left of the lease.
    """

    def __init__(
        self,
        doubts: Doubts,
        ledger: Ledger,
        lists: Mapping[str, SentList],
        vault: Vault,
        hasher: Hasher,
        metrics: Metrics,
        horizons: Horizons,
        *,
        within: float,
    ) -> None:
        self._doubts = doubts
        self._ledger = ledger
        self._lists = lists
        self._vault = vault
        self._hasher = hasher
        self._metrics = metrics
        self._horizons = horizons
        self._within = timedelta(seconds=within) + _SKEW

    async def look(self, most: int = 20) -> int:
        """Look into what is due; returns how many outcomes were proved."""
        proved = 0
        for doubt in await self._doubts.due(most):
            proved += await self._look_into(doubt)
        return proved

    async def _look_into(self, doubt: Doubt) -> bool:
        try:
            found = await self._match(doubt)
        except GatewayError as fault:
            log.warning("no evidence to be had", account=doubt.account, why=str(fault))
            found = None

        def judge(held: Mapping[UUID, Held], now: datetime) -> list[Change]:
            one = held.get(doubt.uid)
            if one is None or one.message.state is not State.UNKNOWN:
                return []
            change = prove(one.message, found, now, self._horizons) if found is not None else None
            if change is not None:
                return [change]
            if one.message.final:
                return []  # its time was over while the list was asked
            # ever more slowly, and once more just before the time is over
            unknown_for = now - (doubt.settle_by - self._horizons.unknown_after)
            next_look = now + max(self._horizons.first_look, unknown_for)
            last_look = doubt.settle_by - self._horizons.first_look / 2
            return [
                look_again(
                    one.message, min(next_look, last_look) if now < last_look else doubt.settle_by + self._horizons.unknown_after
                )
            ]

        changes = await self._ledger.change([doubt.uid], judge, actor="evidence")
        proved = any(change.state is not None for change in changes)
        for change in changes:
            self._metrics.moved(change)
        self._metrics.evidence_total.labels(source="list", result="proved" if proved else "none").inc()
        return proved

    async def _match(self, doubt: Doubt) -> ListedText | None:
        """The one text in the list that can be this attempt: by number, text and time, and no other message's.

        Rivals are looked for again once the list is here, and whose its texts are after that: a message that was sent meanwhile is
        then either still open or known to be accepted.
        """
        sent = self._lists.get(doubt.account)
        if sent is None:
            return None
        to = self._vault.open_number(doubt.tenant, doubt.uid, doubt.to_sealed)
        person = self._hasher.subject_id(to)
        if await self._doubts.rivals(doubt.uid, person):
            return None
        body = self._vault.open_body(doubt.tenant, doubt.uid, doubt.body_sealed)
        earliest, latest = doubt.begun_at - _SKEW, doubt.begun_at + self._within
        listed = await sent.list_sent(to, doubt.sender, earliest)
        alike = [text for text in listed if text.to == to and text.body == body and earliest <= text.created_at <= latest]
        if await self._doubts.rivals(doubt.uid, person):
            return None
        taken = await self._doubts.claimed_elsewhere(person, [text.provider_message_id for text in alike])
        free = [text for text in alike if text.provider_message_id not in taken]
        return free[0] if len(free) == 1 else None
