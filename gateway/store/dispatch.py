"""Claim and mark, by the statements of dispatch.sql."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gateway.domain.changes import Change, Queued, claim, end
from gateway.domain.consent import Consent, Reach
from gateway.domain.decide import Asked, Decision, Facts
from gateway.domain.pauses import Pause, is_paused
from gateway.domain.states import State
from gateway.flow.claims import Claimed, Taken
from gateway.store.consents import consents_of
from gateway.store.ledger import apply, lock_messages
from gateway.store.statements import statements

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.flow.accept import Route
    from gateway.store.database import Database, Session

__all__ = ["Claims"]

_BURST: Final = timedelta(seconds=0.25)  # what a sender did not use of its rate is kept no longer


@dataclass(frozen=True, slots=True)
class _Barriers:
    """What stands before a claim as a whole."""

    now: datetime
    pauses: frozenset[Pause]
    shut: frozenset[str]
    held: frozenset[tuple[str, str]]
    clear_spools: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[Record]) -> _Barriers:
        return cls(
            now=next(row["at"] for row in rows if row["kind"] == "now"),
            pauses=frozenset((row["scope"], row["tenant"], row["name"]) for row in rows if row["kind"] == "pause"),
            shut=frozenset(row["name"] for row in rows if row["kind"] == "catch_up"),
            held=frozenset((row["name"], row["scope"]) for row in rows if row["kind"] == "hold"),
            clear_spools=frozenset(row["name"] for row in rows if row["kind"] == "spool"),
        )

    def open(self, route: Route) -> bool:
        return (
            route.account not in self.shut
            and not is_paused(self.pauses, route.tenant, route.programme, route.provider)
            and not {(route.account, ""), (route.account, route.sender)} & self.held
        )


class Claims:
    """One worker's claims. ``policies`` are versions by tenant, ``account_rates`` requests a second; ``lease`` is in seconds.

    ``spool``: the topic that must have been read to its end of late; None where there is none. ``allow_list``: the only people who may
    be texted, by ``subject_id``; None: everybody.
    """

    def __init__(
        self,
        database: Database,
        worker_id: str,
        routes: Sequence[Route],
        policies: Mapping[str, str],
        account_rates: Mapping[str, float],
        lease: float,
        spool: str | None = None,
        allow_list: Collection[bytes] | None = None,
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._routes = {route.route_id: route for route in routes}
        self._policies = policies
        self._account_rates = account_rates
        self._lease = lease
        self._spool = spool
        self._allow_list = allow_list

    async def claim(self, room: Mapping[str, int], decide: Callable[[Asked, Facts, datetime], Decision], most: int) -> Taken:
        """One transaction: lock what is due, read consent in a later statement, decide, commit what is claimed and what is blocked."""

        async def work(session: Session) -> Taken:
            barriers = _Barriers.of(await session.fetch(statements("dispatch")["barriers"]))
            if self._spool is not None and self._spool not in barriers.clear_spools:
                return Taken()
            open_routes = [route for route in self._routes.values() if barriers.open(route)]
            rooms, rated, left = await self._paced(session, self._rooms(room, open_routes), barriers.now)
            if not rooms:
                return Taken()
            rows = await session.fetch(
                statements("dispatch")["lock_candidates"],
                list(rooms),
                list(rooms.values()),
                barriers.now,
                min(most, sum(room.values())),
                [route.route_id for route in open_routes],
            )
            if not rows:
                return Taken()
            subjects = list({row["subject_id"] for row in rows})
            consents = await consents_of(session, subjects)
            busy = {
                (r["subject_id"], r["tenant"], r["sender"])
                for r in await session.fetch(statements("dispatch")["under_way"], subjects)
            }
            changes = await self._decide(session, rows, consents, busy, room, left, decide, barriers.now)
            await apply(session, changes, worker_id=self._worker_id, lease=self._lease, actor=self._worker_id)
            taken = {change.uid: change for change in changes if change.queue == "claim"}
            if rated:
                await self._move_paces(session, [row for row in rows if row["uid"] in taken], rated)
            contents = (
                {c["uid"]: c for c in await session.fetch(statements("dispatch")["contents"], list(taken))} if taken else {}
            )
            claimed = [
                self._claimed(row, taken[row["uid"]], contents[row["uid"]])
                for row in rows
                if row["uid"] in taken and row["uid"] in contents
            ]
            return Taken(claimed, [change for change in changes if change.queue == "leave"])

        return await self._database.transact(work)

    @staticmethod
    def _rooms(room: Mapping[str, int], open_routes: Sequence[Route]) -> dict[int, int]:
        asked = [route for route in open_routes if room.get(route.account, 0) > 0]
        # in a new order each time: an account's room goes to those asked first
        random.shuffle(asked)
        return {route.route_id: room[route.account] for route in asked}

    async def _paced(
        self, session: Session, rooms: dict[int, int], now: datetime
    ) -> tuple[dict[int, int], Mapping[tuple[str, str], float], dict[tuple[str, str], int]]:
        """Cut the rooms of senders that have a rate down to what it allows now; their rows stay locked until the claim commits.

        Returns the rooms, the rates, and what each rate leaves: parts of a sender, requests of an account. Routes that share a rate
        may each find as much as it leaves; who gets it is decided message by message.
        """
        routes = [self._routes[route_id] for route_id in rooms]
        rated = {(route.account, route.sender): route.per_second for route in routes if route.per_second is not None}
        rated |= {
            (account, ""): rate for account, rate in self._account_rates.items() if any(r.account == account for r in routes)
        }
        if not rated:
            return rooms, {}, {}
        accounts, senders = zip(*sorted(rated), strict=True)
        rows = await session.fetch(statements("dispatch")["lock_paces"], list(accounts), list(senders))
        left = dict.fromkeys(rated, 0)
        for row in rows:
            sender = (row["account"], row["sender"])
            since = now - max(row["next_at"], now - _BURST)
            left[sender] = 0 if since < timedelta() else 1 + int(since.total_seconds() * rated[sender])
        cut = {}
        for route_id, room in rooms.items():
            route = self._routes[route_id]
            granted = min(room, left.get((route.account, route.sender), room), left.get((route.account, ""), room))
            if granted > 0:
                cut[route_id] = granted
        return cut, rated, left

    async def _move_paces(self, session: Session, rows: Sequence[Record], rated: Mapping[tuple[str, str], float]) -> None:
        used: Counter[tuple[str, str]] = Counter()
        for row in rows:
            route = self._routes[row["route_id"]]
            if (route.account, route.sender) in rated:
                used[route.account, route.sender] += row["parts"]
            if (route.account, "") in rated:
                used[route.account, ""] += 1
        if used:
            senders = sorted(used)
            await session.execute(
                statements("dispatch")["move_paces"],
                [account for account, _ in senders],
                [sender for _, sender in senders],
                [used[sender] / rated[sender] for sender in senders],
                _BURST.total_seconds(),
            )

    async def _decide(
        self,
        session: Session,
        rows: Sequence[Record],
        consents: Mapping[bytes, Sequence[Consent]],
        busy: set[tuple[bytes, str, str]],
        room: Mapping[str, int],
        left: dict[tuple[str, str], int],
        decide: Callable[[Asked, Facts, datetime], Decision],
        now: datetime,
    ) -> list[Change]:
        changes: list[Change] = []
        ends: dict[UUID, tuple[Queued, Decision]] = {}
        slots = dict(room)
        for row in rows:
            person = (row["subject_id"], row["tenant"], row["sender"])
            route = self._routes[row["route_id"]]
            queued = self._queued(row, route)
            asked = Asked(
                row["kind"], row["category"], Reach(row["tenant"], row["programme"], row["sender"]), row["expires_at"], None
            )
            facts = Facts(
                self._policies.get(row["tenant"], ""),
                consents.get(row["subject_id"], ()),
                allow_listed=self._allow_list is None or row["subject_id"] in self._allow_list,
            )
            decision = decide(asked, facts, now)
            if decision.verdict in ("block", "expire"):
                ends[row["uid"]] = queued, decision
            elif row["alone"] and person not in busy and decision.verdict == "send" and self._take(row, route, slots, left):
                busy.add(person)
                changes.append(claim(queued, decision))
        if ends:
            for uid, message in (await lock_messages(session, sorted(ends))).items():
                queued, decision = ends[uid]
                state = State.BLOCKED if decision.verdict == "block" else State.EXPIRED
                changes.append(end(message, queued, state, decision.reason, decision.rule, decision.policy))
        return changes

    @staticmethod
    def _take(row: Record, route: Route, slots: dict[str, int], left: dict[tuple[str, str], int]) -> bool:
        """Take a slot of the account and what the rates must give for one message; False when something has run out."""
        by_sender, by_account = (route.account, route.sender), (route.account, "")
        if slots[route.account] <= 0 or left.get(by_sender, 1) <= 0 or left.get(by_account, 1) <= 0:
            return False
        slots[route.account] -= 1
        if by_sender in left:
            left[by_sender] -= row["parts"]  # a text of many parts may take more than is left: the next waits the longer
        if by_account in left:
            left[by_account] -= 1
        return True

    @staticmethod
    def _queued(row: Record, route: Route) -> Queued:
        return Queued(
            uid=row["uid"],
            tenant=row["tenant"],
            state="waiting",
            attempt=row["attempt"],
            tries=row["tries"],
            steps=row["steps"],
            provider=route.provider,
            account=route.account,
            sender=row["sender"],
        )

    def _claimed(self, row: Record, change: Change, contents: Record) -> Claimed:
        route = self._routes[row["route_id"]]
        return Claimed(
            uid=row["uid"],
            tenant=row["tenant"],
            attempt=change.attempt or 0,
            category=row["category"],
            subject_id=row["subject_id"],
            provider=route.provider,
            account=route.account,
            sender=row["sender"],
            to_sealed=contents["to_sealed"],
            body_sealed=contents["body_sealed"],
        )

    async def mark(self, claimed: Sequence[Claimed]) -> dict[UUID, datetime]:
        """Compare-and-set, in one statement: only what it returns may go on the wire."""
        rows = await self._database.fetch(
            statements("dispatch")["mark"],
            [one.uid for one in claimed],
            [one.attempt for one in claimed],
            self._worker_id,
            self._lease,
            self._spool,
        )
        return {row["uid"]: row["marked_at"] for row in rows}

    async def in_my_name(self) -> dict[UUID, int]:
        """The attempts that stand in this worker's name."""
        rows = await self._database.fetch(statements("dispatch")["in_my_name"], self._worker_id)
        return {row["uid"]: row["attempt"] for row in rows}

    async def hold(self, account: str, sender: str, seconds: float, reason: str) -> None:
        """Let nothing of a sender, or with an empty sender of the account, be claimed for a while."""
        await self._database.execute(statements("dispatch")["hold"], account, sender, seconds, reason)

    async def sends_after_stop(self, begun: Sequence[tuple[UUID, datetime]]) -> int:
        """How many of these requests began although a STOP was in force."""
        uids, moments = zip(*begun, strict=True)
        count: int = (await self._database.fetch(statements("dispatch")["sends_after_stop"], list(uids), list(moments)))[0][0]
        return count
