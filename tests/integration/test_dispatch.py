"""Dispatch: answers that are lost, workers that leave, and a long random walk over everything that can happen to a message."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from gateway.domain.changes import rescue
from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.errors import StoreRefused, StoreUnavailable
from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Refused, Unknown
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reasons import Reason
from gateway.domain.reports import ListedText, StatusNews, Text
from gateway.domain.states import State, may_move
from gateway.flow.claims import Claimed, Marked
from gateway.flow.conversation import OptIn
from gateway.flow.dispatch import Dispatch, Limits
from gateway.flow.evidence import Evidence
from gateway.flow.rescue import Rescue
from gateway.flow.stop import OptOut, Stop
from tests.integration.hands import Hands, receipt_of, settle_by_hand
from tests.integration.world import Carrier, OpenGate, World, open_world
from tests.support import until

T = TypeVar("T")
SID = "SM" + "1" * 32
LATER = Later(Reason.RATE_LIMITED, "20429")


def number(n: int) -> str:
    return f"+1202555{100 + n:04d}"


async def publish(world: World, count: int) -> None:
    await world.intake().admit("sms.outbound.v1", 0, [world.record(message_id=f"m{n}", to=number(n)) for n in range(count)])


async def emptied(world: World) -> None:
    await until(lambda: world.rows("select 1 where not exists (select from queue)"), 20)


def counted(world: World, name: str) -> float:
    return world.parts.registry.get_sample_value(f"sms_gateway_{name}") or 0.0


# -- leaving in order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
async def test_a_worker_that_leaves_in_order_leaves_nothing_behind(database_url: str, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)

    async def answer(_text: Text) -> Accepted:
        await asyncio.sleep(chance.random() * 0.02)
        return Accepted(f"SM{next(ids):032x}", 1)

    ids = count()
    async with open_world(database_url, tmp_path, Carrier(answer), GATEWAY_ACCOUNTS__MAIN__CONCURRENCY="20") as world:
        await publish(world, 150)
        dispatch = world.parts.dispatch(OpenGate())
        running = asyncio.create_task(dispatch.run())
        await until(lambda: len(world.carrier.sent) >= chance.randrange(1, 80), every=0.001)
        await dispatch.stop(5)
        assert await world.rows("select uid from queue where state <> 'waiting'") == []
        await asyncio.wait_for(running, 5)
        states = list((await world.states()).values())
        assert set(states) <= {"accepted", "sent"}  # and none unknown
        assert states.count("sent") == len(world.carrier.sent)
        assert await world.rows("select * from shares") == []
        async with world.sending():  # another takes over what was left
            await emptied(world)
        assert len(world.carrier.sent) == 150
        assert counted(world, "unknown_outcomes_total") == 0


async def test_stopping_what_never_ran_returns_at_once(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        dispatch = world.parts.dispatch(OpenGate())
        async with asyncio.timeout(10):
            await dispatch.stop(30)
            await dispatch.run()
        await publish(world, 1)
        assert world.carrier.sent == []


async def test_a_stop_waits_for_requests_no_longer_than_it_may(database_url: str, tmp_path: Path) -> None:
    never = asyncio.Event()

    async def answer(_text: Text) -> Accepted:
        await never.wait()
        return Accepted(SID, 1)

    async with open_world(database_url, tmp_path, Carrier(answer)) as world:
        await publish(world, 1)
        dispatch = world.parts.dispatch(OpenGate())
        running = asyncio.create_task(dispatch.run())
        await until(lambda: world.carrier.sent)
        async with asyncio.timeout(10):
            await dispatch.stop(0.2)
            await running
        assert (await world.rows("select state from queue"))[0]["state"] == "marked"
        never.set()
        await emptied(world)


# -- answers of the store that are lost ------------------------------------------------------------------------------------------


class Losing:
    """Claims whose answers are lost now and then, before or after PostgreSQL has committed."""

    def __init__(self, inner: Any, method: str, when: Sequence[str]) -> None:
        self._inner = inner
        self._method = method
        self._when = list(when)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._method:
            return found

        async def call(*arguments: Any, **more: Any) -> Any:
            how = self._when.pop(0) if self._when else "kept"
            if how == "before":
                raise StoreUnavailable("lost before")
            answer = await found(*arguments, **more)
            if how == "after":
                raise StoreUnavailable("lost after")
            return answer

        return call


@pytest.mark.parametrize(
    "method, when", [("claim", ["after"]), ("claim", ["before", "after"]), ("mark", ["before"]), ("mark", ["after"])]
)
async def test_a_lost_answer_costs_time_and_neither_messages_nor_repeats(
    database_url: str, tmp_path: Path, method: str, when: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.flow.dispatch.clock", _hurried())
    async with open_world(database_url, tmp_path, GATEWAY_DISPATCH__BACKOFF_FIRST_SECONDS="0.01") as world:
        await publish(world, 5)
        dispatch = world.parts.dispatch(OpenGate())
        dispatch._limits = Limits(request=7, fuse=2, lease=1000)  # the hurried clock is this worker's alone
        dispatch._claims = Losing(dispatch._claims, method, when)
        async with world.sending(dispatch):
            await emptied(world)
        assert set((await world.states()).values()) == {"sent"}
        assert sorted(text.to.reveal() for text in world.carrier.sent) == [number(n) for n in range(5)]


@pytest.mark.parametrize("when", [["before"], ["after"], ["before", "before", "after"]])
async def test_what_goes_back_goes_back_however_long_that_takes(database_url: str, tmp_path: Path, when: list[str]) -> None:
    """A mark's answer is lost, and then those by which its messages are put back: they have not begun, and must not end as unknown."""
    async with open_world(database_url, tmp_path) as world:
        await publish(world, 3)
        dispatch = world.parts.dispatch(OpenGate())
        dispatch._claims = Losing(dispatch._claims, "mark", ["after"])
        dispatch._ledger = Losing(dispatch._ledger, "change", when)
        async with world.sending(dispatch):
            await emptied(world)
        assert set((await world.states()).values()) == {"sent"}
        assert len(world.carrier.sent) == 3
        assert counted(world, "unknown_outcomes_total") == 0


def _hurried() -> Any:
    """A clock that runs twenty times as fast, so that what is done every few seconds is done at once."""
    from gateway.flow.fuse import clock

    began = clock()
    return lambda: began + (clock() - began) * 20


async def test_an_outcome_is_settled_however_long_postgresql_is_away(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await publish(world, 3)
        dispatch = world.parts.dispatch(OpenGate())
        dispatch._settling._ledger = Losing(dispatch._settling._ledger, "change", ["before", "after", "before"])
        async with world.sending(dispatch):
            await emptied(world)
        assert set((await world.states()).values()) == {"sent"}
        assert len(world.carrier.sent) == 3
        assert counted(world, "duplicate_sends_total") == 0


async def test_a_comparison_with_opt_outs_that_fails_is_made_up_for(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path, GATEWAY_ACCOUNTS__MAIN__CONCURRENCY="1") as world:
        await publish(world, 3)
        dispatch = world.parts.dispatch(OpenGate())
        compared: list[Sequence[tuple[UUID, datetime, str]]] = []

        class Lost:
            """The first comparison is lost."""

            async def sends_after_stop(self, begun: Sequence[tuple[UUID, datetime, str]]) -> int:
                compared.append(begun)
                if len(compared) == 1:
                    raise StoreUnavailable("lost")
                return 0

        dispatch._settling._claims = Lost()  # type: ignore[assignment] # with no other method
        async with world.sending(dispatch):
            await emptied(world)
        labels = {"state": "sent", "reason": "accepted", "provider": "twilio", "category": "service"}
        assert world.parts.registry.get_sample_value("sms_gateway_messages_total", labels) == 3
        await dispatch._settling.compare()  # the first one may have been that of the stop
        assert set(compared[0]) <= set(compared[1])
        later = [one for comparison in compared[1:] for one in comparison]
        assert len(later) == len(set(later)) == 3, "each is compared once"


async def test_a_worker_without_its_starter_does_not_live_on(database_url: str, tmp_path: Path) -> None:
    """A part that ends by a fault ends the process: a worker that claims and never sends would look alive."""
    async with open_world(database_url, tmp_path) as world:
        await publish(world, 1)
        dispatch = world.parts.dispatch(OpenGate())

        async def broken(_claimed: object) -> Any:
            raise ZeroDivisionError

        dispatch._claims.mark = broken  # type: ignore[assignment,method-assign] # a fault of ours
        async with asyncio.timeout(5):
            with pytest.raises(ZeroDivisionError):
                await dispatch.run()


# -- marked ahead ----------------------------------------------------------------------------------------------------------------


def accepting(go: asyncio.Event) -> Callable[[Text], Awaitable[Outcome]]:
    """A carrier that accepts every text, once it may answer."""

    async def answer(text: Text) -> Outcome:
        await go.wait()
        return Accepted(f"SM{text.uid.hex}", 1)

    return answer


def hope(dispatch: Dispatch, count: int) -> None:
    """So many slots are thought to fall free soon."""
    dispatch._pacing.soon = lambda _account: count  # type: ignore[method-assign,assignment] # the test's own rate


async def test_a_slot_that_falls_free_waits_for_no_statement(database_url: str, tmp_path: Path) -> None:
    turns: asyncio.Queue[None] = asyncio.Queue()

    async def answer(text: Text) -> Accepted:
        await turns.get()
        return Accepted(f"SM{text.uid.hex}", 1)

    async with open_world(database_url, tmp_path, Carrier(answer), GATEWAY_ACCOUNTS__MAIN__CONCURRENCY="8") as world:
        await publish(world, 12)
        dispatch = world.parts.dispatch(OpenGate())
        hope(dispatch, 2)
        dispatch._limits = Limits(stale=60)
        async with world.sending(dispatch):
            await until(lambda: world.rows("select from queue where state = 'marked' having count(*) = 10"))
            assert len(world.carrier.sent) == 8
            hangs = asyncio.Event()

            async def slow(claimed: Sequence[Claimed], mark: Any = dispatch._claims.mark) -> Any:
                await hangs.wait()
                return await mark(claimed)

            dispatch._claims.mark = slow  # type: ignore[method-assign] # held up by the test
            for _ in range(2):
                turns.put_nowait(None)
            await until(lambda: len(world.carrier.sent) == 10)
            assert dispatch._pacing.in_flight == {"main": 8}
            hangs.set()
            for _ in range(10):
                turns.put_nowait(None)
            await emptied(world)


async def test_what_was_marked_ahead_and_finds_no_slot_goes_back(database_url: str, tmp_path: Path) -> None:
    """Requests hang: neither a STOP nor a pause may wait for what was marked in the hope of a slot."""
    hangs = asyncio.Event()
    async with open_world(database_url, tmp_path, Carrier(accepting(hangs)), GATEWAY_ACCOUNTS__MAIN__CONCURRENCY="4") as world:
        await publish(world, 8)
        dispatch = world.parts.dispatch(OpenGate())
        hope(dispatch, 2)
        async with world.sending(dispatch):
            await until(lambda: world.rows("select from queue where state = 'marked' having count(*) = 6"))
            hope(dispatch, 0)
            await until(lambda: world.rows("select from queue where state = 'marked' having count(*) = 4"))
            assert len(await world.rows("select from audit where step = 'released'")) >= 2
            assert await world.rows("select from queue where tries > 0") == []
            hangs.set()
            await emptied(world)
        assert sorted(text.to.reveal() for text in world.carrier.sent) == [number(n) for n in range(8)]
        assert counted(world, "unknown_outcomes_total") == 0


async def test_what_could_not_be_put_back_goes_back_later(database_url: str, tmp_path: Path) -> None:
    """It has surely not begun: an outage of a second must not let its mark run out, as that of a request nobody can tell of."""
    hangs = asyncio.Event()
    async with open_world(database_url, tmp_path, Carrier(accepting(hangs)), GATEWAY_ACCOUNTS__MAIN__CONCURRENCY="4") as world:
        await publish(world, 8)
        dispatch = world.parts.dispatch(OpenGate())
        hope(dispatch, 2)
        dispatch._ledger = Losing(dispatch._ledger, "change", ["before"] * 4)
        async with world.sending(dispatch):
            await until(lambda: world.rows("select from queue where state = 'marked' having count(*) = 6"))
            hope(dispatch, 0)
            await until(lambda: world.rows("select from queue where state = 'marked' having count(*) = 4"), 8)
            hangs.set()
            await emptied(world)
        assert set((await world.states()).values()) == {"sent"}


async def test_what_is_marked_while_a_share_is_renewed_begins_with_the_renewed_one(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await publish(world, 1)
        dispatch = world.parts.dispatch(OpenGate())
        dispatch._limits = Limits(stale=60, request=7.0, fuse=2.0, lease=60.0)
        renewing, renewed, marking = asyncio.Event(), asyncio.Event(), asyncio.Event()

        class Slow:
            """Answers when it is let, once a message is about to be marked."""

            async def share(
                self, account: str, limit: int, in_flight: int, seconds: float, store: Any = dispatch._pacing._store
            ) -> Any:
                if marking.is_set():
                    renewing.set()
                    await renewed.wait()
                return await store.share(account, limit, in_flight, seconds)

            async def give_back(self, store: Any = dispatch._pacing._store) -> None:
                await store.give_back()

        async def late(claimed: Sequence[Claimed], mark: Any = dispatch._claims.mark) -> Any:
            marking.set()
            await renewing.wait()
            return await mark(claimed)

        dispatch._pacing._store = Slow()
        dispatch._claims.mark = late  # type: ignore[method-assign] # held up by the test
        async with world.sending(dispatch):
            await until(lambda: dispatch._hands.marked)
            assert world.carrier.sent == []  # while the answer is out, nobody knows whose the slots are
            renewed.set()
            await emptied(world)
        assert len(world.carrier.sent) == 1


async def test_leaving_puts_back_what_was_marked_ahead(database_url: str, tmp_path: Path) -> None:
    hangs = asyncio.Event()
    async with open_world(database_url, tmp_path, Carrier(accepting(hangs)), GATEWAY_ACCOUNTS__MAIN__CONCURRENCY="4") as world:
        await publish(world, 8)
        dispatch = world.parts.dispatch(OpenGate())
        hope(dispatch, 2)
        dispatch._limits = Limits(stale=60)
        running = asyncio.create_task(dispatch.run())
        await until(lambda: world.rows("select from queue where state = 'marked' having count(*) = 6"))
        stopping = asyncio.create_task(dispatch.stop(5))
        await until(lambda: world.rows("select from queue where state = 'waiting' having count(*) = 4"))
        hangs.set()
        await asyncio.gather(stopping, running)
        assert sorted((await world.states()).values()) == ["accepted"] * 4 + ["sent"] * 4
        assert len(world.carrier.sent) == 4


# -- requests --------------------------------------------------------------------------------------------------------------------


async def test_no_request_begins_with_too_little_left_of_its_lease(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path, GATEWAY_DISPATCH__BACKOFF_FIRST_SECONDS="60") as world:
        await publish(world, 3)
        dispatch = world.parts.dispatch(OpenGate())
        dispatch._limits = Limits(request=7.0, fuse=2.0, lease=9.0)  # nothing is left at once
        async with world.sending(dispatch):
            await until(lambda: world.rows("select from queue where tries = 1 having count(*) = 3"))
        assert world.carrier.sent == []
        rows = await world.rows("select step, code from audit where step = 'put_back'")
        assert [row["code"] for row in rows] == ["lease_too_short"] * 3


async def test_a_provider_that_fails_in_an_unknown_way_hurts_one_message(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(text: Text) -> Accepted:
        if text.to.reveal() == number(0):
            raise ZeroDivisionError  # a fault of ours: nobody can say whether anything was sent
        return Accepted(f"SM{text.uid.hex}", 1)

    async with open_world(database_url, tmp_path, Carrier(answer), GATEWAY_ACCOUNTS__MAIN__CONCURRENCY="1") as world:
        await publish(world, 4)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, _context: None)
        async with world.sending():
            await until(lambda: world.rows("select from queue having count(*) = 1"))
        await world.shift(11)
        await Rescue(world.parts.watch, world.parts.ledger, world.parts.metrics, world.parts.horizons).claims()
        assert sorted((await world.states()).values()) == ["sent", "sent", "sent", "unknown"]
        assert len(world.carrier.sent) == 4


async def test_an_answer_that_cannot_be_stored_is_unknown_and_holds_nobody_up(database_url: str, tmp_path: Path) -> None:
    async def answer(text: Text) -> Accepted:
        return Accepted("SM\x00" if text.to.reveal() == number(1) else f"SM{text.uid.hex}", 1)

    async with open_world(database_url, tmp_path, Carrier(answer)) as world:
        await publish(world, 4)
        async with world.sending():
            await emptied(world)
        assert await world.states() == {"m0": "sent", "m1": "unknown", "m2": "sent", "m3": "sent"}
        assert (await world.rows("select code from messages where message_id = 'm1'"))[0]["code"] == "unstorable_answer"


async def test_an_attempt_of_which_nothing_can_be_stored_is_let_go(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await publish(world, 4)
        dispatch = world.parts.dispatch(OpenGate())

        class Picky:
            """Takes nothing of one message."""

            async def change(self, uids: Any, judge: Any, ledger: Any = dispatch._settling._ledger) -> Any:
                if any(row["uid"] in uids for row in await world.rows("select uid from messages where message_id = 'm1'")):
                    raise StoreRefused("refused")
                return await ledger.change(uids, judge)

        dispatch._settling._ledger = Picky()  # type: ignore[assignment] # with no other method
        async with world.sending(dispatch):
            await emptied(world)  # what is lost is taken up by its own worker
        assert await world.states() == {"m0": "sent", "m1": "unknown", "m2": "sent", "m3": "sent"}
        assert dispatch._hands.attempts == {}


async def test_what_cannot_be_unsealed_is_not_sent_and_holds_nobody_up(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path, GATEWAY_DISPATCH__BACKOFF_FIRST_SECONDS="60") as world:
        await publish(world, 3)
        await world.parts.database.execute(
            "update bodies set sealed = '\\x0102' where uid = (select uid from messages where message_id = 'm1')"
        )
        async with world.sending():
            await until(lambda: world.rows("select from queue where tries = 1 having count(*) = 1"))
            await until(lambda: len(world.carrier.sent) == 2)
        assert (await world.states())["m1"] == "accepted"
        assert (await world.rows("select code from audit where step = 'put_back'"))[0]["code"] == "content_unreadable"


async def test_each_outcome_ends_where_it_should(database_url: str, tmp_path: Path) -> None:
    outcomes: dict[str, Outcome] = {
        number(0): Accepted(SID, 2),
        number(1): Refused(Reason.NOT_TEXTABLE, "21614"),
        number(2): OptedOut("21610"),
        number(3): Unknown("timeout"),
        number(4): Later(Reason.RATE_LIMITED, "14107", wait=600.0),
    }

    async def answer(text: Text) -> Outcome:
        return outcomes[text.to.reveal()]

    async with open_world(database_url, tmp_path, Carrier(answer)) as world:
        await publish(world, 5)
        async with world.sending():
            await until(lambda: world.rows("select from queue where tries = 1 having count(*) = 1"))
            await until(lambda: world.rows("select from consents where in_force_at is not null"))
        rows = {row["message_id"]: row for row in await world.rows("select * from messages")}
        assert {name: (row["state"], row["reason"], row["final"], row["code"]) for name, row in rows.items()} == {
            "m0": ("sent", "accepted", False, None),
            "m1": ("failed", "not_textable", True, "21614"),
            "m2": ("blocked", "opted_out", True, "21610"),
            "m3": ("unknown", "no_answer", False, "timeout"),
            "m4": ("accepted", "allowed", False, None),
        }
        assert rows["m0"]["parts"] == 2
        for name in ("m0", "m3"):
            assert abs(rows[name]["begun_at"] - await world.parts.ledger.now()) < timedelta(seconds=15)
        consents = await world.rows("select tenant, scope, source from consents")
        assert consents == [{"tenant": "clinic", "scope": "tenant", "source": "provider"}]
        assert counted(world, "sends_after_stop_total") == 0


async def test_two_attempts_of_one_message_in_one_batch_are_both_settled(database_url: str, tmp_path: Path) -> None:
    """The late answer to a mark that was lost, beside the answer to the attempt that followed."""
    async with open_world(database_url, tmp_path) as world:
        await publish(world, 1)
        hands = Hands(world)
        (first,) = await hands.claim()
        await world.shift(11)
        await Rescue(world.parts.watch, world.parts.ledger, world.parts.metrics, world.parts.horizons).claims()
        (second,) = await hands.claim()
        await hands.mark([second])
        now = await world.parts.ledger.now()
        dispatch = world.parts.dispatch(OpenGate())
        for order in ([0, 1], [1, 0]):
            pairs: list[tuple[Marked, Outcome]] = [
                (Marked(first, 0.0, 0.0, now, 0.0), LATER),
                (Marked(second, 0.0, 0.0, now, 0.0, now), Accepted(SID, 1)),
            ]
            await dispatch._settling._settle_batch([pairs[place] for place in order])
        rows = await world.rows("select state, attempt, provider_message_id from messages")
        assert rows == [{"state": "sent", "attempt": 2, "provider_message_id": SID}]


async def test_an_answer_of_the_gateways_own_is_exempt_from_consent_and_from_nothing_else(
    database_url: str, tmp_path: Path
) -> None:
    async with open_world(database_url, tmp_path) as world:
        assert await world.receive("STOP") == "stop"
        assert await world.receive("HELP") == "help"
        await world.parts.control.pause("tenant", "clinic", "", "test", "")
        assert await Hands(world).claim() == []
        await world.parts.control.resume("tenant", "clinic", "", "test")
        hands = Hands(world)
        first = await hands.claim()
        assert len(first) == 1  # one person, one sender, one at a time
        await hands.send(first)
        assert len(await hands.claim()) == 1


async def test_every_change_of_a_state_is_counted_also_what_a_claim_ends(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        soon = (await world.parts.ledger.now() + timedelta(minutes=1)).isoformat()
        await world.publish(message_id="late", to=number(1), expires_at=soon)
        await world.publish(message_id="out", to=number(2))
        await world.publish(message_id="stopped", to=number(3))
        await world.publish(message_id="canceled", to=number(4), expires_at=soon)
        await world.publish(message_id="sent", to=number(5))
        out, stopped = (ConsentKey(world.parts.hasher.subject_id(PhoneNumber(number(n))), "clinic", Scope.TENANT) for n in (2, 3))
        # whoever wrote this opt-out has died, or not come to the blocking yet: the claim finds it
        await world.parts.consents.write(OptOut(out, "api", None, actor="test"))
        await world.parts.stop.opt_out(OptOut(stopped, "api", None, actor="test"))
        await world.shift(120)
        async with world.sending():
            await emptied(world)
        told = await world.rows(
            "select o.state, o.reason, m.category, count(*)::float8 as count from outbox o join messages m using (uid)"
            " where o.kind = 'status' group by 1, 2, 3"
        )
        assert {row["state"] for row in told} == {"accepted", "blocked", "expired", "sent"}
        found: dict[tuple[str, ...], float] = {}
        for metric in world.parts.metrics.messages_total.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    key = tuple(sample.labels[name] for name in ("state", "reason", "category"))
                    found[key] = found.get(key, 0) + sample.value
        assert found == {(row["state"], row["reason"], row["category"]): row["count"] for row in told}


# -- a random walk ---------------------------------------------------------------------------------------------------------------


@dataclass
class Attempt:
    """A request, and what the provider truly did."""

    claimed: Claimed
    outcome: Outcome
    taken: str | None


@dataclass
class Worker:
    hands: Hands
    claimed: list[Claimed] = field(default_factory=list)
    marked: list[Claimed] = field(default_factory=list)
    answers: list[Attempt] = field(default_factory=list)


class Walk(RuleBasedStateMachine):
    """Two workers, two people, an honest provider; everything may happen at any moment."""

    world: ClassVar[World]
    loop: ClassVar[asyncio.AbstractEventLoop]
    examples: ClassVar[Any] = count()
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.example = next(self.examples)
        self.people = [f"+1{202 + self.example % 7}555{100 + n:04d}" for n in range(2)]
        self.subjects = [self.world.parts.hasher.subject_id(PhoneNumber(person)) for person in self.people]
        self.workers = [Worker(Hands(self.world, f"w{self.example}-{n}")) for n in range(2)]
        self.begun: dict[UUID, list[Attempt]] = {}
        self.in_force: set[bytes] = set()
        self.names: list[str] = []
        self.ids = count(self.example * 10_000)
        self.stop = Stop(self.world.parts.consents, self.world.parts.policies.sender_map(), self.world.parts.metrics, wait=0.0)
        self.rescue = Rescue(self.world.parts.watch, self.world.parts.ledger, self.world.parts.metrics, self.world.parts.horizons)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        type(self).steps += 1
        return self.loop.run_until_complete(work)

    def key(self, person: int) -> ConsentKey:
        return ConsentKey(self.subjects[person], "shop", Scope.TENANT)

    async def now(self) -> datetime:
        return await self.world.parts.ledger.now()

    # -- messages and workers ----------------------------------------------------------------------------------------------------

    @rule(person=st.integers(0, 1), category=st.sampled_from(["service", "security"]))
    def publish(self, person: int, category: str) -> None:
        name = f"{self.example}-{len(self.names)}"
        self.names.append(name)
        self.run(
            self.world.publish(
                message_id=name, to=self.people[person], tenant="shop", programme="orders", category=category, body=name
            )
        )

    @rule(place=st.integers(0, 1), lost=st.integers(0, 9))
    def claim(self, place: int, lost: int) -> None:
        worker = self.workers[place]
        claimed = self.run(worker.hands.claim())
        if lost:  # now and then the answer to the commit is lost
            worker.claimed += claimed

    @rule(place=st.integers(0, 1), lost=st.integers(0, 9))
    def mark(self, place: int, lost: int) -> None:
        worker = self.workers[place]
        marked = set(self.run(worker.hands.mark(worker.claimed))) if worker.claimed else set()
        if lost:
            worker.marked += [one for one in worker.claimed if one.uid in marked]
        worker.claimed = []

    @precondition(lambda self: any(worker.marked for worker in self.workers))
    @rule(
        place=st.integers(0, 1),
        how=st.sampled_from(["accepted", "accepted", "later", "later", "refused", "opted_out", "silent_taken", "silent_lost"]),
    )
    def request(self, place: int, how: str) -> None:
        worker = self.workers[place]
        if not worker.marked:
            return
        claimed = worker.marked.pop(0)
        rows = self.run(
            self.world.rows(
                "select lease_until - gateway_now() > interval '9 seconds' as enough from queue where uid = $1 and attempt = $2 and state = 'marked'",
                claimed.uid,
                claimed.attempt,
            )
        )
        if not rows or not rows[0]["enough"]:  # too little left: it does not begin
            worker.answers.append(Attempt(claimed, Later(Reason.UNREACHABLE, "lease_too_short"), None))
            return
        earlier = self.begun.setdefault(claimed.uid, [])
        assert all(isinstance(attempt.outcome, Later) for attempt in earlier), "repeated without a sure refusal"
        assert claimed.subject_id not in self.in_force, "began after the STOP was in force"
        sid = f"SM{next(self.ids):032x}"
        outcomes: dict[str, Outcome] = {
            "accepted": Accepted(sid, 1),
            "later": LATER,
            "refused": Refused(Reason.NOT_TEXTABLE, "21614"),
            "opted_out": OptedOut("21610"),
            "silent_taken": Unknown("timeout"),
            "silent_lost": Unknown("reset"),
        }
        attempt = Attempt(claimed, outcomes[how], sid if how in {"accepted", "silent_taken"} else None)
        earlier.append(attempt)
        worker.answers.append(attempt)

    @precondition(lambda self: any(worker.answers for worker in self.workers))
    @rule(place=st.integers(0, 1), again=st.booleans(), first=st.booleans())
    def settle(self, place: int, again: bool, first: bool) -> None:
        worker = self.workers[place]
        if worker.answers:
            attempt = worker.answers.pop(0 if first else -1)
            for _ in range(1 + again):
                self.run(settle_by_hand(self.world, attempt.claimed, attempt.outcome, wait=0.0))

    @rule(place=st.integers(0, 1))
    def kill(self, place: int) -> None:
        worker = self.workers[place]
        worker.claimed, worker.marked, worker.answers = [], [], []

    @rule(place=st.integers(0, 1))
    def compare(self, place: int) -> None:
        """What stands in a worker's name and is not in its hands."""
        worker = self.workers[place]
        held = {one.uid: one.attempt for one in [*worker.claimed, *worker.marked, *(answer.claimed for answer in worker.answers)]}
        standing = self.run(worker.hands.claims.in_my_name())
        lost = {uid: attempt for uid, attempt in standing.items() if held.get(uid) != attempt}

        def judge(found: Any, now: datetime) -> Any:
            return [
                rescue(one.message, one.queued, now, self.world.parts.horizons)
                for uid, one in found.items()
                if one.queued is not None and one.queued.state != "waiting" and one.queued.attempt == lost[uid]
            ]

        self.run(self.world.parts.ledger.change(lost, judge))

    @rule(seconds=st.sampled_from([0.5, 2.0, 11.0, 61.0, 3700.0]))
    def time_passes(self, seconds: float) -> None:
        if seconds > 9:  # a process that sleeps so long is dead: the fuse
            for worker in self.workers:
                worker.marked = []
        self.run(self.world.shift(seconds))

    @rule(what=st.sampled_from(["claims", "expired", "without_news"]))
    def sweep(self, what: str) -> None:
        self.run(getattr(self.rescue, what)())

    @rule()
    def evidence(self) -> None:
        parts = self.world.parts
        self.world.carrier.listed = [
            ListedText(attempt.taken, PhoneNumber(self.people[self.subjects.index(attempt.claimed.subject_id)]), "+14155550111",
                       MessageBody(self.run(self.body_of(attempt.claimed.uid))), None, None, 1, self.run(self.begun_at(attempt.claimed.uid)))
            for attempts in self.begun.values() for attempt in attempts if attempt.taken is not None
        ]  # fmt: skip
        evidence = Evidence(
            parts.watch, parts.ledger, parts.providers, parts.vault, parts.hasher, parts.metrics, parts.horizons, within=8.0
        )
        self.run(evidence.look())

    async def body_of(self, uid: UUID) -> str:
        return str((await self.world.rows("select message_id from messages where uid = $1", uid))[0]["message_id"])

    async def begun_at(self, uid: UUID) -> datetime:
        found: datetime | None = (await self.world.rows("select begun_at from messages where uid = $1", uid))[0]["begun_at"]
        return found or await self.now()

    @rule(state=st.sampled_from([None, "sent", "delivered", "undelivered"]), data=st.data(), again=st.booleans())
    def receipt(self, state: Any, data: st.DataObject, again: bool) -> None:
        taken = [attempt for attempts in self.begun.values() for attempt in attempts if attempt.taken is not None]
        if taken:
            attempt = data.draw(st.sampled_from(taken))
            receipts = self.world.parts.receipts()
            for _ in range(1 + again):
                self.run(receipts.receive(receipt_of(attempt.claimed, state, attempt.taken or "")))

    # -- people and operators ----------------------------------------------------------------------------------------------------

    @rule(person=st.integers(0, 1))
    def stop_texted(self, person: int) -> None:
        result = self.run(self.stop.opt_out(OptOut(self.key(person), "text", None, actor="person")))
        assert result is not None
        if result.in_force:
            self.in_force.add(self.subjects[person])

    @rule()
    def stops_finished(self) -> None:
        self.run(self.stop.finish_pending())
        rows = self.run(self.world.rows("select subject_id from consents where status = 'out' and in_force_at is not null"))
        self.in_force |= {row["subject_id"] for row in rows}

    @rule(person=st.integers(0, 1), late=st.booleans())
    def start_texted(self, person: int, late: bool) -> None:
        now = self.run(self.now())
        opt_in = OptIn(
            self.key(person), "text", now - timedelta(days=1) if late else now + timedelta(milliseconds=1), actor="person"
        )
        stopped = self.subjects[person] in self.in_force
        granted = self.run(self.world.parts.consents.opt_in(opt_in)) == "granted"
        assert not (granted and late and stopped), "an old START undid a STOP"
        if granted:
            self.in_force.discard(self.subjects[person])

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.run(self.world.parts.operate.cancel("shop", data.draw(st.sampled_from(self.names)), "cli"))

    # -- the account -------------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        self.run(self.check())
        self.run(self.empty())

    async def empty(self) -> None:
        tables = "messages, bodies, queue, message_ids, consents, inbound, audit_unchained, outbox"
        await self.world.parts.database.execute(f"truncate {tables}")
        await self.world.parts.database.execute("update clock set shift = interval '0'")

    async def check(self) -> None:
        rows = await self.world.rows(
            "select m.*, q.uid is not null as queued, q.steps as queue_steps from messages m left join queue q using (uid)"
        )
        messages = {row["uid"]: row for row in rows}
        assert len(messages) == len(self.names)
        for uid, attempts in self.begun.items():
            taken = [attempt for attempt in attempts if attempt.taken is not None]
            assert len(taken) <= 1, "accepted twice"
            if messages[uid]["state"] in {"sent", "delivered", "undelivered"}:
                assert [attempt.taken for attempt in taken] == [messages[uid]["provider_message_id"]]
            if messages[uid]["state"] in {"blocked", "failed", "canceled", "expired"}:
                assert taken == [], "told as ended, and yet accepted"
        told: dict[UUID, list[dict[str, Any]]] = {uid: [] for uid in messages}
        for row in await self.world.rows("select * from outbox where kind = 'status' order by id"):
            told[row["uid"]].append(row)
        for uid, news in told.items():
            assert [row["version"] for row in news] == list(range(1, len(news) + 1))
            assert messages[uid]["version"] == len(news)
            assert (messages[uid]["state"], messages[uid]["final"]) == (news[-1]["state"], news[-1]["final"])
            for one, other in pairwise(news):
                settled = other["state"] == one["state"] and other["final"] and not one["final"]
                assert settled or may_move(State(one["state"]), State(other["state"]))
                assert other["final"] >= one["final"]
                assert other["correction"] == one["final"]
            assert sum(row["correction"] for row in news) <= 1
        numbers: dict[UUID, list[int]] = {}
        for row in await self.world.rows("select uid, number from audit where uid is not null order by id"):
            numbers.setdefault(row["uid"], []).append(row["number"])
        for uid, found in numbers.items():
            assert found == list(range(1, len(found) + 1)), "audit records are missing, doubled or out of order"
            assert max(messages[uid]["steps"], messages[uid]["queue_steps"] or 0) == len(found)
        for row in messages.values():
            assert row["queued"] == (row["state"] in {"accepted", "deferred"})
        assert counted(self.world, "duplicate_sends_total") == 0


def test_a_random_walk_over_everything_that_can_happen(database_url: str, tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    opened = contextlib.AsyncExitStack()
    try:
        Walk.loop = loop
        Walk.world = loop.run_until_complete(opened.enter_async_context(open_world(database_url, tmp_path)))
        run_state_machine_as_test(
            Walk,
            settings=settings(
                max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
            ),
        )
        assert Walk.steps > 300
    finally:
        loop.run_until_complete(opened.aclose())
        loop.close()


async def test_only_who_is_on_the_allow_list_is_texted_also_by_the_gateways_own_answers(
    database_url: str, tmp_path: Path
) -> None:
    """What waited before the list was set, and the answers to HELP and STOP."""
    listed = tmp_path / "listed.txt"
    listed.write_text(f"{number(0)}\n")
    async with open_world(database_url, tmp_path) as world:
        await publish(world, 2)
        assert await world.receive("HELP", sender=number(0)) == "help"
        assert await world.receive("HELP", sender=number(1)) == "help"
    async with open_world(database_url, tmp_path, GATEWAY_ALLOW_LIST_FILE=str(listed)) as world:
        async with world.sending():
            await emptied(world)
        assert {text.to.reveal() for text in world.carrier.sent} == {number(0)}
        assert len(world.carrier.sent) == 2
        rows = await world.rows("select rule from messages where state = 'blocked'")
        assert [row["rule"] for row in rows] == ["staging.allow_list"] * 2


async def test_texts_of_one_sender_go_out_in_one_request_and_each_has_its_own_outcome(database_url: str, tmp_path: Path) -> None:
    """A person's two texts, and those of another sender, never share a request; a refusal or a doubt is one message's own."""
    others: dict[str, Outcome] = {"+12025550103": Refused(Reason.NOT_TEXTABLE, "x"), "+12025550105": Unknown("timeout")}

    async def answer(text: Text) -> Outcome:
        return others.get(text.to.reveal(), Accepted("batch", 1))

    async with open_world(database_url, tmp_path, Carrier(answer, batch=3), GATEWAY_ACCOUNTS__MAIN__CONCURRENCY="4") as world:
        for number in range(8):
            await world.publish(message_id=f"m{number}", to=f"+1202555010{number}")
        await world.publish(message_id="again", to="+12025550100")
        await world.publish(message_id="elsewhere", tenant="clinic", programme="visits", to="+12025550101")
        async with world.sending():
            await until(lambda: _nothing_left(world))
        states = await world.states()
        assert states.pop("m3") == "failed"
        assert states.pop("m5") == "unknown"
        assert set(states.values()) == {"sent"}
        assert len(world.carrier.sent) == 10
        assert max(len(texts) for texts in world.carrier.requests) == 3
        # all of a batch have one id at the provider: with the person it names one message
        subject = world.parts.hasher.subject_id(PhoneNumber("+12025550102"))
        found = await world.parts.ledger.accepted_as("main", "batch", subject)
        rows = await world.rows("select uid from messages where message_id = 'm2'")
        assert found == (rows[0]["uid"], 1)
        news = StatusNews("main", "batch", PhoneNumber("+12025550102"), "delivered", None)
        assert await world.parts.receipts().learn(news) == "changed"
        assert await world.parts.receipts().learn(news) == "repeated"
        assert await world.parts.receipts().learn(replace(news, to=PhoneNumber("+12025550199"))) == "unknown_message"
        assert [message for message, state in (await world.states()).items() if state == "delivered"] == ["m2"]
        spam = StatusNews("main", "batch", PhoneNumber("+12025550104"), "undelivered", "spam", filtered=True)
        assert await world.parts.receipts().learn(spam) == "changed"
        rows = await world.rows("select message_id, reason from messages where state = 'undelivered'")
        assert rows == [{"message_id": "m4", "reason": "filtered"}]


async def test_a_stop_takes_one_message_out_of_a_batch_and_leaves_the_others(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path, Carrier(batch=10)) as world:
        for number in range(4):
            await world.publish(message_id=f"m{number}", tenant="clinic", programme="visits", to=f"+1202555010{number}")
        hands = Hands(world)
        claimed = await hands.claim()
        assert len(claimed) == 4
        stopped = ConsentKey(world.parts.hasher.subject_id(PhoneNumber("+12025550101")), "clinic", Scope.TENANT)
        await world.parts.stop.opt_out(OptOut(stopped, "api", None, actor="test"))
        assert len(await hands.mark(claimed)) == 3


async def _nothing_left(world: World) -> bool:
    return not await world.rows("select from queue")
