"""Claim and mark, by the statements of dispatch.sql."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gateway.domain.changes import Change, Queued, claim, end
from gateway.domain.consent import Consent, Reach
from gateway.domain.decide import Asked, Decision, Facts
from gateway.domain.errors import SubjectKeysChanged
from gateway.domain.reasons import Reason
from gateway.domain.states import State
from gateway.flow.claims import Claimed, Instead, Taken
from gateway.flow.people import FirstKey, People
from gateway.flow.rerouting import next_way
from gateway.store.barriers import Barriers, read_barriers
from gateway.store.consents import consents_of
from gateway.store.ledger import apply, lock_messages
from gateway.store.statements import statements
from gateway.store.subject_keys import require_known

if TYPE_CHECKING:
    from asyncpg import Record

    from gateway.domain.routing import Router
    from gateway.flow.accept import Route
    from gateway.store.database import Database, Session

__all__ = ["Claims"]

_BURST: Final = timedelta(seconds=0.25)  # what a sender did not use of its rate is kept no longer


class Claims:
    """One worker's claims. ``policies`` are versions by tenant, ``account_rates`` requests a second; ``lease`` is in seconds.

    ``spool``: the topic that must have been read to its end of late; None where there is none. ``allow_list``: the only people who may
    be texted, by their ids under every version that is known; None: everybody.
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
        allow_list: Container[bytes] | None = None,
        *,
        router: Router[Route],
        people: People | None = None,
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._routes = {route.route_id: route for route in routes}
        self._policies = policies
        self._account_rates = account_rates
        self._lease = lease
        self._spool = spool
        self._allow_list = allow_list
        self._router = router
        self._people = people or FirstKey()

    async def claim(self, room: Mapping[str, int], decide: Callable[[Asked, Facts, datetime], Decision], most: int) -> Taken:
        """One transaction: lock what is due, read consent in a later statement, decide, commit what is claimed and what is blocked."""

        async def work(session: Session) -> Taken:
            barriers = await read_barriers(session, self._database.expected)
            if not barriers.lives:
                return Taken()
            if self._spool is not None and self._spool not in barriers.clear_spools:
                return Taken()
            require_known(barriers.subject_keys.text, self._people)
            open_routes = [route for route in self._routes.values() if barriers.open(route)]
            granted = await self._tried(session, room, barriers)
            rooms, rated, left = await self._paced(session, self._rooms(granted, open_routes), barriers.now)
            if not rooms:
                return Taken()
            rows = await session.fetch(
                statements("dispatch")["lock_candidates"],
                list(rooms),
                list(rooms.values()),
                barriers.now,
                min(most, sum(granted.values())),
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
            lanes = await self._lanes(session, rows, barriers, open_routes)
            changes = await self._decide(session, rows, consents, busy, lanes, granted, left, decide, barriers.now)
            await self._begin_tries(session, changes, barriers)
            await apply(session, changes, worker_id=self._worker_id, lease=self._lease, actor=self._worker_id)
            taken = {change.uid: change for change in changes if change.queue == "claim"}
            if rated:
                await self._move_paces(session, [row for row in rows if row["uid"] in taken], rated)
            well = {route.route_id for route in open_routes if barriers.well(route)}
            claimed = [
                self._claimed(row, taken[row["uid"]], barriers, well, lanes)
                for row in rows
                if row["uid"] in taken and row["to_sealed"] is not None and row["body_sealed"] is not None
            ]
            return Taken(claimed, [change for change in changes if change.queue == "leave"])

        try:
            return await self._database.transact(work)
        except SubjectKeysChanged:
            await self._people.look()
            return Taken()

    @staticmethod
    async def _lanes(
        session: Session, rows: Sequence[Record], barriers: Barriers, open_routes: Sequence[Route]
    ) -> Mapping[UUID, bytes] | None:
        """While the key that people are hashed with is exchanged: whose lane each message is in, for those whose lane is free under
        both ids; looked at after it is locked. None when no exchange is open: a person has one id in the queue.
        """
        if barriers.subject_keys.settled:
            return None
        sql, uids = statements("dispatch"), [row["uid"] for row in rows]
        locked = {row["uid"]: row for row in await session.fetch(sql["lock_elders"], uids)}
        crossed = {
            row["uid"]
            for row in await session.fetch(sql["crossed"], uids, barriers.now, [route.route_id for route in open_routes])
        }
        return {
            row["uid"]: locked[row["uid"]]["elder"] or row["subject_id"]
            for row in rows
            if row["uid"] not in crossed and locked[row["uid"]]["alone"]
        }

    @staticmethod
    async def _tried(session: Session, room: Mapping[str, int], barriers: Barriers) -> Mapping[str, int]:
        """The room, cut down to one request for accounts that are to be tried, and to none where another claim does."""
        free = [account for account, is_free in barriers.tried.items() if is_free and account in room]
        if not free:
            return room
        rows = await session.fetch(statements("dispatch")["lock_tries"], free)
        may_try = {row["account"] for row in rows}
        return {
            account: room if account not in barriers.tried else min(room, int(account in may_try))
            for account, room in room.items()
        }

    async def _begin_tries(self, session: Session, changes: Sequence[Change], barriers: Barriers) -> None:
        """Let no other claim try what this one tries, until its claim and its mark can have ended."""
        trying = {change.account for change in changes if change.queue == "claim" and change.account in barriers.tried}
        if trying:
            await session.execute(statements("dispatch")["begin_tries"], sorted(filter(None, trying)), 2 * self._lease)

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
        lanes: Mapping[UUID, bytes] | None,
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
            lane = person if lanes is None else (lanes.get(row["uid"], b""), row["tenant"], row["sender"])
            free = row["alone"] and not {person, lane} & busy and (lanes is None or row["uid"] in lanes)
            route = self._routes[row["route_id"]]
            queued = self._queued(row, route)
            others = self._router.others(row["tenant"], row["programme"]) if row["any_sender"] else frozenset()
            reach = Reach(row["tenant"], row["programme"], row["sender"], others)
            asked = Asked(row["kind"], row["category"], reach, row["expires_at"], None)
            facts = Facts(
                self._policies.get(row["tenant"], ""),
                consents.get(row["subject_id"], ()),
                self._problem(row, route),
                allow_listed=self._allow_list is None or row["subject_id"] in self._allow_list,
            )
            decision = decide(asked, facts, now)
            if decision.verdict in ("block", "expire"):
                ends[row["uid"]] = queued, decision
            elif free and decision.verdict == "send" and self._take(row, route, slots, left):
                busy |= {person, lane}
                changes.append(claim(queued, decision))
        if ends:
            for uid, message in (await lock_messages(session, sorted(ends))).items():
                queued, decision = ends[uid]
                state = State.BLOCKED if decision.verdict == "block" else State.EXPIRED
                changes.append(end(message, queued, state, decision.reason, decision.rule, decision.policy))
        return changes

    def _problem(self, row: Record, route: Route) -> Reason | None:
        """Why today's policy lets the message not leave by its way: the policy may be another than the one that chose it."""
        if row["kind"] != "outbound":
            return self._router.forbidden(route)
        found = self._router.ways(row["tenant"], row["programme"], row["category"], row["country"])
        if isinstance(found, Reason):
            return found
        if any(way.route_id == route.route_id for way in found.ways):
            return None
        return self._router.forbidden(route) or Reason.NO_ROUTE

    def _instead(self, row: Record, route: Route, well: Collection[int]) -> Instead | None:
        """Where the message goes if this attempt is surely refused for the sake of its account or sender."""
        if not row["any_sender"] or row["kind"] != "outbound":
            return None
        asked = row["tenant"], row["programme"], row["category"], row["country"]
        way = next_way(self._router, *asked, row["subject_id"], route.route_id, well)
        return Instead(way.route_id, way.sender) if way is not None else None

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

    def _claimed(
        self,
        row: Record,
        change: Change,
        barriers: Barriers,
        well: Collection[int],
        lanes: Mapping[UUID, bytes] | None,
    ) -> Claimed:
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
            to_sealed=row["to_sealed"],
            body_sealed=row["body_sealed"],
            tries_account=route.account in barriers.tried,
            instead=self._instead(row, route, well),
            elder=lanes[row["uid"]] if lanes is not None and lanes[row["uid"]] != row["subject_id"] else None,
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
            *self._database.expected,
        )
        return {row["uid"]: row["marked_at"] for row in rows}

    async def in_my_name(self) -> dict[UUID, int]:
        """The attempts that stand in this worker's name."""
        rows = await self._database.fetch(statements("dispatch")["in_my_name"], self._worker_id)
        return {row["uid"]: row["attempt"] for row in rows}

    async def hold(self, account: str, sender: str, seconds: float, reason: str) -> None:
        """Let nothing of a sender, or with an empty sender of the account, be claimed for a while."""
        await self._database.execute(statements("dispatch")["hold"], account, sender, seconds, reason)

    async def sends_after_stop(self, begun: Sequence[tuple[UUID, datetime, str]]) -> int:
        """How many of these requests began although a STOP was in force."""
        columns = map(list, zip(*begun, strict=True))
        count: int = (await self._database.fetch(statements("dispatch")["sends_after_stop"], *columns))[0][0]
        return count
