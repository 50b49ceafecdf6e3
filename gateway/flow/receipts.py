"""Receipts: what providers tell of messages, many to a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from gateway.domain.changes import Change, Held, Horizons, report
from gateway.domain.reports import Receipt, StatusNews
from gateway.flow.batching import Batcher
from gateway.flow.fuse import clock
from gateway.flow.ledger import Ledger
from gateway.flow.vault import Hasher
from gateway.telemetry import Metrics, get_logger

__all__ = ["ReceiptFate", "Receipts"]

ReceiptFate = Literal["changed", "repeated", "unknown_message", "foreign_account"]

log = get_logger("receipts")


class Receipts:
    """Takes what is told and answers each with what it changed. Raises StoreUnavailable when PostgreSQL is away."""

    def __init__(self, ledger: Ledger, hasher: Hasher, metrics: Metrics, horizons: Horizons) -> None:
        self._ledger = ledger
        self._hasher = hasher
        self._metrics = metrics
        self._horizons = horizons
        self._batches: Batcher[Receipt, ReceiptFate] = Batcher(self._receive_batch)

    def __len__(self) -> int:
        return len(self._batches)

    async def receive(self, receipt: Receipt) -> ReceiptFate:
        """Take a callback in that names its attempt."""
        return await self._batches.put(receipt)

    async def learn(self, news: StatusNews) -> ReceiptFate:
        """Take in what became of a message that only the provider's id names. What was not settled yet when it came is unknown."""
        named = await self._ledger.accepted_as(news.account, news.provider_message_id, self._hasher.subject_id(news.to))
        if named is None:
            return "unknown_message"
        return await self.receive(Receipt(news.account, *named, news.provider_message_id, news.state, news.code, news.filtered))

    async def _receive_batch(self, batch: Sequence[Receipt]) -> list[ReceiptFate]:
        began = clock()
        fates: dict[int, ReceiptFate] = {}
        # Two callbacks of one message in one batch: the second must see what the first changed, so it goes into a later round.
        remaining = list(enumerate(batch))
        while remaining:
            this_round: dict[UUID, tuple[int, Receipt]] = {}
            later = []
            for place, receipt in remaining:
                if receipt.uid in this_round:
                    later.append((place, receipt))
                else:
                    this_round[receipt.uid] = (place, receipt)
            fates |= await self._receive_round(this_round)
            remaining = later
        self._metrics.stage_seconds.labels(stage="receipt").observe(clock() - began)
        return [fates[place] for place in range(len(batch))]

    async def _receive_round(self, receipts: Mapping[UUID, tuple[int, Receipt]]) -> dict[int, ReceiptFate]:
        fates: dict[int, ReceiptFate] = {}

        def judge(held: Mapping[UUID, Held], now: datetime) -> list[Change]:
            changes = []
            for uid, (place, receipt) in receipts.items():
                one = held.get(uid)
                if one is None:
                    fates[place] = "unknown_message"
                    continue
                owner = (
                    one.message.account
                    if one.message.account is not None
                    else one.queued.account
                    if one.queued is not None
                    else None
                )
                # Without an owner the last attempt was refused, or there was none. The token of the callback is the account's own.
                if owner not in (None, receipt.account) or receipt.attempt < 1:
                    fates[place] = "foreign_account"
                    continue
                change = report(one.message, one.queued, receipt, now, self._horizons)
                fates[place] = "repeated" if change is None else "changed"
                if change is not None:
                    changes.append(change)
            return changes

        for change in await self._ledger.change(receipts, judge):
            self._metrics.moved(change)
            if change.step == "contradicted":
                log.error("acceptance we do not know of", uid=str(change.uid), evidence=change.evidence)
        return fates
