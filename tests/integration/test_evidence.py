"""Evidence: what the provider's list proves, and what it does not."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.domain.outcome import Accepted, Unknown
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reports import ListedText
from gateway.flow.evidence import Evidence
from gateway.flow.rescue import Rescue
from tests.integration.hands import Hands, receipt_of, told
from tests.integration.world import World, open_world

PERSON, SENDER, BODY = "+12025550101", "+12125550120", "Your visit is tomorrow at nine."
SID = "SM" + "1" * 32


def evidence_of(world: World, lists: Any = None) -> Evidence:
    parts = world.parts
    known = parts.sent_lists if lists is None else lists
    return Evidence(parts.watch, parts.ledger, known, parts.vault, parts.hasher, parts.metrics, parts.horizons, within=8.0)


async def doubtful(world: World, message_id: str = "a", **fields: Any) -> datetime:
    """A message whose request nobody answered; when it began."""
    await world.publish(message_id=message_id, **fields)
    hands = Hands(world)
    claimed = await hands.claim()
    assert await hands.ids(claimed) == [message_id]
    await hands.send(claimed, Unknown("timeout"))
    began: datetime = (await world.rows("select begun_at from messages where message_id = $1", message_id))[0]["begun_at"]
    return began


def listed(at: datetime, *, sid: str = SID, to: str = PERSON, body: str = BODY, state: Any = None) -> ListedText:
    return ListedText(sid, PhoneNumber(to), SENDER, MessageBody(body), state, None, 1, at)


@pytest.mark.parametrize(
    "state, expected", [(None, "sent"), ("sent", "sent"), ("delivered", "delivered"), ("undelivered", "undelivered")]
)
async def test_one_match_proves_acceptance(database_url: str, tmp_path: Path, state: Any, expected: str) -> None:
    async with open_world(database_url, tmp_path) as world:
        began = await doubtful(world)
        world.carrier.listed = [listed(began + timedelta(seconds=2), state=state)]
        evidence = evidence_of(world)
        assert await evidence.look() == 0  # not yet: the answer or a callback may still come
        await world.shift(6)
        assert await evidence.look() == 1
        assert await evidence.look() == 0
        final = expected != "sent"
        assert await told(world, "a") == [
            ("accepted", 1, False, False), ("unknown", 2, False, False), (expected, 3, final, False),
        ]  # fmt: skip
        rows = await world.rows("select evidence, actor from audit where step = $1", expected)
        assert rows == [{"evidence": "list", "actor": "evidence"}]
        assert (await world.rows("select provider_message_id from messages"))[0]["provider_message_id"] == SID


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": "+12025550102"},
        {"body": "Another text."},
        {"body": ""},  # redacted
        {"after": -30.0},
        {"after": 60.0},
    ],
    ids=["number", "body", "redacted", "before", "after"],
)
async def test_what_differs_proves_nothing(database_url: str, tmp_path: Path, wrong: dict[str, Any]) -> None:
    async with open_world(database_url, tmp_path) as world:
        began = await doubtful(world)
        after = wrong.pop("after", 1.0)
        world.carrier.listed = [listed(began + timedelta(seconds=after), **wrong)]
        await world.shift(6)
        assert await evidence_of(world).look() == 0
        assert (await world.states())["a"] == "unknown"


async def test_two_candidates_prove_nothing(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        began = await doubtful(world)
        world.carrier.listed = [listed(began), listed(began, sid="SM" + "2" * 32)]
        await world.shift(6)
        assert await evidence_of(world).look() == 0


async def test_two_unknowns_that_one_text_could_prove_prove_nothing(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        began = await doubtful(world, "a")
        await doubtful(world, "b")
        world.carrier.listed = [listed(began + timedelta(seconds=1))]
        await world.shift(6)
        assert await evidence_of(world).look() == 0
        assert set((await world.states()).values()) == {"unknown"}


async def test_what_is_sent_while_the_list_is_read_proves_nothing_of_another(database_url: str, tmp_path: Path) -> None:
    """A producer that hears of an unknown may publish the same text again, and the list that is asked for the first shows the second."""
    async with open_world(database_url, tmp_path) as world:
        began = await doubtful(world, "a")
        await world.shift(6)
        hands = Hands(world)

        async def meanwhile(*_asked: object) -> list[ListedText]:
            await world.publish(message_id="b")
            await hands.mark(await hands.claim())
            return [listed(began + timedelta(seconds=6))]  # of b, whose answer is still on the way

        world.carrier.list_sent = meanwhile  # type: ignore[assignment,method-assign] # the same, and somebody sends
        assert await evidence_of(world).look() == 0
        assert await world.states() == {"a": "unknown", "b": "sending"}


async def test_a_request_under_way_is_a_rival_too(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        began = await doubtful(world, "a")
        await world.publish(message_id="b")
        hands = Hands(world, lease=60)
        await hands.mark(await hands.claim())
        world.carrier.listed = [listed(began + timedelta(seconds=1))]
        await world.shift(6)
        assert await evidence_of(world).look() == 0


async def test_a_text_that_belongs_to_another_message_proves_nothing(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        await hands.send(await hands.claim(), Accepted(SID, 1))
        began = await doubtful(world, "b")
        world.carrier.listed = [listed(began)]
        await world.shift(6)
        evidence = evidence_of(world)
        assert await evidence.look() == 0
        other = listed(began, sid="SM" + "2" * 32)
        world.carrier.listed.append(other)  # beside it stands its own
        await world.shift(10)
        assert await evidence.look() == 1
        rows = await world.rows("select provider_message_id from messages where message_id = 'b'")
        assert rows[0]["provider_message_id"] == other.provider_message_id


async def test_while_the_provider_is_away_it_is_asked_again_later(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        began = await doubtful(world)
        world.carrier.listed, world.carrier.away = [listed(began)], True
        evidence = evidence_of(world)
        await world.shift(6)
        assert await evidence.look() == 0
        assert await evidence.look() == 0
        looks = await world.rows("select number from audit where step = 'looked'")
        assert len(looks) == 1  # not at every sweep
        world.carrier.away = False
        await world.shift(15)
        assert await evidence.look() == 1
        assert (await world.states())["a"] == "sent"


async def test_it_is_looked_for_ever_more_seldom_and_once_more_before_the_end(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        began = await doubtful(world)
        evidence = evidence_of(world)
        for _ in range(70):
            await world.shift(60)
            await evidence.look()
            if not await world.rows("select from messages where settle_by > gateway_now()"):
                break
        looks = [row["at"] for row in await world.rows("select at from audit where step = 'looked' order by at")]
        assert 5 <= len(looks) <= 14
        assert began + timedelta(seconds=3500) <= looks[-1] <= began + timedelta(seconds=3700)


async def test_without_evidence_in_time_it_ends_and_a_late_callback_corrects_it(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        began = await doubtful(world)
        evidence, rescue = (
            evidence_of(world),
            Rescue(world.parts.watch, world.parts.ledger, world.parts.metrics, world.parts.horizons),
        )
        await world.shift(3601)
        await evidence.look()
        assert await rescue.without_news() == 1
        assert await told(world, "a") == [
            ("accepted", 1, False, False),
            ("unknown", 2, False, False),
            ("unknown", 3, True, False),
        ]
        world.carrier.listed = [listed(began)]
        await world.shift(7200)
        assert await evidence.look() == 0  # settled: nothing is looked for any more
        row = (await world.rows("select uid, attempt from messages"))[0]
        assert await world.parts.receipts().receive(receipt_of(SimpleNamespace(**row), "sent", SID)) == "changed"
        assert (await told(world, "a"))[-1] == ("sent", 4, True, True)


async def test_evidence_after_a_callback_changes_nothing(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        began = await doubtful(world)
        row = (await world.rows("select uid, attempt from messages"))[0]
        assert await world.parts.receipts().receive(receipt_of(SimpleNamespace(**row), "delivered", SID)) == "changed"
        world.carrier.listed = [listed(began)]
        await world.shift(6)
        assert await evidence_of(world).look() == 0
        assert (await told(world, "a"))[-1] == ("delivered", 3, True, False)


async def test_a_doubt_of_an_account_that_is_gone_stops_nobody(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await doubtful(world)
        await world.shift(6)
        assert await evidence_of(world, lists={}).look() == 0
        assert (await world.states())["a"] == "unknown"


async def test_a_text_of_a_rescued_request_is_found(database_url: str, tmp_path: Path) -> None:
    """Of a worker that was killed only the mark is known: its request may have begun until its lease had too little left."""
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        hands = Hands(world)
        await hands.mark(await hands.claim())
        marked = (await world.rows("select marked_at from queue"))[0]["marked_at"]
        await world.shift(11)
        await Rescue(world.parts.watch, world.parts.ledger, world.parts.metrics, world.parts.horizons).claims()
        world.carrier.listed = [listed(marked + timedelta(seconds=8))]
        await world.shift(6)
        assert await evidence_of(world).look() == 1


async def test_an_account_that_forgets_what_it_sent_is_not_asked(database_url: str, tmp_path: Path) -> None:
    """Its list shows other numbers or no text: what seems to match would be somebody else's."""
    async with open_world(database_url, tmp_path) as world:
        world.carrier.lists_sent = False
        began = await doubtful(world)
        world.carrier.listed = [listed(began + timedelta(seconds=1))]
        await world.shift(6)
        assert await evidence_of(world).look() == 0
        assert (await world.states())["a"] == "unknown"
