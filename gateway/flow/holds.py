"""Legal holds: what may not be deleted, and how it is kept past its deadline under a key of the hold's own.

A hold keeps; it allows nothing to be sent, and undoes no opt-out.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol
from uuid import UUID

from gateway.domain.consent import ConsentKey
from gateway.domain.errors import CannotOpen, KeyDestroyed, NotFound
from gateway.domain.ids import new_uid, uid_time
from gateway.flow.keys import DayKey, KeyEnding
from gateway.flow.vault import DataClass, Hasher, Vault, owner_of

__all__ = ["Covered", "HoldStore", "Holds", "Keeper", "Persons", "Thing", "UndoneProof", "hold_key", "of_hold"]

Thing = Literal["content", "address", "events", "dead_letters", "audit"]
"""What is kept of a message, letter or audit record: each before what it is of dies."""

Persons = Sequence[tuple[UUID, str]]
"""Holds, and what the audit of their tenant calls the people that they are for: one name for each id of a person."""

_CLASS: Final[DataClass] = "content"
_HOLD: Final = "_hold-"


def hold_key(hold: UUID) -> DayKey:
    """The key of a hold: of no tenant, since no tenant's name begins with an underscore, and of the day that it was added on."""
    return DayKey(f"{_HOLD}{hold.hex}", _CLASS, uid_time(hold).date())


def of_hold(key: DayKey) -> bool:
    """Whether a key is some hold's."""
    return key.tenant.startswith(_HOLD)


@dataclass(frozen=True, slots=True)
class Covered:
    """Something that a hold covers and does not keep yet. ``uid`` binds what is sealed of it."""

    hold: UUID
    name: str
    uid: UUID | None
    number: bytes | None
    body: bytes | None
    record: str
    audit: str | None = None


@dataclass(frozen=True, slots=True)
class UndoneProof:
    """The proof of an opt-in that an opt-out has undone, as it stands in its consent: ``uid`` binds it."""

    key: ConsentKey
    uid: UUID
    sealed: bytes
    record: str


class HoldStore(Protocol):
    """Where holds are, and what they keep. Raises StoreUnavailable."""

    async def now(self) -> datetime:
        """The store's time."""
        ...

    async def add(
        self,
        hold: UUID,
        tenant: str,
        subject_id: bytes | None,
        uid: UUID | None,
        who: str,
        why: str,
        until: datetime | None,
        actor: str,
    ) -> None:
        """Write a hold, with its audit."""
        ...

    async def list(self, *, ended: bool) -> Sequence[Mapping[str, Any]]:
        """The holds, with those that are ended or without."""
        ...

    async def release(self, hold: UUID, actor: str) -> bool:
        """Release one, with its audit; False when none stands by this id."""
        ...

    async def over(self) -> Sequence[UUID]:
        """Those that are released, or whose time is over, and that have not ended."""
        ...

    async def end(self, hold: UUID, most: int) -> int:
        """Delete what a hold kept; with the last of it the hold is ended, and audited. Returns how many were deleted."""
        ...

    async def persons(self, tenant: str) -> Sequence[tuple[UUID, bytes]]:
        """The people whom holds of a tenant are for, by each id of theirs."""
        ...

    async def covered(
        self, thing: Thing, tenant: str, first: datetime, after: datetime, persons: Persons, most: int
    ) -> Sequence[Covered]:
        """What of the time from ``first`` until ``after`` holds cover and do not keep yet."""
        ...

    async def keep(self, thing: Thing, kept: Sequence[tuple[UUID, str, bytes]]) -> None:
        """Keep these, but for holds that have ended."""
        ...

    async def keep_proofs(self, seal: Callable[[UndoneProof, UUID], bytes], most: int) -> int:
        """Keep proofs of opt-ins that were undone for the holds that cover them, and let go of them where they were; how many."""
        ...


class Holds:
    """What operators do with holds."""

    def __init__(self, store: HoldStore) -> None:
        self._store = store

    async def add(
        self,
        tenant: str,
        who: str,
        why: str,
        actor: str,
        *,
        subject_id: bytes | None = None,
        uid: UUID | None = None,
        until: datetime | None = None,
    ) -> UUID:
        """Add a hold on all of a tenant, or on what is of one person, message or dead letter; returns its id."""
        hold = new_uid(await self._store.now())
        await self._store.add(hold, tenant, subject_id, uid, who, why, until, actor)
        return hold

    async def list(self, *, ended: bool = False) -> Sequence[Mapping[str, Any]]:
        """The holds that stand, or all there were."""
        return await self._store.list(ended=ended)

    async def release(self, hold: UUID, actor: str) -> None:
        """Let go: what it kept dies with the next run. Raises NotFound."""
        if not await self._store.release(hold, actor):
            raise NotFound(f"no hold stands by the id {hold}")


class Keeper:
    """Keeps what holds cover, and ends what they kept, in bounded steps."""

    def __init__(self, store: HoldStore, vault: Vault, hasher: Hasher, ending: KeyEnding) -> None:
        self._store = store
        self._vault = vault
        self._hasher = hasher
        self._ending = ending

    async def keep(self, thing: Thing, tenant: str, first: datetime, after: datetime, most: int) -> int:
        """Seal under the holds' keys what they cover of this time; how many were kept, 0 when nothing is left."""
        persons = await self.persons(tenant)
        found = await self._store.covered(thing, tenant, first, after, persons, most)
        await self._store.keep(thing, [(one.hold, one.name, self._sealed(thing, tenant, one)) for one in found])
        return len(found)

    async def keep_proofs(self, most: int) -> int:
        """Seal under the holds' keys the proofs that an opt-out has left to them. Of an opt-in that stands the proof stays where it is."""
        return await self._store.keep_proofs(self._sealed_proof, most)

    async def end(self, most: int) -> int:
        """Destroy the keys of holds that are over, and delete what they kept."""
        done = 0
        for hold in await self._store.over():
            await self._ending.destroy(hold_key(hold))
            done += await self._store.end(hold, most - done)
            if done >= most:
                break
        return done

    async def persons(self, tenant: str) -> Persons:
        """The people whom holds of a tenant are for, as the tenant's audit calls them."""
        found = await self._store.persons(tenant)
        return [(hold, self._hasher.person_key(tenant, subject_id)) for hold, subject_id in found]

    def _sealed(self, thing: Thing, tenant: str, one: Covered) -> bytes:
        record = json.loads(one.record)
        if one.uid is not None and (recipient := record.pop("recipient_sealed", None)) is not None:
            # bytes are \\x and hex in a record
            record["recipient_ref"] = self._vault.open_recipient(tenant, one.uid, bytes.fromhex(recipient[2:]))
        kept: dict[str, Any] = {"thing": thing, "name": one.name, "record": record}
        if one.audit is not None:
            kept["audit"] = json.loads(one.audit)
        if thing in ("content", "dead_letters") and one.body is not None:
            kept["body"] = self._opened(tenant, thing, one.uid, one.body)
        if thing == "address" and one.number is not None:
            kept["number"] = self._opened(tenant, thing, one.uid, one.number)
        return self._kept(one.hold, kept)

    def _sealed_proof(self, proof: UndoneProof, hold: UUID) -> bytes:
        opened = self._opened(owner_of(proof.key), "consent", proof.uid, proof.sealed)
        return self._kept(hold, {"thing": "proof", "name": str(proof.uid), "record": json.loads(proof.record), "proof": opened})

    def _kept(self, hold: UUID, what: Mapping[str, Any]) -> bytes:
        return self._vault.seal_payload(hold_key(hold).tenant, _CLASS, hold, json.dumps(what, ensure_ascii=False).encode())

    def _opened(self, tenant: str, data_class: DataClass, uid: UUID | None, sealed: bytes) -> str | None:
        """What was sealed, in base 64; None when nobody can ever read it any more, so that there is nothing left to keep.

        Raises what a key that may come back is missed by: until it does, nothing of it dies.
        """
        assert uid is not None
        try:
            return b64encode(self._vault.open_payload(tenant, data_class, uid, sealed)).decode()
        except (KeyDestroyed, CannotOpen):
            return None
