"""The tenants' audit chains, by the statements of chain.sql."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.domain.chain import GENESIS, Anchor, AuditRecord, Chained
from gateway.flow.chain import Head, Unchained
from gateway.store.lineage import require_life
from gateway.store.statements import statements

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.flow.chain import Binder
    from gateway.store.database import Database, Session

__all__ = ["Chains", "chained_from"]

_FIELDS = len(AuditRecord._fields)


def chained_from(row: Record) -> Chained:
    """A row of the chain: the record's fields, then its place."""
    values = tuple(row.values())
    return Chained(AuditRecord._make(values[:_FIELDS]), *values[_FIELDS:])


def _unchained(_id: int, *values: Any) -> Unchained:
    *told, subject_id = values
    return Unchained(AuditRecord._make((*told, None)), subject_id)


class Chains:
    """Records that wait to be chained, the chains, and what of them the topic has."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def chain(self, most: int, bind: Binder) -> list[Chained]:
        """In one transaction: take the oldest records, lock the heads of their chains, let ``bind`` chain them, and write that."""
        sql = statements("chain")

        async def work(session: Session) -> list[Chained]:
            await require_life(session, self._database.expected)  # else a chain would go on from where it was long ago
            taken = sorted(await session.fetch(sql["take"], most), key=lambda row: row["id"])
            if not taken:
                return []
            heads = await self._lock_heads(session, sorted({row["tenant"] for row in taken}))
            links = await bind(heads, [_unchained(*row.values()) for row in taken])
            await session.execute(sql["insert"], *map(list, zip(*((*record, *place) for record, *place in links), strict=True)))
            last = {link.record.tenant: link for link in links}
            await session.execute(
                sql["move_heads"],
                list(last),
                [link.sequence for link in last.values()],
                [link.hash for link in last.values()],
                [link.chained_at for link in last.values()],
            )
            return links

        return await self._database.transact(work)

    @staticmethod
    async def _lock_heads(session: Session, tenants: Sequence[str]) -> dict[str, Head]:
        rows = await session.fetch(statements("chain")["lock_heads"], tenants, GENESIS.hash)
        return {row["tenant"]: Head(Anchor(row["sequence"], row["hash"]), row["now"], row["published"]) for row in rows}

    async def unpublished(self, most: int) -> list[Chained]:
        """What the topic lacks, each tenant's in order."""
        return [
            chained_from(row)
            for row in await self._database.fetch(statements("chain")["unpublished"], most, *self._database.expected)
        ]

    async def mark_published(self, last: Sequence[Chained]) -> None:
        """The topic has each of these tenants' chains up to this record."""
        if last:
            await self._database.execute(
                statements("chain")["mark_published"],
                [link.record.tenant for link in last],
                [link.sequence for link in last],
                [link.chained_at for link in last],
            )
