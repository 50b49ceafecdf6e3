"""What people text: STOP, START, YES, HELP and everything else, and how far each reaches."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.errors import BadWebhook, GatewayError, StoreUnavailable
from gateway.domain.events import InboundEvent
from gateway.domain.outcome import Accepted
from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.domain.reports import InboundText
from gateway.flow.stop import OptOut, Stop
from gateway.flow.vault import Vault
from tests.integration.hands import Hands, settle_by_hand
from tests.integration.world import Carrier, World, open_world
from tests.support import until

PERSON = "+12025550101"
CLINIC, OFFERS, ORDERS = "+12125550120", "+14155550110", "+14155550111"
TOLL_FREE, SHARED, SERVICE = "+18885550130", "+14155550140", "MG" + "a" * 32

MORE = """
tenant: club
name: The Club
languages: [en, fr]
providers: [twilio]
region: US
opt_out: {{scope: sender}}
programmes:
  news:
    categories: [service]
    senders: [{{number: "{SERVICE}", account: main}}]
    help_contact: help@club.example
  toll:
    categories: [service]
    senders: [{{number: "{TOLL_FREE}", account: main}}]
    help_contact: help@club.example
  shared:
    categories: [service]
    senders: [{{number: "{SHARED}", account: main}}]
    help_contact: help@club.example
"""
PARTNER = """
tenant: partner
name: The Partner
languages: [en]
providers: [twilio]
region: US
opt_out: {{scope: sender}}
programmes:
  shared:
    categories: [service]
    senders: [{{number: "{SHARED}", account: main}}]
    help_contact: help@partner.example
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    for name, text in (("club", MORE), ("partner", PARTNER)):
        filled = text.format(SERVICE=SERVICE, TOLL_FREE=TOLL_FREE, SHARED=SHARED)
        (tmp_path / "policies" / f"{name}.yaml").write_text(filled)
    return tmp_path


async def consents(world: World) -> set[tuple[str, str, str, str, bool]]:
    rows = await world.rows("select tenant, scope, name, status, in_force_at is not null as in_force from consents")
    return {(row["tenant"], row["scope"], row["name"], row["status"], row["in_force"]) for row in rows}


async def answers(world: World) -> list[tuple[str, str]]:
    """The gateway's own answers, as (kind, text)."""
    rows = await world.rows(
        "select m.uid, m.tenant, m.kind, b.sealed from messages m join bodies b using (uid) where m.kind <> 'outbound' order by m.uid"
    )
    return [(row["kind"], world.parts.vault.open_body(row["tenant"], row["uid"], row["sealed"]).reveal()) for row in rows]


@pytest.mark.parametrize("said", ["STOP", "stop", " Stop. ", "UNSUBSCRIBE", "cancel", "opt-out", "STOP ALL", "Baja", "ARRÊT"])
async def test_a_stop_is_in_force_when_it_is_answered(database_url: str, folder: Path, said: str) -> None:
    async with open_world(database_url, folder) as world:
        await world.publish(message_id="a")
        assert await world.receive(said) == "stop"
        assert await consents(world) == {("clinic", "tenant", "", "out", True)}
        assert (await world.states())["a"] == "blocked"


@pytest.mark.parametrize(
    "to, expected",
    [
        (CLINIC, ("clinic", "tenant", "")),
        (OFFERS, ("shop", "programme", "offers")),
        (TOLL_FREE, ("club", "sender", TOLL_FREE)),
        (SHARED, ("*", "all", "")),  # two tenants use it
        ("+14155550199", ("*", "all", "")),  # no policy knows it
    ],
)
async def test_how_far_a_stop_reaches(database_url: str, folder: Path, to: str, expected: tuple[str, str, str]) -> None:
    async with open_world(database_url, folder) as world:
        assert await world.receive("STOP", to=to) == "stop"
        assert await consents(world) == {(*expected, "out", True)}


async def test_a_stop_to_a_service_covers_the_service(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        text = InboundText("main", "SM" + "1" * 32, PhoneNumber(PERSON), "+14155550177", SERVICE, MessageBody("STOP"), None, None)
        assert await world.parts.replies().receive(text) == "stop"
        assert await consents(world) == {("club", "sender", SERVICE, "out", True)}
        await world.publish(message_id="a", tenant="club", programme="news")
        await world.publish(message_id="b", tenant="club", programme="toll")
        assert await world.states() == {"a": "blocked", "b": "accepted"}


async def test_a_stop_and_a_start_to_a_number_of_a_service_count_for_both(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        stop = replace(world.inbound("STOP", to=OFFERS), service=SERVICE)
        assert [await world.parts.replies().receive(stop) for _ in range(2)] == ["stop", "stop"]
        both = {("club", "sender", SERVICE), ("shop", "programme", "offers")}
        assert await consents(world) == {(*key, "out", True) for key in both}
        await world.publish(message_id="a", tenant="club", programme="news")
        await world.publish(message_id="b", tenant="shop", programme="offers")
        assert await world.states() == {"a": "blocked", "b": "blocked"}
        start = replace(world.inbound("START", to=OFFERS), service=SERVICE)
        world.carrier.created[start.provider_message_id] = datetime.now(UTC) + timedelta(seconds=8)
        assert await world.parts.replies().receive(start) == "start"
        assert await world.parts.replies().receive(stop) == "repeated"  # late, and not said again
        assert await consents(world) == {(*key, "in", False) for key in both}


async def test_of_all_that_a_stop_covers_nothing_waits_to_be_written_for_a_request_of_another_part(
    database_url: str, folder: Path
) -> None:
    """A lease, and then another lease, are more than a webhook has; and messages of the other part would begin meanwhile."""
    async with open_world(database_url, folder) as world:
        stop = replace(world.inbound("STOP", to=OFFERS), service=SERVICE)
        keys = [("club", "sender", SERVICE), ("shop", "programme", "offers")]
        await world.publish(message_id="begun", tenant="shop", programme="offers")
        hands = Hands(world)
        (claimed,) = await hands.claim()
        await hands.mark([claimed])
        await world.publish(message_id="waits", tenant="club", programme="news")
        heeding = asyncio.create_task(world.parts.replies().receive(stop))

        async def blocked() -> bool:
            return (await world.states())["waits"] == "blocked"

        await until(blocked, 5)
        assert await consents(world) == {(*key, "out", False) for key in keys}
        await settle_by_hand(world, claimed, Accepted(world.carrier.new_id(), 1))
        assert await heeding == "stop"
        assert await consents(world) == {(*key, "out", True) for key in keys}


async def test_a_stop_counts_although_its_answer_cannot_be_made(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        await world.publish(message_id="a")

        class Full:
            def seal(self, *_: object) -> bytes:
                raise GatewayError("key ring: no space left on device")

            def open(self, *_: object) -> bytes:
                raise AssertionError

        world.parts.vault = Vault(Full())
        assert await world.receive("STOP") == "stop"
        assert await consents(world) == {("clinic", "tenant", "", "out", True)}
        assert await answers(world) == []


async def test_a_stop_leaves_alone_what_it_does_not_cover(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        await world.publish(message_id="offers", tenant="shop", programme="offers")
        await world.publish(message_id="orders", tenant="shop", programme="orders")
        await world.publish(message_id="clinic")
        await world.publish(message_id="neighbour", tenant="shop", programme="offers", to="+12025550102")
        assert await world.receive("STOP", to=OFFERS) == "stop"
        expected = {"offers": "blocked", "orders": "accepted", "clinic": "accepted", "neighbour": "accepted"}
        assert await world.states() == expected
        assert await world.receive("STOP", to="+14155550199") == "stop"
        assert await world.states() == expected | {"orders": "blocked", "clinic": "blocked"}


async def test_a_stop_to_a_shared_sender_is_told_to_every_tenant_that_knows_the_person(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        await world.publish(message_id="a", tenant="club", programme="shared", recipient_ref="member-7")
        await world.publish(message_id="b", tenant="partner", programme="shared", recipient_ref="client-9")
        assert await world.receive("STOP", to=SHARED) == "stop"
        rows = await world.rows("select * from outbox where kind = 'consent' order by tenant")
        events = [json.loads(row["payload"]) for row in rows]
        opened = world.parts.vault.open_recipient
        names = [opened(row["tenant"], row["recipient_uid"], row["recipient_sealed"]) for row in rows]
        assert [(row["tenant"], name, event["scope"]) for row, name, event in zip(rows, names, events, strict=True)] == [
            ("club", "member-7", "all"), ("partner", "client-9", "all"),
        ]  # fmt: skip
        assert len({event["person"] for event in events}) == 2  # two tenants cannot match theirs
        assert all(event["final"] and event["in_force_at"] for event in events)


async def test_a_text_for_another_accounts_sender_is_refused(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        text = InboundText("other", "SM" + "1" * 32, PhoneNumber(PERSON), CLINIC, None, MessageBody("STOP"), None, None)
        with pytest.raises(BadWebhook):
            await world.parts.replies().receive(text)
        assert await consents(world) == set()


async def test_an_old_way_of_writing_a_number_is_the_same_person(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        await world.publish(message_id="a", to="+525512345678")
        assert await world.receive("STOP", sender="+5215512345678") == "stop"
        assert (await world.states())["a"] == "blocked"


# -- what is under way -----------------------------------------------------------------------------------------------------------


async def test_what_is_claimed_is_blocked_and_what_is_marked_is_waited_for(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        hands = Hands(world)
        await world.publish(message_id="marked")
        marked = await hands.claim()
        await hands.mark(marked)
        await world.publish(message_id="claimed", tenant="shop", programme="orders")
        claimed = await hands.claim()
        await world.publish(message_id="waiting")
        assert [len(marked), len(claimed)] == [1, 1]

        stop = Stop(world.parts.consents, world.parts.policies.sender_map(), world.parts.metrics, wait=0.05)
        key = ConsentKey(world.parts.hasher.subject_id(PhoneNumber(PERSON)), "*", Scope.ALL)
        result = await stop.opt_out(OptOut(key, "api", None, actor="test"))
        assert result is not None
        assert not result.in_force
        assert await world.states() == {"marked": "sending", "claimed": "blocked", "waiting": "blocked"}
        assert await hands.mark(claimed) == []  # nothing of it goes on the wire
        assert await world.rows("select * from outbox where kind = 'consent'") == []

        assert await stop.finish_pending() == 0
        await settle_by_hand(world, marked[0], Accepted("SM" + "1" * 32, 1))
        assert await stop.finish_pending() == 1
        assert await consents(world) == {("*", "all", "", "out", True)}
        assert (await world.states())["marked"] == "sent"


async def test_a_lost_workers_request_is_waited_for_no_longer_than_its_lease(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        hands = Hands(world)
        await world.publish(message_id="a")
        await hands.mark(await hands.claim())
        stopping = asyncio.create_task(world.receive("STOP"))
        await until(lambda: world.rows("select * from consents"))
        await world.shift(9)
        assert not stopping.done()
        await world.shift(1.5)
        assert await asyncio.wait_for(stopping, 5) == "stop"
        assert await consents(world) == {("clinic", "tenant", "", "out", True)}


async def test_a_sweep_that_finds_postgresql_away_for_one_stop_puts_the_others_in_force_and_says_so(
    database_url: str, folder: Path
) -> None:
    async with open_world(database_url, folder) as world:
        stop = Stop(world.parts.consents, world.parts.policies.sender_map(), world.parts.metrics, wait=0.0)
        keys = [ConsentKey(bytes([number]) * 16, "clinic", Scope.TENANT) for number in (1, 2, 3)]
        for key in keys:
            await world.parts.consents.write(OptOut(key, "api", None, actor="test"))
        block = world.parts.consents.block

        async def away(key: ConsentKey) -> Any:
            if key == keys[0]:
                raise StoreUnavailable("away")
            return await block(key)

        world.parts.consents.block = away  # type: ignore[method-assign] # PostgreSQL goes away between two statements
        with pytest.raises(StoreUnavailable):
            await stop.finish_pending()
        world.parts.consents.block = block  # type: ignore[method-assign] # as it was before
        rows = await world.rows("select in_force_at is not null as in_force from consents order by subject_id")
        assert [row["in_force"] for row in rows] == [False, True, True]
        assert await stop.finish_pending() == 1


async def test_the_sweep_finishes_a_stop_whose_process_died(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        await world.publish(message_id="a")
        replies, text = world.parts.replies(), world.inbound("STOP")
        write = world.parts.consents.write

        async def then_dies(opt_out: OptOut) -> Any:
            await write(opt_out)
            raise asyncio.CancelledError

        world.parts.consents.write = then_dies  # type: ignore[method-assign] # a process that dies after its first transaction
        with pytest.raises(asyncio.CancelledError):
            await replies.receive(text)
        world.parts.consents.write = write  # type: ignore[method-assign] # as it was before
        assert await consents(world) == {("clinic", "tenant", "", "out", False)}
        assert (await world.states())["a"] == "accepted"
        assert [await hand_ids(world)] == [[]]  # written is enough for the claim
        assert await answers(world) == []  # the confirmation goes only when it is in force

        assert await world.parts.stop.finish_pending() == 1
        assert await world.parts.stop.finish_pending() == 0
        assert await consents(world) == {("clinic", "tenant", "", "out", True)}
        assert (await world.states())["a"] == "blocked"
        assert [kind for kind, _ in await answers(world)] == ["confirmation"]
        assert await replies.receive(text) == "stop"  # the provider's repeat
        assert len(await answers(world)) == 1
        assert len(await world.rows("select * from outbox where kind = 'consent'")) == 1


async def hand_ids(world: World) -> list[str]:
    hands = Hands(world)
    return await hands.ids(await hands.claim())


# -- confirmations and HELP ------------------------------------------------------------------------------------------------------


async def test_one_stop_is_confirmed_once_however_often_it_is_texted(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder, GATEWAY_DATABASE_POOL="12") as world:
        same = world.inbound("STOP")
        replies = world.parts.replies()
        fates = await asyncio.gather(*(replies.receive(same) for _ in range(4)), *(world.receive("STOP") for _ in range(4)))
        assert set(fates) == {"stop"}
        assert [kind for kind, _ in await answers(world)] == ["confirmation"]
        assert len(await world.rows("select * from outbox where kind = 'consent'")) == 1
        assert len(await world.rows("select * from audit where step = 'opt_out_in_force'")) == 1
        async with world.sending():
            await until(lambda: world.carrier.sent)
        assert "The Clinic" in world.carrier.sent[0].body.reveal()
        assert world.carrier.sent[0].sender == CLINIC
        assert world.carrier.sent[0].to.reveal() == PERSON


@pytest.mark.parametrize("kind", ["STOP", "START", "HELP"])
async def test_what_the_provider_has_answered_is_not_answered_again(database_url: str, folder: Path, kind: Any) -> None:
    async with open_world(database_url, folder) as world:
        assert await world.receive("please", replied=kind) == kind.lower()
        assert await answers(world) == []
        assert len(await consents(world)) == (0 if kind == "HELP" else 1)


async def test_what_says_stop_is_a_stop_whatever_the_provider_took_it_for(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        assert await world.receive("STOP", replied="START") == "stop"
        assert {row[3] for row in await consents(world)} == {"out"}


async def test_a_stop_to_a_toll_free_number_is_confirmed_by_the_network(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        assert await world.receive("STOP", to=TOLL_FREE) == "stop"
        assert await answers(world) == []
        assert await world.receive("HELP", to=TOLL_FREE) == "help"
        assert [kind for kind, _ in await answers(world)] == ["help"]


async def test_nobody_answers_for_a_sender_that_nobody_knows(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        assert await world.receive("STOP", to="+14155550199") == "stop"
        assert await world.receive("HELP", to="+14155550199") == "help"
        assert await world.receive("Who is this?", to="+14155550199") == "other"
        assert await answers(world) == []
        assert await world.rows("select * from outbox where kind = 'inbound'") == []


async def test_help_is_answered_once_a_text_also_to_who_has_opted_out(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        assert await world.receive("STOP") == "stop"
        text = world.inbound("HELP")
        assert [await world.parts.replies().receive(text) for _ in range(3)] == ["help", "repeated", "repeated"]
        assert await world.receive("AIDE", to=TOLL_FREE) == "help"
        assert [kind for kind, _ in await answers(world)] == ["confirmation", "help", "help"]
        assert "pour toute aide" in (await answers(world))[2][1]
        await world.publish(message_id="a")
        async with world.sending():
            await until(lambda: len(world.carrier.sent) == 3)
        assert (await world.states())["a"] == "blocked"
        assert {text.to.reveal() for text in world.carrier.sent} == {PERSON}
        assert sum("help@clinic.example" in text.body.reveal() for text in world.carrier.sent) == 1


async def test_a_confirmation_that_is_late_is_not_sent(database_url: str, folder: Path) -> None:
    """It is presumed consented to within five minutes."""
    async with open_world(database_url, folder) as world:
        assert await world.receive("STOP") == "stop"
        await world.shift(301)
        assert await Hands(world).claim() == []


# -- START and YES ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "later, away, granted",
    [
        (timedelta(seconds=10), False, True),
        (timedelta(seconds=3), False, False),  # two clocks may differ by so much
        (timedelta(seconds=-5), False, False),  # a provider's late repeat of an old webhook
        (None, False, False),  # the provider knows no time
        (timedelta(seconds=10), True, False),  # the provider cannot be asked
    ],
)
async def test_a_start_undoes_a_stop_only_when_it_is_provably_later(
    database_url: str, folder: Path, later: timedelta | None, away: bool, granted: bool
) -> None:
    async with open_world(database_url, folder) as world:
        assert await world.receive("STOP") == "stop"
        await world.publish(message_id="before")
        stopped_at = (await world.rows("select stated_at from consents"))[0]["stated_at"]
        start = world.inbound("START")
        if later is not None:
            world.carrier.created[start.provider_message_id] = stopped_at + later
        world.carrier.away = away
        assert await world.parts.replies().receive(start) == "start"
        await world.publish(message_id="after")
        assert await world.states() == {"before": "blocked", "after": "accepted" if granted else "blocked"}
        assert {row[3] for row in await consents(world)} == {"in" if granted else "out"}
        assert [kind for kind, _ in await answers(world)] == ["confirmation", "welcome"][: 2 if granted else 1]
        assert await world.parts.replies().receive(start) == "repeated"


async def test_a_stop_after_a_start_stops_and_a_repeat_of_the_first_changes_nothing(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        first, start, second = world.inbound("STOP"), world.inbound("START"), world.inbound("STOP")
        replies = world.parts.replies()
        assert await replies.receive(first) == "stop"
        world.carrier.created[start.provider_message_id] = datetime.now(UTC) + timedelta(seconds=8)
        assert await replies.receive(start) == "start"
        assert await replies.receive(first) == "repeated"
        assert {row[3] for row in await consents(world)} == {"in"}
        await world.shift(10)
        assert await replies.receive(second) == "stop"
        assert await replies.receive(start) == "repeated"
        assert await consents(world) == {("clinic", "tenant", "", "out", True)}
        rows = await world.rows("select payload from outbox where kind = 'consent' order by id")
        events = [json.loads(row["payload"]) for row in rows]
        assert [(event["status"], event["version"]) for event in events] == [("out", 1), ("in", 2), ("out", 3)]
        assert len({event["person"] for event in events}) == 1
        assert [kind for kind, _ in await answers(world)] == ["confirmation", "welcome", "confirmation"]


async def test_an_older_start_is_no_match_for_a_repeated_stop(database_url: str, folder: Path) -> None:
    """Of an opt-out that stands the moment moves on: START must be later than the last STOP."""
    async with open_world(database_url, folder) as world:
        assert await world.receive("STOP") == "stop"
        await world.shift(60)
        assert await world.receive("STOP") == "stop"
        start = world.inbound("START")
        world.carrier.created[start.provider_message_id] = datetime.now(UTC) + timedelta(seconds=30)
        assert await world.parts.replies().receive(start) == "start"
        assert {row[3] for row in await consents(world)} == {"out"}


async def test_yes_is_an_opt_in_only_from_who_has_opted_out(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        await world.publish(message_id="question", body="Shall we confirm your visit? Reply YES.")
        assert await world.receive("YES") == "other"  # an answer for the tenant, no opt-in
        assert await consents(world) == set()
        assert len(await world.rows("select * from outbox where kind = 'inbound'")) == 1
        assert await world.receive("STOP") == "stop"
        yes = world.inbound("Yes")
        world.carrier.created[yes.provider_message_id] = datetime.now(UTC) + timedelta(seconds=8)
        assert await world.parts.replies().receive(yes) == "start"
        assert {row[3] for row in await consents(world)} == {"in"}
        assert await world.parts.replies().receive(yes) == "repeated"


async def test_yes_is_no_opt_in_either_where_the_provider_takes_it_for_a_start(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        assert await world.receive("YES", to=OFFERS, replied="START") == "other"
        assert await consents(world) == set()
        assert await world.receive("STOP", to=OFFERS) == "stop"
        yes = world.inbound("YES", to=OFFERS, replied="START", created_at=datetime.now(UTC) + timedelta(seconds=8))
        assert await world.parts.replies().receive(yes) == "start"
        assert {row[3] for row in await consents(world)} == {"in"}


async def test_a_start_whose_time_nobody_knows_changes_nothing_anywhere(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        assert await world.receive("STOP") == "stop"  # of another tenant
        start = world.inbound("START", to=OFFERS)
        assert [await world.parts.replies().receive(start) for _ in range(2)] == ["start", "repeated"]
        assert await consents(world) == {("clinic", "tenant", "", "out", True)}
        assert [row["fate"] for row in await world.rows("select fate from inbound order by fate")] == ["start_not_proven", "stop"]


async def test_yes_to_a_toll_free_number_undoes_nothing(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        assert await world.receive("STOP", to=TOLL_FREE) == "stop"
        yes = world.inbound("YES", to=TOLL_FREE)
        world.carrier.created[yes.provider_message_id] = datetime.now(UTC) + timedelta(seconds=8)
        assert await world.parts.replies().receive(yes) == "other"
        assert {row[3] for row in await consents(world)} == {"out"}


async def test_a_start_from_someone_who_never_stopped_is_an_opt_in(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        assert await world.receive("START", to=OFFERS) == "start"
        assert await consents(world) == {("shop", "programme", "offers", "in", False)}
        await world.publish(message_id="a", tenant="shop", programme="offers", category="marketing")
        assert await world.states() == {"a": "accepted"}


# -- everything else -------------------------------------------------------------------------------------------------------------


async def test_other_texts_are_the_tenants_to_read_and_sealed_until_then(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder, Carrier(name="carrier")) as world:
        await world.publish(message_id="a", recipient_ref="patient-1")
        text = world.inbound("Can I come at ten instead?")
        assert [await world.parts.replies().receive(text) for _ in range(2)] == ["other", "repeated"]
        row = (await world.rows("select * from outbox where kind = 'inbound'"))[0]
        assert b"ten" not in row["payload"]
        assert PERSON.encode() not in row["payload"]
        event = InboundEvent.model_validate_json(world.parts.vault.open_payload("clinic", "inbound", row["uid"], row["payload"]))
        assert (event.number.reveal(), event.body.reveal()) == (PERSON, "Can I come at ten instead?")
        assert (event.recipient_ref, event.programme, event.sender) == ("patient-1", "visits", CLINIC)
        assert (event.provider, event.account) == ("carrier", "main")
        assert await answers(world) == []


async def test_a_text_to_a_shared_sender_is_for_who_texted_last(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        await world.publish(message_id="a", tenant="club", programme="shared")
        await world.publish(message_id="b", tenant="partner", programme="shared", recipient_ref="client-9")
        assert await world.receive("Hello?", to=SHARED) == "other"
        assert await world.receive("Hello?", to=SHARED, sender="+12025550177") == "other"  # nobody texted them
        rows = await world.rows("select * from outbox where kind = 'inbound'")
        assert [row["tenant"] for row in rows] == ["partner"]


async def test_with_postgresql_away_nothing_is_answered(database_url: str, folder: Path) -> None:
    async with open_world(database_url, folder) as world:
        replies = world.parts.replies()
        await world.parts.database.close()
        with pytest.raises(StoreUnavailable):
            await replies.receive(world.inbound("STOP"))
        await world.parts.database.open()
        assert await consents(world) == set()
