"""Consents told to provider accounts, by the statements of propagations.sql."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from gateway.domain.consent import Consent
from gateway.domain.telling import Holding, Word, opted_out_of
from gateway.flow.learning import DueList
from gateway.flow.people import FirstKey, People
from gateway.flow.telling import Settled, Taken
from gateway.flow.vault import KeptNumber
from gateway.store.consents import consents_of
from gateway.store.statements import statements

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.domain.senders import SenderUse
    from gateway.store.database import Database, Session

__all__ = ["PropagationStore"]

_OLDER_READ: Final = 1000  # consents in one step


class PropagationStore:
    """Where pairs that are owed a word stand, and how far lists are read."""

    def __init__(self, database: Database, people: People | None = None) -> None:
        self._database = database
        self._people = people or FirstKey()

    async def _rows(self, name: str, *arguments: object) -> list[Record]:
        return await self._database.fetch(statements("propagations")[name], *arguments)

    async def take(self, account: str, most: int, lease: float) -> Sequence[Taken]:
        """Pairs that are due. Their people are named by their first ids, and what they were texted may stand under a later one."""
        taken = [_taken(row) for row in await self._rows("take", account, most, lease)]
        return [pair if pair.number is not None else await self._texted(pair) for pair in taken]

    async def _texted(self, pair: Taken) -> Taken:
        later = self._people.line(pair.subject_id)[1:]
        rows = await self._rows("texted", later) if later else []
        return replace(pair, number=KeptNumber(*rows[0].values())) if rows else pair

    async def consents(self, subject_ids: Sequence[bytes]) -> Mapping[bytes, Sequence[Consent]]:
        """All that these people have said."""

        async def work(session: Session) -> Mapping[bytes, Sequence[Consent]]:
            return await consents_of(session, subject_ids)

        return await self._database.transact(work)

    async def say(self, account: str, words: Sequence[tuple[Taken, Word]]) -> Sequence[tuple[str, bytes]]:
        """Those that may be told."""
        rows = await self._rows("say", account, *_columns([pair for pair, _ in words]), [word for _, word in words])
        return [(row["sender"], row["subject_id"]) for row in rows]

    async def settle(self, account: str, settled: Sequence[Settled]) -> None:
        """What became of them."""
        ordered = sorted(settled, key=lambda one: (one.taken.subject_id, one.taken.sender))
        if ordered:
            columns = _columns([one.taken for one in ordered])
            await self._rows(
                "settle", account, *columns, [o.word for o in ordered], [o.result for o in ordered], [o.wait for o in ordered]
            )

    async def choose(self, accounts: Sequence[str], told: Sequence[SenderUse]) -> None:
        """These accounts can be told, and no others; the standing opt-outs are looked through for senders that are new."""
        await self._rows("give_up", list(accounts))
        await self._rows("take_up", list(accounts))
        columns = [use.account for use in told], [use.sender for use in told]
        await self._rows("forget_older", *columns)
        await self._rows("plan_older", *columns)

    async def note_older(self, account: str, uses: Mapping[str, SenderUse], most: int) -> int:
        """Note standing opt-outs of the next people, about so many pairs at most; returns how many pairs were owed."""

        async def work(session: Session) -> int:
            due = await session.fetch(statements("propagations")["older_due"], account)
            if not due:
                return 0
            after: bytes = due[0]["after"]
            senders = [row["sender"] for row in due if row["after"] == after]
            rows = await session.fetch(statements("propagations")["older_read"], after, _OLDER_READ)
            people, reached = _next_people(rows, max(1, most // len(senders)))
            if reached is None:
                await session.execute(statements("propagations")["older_rounded"], account, senders)
                return 0
            await session.execute(statements("propagations")["older_reached"], account, senders, reached)
            consents = await consents_of(session, people)
            owed = [
                (sender, person)
                for person in people
                for sender in senders
                if sender in uses and opted_out_of(uses[sender], consents.get(person, ()))
            ]
            if owed:
                columns = [sender for sender, _ in owed], [person for _, person in owed]
                await session.execute(statements("propagations")["note_older"], account, *columns)
            return len(owed)

        return await self._database.transact(work)

    async def waiting(self) -> Mapping[str, tuple[int, float]]:
        """How many pairs of each account wait, and the age of the oldest in seconds."""
        return {row["account"]: (row["waiting"], row["oldest"]) for row in await self._rows("waiting")}

    async def levels(self) -> list[dict[str, Any]]:
        """What each account was told: ``confirmed`` and ``waiting`` pairs, the age of the ``oldest``, and those ``refused``, by why."""
        refusals: dict[str, dict[str, int]] = {}
        for row in await self._rows("refusals"):
            refusals.setdefault(row["account"], {})[row["refused"]] = row["pairs"]
        return [dict(row) | {"refused": refusals.get(row["account"], {})} for row in await self._rows("levels")]

    async def older_left(self) -> Mapping[str, int]:
        """Of how many senders of each account the opt-outs from before it could be told are still looked through."""
        return {row["account"]: row["senders"] for row in await self._rows("older_left")}

    async def lists_due(self, accounts: Sequence[str], every: float) -> Sequence[DueList]:
        """Accounts whose lists are to be read."""
        return [DueList(*row.values()) for row in await self._rows("lists_due", list(accounts), every)]

    async def list_read(self, account: str, began_at: datetime) -> None:
        """A list was read to its end; the reading began then."""
        await self._rows("list_read", account, began_at)

    async def learned(self, account: str, sender: str, subject_id: bytes, word: Word, at: datetime | None) -> None:
        """The account has told what it held at a moment, by its own clock; None: now."""
        await self._rows("learned", account, sender, subject_id, word, True, at)


def _next_people(rows: Sequence[Record], most: int) -> tuple[list[bytes], bytes | None]:
    """Of consents in order of their people: the first who opted out of anything, and who was looked at last; None at the end of all.

    The last person's consents may go on beyond what was read.
    """
    if not rows:
        return [], None
    last: bytes = rows[-1]["subject_id"]
    whole = [row for row in rows if row["subject_id"] != last] if len(rows) == _OLDER_READ else rows
    whole = whole or rows  # nobody has so many
    people = list(dict.fromkeys(row["subject_id"] for row in whole if row["status"] == "out"))
    return people[:most], people[most - 1] if len(people) > most else whole[-1]["subject_id"]


def _taken(row: Record) -> Taken:
    sealed = row["number_sealed"]
    return Taken(
        row["sender"],
        row["subject_id"],
        row["changes"],
        row["tried_at"],
        row["tries"],
        Holding(row["holds"], row["said"], open=True, refused=False),
        KeptNumber(row["number_tenant"], row["number_uid"], sealed) if sealed is not None else None,
    )


def _columns(pairs: Sequence[Taken]) -> tuple[list[str], list[bytes], list[int], list[datetime]]:
    return (
        [pair.sender for pair in pairs],
        [pair.subject_id for pair in pairs],
        [pair.changes for pair in pairs],
        [pair.tried_at for pair in pairs],
    )
