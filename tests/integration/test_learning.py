"""Opt-outs that providers keep of themselves, learned from their lists: once, and not told round for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.app.telling import telling_times
from gateway.domain.consent import Scope
from gateway.domain.errors import KeyRingAway, ProviderUnavailable
from gateway.domain.personal import PhoneNumber
from gateway.domain.reports import OptOutNews
from gateway.flow.learning import Learning
from gateway.flow.provider import Abilities, OptOutWord, Told
from gateway.flow.telling import Telling
from gateway.store.propagations import PropagationStore
from tests.integration.world import Carrier, World, open_world

PERSON = "+12025550101"
MAIN, RING = "+14155550110", "+14155550111"
POLICY = """
tenant: shop
name: The Shop
providers: [twilio, ringcentral]
opt_out: {scope: tenant}
programmes:
  offers:
    categories: [marketing, service]
    senders: [{number: "+14155550110", account: main}, {number: "+14155550111", account: ring}]
    help_contact: help@shop.example
"""


@dataclass
class Keeper(Carrier):
    """A provider account with a list of opt-outs of its own: what people and API clients have set, each with its time."""

    news: list[OptOutNews] = field(default_factory=list)
    told: list[tuple[str, bool]] = field(default_factory=list)
    asked: list[tuple[str, datetime]] = field(default_factory=list)
    shift: timedelta = timedelta(0)

    @property
    def abilities(self) -> Abilities:
        return replace(super().abilities, tells_opt_outs=True, lists_opt_outs=True, opt_out_call_seconds=0.0)

    async def tell_opt_outs(self, words: Sequence[OptOutWord]) -> Sequence[Told]:
        if self.away:
            raise ProviderUnavailable("away")
        for word in words:
            self.told.append((word.sender, word.opted_out))
            self.set(word.to.reveal(), word.sender, opted_out=word.opted_out)
        return ["confirmed"] * len(words)

    async def list_opt_outs(self, sender: str, since: datetime) -> list[OptOutNews]:
        if self.away:
            raise ProviderUnavailable("away")
        self.asked.append((sender, since))
        return [one for one in self.news if one.sender == sender and (one.at is None or one.at >= since)]

    def set(self, number: str, sender: str, *, opted_out: bool, age: float | None = 0.0) -> None:
        """One record for a pair, as providers have it, with the time of its last change."""
        at = datetime.now(UTC) + self.shift - timedelta(seconds=age) if age is not None else None
        kept = [one for one in self.news if (one.to, one.sender) != (PhoneNumber(number), sender)]
        self.news = [*kept, OptOutNews(self.account, PhoneNumber(number), sender, opted_out, at)]


class Two:
    """A tenant with two accounts, each of which can be told and tells of its list."""

    def __init__(self, world: World, main: Keeper, ring: Keeper) -> None:
        self.world, self.main, self.ring = world, main, ring
        parts = world.parts
        accounts = {"main": main, "ring": ring}
        store, uses = PropagationStore(parts.database), parts.policies.sender_map()
        self.seconds = 0.0
        self.telling = Telling(
            store, accounts, uses, parts.vault, parts.metrics, telling_times(parts.settings), now=lambda: self.seconds
        )
        self.learning = Learning(store, parts.consents, accounts, uses, parts.stop, parts.hasher, parts.vault, parts.metrics)

    async def pass_by(self, seconds: float) -> None:
        await self.world.shift(seconds)
        self.seconds += seconds
        self.main.shift = self.ring.shift = timedelta(seconds=self.seconds)

    async def round(self) -> int:
        """Both lists read, and everybody told; returns how many words that took."""
        before = len(self.words)
        await self.learning.read()
        await self.telling.tell()
        await self.pass_by(301)
        return len(self.words) - before

    async def text_ring(self, body: str) -> str:
        """The person texts the number at the other provider, now."""
        now = await self.world.parts.control.now()
        return await self.world.parts.replies().receive(
            replace(self.world.inbound(body, to=RING, created_at=now), account="ring")
        )

    @property
    def words(self) -> list[tuple[str, bool]]:
        """What either was told, in order; which account hears first is not settled."""
        return self.main.told

    def last(self, sender: str) -> bool:
        """Whether what the account of this sender was told last is an opt-out."""
        return [opted_out for told, opted_out in self.words if told == sender][-1]

    async def statuses(self) -> set[tuple[str, str]]:
        rows = await self.world.rows("select scope, status from consents")
        return {(row["scope"], row["status"]) for row in rows}

    def learned(self, account: str, result: str) -> float | None:
        labels = {"account": account, "result": result}
        return self.world.parts.registry.get_sample_value("sms_gateway_opt_outs_learned_total", labels)


@pytest.fixture
async def two(database_url: str, tmp_path: Path) -> AsyncIterator[Two]:
    async with opened(database_url, tmp_path) as both:
        yield both


@asynccontextmanager
async def opened(database_url: str, folder: Path) -> AsyncIterator[Two]:
    (folder / "policies").mkdir()
    (folder / "policies" / "shop.yaml").write_text(POLICY)
    ring = {
        "PROVIDER": "ringcentral",
        "CLIENT_ID": "id",
        "CLIENT_SECRET": "secret",
        "JWT": "jwt",
        "VERIFICATION_TOKEN": "v" * 16,
    }
    settings = {f"GATEWAY_ACCOUNTS__RING__{name}": value for name, value in ring.items()}
    main = Keeper()
    other = Keeper(name="ringcentral", account="ring", told=main.told)
    async with open_world(database_url, folder, main, GATEWAY_ACCOUNTS__MAIN__CONSENTS_API="true", **settings) as world:
        yield Two(world, main, other)


async def test_what_one_provider_tells_is_told_to_the_other_once_and_comes_back_as_an_echo(two: Two) -> None:
    two.ring.set(PERSON, RING, opted_out=True)
    assert await two.round() == 1
    assert two.words == [(MAIN, True)]  # and not to the one that said so
    assert await two.statuses() == {("tenant", "out")}
    assert (two.learned("ring", "learned"), two.learned("main", "learned")) == (1, None)

    assert [await two.round() for _ in range(4)] == [0, 0, 0, 0]
    assert (two.learned("main", "echo") or 0) >= 1  # what we told stands in its list


async def test_and_in_the_other_direction_with_a_start_in_between(two: Two) -> None:
    two.main.set(PERSON, MAIN, opted_out=True)
    assert await two.round() == 1
    assert two.words == [(RING, True)]
    assert await two.text_ring("START") == "start"
    assert await two.statuses() == {("tenant", "in")}
    assert await two.round() == 2
    assert sorted(two.words[-2:]) == [(MAIN, False), (RING, False)]

    two.ring.set(PERSON, RING, opted_out=True)
    assert await two.round() == 1
    assert two.words[-1] == (MAIN, True)
    assert await two.statuses() == {("tenant", "out")}
    assert [await two.round() for _ in range(4)] == [0, 0, 0, 0]


async def test_an_echo_is_one_also_when_its_answer_was_lost_and_a_start_has_come(two: Two) -> None:
    """The list shows the opt-out that we told, by a time after the START: nobody said it but we."""
    await two.world.receive("STOP", to=MAIN)

    async def lost(words: Sequence[OptOutWord]) -> Sequence[Told]:
        for word in words:
            two.ring.set(word.to.reveal(), word.sender, opted_out=word.opted_out)
        raise ProviderUnavailable("no answer")

    two.ring.tell_opt_outs = lost  # type: ignore[method-assign] # this one answer only
    await two.telling.tell()
    del two.ring.tell_opt_outs
    await two.pass_by(10)
    assert await two.world.receive("START", to=MAIN, created_at=await two.world.parts.control.now()) == "start"
    two.ring.set(PERSON, RING, opted_out=True, age=-20)  # the request took effect late
    await two.learning.read()
    assert two.learned("ring", "echo") == 1
    assert await two.statuses() == {("tenant", "in")}
    await two.pass_by(60)
    await two.telling.tell()
    assert (RING, False) in two.words


async def test_lists_are_read_from_their_beginnings_then_from_the_last_reading_and_after_a_catch_up(two: Two) -> None:
    two.ring.set(PERSON, RING, opted_out=True, age=400 * 86_400)
    await two.learning.read()
    assert await two.statuses() == {("tenant", "out")}
    assert two.ring.asked == [(RING, datetime(1970, 1, 1, tzinfo=UTC))]
    began = await two.world.parts.control.now()

    await two.learning.read()
    assert len(two.ring.asked) == 1
    await two.world.parts.control.raise_barriers(["ring"])
    (barrier,) = await two.world.parts.control.raised()
    assert await two.world.parts.control.lower(barrier)
    await two.learning.read()
    assert [sender for sender, _ in two.ring.asked] == [RING, RING]
    assert abs(two.ring.asked[1][1] - (began - timedelta(minutes=10))) < timedelta(seconds=30)
    assert [sender for sender, _ in two.main.asked].count(MAIN) == 1
    await two.pass_by(301)
    await two.learning.read()
    assert [sender for sender, _ in two.main.asked].count(MAIN) == 2


async def test_a_list_that_cannot_be_read_is_read_later_and_keeps_no_other_waiting(two: Two) -> None:
    two.main.away = True
    two.ring.set(PERSON, RING, opted_out=True)
    await two.learning.read()
    assert await two.statuses() == {("tenant", "out")}
    assert {row["account"] for row in await two.world.rows("select account from opt_out_lists")} == {"ring"}


async def test_news_that_can_never_be_heeded_keeps_back_no_other(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "+12025550102"
    two.ring.set(other, RING, opted_out=True, age=10)
    two.ring.set(PERSON, RING, opted_out=True)
    hashed, fault = two.learning._hasher.subject_id, Exception

    def subject_id(number: PhoneNumber) -> bytes:
        if number == PhoneNumber(other):
            raise fault("it cannot be")
        return hashed(number)

    monkeypatch.setattr(two.learning._hasher, "subject_id", subject_id)
    for fault in (KeyRingAway, ValueError):
        two.learning._not_before.clear()
        await two.learning.read()
        assert await two.statuses() == (set() if fault is KeyRingAway else {("tenant", "out")})
    assert two.learned("ring", "passed_over") == 1
    assert {row["account"] for row in await two.world.rows("select account from opt_out_lists")} == {"main", "ring"}


async def test_an_account_that_allows_fewer_calls_than_it_has_senders_is_read_in_the_end(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    use = two.learning._uses[RING]
    others = {f"+1415555012{n}": replace(use, sender=f"+1415555012{n}") for n in range(3)}
    two.learning._uses = {**others, RING: use}
    two.ring.set(PERSON, RING, opted_out=True, age=400 * 86_400)
    listed, left = two.ring.list_opt_outs, iter([1, 1, 0, 1, 0, 1, 1, 1])

    async def rated(sender: str, since: datetime) -> list[OptOutNews]:
        if not next(left):
            raise ProviderUnavailable("too many calls")
        return await listed(sender, since)

    monkeypatch.setattr(two.ring, "list_opt_outs", rated)
    for _ in range(3):
        await two.learning.read()
        two.learning._not_before.clear()
    assert [sender for sender, _ in two.ring.asked] == [*others, RING]
    assert await two.statuses() == {("tenant", "out")}
    assert "ring" in {row["account"] for row in await two.world.rows("select account from opt_out_lists")}


async def test_an_old_opt_out_does_not_undo_a_later_opt_in(two: Two) -> None:
    await two.world.receive("STOP", to=MAIN, created_at=await two.world.parts.control.now())
    await two.pass_by(600)
    assert await two.world.receive("START", to=MAIN, created_at=await two.world.parts.control.now()) == "start"
    two.ring.set(PERSON, RING, opted_out=True, age=300)  # it was never told of anything
    await two.world.parts.database.execute("delete from propagations")
    await two.learning.read()
    assert two.learned("ring", "earlier") == 1
    assert await two.statuses() == {("tenant", "in")}


@pytest.mark.parametrize(
    "age, standing, result",
    [
        (0.0, True, "learned"),
        (None, True, "not_heeded"),  # nobody knows when
        (300.0, True, "not_heeded"),  # before the opt-out
        (0.0, False, "unchanged"),  # no opt-in is made where nothing stood
    ],
)
async def test_an_opt_in_counts_when_it_was_surely_given_after_the_opt_out(
    two: Two, age: float | None, standing: bool, result: str
) -> None:
    if standing:
        await two.world.parts.requests("api").opt_out("shop", PhoneNumber(PERSON), Scope.TENANT, "", "test")
    await two.pass_by(60)
    two.ring.set(PERSON, RING, opted_out=False, age=age)
    await two.learning.read()
    assert two.learned("ring", result) == 1
    assert await two.statuses() == ({("tenant", "in" if result == "learned" else "out")} if standing else set())


async def test_news_of_a_sender_that_is_none_of_ours_changes_nothing(two: Two) -> None:
    now = await two.world.parts.control.now()
    await two.learning.heed([OptOutNews("ring", PhoneNumber(PERSON), MAIN, opted_out=True, at=now)])  # another account's
    await two.learning.heed([OptOutNews("ring", PhoneNumber(PERSON), "+14155550199", opted_out=True, at=now)])
    assert two.learned("ring", "unknown_sender") == 2
    assert await two.statuses() == set()


async def test_a_provider_whose_clock_is_ahead_does_not_bar_a_start(two: Two) -> None:
    two.ring.set(PERSON, RING, opted_out=True, age=-86_400)
    await two.learning.read()
    await two.pass_by(60)
    assert await two.text_ring("START") == "start"
    assert await two.statuses() == {("tenant", "in")}


async def test_a_new_opt_out_is_none_of_what_was_told_while_the_opt_in_before_it_is_still_to_be_told(two: Two) -> None:
    """Else the opt-in, which is told at last, would undo it there, and nobody here would know of it."""
    await two.world.receive("STOP", to=MAIN, created_at=await two.world.parts.control.now())
    await two.telling.tell()
    assert (RING, True) in two.words
    await two.pass_by(600)
    two.ring.away = True
    assert await two.world.receive("START", to=MAIN, created_at=await two.world.parts.control.now()) == "start"
    await two.telling.tell()
    await two.pass_by(120)
    now = await two.world.parts.control.now()
    await two.learning.heed([OptOutNews("ring", PhoneNumber(PERSON), RING, opted_out=True, at=now, met=True)])
    assert two.learned("ring", "echo") == 1  # a text met the old one
    assert await two.statuses() == {("tenant", "in")}
    two.ring.away = False
    two.ring.set(PERSON, RING, opted_out=True)  # an agent's, say
    await two.learning.read()
    assert two.learned("ring", "learned") == 1
    assert await two.statuses() == {("tenant", "out")}
    for _ in range(4):
        await two.round()
    assert two.last(RING)
    assert [one.opted_out for one in two.ring.news] == [True]
    assert await two.statuses() == {("tenant", "out")}


async def test_a_text_that_met_the_old_opt_out_and_is_told_of_late_does_not_undo_the_opt_in(two: Two) -> None:
    """Each event of a batch brings all its messages again, long after the account has heard of the START."""
    await two.world.receive("STOP", to=MAIN, created_at=await two.world.parts.control.now())
    await two.telling.tell()
    await two.pass_by(600)
    assert await two.world.receive("START", to=MAIN, created_at=await two.world.parts.control.now()) == "start"
    await two.pass_by(60)
    met = OptOutNews("ring", PhoneNumber(PERSON), RING, opted_out=True, at=await two.world.parts.control.now(), met=True)
    await two.pass_by(60)
    await two.telling.tell()
    assert (RING, False) in two.words
    await two.learning.heed([met])
    assert two.learned("ring", "echo") == 1
    assert await two.statuses() == {("tenant", "in")}
    await two.pass_by(60)
    await two.learning.heed([replace(met, at=await two.world.parts.control.now())])  # and this one met another
    assert await two.statuses() == {("tenant", "out")}


async def test_old_news_of_an_opt_out_does_not_cover_that_the_account_was_told_of_an_opt_in(two: Two) -> None:
    """The account holds the opt-in since: the opt-out that stands here is owed to it."""
    await two.world.receive("STOP", to=MAIN, created_at=await two.world.parts.control.now())
    await two.telling.tell()
    old = await two.world.parts.control.now()
    await two.pass_by(600)
    assert await two.world.receive("START", to=MAIN, created_at=await two.world.parts.control.now()) == "start"
    await two.pass_by(60)
    await two.telling.tell()
    assert not two.last(RING)
    await two.pass_by(60)
    await two.world.receive("STOP", to=MAIN, created_at=await two.world.parts.control.now())
    await two.learning.heed([OptOutNews("ring", PhoneNumber(PERSON), RING, opted_out=True, at=old)])
    assert two.learned("ring", "unchanged") == 1
    assert await two.statuses() == {("tenant", "out")}
    await two.telling.tell()
    assert two.last(RING)
    assert [one.opted_out for one in two.ring.news] == [True]
