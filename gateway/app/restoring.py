"""A replay after a restore, where its parts are: the database, the topics, the key ring."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from gateway.app.kafka import broker_address
from gateway.app.wiring import Parts
from gateway.bus.replay import replaying
from gateway.crypto.days import LivingKeys
from gateway.crypto.keyring import KeyRing, day_name
from gateway.domain.errors import GatewayError, KeyDestroyed
from gateway.flow.audit import Tell, silently
from gateway.flow.keys import DayKey
from gateway.flow.restoring import Replayed, RestoreReplay, RestoreTopics
from gateway.store.ended import Ended
from gateway.store.lineage import LineageStore
from gateway.store.restoring import RestoreStore

__all__ = ["release", "replay"]


class _Keys:
    def __init__(self, ring: KeyRing, ended: Ended) -> None:
        self._ring = ring
        self._ended = ended

    def destroyed(self) -> Sequence[DayKey]:
        return LivingKeys(self._ring).destroyed()

    async def end_known(self) -> int:
        ended = 0
        for key in await self._ended.all():
            try:
                if await asyncio.to_thread(self._ring.place.read, day_name(key.tenant, key.data_class, key.day)) is None:
                    continue
            except KeyDestroyed:
                continue
            ended += await asyncio.to_thread(self._ring.destroy, key.tenant, key.data_class, key.day)
            await self._ended.done(key)
        return ended


async def replay(parts: Parts, actor: str, *, keep_waiting: bool = False, tell: Tell = silently) -> Replayed:
    """Write into the database what it lacks. It may be done again. Raises StoreUnavailable, BrokerUnavailable, a fault of the key ring.

    Refused while the gateway is not held: its work would go on meanwhile.
    """
    if not parts.lineage.held:
        raise GatewayError("the gateway is not held: there is nothing to replay")
    lineage = LineageStore(parts.database)
    life = await lineage.now()
    before = await lineage.replayed()
    again = before is not None and (before.name, before.timeline) == (life.name, life.timeline)
    store = RestoreStore(parts.database, parts.hasher, parts.vault, parts.horizons, actor, parts.people)
    names = parts.settings.kafka.topics
    done = await RestoreReplay(
        store,
        parts.ledger,
        parts.hasher,
        _Keys(parts.ring, Ended(parts.database)),
        partial(replaying, broker_address(parts.settings)),
        RestoreTopics(names.consent, names.status, names.audit),
        keep_waiting=keep_waiting or again,  # what has come due since the first replay waits rightly
        tell=tell,
    ).run()
    waiting = ", what waited was kept" if keep_waiting else f", {done.ended_unknown} ended unknown"
    await store.note(
        "restore_replayed",
        f"{done.opt_outs} opt-outs, {done.opt_ins} opt-ins, {done.came_on + done.not_known} messages{waiting}, {len(done.faults)} faults",
    )
    if not done.faults:
        await lineage.note_replayed(life)
    return done


async def release(parts: Parts, actor: str, *, incomplete: bool = False) -> None:
    """Let the gateway go on in this database; ``incomplete``: although no replay was completed in it. Raises GatewayError."""
    life = await LineageStore(parts.database).now()
    replayed = await LineageStore(parts.database).replayed()
    if not parts.lineage.held:
        raise GatewayError("the gateway is not held")
    if not incomplete and (replayed is None or (replayed.name, replayed.timeline) != (life.name, life.timeline)):
        raise GatewayError("no replay was completed in this database: run `gateway restore replay`, or say --incomplete")
    # STOPs by text that were in force and not told of yet: the providers' lists have them, and are read before anything is claimed.
    await parts.control.raise_barriers(sorted(parts.settings.accounts))
    store = RestoreStore(parts.database, parts.hasher, parts.vault, parts.horizons, actor, parts.people)
    await store.note("restore_released", "incomplete" if incomplete else "replayed")
    await parts.lineage.release()
