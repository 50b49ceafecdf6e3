"""STOP: from the moment that it is in force, no request for that person and scope begins, for good.

Webhook, API, command line, provider errors and lists all come here. Two transactions and a wait; docs/protocol.md says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

from gateway.domain.changes import Change
from gateway.domain.consent import EVERY_TENANT, ConsentKey, Scope
from gateway.domain.errors import StoreUnavailable
from gateway.domain.senders import SenderUse
from gateway.domain.telling import Holding, still_undone
from gateway.flow.fuse import clock
from gateway.flow.vault import KeptNumber
from gateway.telemetry import Metrics, get_logger

__all__ = ["InboundNote", "OptOut", "OptOutResult", "OptOuts", "ReadyReply", "Stop", "Written", "key_for"]

log = get_logger("stop")

Source = Literal["text", "api", "cli", "import", "provider", "event"]


@dataclass(frozen=True, slots=True)
class ReadyReply:
    """An answer of the gateway's own, sealed and ready to be queued. ``uid`` is its message's."""

    uid: UUID
    route_id: int
    kind: Literal["confirmation", "welcome", "help"]
    to_sealed: bytes
    body_sealed: bytes
    parts: int
    expires_at: datetime
    policy: str
    rule: str


@dataclass(frozen=True, slots=True)
class InboundNote:
    """What is kept of a text that a person sent: never its words. ``fate`` is what it was taken for."""

    account: str
    provider_message_id: str
    created_at: datetime | None
    fate: Literal["stop", "start", "start_not_proven", "help", "other"]
    tenant: str | None
    subject_id: bytes


@dataclass(frozen=True, slots=True)
class OptOut:
    """An opt-out to write. ``stated_at`` None means now: the latest moment at which it can have been said.

    ``number`` is for the provider accounts that are to be told, where it is known. ``learned_from``: the account, and the sender of ours,
    whose provider told it and so holds it already.
    """

    key: ConsentKey
    source: Source
    stated_at: datetime | None
    actor: str
    reply: ReadyReply | None = None
    inbound: InboundNote | None = None
    number: KeptNumber | None = None
    learned_from: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """An opt-out as it stands. ``repeated`` is true when the same inbound text was there before; ``key`` is then that one's.

    ``later``: the same under later versions of the key that people are hashed with. It is in force when all of them are.
    """

    key: ConsentKey
    version: int
    in_force: bool
    repeated: bool
    later: tuple[tuple[ConsentKey, int], ...] = ()


@dataclass(frozen=True, slots=True)
class OptOutResult:
    """What a STOP came to."""

    version: int
    in_force: bool


class OptOuts(Protocol):
    """Where opt-outs are kept, and what they stop."""

    async def write(self, opt_out: OptOut) -> Written | None:
        """Step 1: insert and commit. None when the inbound text was there before and was no STOP."""
        ...

    async def block(self, key: ConsentKey) -> list[Change]:
        """Step 2: block what waits, and what is claimed and unmarked, waiting for claims that are being committed."""
        ...

    async def under_way(self, key: ConsentKey) -> int:
        """Step 3, a new statement: how many marked requests have neither been settled nor outlived their lease."""
        ...

    async def put_in_force(self, key: ConsentKey, version: int) -> bool:
        """Store the moment, its event, its audit record and the confirmation owed. False when this version stands no more."""
        ...

    async def is_in_force(self, key: ConsentKey) -> bool:
        """Whether the opt-out, whatever its version, is in force, or none stands any more."""
        ...

    async def holding(self, account: str, sender: str, subject_id: bytes) -> Holding | None:
        """What an account is known to hold of a person; None when it was never to be told anything."""
        ...

    async def written_only(self, limit: int) -> list[tuple[ConsentKey, int]]:
        """Opt-outs that nobody has put in force yet: their process died, or was too slow."""
        ...


def key_for(use: SenderUse | None, subject_id: bytes) -> ConsentKey:
    """How far a STOP that was texted to a sender reaches; to a number that no policy knows, everything."""
    if use is None or use.scope is Scope.ALL:
        return ConsentKey(subject_id, EVERY_TENANT, Scope.ALL)
    tenant, programme = use.uses[0]
    match use.scope:
        case Scope.TENANT:
            return ConsentKey(subject_id, tenant, Scope.TENANT)
        case Scope.PROGRAMME:
            return ConsentKey(subject_id, tenant, Scope.PROGRAMME, programme)
        case Scope.SENDER:
            return ConsentKey(subject_id, tenant, Scope.SENDER, use.sender)


class Stop:
    """The chapter. ``wait`` is in seconds: a webhook is answered by then, in force or not."""

    def __init__(self, opt_outs: OptOuts, senders: Mapping[str, SenderUse], metrics: Metrics, *, wait: float = 12.0) -> None:
        self._opt_outs = opt_outs
        self._senders = senders
        self._metrics = metrics
        self._wait = wait

    async def opt_out(self, opt_out: OptOut) -> OptOutResult | None:
        """Write, block, wait, put in force. None when the inbound text had been taken for something else before.

        ``in_force`` is false when requests were still under way after ``wait`` seconds; the sweep goes on. Raises StoreUnavailable
        when PostgreSQL is away: then nothing may have been written.
        """
        return await self.opt_out_each([opt_out])

    async def opt_out_each(self, opt_outs: Sequence[OptOut]) -> OptOutResult | None:
        """The same for all that one text speaks of: each is written, and what waits is blocked, before anything under way is waited for.

        They are put in force in their order. The result is that of the last, which bears the text's id: in force when all of them are.
        """
        began = clock()
        standing = [written for opt_out in opt_outs if (written := await self._write(opt_out)) is not None]
        for written in standing[1:]:  # the first is blocked by what follows, before its own wait
            await self._block_all(written)
        in_force = True
        for written in standing:
            in_force = in_force and await self._stand(written, began)
        last = standing[-1] if len(standing) == len(opt_outs) else None
        return OptOutResult(last.version, in_force) if last is not None else None

    async def _write(self, opt_out: OptOut) -> Written | None:
        written = await self._opt_outs.write(opt_out)
        if written is not None and not written.repeated:
            self._metrics.stops_total.labels(source=opt_out.source, scope=written.key.scope).inc()
        return written

    async def _stand(self, written: Written, began: float) -> bool:
        """Whether what was written is in force, also under later versions of the key that people are hashed with."""
        # What an older process let in meanwhile; and nothing waits for what is under way by another id.
        if written.in_force or written.later:
            await self._block_all(written)
        if written.in_force:
            return True
        in_force = True
        for key, version in (*written.later, (written.key, written.version)):  # the first last: it is the one that is told
            in_force = in_force and await self._enforce(key, version, began + self._wait)
        if in_force:
            self._metrics.stop_in_force_seconds.observe(clock() - began)
        return in_force

    async def learn(self, tenant: str, subject_id: bytes, sender: str) -> None:
        """A provider refuses a text because this person has opted out of a sender: as far as its policy lets a STOP reach.

        Nothing is learned of an opt-out that the person has undone here and the provider has not heard of yet: it is the old one.
        """
        use = self._senders.get(sender)
        learned_from = (use.account, sender) if use is not None else None
        if learned_from is not None and still_undone(await self._opt_outs.holding(*learned_from, subject_id)):
            self._metrics.opt_outs_learned_total.labels(account=learned_from[0], result="echo").inc()
            return
        key = key_for(use, subject_id) if use is not None else ConsentKey(subject_id, tenant, Scope.TENANT)
        await self.opt_out(OptOut(key, "provider", None, actor="provider", learned_from=learned_from))

    async def finish_pending(self, limit: int = 100) -> int:
        """Put in force what others wrote and left; returns how many were. Raises StoreUnavailable when PostgreSQL was away for any."""
        pending = await self._opt_outs.written_only(limit)
        ends = clock() + 1
        finished = await asyncio.gather(*(self._enforce(key, version, ends) for key, version in pending), return_exceptions=True)
        away: StoreUnavailable | None = None
        for fault in finished:  # one that fails does not keep the others from being put in force
            if isinstance(fault, StoreUnavailable):
                away = fault  # nothing is wrong with the opt-out, nor with the hundred others: said once
            elif isinstance(fault, BaseException):
                log.error("opt-out not put in force", exc_info=fault)
        if away is not None:
            raise away
        return sum(1 for done in finished if done is True)

    async def _enforce(self, key: ConsentKey, version: int, until: float) -> bool:
        await self._block(key)
        pause = 0.005
        while await self._opt_outs.under_way(key):
            if clock() >= until:
                return False
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.1)
        # False: another process was first, or a START and a new STOP have come between
        return await self._opt_outs.put_in_force(key, version) or await self._opt_outs.is_in_force(key)

    async def _block_all(self, written: Written) -> None:
        for key in (written.key, *(key for key, _ in written.later)):
            await self._block(key)

    async def _block(self, key: ConsentKey) -> None:
        for change in await self._opt_outs.block(key):
            self._metrics.moved(change)


def reply_row(reply: ReadyReply) -> dict[str, Any]:
    """A reply as JSON, to be kept with the opt-out until it is in force."""
    return {
        "uid": str(reply.uid),
        "route_id": reply.route_id,
        "kind": reply.kind,
        "to_sealed": reply.to_sealed.hex(),
        "body_sealed": reply.body_sealed.hex(),
        "parts": reply.parts,
        "expires_at": reply.expires_at.isoformat(),
        "policy": reply.policy,
        "rule": reply.rule,
    }


def reply_from(row: Mapping[str, Any]) -> ReadyReply:
    """The inverse of :func:`reply_row`."""
    return ReadyReply(
        uid=UUID(row["uid"]),
        route_id=row["route_id"],
        kind=row["kind"],
        to_sealed=bytes.fromhex(row["to_sealed"]),
        body_sealed=bytes.fromhex(row["body_sealed"]),
        parts=row["parts"],
        expires_at=datetime.fromisoformat(row["expires_at"]),
        policy=row["policy"],
        rule=row["rule"],
    )
