"""Processes of one gateway that know the versions of the key that people are hashed with each by itself, and who exchanges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.crypto.keyring import fingerprint_of
from gateway.crypto.subjects import Subjects
from gateway.domain.consent import Consent
from gateway.domain.personal import PhoneNumber
from gateway.flow.exchange import Exchange
from gateway.flow.people import WatchedPeople
from gateway.flow.stop import Stop
from gateway.store.consents import Consents
from gateway.store.intake import Admission
from gateway.store.subject_keys import KNOWN_AFTER, SubjectKeyTable
from tests.integration.world import World

__all__ = ["Exchanging", "Process"]


class Process:
    """What takes in and what hears STOP, with a knowledge of the versions that nobody renews by the clock."""

    def __init__(self, world: World, name: str, database: Any = None) -> None:
        self.world = world
        ring, parts = world.parts.ring, world.parts
        self.database = database or parts.database
        self.hasher = Subjects(ring.subject_key(), ring.message_id_key(), ring.later_subject_key)
        self.people = WatchedPeople(SubjectKeyTable(parts.database, name), self.hasher)
        self.consents = Consents(self.database, parts.routes, self.hasher.person_key, name, people=self.people)
        self.stop = Stop(self.consents, parts.policies.sender_map(), parts.metrics, wait=40)

    def first(self, number: str) -> bytes:
        return self.hasher.subject_id(PhoneNumber(number))

    async def take_in(self, *, blind: bool = False, **fields: Any) -> None:
        """``blind``: as if the person had said nothing when intake looked, so that all rests on the claim."""
        admission = (_Blind if blind else Admission)(self.database, self.hasher.person_key, "take-in", people=self.people)
        await self.world.intake(admission=admission).admit("sms.outbound.v1", 0, [self.world.record(**fields)])


class _Blind(Admission):
    async def consents_of(self, _subject_ids: Sequence[bytes]) -> Mapping[bytes, Sequence[Consent]]:
        return {}


class Exchanging:
    """An operator and the sweep."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.process = Process(world, "exchange")
        self.table = SubjectKeyTable(world.parts.database, "cli:test")
        self.sweep = Exchange(self.table, self.process.people, self.process.hasher.next_id)

    async def add(self, version: int) -> None:
        key = self.world.parts.ring.later_subject_key(version, create=True)
        assert await self.table.add(version, fingerprint_of(key)) == ""

    async def copy(self, version: int) -> None:
        for _ in range(200):
            await self.sweep.move()
            if (await self.table.list())[version - 2]["copied_at"] is not None:
                return
        raise AssertionError("nothing is copied")

    async def wait(self) -> None:
        """As long as a change takes to be known everywhere."""
        await self.world.shift(KNOWN_AFTER + 1)

    async def use(self, version: int) -> None:
        assert await self.table.use(version) == ""

    async def through(self, version: int) -> None:
        """All steps until the version is in use."""
        await self.add(version)
        await self.copy(version)
        await self.wait()
        await self.use(version)
        await self.world.parts.people.look()
