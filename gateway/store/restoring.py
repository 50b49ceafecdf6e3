"""Write into a restored database what the topics have and it lacks, by the statements of restoring.sql."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from gateway.domain.chain import GENESIS, Chained, hash_of
from gateway.domain.errors import KeyDestroyed
from gateway.domain.ids import uid_time
from gateway.domain.restoring import Kept, ToldConsent, ToldState, judge
from gateway.flow.keys import DayKey
from gateway.flow.people import FirstKey, People, with_people
from gateway.flow.vault import owner_of
from gateway.store.consents import keys_under_all, tell_consent
from gateway.store.statements import statements
from gateway.store.subject_keys import hold_keys

if TYPE_CHECKING:
    from gateway.domain.changes import Horizons
    from gateway.flow.vault import Hasher, Vault
    from gateway.store.database import Database, Session

__all__ = ["RestoreStore"]

_WAITS = ("accepted", "deferred")


class RestoreStore:
    """A restored database. ``actor`` names who restores, in the audit. Everything raises StoreUnavailable."""

    def __init__(
        self, database: Database, hasher: Hasher, vault: Vault, horizons: Horizons, actor: str, people: People | None = None
    ) -> None:
        self._database = database
        self._people = people or FirstKey()
        self._hasher = hasher
        self._vault = vault
        self._horizons = horizons
        self._actor = actor
        self._days: set[date] = set()

    async def consents(self, told: Sequence[ToldConsent]) -> Counter[str]:
        """Consents, in the order in which they were told; what was done, counted."""

        async def work(session: Session) -> Counter[str]:
            await hold_keys(session, self._people)
            done: Counter[str] = Counter()
            for one in told:
                done[await self._consent(session, one)] += 1
            return done

        return await with_people(self._people, lambda: self._database.transact(work))

    async def _consent(self, session: Session, told: ToldConsent) -> str:
        sql, key, event = statements("restoring"), told.key, told.event
        place = (key.subject_id, key.tenant, str(key.scope), key.name)
        row = await session.fetchrow(sql["lock_consent"], *place)
        verdict = judge(event, None if row is None else Kept(*row.values()))
        await session.execute(sql["drop_told_consents"], key.subject_id, f"{event.tenant}:{key.scope}:{key.name}", event.version)
        match verdict:
            case "restored":
                said = (event.status, event.version, event.source, event.stated_at, event.written_at, event.in_force_at)
                for version, one in keys_under_all(self._people, key):
                    await session.execute(sql["put_consent"], one.subject_id, *place[1:], *said, version)
                audit = (
                    owner_of(key),
                    None,
                    event.version,
                    f"opt_{event.status}_restored",
                    None,
                    None,
                    f"{key.scope}:{key.name}",
                )
                await session.execute(statements("consents")["audit"], *audit, None, event.source, self._actor, key.subject_id)
                return f"opt_{event.status}"
            case "tell_again":
                out = row is not None and row["status"] == "out"
                raised = await session.fetchrow(sql["raise_version"], *place, event.version + 1, out)
                if not out and raised is not None:
                    await tell_consent(session, key, dict(raised), "in", self._hasher.person_key, self._people)
            case "count_on":
                await session.fetchrow(sql["raise_version"], *place, event.version, False)
            case "known":
                pass
        return verdict

    async def first_day(self) -> date | None:
        """The first day that messages are kept of."""
        day: date | None = (await self._database.fetch(statements("restoring")["first_day"]))[0]["day"]
        return day

    async def states(self, told: Sequence[ToldState]) -> tuple[int, int]:
        """Messages, each once: how many that are known came on, and how many were not known at all."""

        async def work(session: Session) -> tuple[int, int]:
            sql = statements("restoring")
            uids = [one.uid for one in told]
            kept = {row["uid"]: row for row in await session.fetch(sql["versions"], uids)}
            newer = [one for one in told if one.uid in kept and _is_newer(one, kept[one.uid]["version"], kept[one.uid]["state"])]
            absent = [one for one in told if one.uid not in kept]
            gone = [one.uid for one in newer if one.event.state not in _WAITS]
            await session.execute(sql["out_of_queue"], gone)
            await session.execute(sql["drop_told_states"], uids, [one.event.version for one in told])
            if newer:
                await session.execute(sql["states"], *_columns([self._row(one) for one in newer]))
            if absent:
                await self._ensure_days(session, {uid_time(one.uid).date() for one in absent})
                await session.execute(sql["absent"], *_columns([(*self._row(one), *self._names(one)) for one in absent]))
                ids = [self._hasher.message_id_hash(one.event.tenant, one.event.message_id) for one in absent]
                await session.execute(sql["absent_ids"], [one.event.tenant for one in absent], ids, [one.uid for one in absent])
            return len(newer), len(absent)

        return await self._database.transact(work)

    def _row(self, told: ToldState) -> tuple[Any, ...]:
        event = told.event
        wait = self._horizons.sent_final_after if event.state == "sent" else self._horizons.unknown_after
        return (
            told.uid, event.state, event.reason, event.final, event.version, event.correction, event.occurred_at, event.policy, event.rule,
            event.provider, event.account, event.sender, event.attempt, event.parts, wait.total_seconds(),
        )  # fmt: skip # in the order of the statement's arrays

    def _names(self, told: ToldState) -> tuple[Any, ...]:
        event = told.event
        try:
            recipient = self._vault.seal_recipient(event.tenant, told.uid, event.recipient_ref)
        except KeyDestroyed:  # its time is over: what brought it back was the topic, which keeps it for its own
            recipient = None
        return event.tenant, event.programme, event.category, event.message_id, recipient

    async def audit(self, links: Sequence[Chained]) -> tuple[int, list[str]]:
        """Records of the chains, each tenant's in order: how many were lacking, and what is wrong, a line each."""

        async def work(session: Session) -> tuple[int, list[str]]:
            sql, faults = statements("restoring"), list[str]()
            tenants = sorted({link.record.tenant for link in links})
            rows = await session.fetch(statements("chain")["lock_heads"], tenants, GENESIS.hash)
            heads = {row["tenant"]: (row["sequence"], row["hash"]) for row in rows}
            lacking: list[Chained] = []
            for link in links:
                tenant = link.record.tenant
                sequence, head = heads[tenant]
                if link.sequence <= sequence:
                    continue
                if hash_of(link.record, link.sequence, link.previous, link.chained_at) != link.hash or (
                    link.sequence == sequence + 1 and link.previous != head
                ):
                    faults.append(f"audit of {tenant}: record {link.sequence} of the topic does not follow what is here")
                    continue
                if link.sequence > sequence + 1:
                    faults.append(f"audit of {tenant}: records {sequence + 1} to {link.sequence - 1} are in no topic any more")
                    await session.execute(sql["anchor"], tenant, link.sequence - 1, link.previous)
                heads[tenant] = link.sequence, link.hash
                lacking.append(link)
            if lacking:
                await self._append(session, lacking)
            return len(lacking), faults

        return await self._database.transact(work)

    async def _append(self, session: Session, links: Sequence[Chained]) -> None:
        sql, chain = statements("restoring"), statements("chain")
        await self._ensure_days(session, {link.chained_at.date() for link in links})
        await session.execute(chain["insert"], *_columns([(*link.record, *link[1:]) for link in links]))
        last = list({link.record.tenant: link for link in links}.values())
        tenants, sequences = [link.record.tenant for link in last], [link.sequence for link in last]
        moments = [link.chained_at for link in last]
        await session.execute(chain["move_heads"], tenants, sequences, [link.hash for link in last], moments)
        await session.execute(chain["mark_published"], tenants, sequences, moments)
        told = [link.record for link in links]
        await session.execute(
            sql["chained_before"], *_columns([(one.tenant, one.at, one.uid, one.number, one.step) for one in told])
        )
        about = [one for one in told if one.uid is not None]
        await session.execute(sql["steps"], [one.uid for one in about], [one.number for one in about])

    async def doubtful(self, after: UUID, most: int) -> list[UUID]:
        """Messages that wait here and may have been sent, in the order of their ids."""
        return [row["uid"] for row in await self._database.fetch(statements("restoring")["doubtful"], after, most)]

    async def note_ended(self, keys: Sequence[DayKey]) -> int:
        """Keys that the ring has destroyed; how many were not noted."""
        columns = ([key.tenant for key in keys], [key.data_class for key in keys], [key.day for key in keys])
        return len(await self._database.fetch(statements("restoring")["note_ended"], *columns))

    async def note(self, step: Literal["restore_replayed", "restore_released"], what: str) -> None:
        """Keep it in the audit."""
        await self._database.execute(statements("control")["audit"], "_system", step, what, self._actor)

    async def _ensure_days(self, session: Session, days: set[date]) -> None:
        for day in sorted(days - self._days):
            await session.execute(statements("restoring")["ensure_day"], day)
        self._days |= days


def _is_newer(told: ToldState, version: int, state: str) -> bool:
    """Of two that were told by one version the topic's is the one that readers have."""
    return told.event.version > version or (told.event.version == version and told.event.state != state)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
