"""A look of its own at every table that holds personal data, by the statements of retention_looks.sql."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from gateway.domain.ids import uid_time
from gateway.domain.policy_retention import RetentionClass
from gateway.domain.retention_days import Terms
from gateway.flow.retention import Found
from gateway.flow.retention_tables import PLACE, KeptBy, Standing
from gateway.store.retention import other_columns
from gateway.store.statements import statements

if TYPE_CHECKING:
    from gateway.store.database import Database, Session

__all__ = ["RetentionLooks"]

_PARTITIONED: Final[Sequence[tuple[str, str, RetentionClass, str]]] = (
    ("bodies", "bodies", "content", "texts"),
    ("recipients", "messages", "content", "whom messages were for"),
    ("numbers", "messages", "address", "numbers of messages"),
    ("messages", "messages", "events", "messages"),
    ("chain", "audit_chain", "events", "audit records"),
)
_WHOLE: Final[Sequence[tuple[str, RetentionClass, str]]] = (
    ("queue", "content", "messages that are still to be sent"),
    ("texts_on_their_way", "content", "people's texts that are not published"),
    ("propagations", "address", "numbers that a provider is owed"),
    ("dead_letters", "dead_letters", "dead letters"),
    ("unchained", "events", "audit records that are not chained"),
    ("events_on_their_way", "events", "events that are not published"),
    ("inbound", "events", "who sent texts"),
    ("proofs", "consent_proof", "proofs of opt-ins that stand"),
    ("proofs_left", "consent_proof", "proofs of opt-ins that are over"),
    ("noted_texts", "content", "copies at providers whose texts are not erased"),
    ("noted_copies", "address", "copies at providers that are not erased"),
    ("noted_unknown", "address", "copies that a provider may have"),
)
_STANDING: Final = "proofs"  # needed while their opt-ins stand, however old they are
# A copy goes by the moment it was made, not by the day; and a little later, as the sweep and the provider take their time. Where nobody
# knows whether there is one, a callback that comes late is waited for some days more.
_LATER: Final[Mapping[str, timedelta]] = {
    "noted_texts": timedelta(days=1, hours=1),
    "noted_copies": timedelta(days=1, hours=1),
    "noted_unknown": timedelta(days=9),
}
_SECONDS: Final = 300


class RetentionLooks:
    """The oldest of each table, tenant and class, and whether it may be there. It reads whole partitions: minutes, where they are large."""

    def __init__(self, database: Database, terms: Terms) -> None:
        self._database = database
        self._terms = terms

    async def verify(self, now: datetime) -> Sequence[Found]:
        """Raises StoreUnavailable."""
        sql = statements("retention_looks")
        parts = [dict(row) for row in await self._database.fetch(statements("retention")["partitions"])]
        readable = (await other_columns(self._database))["readable"]
        found: list[Found] = []
        for name, parent, data_class, what in _PARTITIONED:
            oldest: dict[str, datetime] = {}
            for part in parts:
                if part["parent"] == parent:
                    statement = sql[name].replace("{partition}", part["name"]).replace("/* readable */", readable)
                    for tenant, moment in (await self._look(statement)).items():
                        oldest.setdefault(tenant, moment)
            found += self._judged(data_class, oldest, what, now)
        for name, data_class, what in _WHOLE:
            found += self._judged(
                data_class, await self._look(sql[name]), what, now - _LATER.get(name, timedelta()), name == _STANDING
            )
        for row in await self._database.fetch(sql["held"]):
            why = (
                f"kept by legal hold {row['id']}"
                if row["stands"]
                else f"legal hold {row['id']} is over, and keeps {row['count']}"
            )
            found.append(Found(PLACE, row["tenant"], "held", row["oldest"], None, row["stands"], why))
        return found

    async def standing(self) -> Sequence[Standing]:
        """What stands in tables without partitions, by days. Raises StoreUnavailable."""
        found: dict[tuple[str, str], dict[date, int]] = {}
        for row in await self._read(statements("retention_looks")["standing"]):
            found.setdefault((row["what"], row["tenant"]), {})[row["day"]] = row["count"]
        return [Standing(what, tenant, days) for (what, tenant), days in found.items()]

    async def kept(self) -> Sequence[KeptBy]:
        """What holds keep. Raises StoreUnavailable."""
        rows = await self._database.fetch(statements("retention_looks")["held"])
        return [KeptBy(row["id"], row["tenant"], row["count"], row["until_at"], row["stands"]) for row in rows]

    async def _look(self, statement: str) -> Mapping[str, datetime]:
        return {row["tenant"]: _moment(row["oldest"]) for row in await self._read(statement)}

    async def _read(self, statement: str) -> Sequence[Mapping[str, Any]]:
        async def work(session: Session) -> Sequence[Mapping[str, Any]]:
            await session.execute(
                f"set local enable_seqscan = on; set local enable_hashjoin = on; set local enable_mergejoin = on;"
                f" set local statement_timeout = '{_SECONDS}s'"
            )
            if session.get_server_version().major >= 17:
                await session.execute(f"set local transaction_timeout = '{_SECONDS}s'")
            return [dict(row) for row in await session.fetch(statement, timeout=_SECONDS)]

        return await self._database.transact(work)

    def _judged(
        self, data_class: RetentionClass, oldest: Mapping[str, datetime], what: str, now: datetime, any_age: bool = False
    ) -> list[Found]:
        judged = []
        for tenant in sorted({*self._terms.tenants, *oldest}):
            first = oldest.get(tenant)
            not_before = None if any_age else self._terms.not_before(tenant, data_class, now)
            well, why = True, ""
            if first is not None and self._terms.left_open(tenant, data_class):
                well, why = False, f"{what}: the policy leaves retention.{data_class} open"
            elif first is not None and not_before is not None and first < not_before:
                well, why = False, f"{what}: older than they may be"
            judged.append(Found(PLACE, tenant, data_class, first, not_before, well, why))
        return judged


def _moment(oldest: UUID | datetime) -> datetime:
    return uid_time(oldest) if isinstance(oldest, UUID) else oldest
