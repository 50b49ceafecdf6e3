"""The breaker: what counts against an account, and when it opens and closes."""

from __future__ import annotations

import pytest

from gateway.domain.errors import StoreUnavailable
from gateway.domain.outcome import Accepted, Later, OptedOut, Outcome, Refused, Unknown
from gateway.domain.reasons import Reason
from gateway.flow.breaker import Breaker, verdict

SENT = Accepted("SM1")
REFUSED = Refused(Reason.NOT_TEXTABLE, "21614")
DOWN = Later(Reason.UNREACHABLE, "connect", holds="account")
LOST = Unknown("timeout")
CROWDED = Later(Reason.RATE_LIMITED, "20429", holds="account")


class Store:
    """What was asked of it; whether an account is open."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool] | str] = []
        self.away = False

    async def open_breaker(self, account: str, first: float, most: float, *, tried: bool) -> bool:
        if self.away:
            raise StoreUnavailable("away")
        assert (first, most) == (5.0, 120.0)
        self.asked.append((account, tried))
        return True

    async def close_breaker(self, account: str) -> bool:
        self.asked.append(account)
        return True


class World:
    def __init__(self) -> None:
        self.time = 0.0
        self.store = Store()
        self.breaker = Breaker(self.store, failures=5, first=5.0, most=120.0, now=lambda: self.time)

    async def hear(self, *outcomes: Outcome, tried: bool = False, every: float = 0.01) -> list[tuple[str, bool] | str]:
        for outcome in outcomes:
            self.time += every
            await self.breaker.heard("main", [outcome], tried=tried)
        return self.store.asked


@pytest.mark.parametrize(
    "outcome, said",
    [
        (SENT, "well"),
        (REFUSED, "well"),
        (OptedOut("21610"), "well"),
        (LOST, "ill"),
        (Unknown("http_503"), "ill"),
        (DOWN, "ill"),
        (CROWDED, "crowded"),
        (Later(Reason.RATE_LIMITED, "14107"), "well"),  # between two numbers
        (Later(Reason.QUEUE_FULL, "21611", holds="sender"), "well"),
        (Later(Reason.CONFIGURATION, "20003", holds="account", operator=True), "nothing"),
        (Later(Reason.UNREACHABLE, "pool", holds="account"), "nothing"),
        (Later(Reason.UNREACHABLE, "lease_too_short"), "nothing"),
        (Later(Reason.CONFIGURATION, "content_unreadable", operator=True), "nothing"),
        (Unknown("unstorable_answer"), "nothing"),
    ],
)
def test_what_an_outcome_says_of_its_account(outcome: Outcome, said: str) -> None:
    assert verdict(outcome) == said


async def test_so_many_failures_in_a_row_open_it_and_fewer_do_not() -> None:
    world = World()
    assert await world.hear(DOWN, LOST, DOWN, LOST) == []
    assert await world.hear(SENT, DOWN, LOST, DOWN, REFUSED, DOWN, LOST, DOWN, LOST) == []
    assert await world.hear(DOWN) == [("main", False)]
    assert await world.hear(DOWN, DOWN) == [("main", False)]  # it begins anew: others may have closed it meanwhile


async def test_failures_in_a_row_count_however_seldom_a_message_goes() -> None:
    assert await World().hear(*[DOWN] * 5, every=3600) == [("main", False)]


async def test_one_request_is_one_failure_however_many_texts_it_carried() -> None:
    world = World()
    await world.breaker.heard("main", [LOST] * 100)
    assert world.store.asked == []
    await world.breaker.heard("main", [LOST, SENT, CROWDED])  # somebody got through: the provider works
    for _ in range(4):
        await world.breaker.heard("main", [LOST] * 100)
    assert world.store.asked == []


async def test_a_row_of_refusals_at_the_limit_does_not_open_it_and_a_storm_does() -> None:
    world = World()
    assert await world.hear(*(SENT, CROWDED) * 40) == []  # as many pass as not
    world = World()
    assert await world.hear(*[CROWDED] * 19) == []
    assert await world.hear(CROWDED) == [("main", False)]


async def test_more_than_half_failing_open_it_and_what_is_long_ago_does_not_count() -> None:
    mostly: list[Outcome] = [DOWN, DOWN, SENT] * 7
    assert await World().hear(*mostly) == [("main", False)]
    assert await World().hear(*mostly, every=1.0) == []  # fewer than twenty in ten seconds


async def test_accounts_are_judged_apart() -> None:
    world = World()
    for account in ("main", "other") * 4:
        await world.breaker.heard(account, [DOWN])
    assert world.store.asked == []
    await world.breaker.heard("other", [DOWN])
    assert world.store.asked == [("other", False)]


@pytest.mark.parametrize(
    "outcome, asked",
    [
        (SENT, ["main"]),
        (REFUSED, ["main"]),
        (DOWN, [("main", True)]),
        (LOST, [("main", True)]),
        (CROWDED, [("main", True)]),
        (Later(Reason.UNREACHABLE, "lease_too_short"), []),  # it has not been tried
    ],
)
async def test_one_try_closes_it_or_opens_it_again(outcome: Outcome, asked: list[object]) -> None:
    assert await World().hear(outcome, tried=True) == asked


async def test_postgresql_away_ends_nothing() -> None:
    world = World()
    world.store.away = True
    assert await world.hear(*[DOWN] * 6) == []
