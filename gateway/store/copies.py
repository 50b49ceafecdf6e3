"""The providers' copies that are to be erased, by the statements of copies.sql."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from gateway.domain.ids import uid_floor
from gateway.flow.copies import Over, Part, Taken, Whose
from gateway.flow.vault import SYSTEM_TENANT
from gateway.store.statements import statements

if TYPE_CHECKING:
    from gateway.store.database import Database, Session

__all__ = ["CopyStore"]


class CopyStore:
    """The notes of what is to be erased at accounts; ``actor`` names this process in the audit."""

    def __init__(self, database: Database, actor: str) -> None:
        self._database = database
        self._actor = actor

    async def accounts(self) -> Collection[str]:
        """Every account that ever was texted by, to which people texted, or of which copies are noted."""
        rows = [
            *await self._database.fetch(statements("copies")["accounts"]),
            *await self._database.fetch(statements("retention")["inbound_accounts"]),
        ]
        return {row["account"] for row in rows}

    async def tenants(self, account: str) -> Collection[str]:
        """The tenants that text, or ever did, by this account, or of whom copies are noted there."""
        return [row["tenant"] for row in await self._database.fetch(statements("copies")["tenants"], account)]

    async def senders(self, account: str) -> Mapping[str, Collection[str]]:
        """The senders by which tenants text, or ever did, by this account, with those tenants."""
        rows = await self._database.fetch(statements("copies")["senders"], account)
        return {row["sender"]: row["tenants"] for row in rows}

    async def note(self, account: str, over: Over, most: int) -> bool:
        """Note some of what was made until then; False when all of it is noted."""
        sql = statements("copies")
        place = (account, over.tenant, over.part)

        async def work(session: Session) -> bool:
            (noted,) = await session.fetch(sql["lock_noted"], *place)
            last_uid, last_at = noted["last_uid"], noted["last_at"]
            end = uid_floor(over.horizon)
            (sent,) = await session.fetch(sql["note_sent"], *place, last_uid, end, most)
            (received,) = await session.fetch(sql["note_received"], *place, last_at, over.horizon, most)
            last_uid = sent["last"] if sent["seen"] >= most else max(last_uid, end)
            last_at = received["last"] if received["seen"] >= most else max(last_at, over.horizon)
            await session.execute(sql["move_noted"], *place, last_uid, last_at)
            return bool(sent["seen"] >= most or received["seen"] >= most)

        return await self._database.transact(work)

    async def take(self, account: str, over: Sequence[Over], most: int, lease: float) -> Sequence[Taken]:
        """What is due, for the length of a lease in seconds."""
        columns = [one.tenant for one in over], [one.part for one in over], [one.horizon for one in over]
        rows = await self._database.fetch(statements("copies")["take"], account, *columns, most, lease)
        return [Taken(**dict(row)) for row in rows]

    async def settle(self, provider: str, results: Sequence[tuple[Taken, str]]) -> None:
        """These are over, by what became of them; audited."""
        ids, what = [taken.id for taken, _ in results], [result for _, result in results]
        await self._database.execute(statements("copies")["settle"], ids, what, provider, SYSTEM_TENANT, self._actor)

    async def put_back(self, waits: Sequence[tuple[Taken, float, bool]]) -> None:
        """These are tried again so many seconds later; whether the provider itself put them off."""
        columns = [taken.id for taken, _, _ in waits], [wait for _, wait, _ in waits], [int(later) for _, _, later in waits]
        await self._database.execute(statements("copies")["put_back"], *columns)

    async def noted(self, account: str) -> Mapping[tuple[str, str], tuple[int, datetime]]:
        """By tenant and part: how many are noted, and when the oldest was made."""
        rows = await self._database.fetch(statements("copies")["noted"], account)
        return {(row["tenant"], row["part"]): (row["copies"], row["oldest"]) for row in rows}

    async def ahead(self, account: str, tenant: str, part: Part) -> datetime | None:
        """When the first was made that is not noted yet."""
        (row,) = await self._database.fetch(statements("copies")["ahead"], account, tenant, part)
        made_at: datetime | None = row["made_at"]
        return made_at

    async def due(self, account: str, over: Sequence[Over]) -> int:
        """How many are noted whose time is over, whose id is known, and that no legal hold keeps."""
        columns = [one.tenant for one in over], [one.part for one in over], [one.horizon for one in over]
        return int((await self._database.fetch(statements("copies")["due"], account, *columns))[0]["copies"])

    async def whose(self, account: str, provider_message_ids: Sequence[str]) -> Mapping[str, Whose]:
        """Whose copies these are, where that is known."""
        rows = await self._database.fetch(statements("copies")["whose"], account, list(provider_message_ids))
        return {row["provider_message_id"]: (row["tenant"], row["subject_id"], row["uid"]) for row in rows}
