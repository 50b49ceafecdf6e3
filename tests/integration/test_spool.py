"""The spool, on a real PostgreSQL that goes away and a real broker: what is written there is applied before anything is claimed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.app.accounts import Closers, accounts_of
from gateway.app.kafka import broker_address
from gateway.app.preflight import NotReady, check_servers
from gateway.bus.producer import EventPublisher
from gateway.bus.spool import SpoolSource
from gateway.bus.topics import TopicSpec, apply
from gateway.crypto.bearer import token_hash
from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.errors import BrokerUnavailable, StoreUnavailable, Unavailable
from gateway.domain.personal import PhoneNumber
from gateway.domain.phone import normal_form
from gateway.domain.publishing import OutEvent
from gateway.domain.spooled import SpooledStop, encode
from gateway.embedded.postgres import EmbeddedPostgres
from gateway.flow.catch_up import CatchUp
from gateway.flow.conversation import OptIn
from gateway.flow.spool_applier import SpoolApplier
from gateway.flow.spooling import READING_COUNTS, Spooling, SpoolingReplies, SpoolingRequests
from gateway.store.migrate import migrate
from gateway.web.api import Api
from gateway.web.grants import Bearers
from gateway.web.room import Room
from tests.integration.hands import Hands
from tests.integration.world import World, open_world
from tests.support import free_port, until

PERSON, OTHER = "+12025550101", "+12025550102"
OFFERS = "+14155550110"


@dataclass
class Spooled:
    """A world with a spool. ``opened`` makes another process of the same gateway."""

    world: World
    applier: SpoolApplier
    spooling: Spooling
    publisher: EventPublisher
    topic: str

    @property
    def replies(self) -> SpoolingReplies:
        return SpoolingReplies(self.world.parts.replies(), self.spooling)

    @property
    def requests(self) -> SpoolingRequests:
        return SpoolingRequests(self.world.parts.requests("api"), self.spooling)

    async def cut_off(self) -> None:
        """From here on this process does not reach PostgreSQL."""
        await self.world.parts.database.close()

    async def claims(self) -> list[str]:
        hands = Hands(self.world)
        return sorted(await hands.ids(await hands.claim()))

    async def claims_after_reading(self) -> list[str]:
        """What is claimed once the spool was read, however slow the machine is: a reading counts for five seconds."""

        async def once() -> list[str]:
            assert await self.applier.once()
            return await self.claims()

        return await until(once, 30)

    async def put(self, value: bytes) -> None:
        await self.publisher.publish([OutEvent(self.topic, b"k", (), value)])

    async def records(self) -> list[bytes]:
        source = SpoolSource(broker_address(self.world.parts.settings), self.topic, on_gap=_no_gap)
        _, end = await source.bounds()
        found = await source.read(0, 100) if end else ([], 0)
        await source.close()
        return [record.value or b"" for record in found[0]]

    async def consents(self) -> list[tuple[str, str, str, int]]:
        rows = await self.world.rows("select tenant, scope, status, version from consents order by tenant, scope, name")
        return [(row["tenant"], row["scope"], row["status"], row["version"]) for row in rows]


async def _no_gap(gap: object) -> None:
    raise AssertionError(gap)


Open = Callable[..., Any]


@pytest.fixture
def opened(tmp_path: Path, broker: str, unique: str) -> Open:
    topic = f"{unique}.spool"

    @asynccontextmanager
    async def open_(database_url: str, *, answer_after: float = 0.0, servers: str = broker) -> AsyncIterator[Spooled]:
        kafka = {
            "GATEWAY_KAFKA__SERVERS": servers,
            "GATEWAY_KAFKA__IDEMPOTENT": "false",
            "GATEWAY_KAFKA__TOPICS__STOP_SPOOL": topic,
        }
        async with open_world(database_url, tmp_path, None, **kafka) as world:
            parts = world.parts
            address = broker_address(parts.settings)
            if servers == broker:
                await apply(address, [TopicSpec(topic, 1)])
            publisher = EventPublisher(address, idempotent=False)
            spooling = Spooling(publisher, topic, parts.ring.fingerprint(), parts.vault, parts.metrics, answer_after=answer_after)
            applier = parts.spool_applier(topic)
            try:
                yield Spooled(world, applier, spooling, publisher, topic)
            finally:
                await publisher.stop()
                await applier.source.close()

    return open_


async def test_a_stop_during_an_outage_is_applied_before_anything_is_claimed(
    own_postgres: EmbeddedPostgres, opened: Open
) -> None:
    await migrate(own_postgres.url)
    async with opened(own_postgres.url, answer_after=READING_COUNTS * 1.1) as one:
        world = one.world
        await world.publish(message_id="stopped")
        await world.publish(message_id="other", to=OTHER)
        assert await one.applier.once()
        text = world.inbound("Stop!")
        own_postgres.stop()
        assert await one.replies.receive(text) == "spooled"
        for said in ("START", "HELP", "I am late"):
            with pytest.raises(StoreUnavailable):
                await one.replies.receive(world.inbound(said, sender=OTHER))
        own_postgres.start()
        assert await until(lambda: answers(world), 20)
        assert await one.claims() == []
        assert await one.claims_after_reading() == ["other"]
        assert (await world.states())["stopped"] == "blocked"
        assert await world.parts.stop.finish_pending() in (0, 1)
        before = await world.rows("select * from consents")
        assert [(row["status"], row["in_force_at"] is not None) for row in before] == [("out", True)]
        await one.replies.receive(text)  # the provider's own repeat
        assert await world.rows("select status, version, in_force_at from consents") == [
            {name: row[name] for name in ("status", "version", "in_force_at")} for row in before
        ]
        kinds = await world.rows("select kind from messages where kind <> 'outbound'")
        assert [row["kind"] for row in kinds] == ["confirmation"]


async def answers(world: World) -> bool:
    try:
        return await world.parts.control.ready()
    except StoreUnavailable:
        return False


async def test_a_web_that_is_cut_off_alone_holds_up_claims_by_the_time_it_answers(database_url: str, opened: Open) -> None:
    """The worker reaches PostgreSQL all the time: the reading from before counts no more, and the next finds the STOP."""
    async with opened(database_url) as worker, opened(database_url) as web:
        await worker.world.publish(message_id="stopped")
        assert await worker.applier.once()
        await web.cut_off()
        assert await web.replies.receive(web.world.inbound("STOP")) == "spooled"
        await worker.world.shift(READING_COUNTS)  # as long as the answer waits, less the tenth
        assert await worker.claims() == []
        assert await worker.applier.once()
        assert await worker.claims() == []
        assert await worker.world.states() == {"stopped": "blocked"}


async def test_nothing_is_claimed_or_marked_without_a_reading(database_url: str, opened: Open) -> None:
    async with opened(database_url) as one:
        hands = Hands(one.world, lease=120)

        async def after_reading(step: Callable[[], Any]) -> Any:
            assert await one.applier.once()
            return await step()

        await one.world.publish(message_id="a")
        assert await one.claims() == []  # never read
        claimed = await until(lambda: after_reading(hands.claim), 30)
        assert await hands.ids(claimed) == ["a"]
        await one.world.shift(READING_COUNTS)
        assert await hands.mark(claimed) == []
        assert len(await until(lambda: after_reading(lambda: hands.mark(claimed)), 30)) == 1


async def test_a_spool_that_cannot_be_read_counts_as_full(database_url: str, opened: Open) -> None:
    async with opened(database_url, servers=f"127.0.0.1:{free_port()}") as one:
        await one.world.publish(message_id="a")
        with pytest.raises(BrokerUnavailable):
            await one.applier.once()
        assert await one.claims() == []


async def test_a_connection_that_takes_longer_than_a_reading_may_is_made_and_then_read_by(
    database_url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that is busy: the limit of a question does not throw a connection away that is being made for it."""
    limit = 1.0
    monkeypatch.setattr("gateway.bus.spool._LIMIT_SECONDS", limit)
    async with opened(database_url) as one:
        await one.world.publish(message_id="a")
        connected = SpoolSource._connected

        async def slow(source: SpoolSource) -> Any:
            if source._consumer is None:
                await asyncio.sleep(limit * 1.1)  # the time itself is what is tried
            return await connected(source)

        monkeypatch.setattr(SpoolSource, "_connected", slow)

        async def read() -> bool:
            try:
                return bool(await one.applier.once())
            except BrokerUnavailable:
                return False

        assert await until(read, 30)


async def test_a_reading_counts_from_before_the_end_was_asked_for(database_url: str, opened: Open) -> None:
    """An applier that sleeps between the end of the topic and the writing down of its reading says nothing of what came meanwhile."""
    async with opened(database_url) as one:
        place, bounds = one.applier.place, one.applier.source.bounds

        async def slow() -> tuple[int, int]:
            found: tuple[int, int] = await bounds()
            await one.world.shift(READING_COUNTS)
            return found

        one.applier.source.bounds = slow
        await one.world.publish(message_id="a")
        assert await one.applier.once()
        assert await one.claims() == []
        assert (await place.look()).next_offset == 0


@pytest.mark.parametrize("catch_up_first", [True, False])
async def test_a_text_that_two_webs_spool_and_the_list_tells_of_counts_once(
    database_url: str, opened: Open, catch_up_first: bool
) -> None:
    async with opened(database_url) as worker, opened(database_url) as web, opened(database_url) as another:
        for one in (web, another):
            await one.cut_off()
        text = web.world.inbound("STOP")
        assert await web.replies.receive(text) == "spooled"
        assert await another.replies.receive(text) == "spooled"
        worker.world.carrier.inbound.append(replace(text, created_at=datetime.now(UTC) - timedelta(minutes=1)))
        catch_up: CatchUp = worker.world.parts.catch_up()
        steps = [catch_up.ensure, worker.applier.once]
        for step in steps if catch_up_first else reversed(steps):
            assert await step()
        assert len(await worker.records()) == 2
        assert await worker.consents() == [("clinic", "tenant", "out", 1)]
        assert len(await worker.world.rows("select * from inbound")) == 1
        await worker.world.parts.stop.finish_pending()
        assert len(await worker.world.rows("select * from messages")) == 1  # one confirmation


async def spool_both(web: Spooled) -> None:
    """A STOP by text, of one person, and by API, of another."""
    await web.cut_off()
    assert await web.replies.receive(web.world.inbound("STOP")) == "spooled"
    result = await web.requests.opt_out("clinic", PhoneNumber(OTHER), Scope.TENANT, "", "backend")
    assert not result.in_force


async def test_a_record_that_is_applied_again_after_a_start_changes_nothing(database_url: str, opened: Open) -> None:
    """The applier was killed between the opt-out and the offset, and meanwhile both have come back."""
    async with opened(database_url) as worker, opened(database_url) as web:
        await spool_both(web)
        assert await worker.applier.once()
        assert await worker.consents() == [("clinic", "tenant", "out", 1)] * 2
        later = await worker.world.parts.ledger.now() + timedelta(seconds=1)
        for number in (PERSON, OTHER):
            key = ConsentKey(worker.world.parts.hasher.subject_id(PhoneNumber(number)), "clinic", Scope.TENANT)
            assert await worker.world.parts.consents.opt_in(OptIn(key, "api", later, actor="test")) == "granted"
        await worker.world.rows("update spool set next_offset = 0")
        assert await worker.applier.once()
        assert await worker.consents() == [("clinic", "tenant", "in", 2)] * 2
        assert (await worker.applier.place.look()).next_offset == 2


async def test_what_was_not_applied_is_not_passed(database_url: str, opened: Open) -> None:
    """PostgreSQL goes away between the reading and the opt-out: the offset stays, and the next reading applies it."""
    async with opened(database_url) as first, opened(database_url) as second, opened(database_url) as web:
        assert await second.applier.once()
        await spool_both(web)
        bounds = first.applier.source.bounds

        async def lost() -> tuple[int, int]:
            found: tuple[int, int] = await bounds()
            await first.cut_off()
            return found

        first.applier.source.bounds = lost
        with pytest.raises(StoreUnavailable):
            await first.applier.once()
        assert (await second.applier.place.look()).next_offset == 0
        assert await second.consents() == []
        assert await second.applier.once()
        assert await second.consents() == [("clinic", "tenant", "out", 1)] * 2


async def test_a_process_that_is_gone_once_the_offset_moved_leaves_nothing_unapplied(database_url: str, opened: Open) -> None:
    async with opened(database_url) as first, opened(database_url) as second, opened(database_url) as web:
        assert await second.applier.once()
        await spool_both(web)
        advance = first.applier.place.advance

        async def last(before: int | None, after: int) -> bool:
            moved: bool = await advance(before, after)
            await first.cut_off()
            return moved

        first.applier.place.advance = last
        with pytest.raises(StoreUnavailable):
            await first.applier.once()
        assert await second.applier.once()
        assert await second.consents() == [("clinic", "tenant", "out", 1)] * 2


async def test_without_kafka_a_stop_is_answered_later_and_found_in_the_list(database_url: str, opened: Open) -> None:
    async with opened(database_url, servers=f"127.0.0.1:{free_port()}") as web, opened(database_url) as worker:
        await web.cut_off()
        text = web.world.inbound("STOP")
        with pytest.raises(Unavailable):
            await web.replies.receive(text)
        worker.world.carrier.inbound.append(replace(text, created_at=datetime.now(UTC)))
        assert await worker.world.parts.catch_up().ensure()
        assert await worker.consents() == [("clinic", "tenant", "out", 1)]


async def test_a_text_to_a_number_that_no_policy_knows_takes_the_widest_scope(database_url: str, opened: Open) -> None:
    async with opened(database_url) as worker, opened(database_url) as web:
        await web.cut_off()
        assert await web.replies.receive(web.world.inbound("STOP", to="+12025550199")) == "spooled"
        assert await web.replies.receive(web.world.inbound("PARAR", to=OFFERS, sender=OTHER)) == "spooled"
        assert await worker.applier.once()
        assert await worker.consents() == [("*", "all", "out", 1), ("shop", "programme", "out", 1)]


async def test_what_can_never_be_applied_is_parked_and_holds_nothing_up(database_url: str, opened: Open) -> None:
    async with opened(database_url) as one:
        world = one.world
        key = (ConsentKey(b"\1" * 16, "clinic", Scope.TENANT),)
        ring = world.parts.ring.fingerprint()
        event_id = (await one.world.rows("select gen_random_uuid() as id"))[0]["id"]
        await one.put(b"\xff not JSON")
        await one.put(encode(SpooledStop(event_id, "another", "api", "x", key)))
        await one.put(encode(SpooledStop(event_id, ring, "api", "x\0y", key)))  # PostgreSQL takes no NUL
        await one.put(encode(SpooledStop(event_id, ring, "api", "backend", key)))
        await world.publish(message_id="a")
        assert await one.applier.once()
        parked = await world.rows("select evidence from audit where step = 'spooled_stop_parked' order by id")
        assert [row["evidence"] for row in parked] == [
            f"{why}: {one.topic}/0 {offset}" for offset, why in enumerate(["unreadable", "another key ring", "StoreRefused"])
        ]
        assert world.parts.metrics.spool_records_total.labels(result="parked")._value.get() == 3
        assert await one.consents() == [("clinic", "tenant", "out", 1)]
        assert await one.claims_after_reading() == ["a"]


async def test_a_topic_that_was_made_anew_is_read_from_its_beginning(database_url: str, opened: Open) -> None:
    async with opened(database_url) as worker, opened(database_url) as web:
        assert await worker.applier.once()
        await spool_both(web)
        await worker.world.rows("update spool set next_offset = 9")
        assert await worker.applier.once()
        assert await worker.consents() == [("clinic", "tenant", "out", 1)] * 2
        assert (await worker.applier.place.look()).next_offset == 2


async def test_the_record_holds_no_number_and_no_text(database_url: str, opened: Open) -> None:
    async with opened(database_url) as worker, opened(database_url) as web:
        await spool_both(web)
        for record in await worker.records():
            for number in (PERSON[2:], OTHER[2:]):
                assert number not in record.decode()
                assert number.encode().hex() not in record.decode()


async def test_a_stop_whose_number_cannot_be_opened_counts_and_is_not_confirmed(database_url: str, opened: Open) -> None:
    async with opened(database_url) as worker, opened(database_url) as web:
        await web.cut_off()
        assert await web.replies.receive(web.world.inbound("STOP")) == "spooled"
        assert worker.world.parts.ring.destroy("_system", "inbound", datetime.now(UTC).date())
        assert await worker.applier.once()
        await worker.world.parts.stop.finish_pending()
        assert await worker.consents() == [("clinic", "tenant", "out", 1)]
        assert await worker.world.rows("select * from messages") == []


async def test_another_applier_takes_over(database_url: str, opened: Open) -> None:
    async with opened(database_url) as first, opened(database_url) as second, opened(database_url) as web:
        await first.world.publish(message_id="a")
        running = [asyncio.create_task(one.applier.run()) for one in (first, second)]
        await until(lambda: leader(second), 20)
        holder = await leader(second)
        leads, follows = (first, second) if holder == first.world.parts.name else (second, first)
        await until(lambda: leads.world.rows("select from spool where clear_until > gateway_now()"), 20)  # it is connected
        running[(first, second).index(leads)].cancel()  # killed: it gives up nothing
        await spool_both(web)
        await until(lambda: consents_of(follows, 2), 20)
        await until(lambda: nothing_left(follows), 20)
        follows.applier.stop()
        await asyncio.gather(*running, return_exceptions=True)
        assert await leader(follows) == follows.world.parts.name


async def leader(one: Spooled) -> str | None:
    rows = await one.world.rows("select holder from leaders where name = 'spool'")
    return rows[0]["holder"] if rows else None


async def consents_of(one: Spooled, count: int) -> bool:
    return len(await one.consents()) == count


async def nothing_left(one: Spooled) -> bool:
    looked = await one.applier.place.look()
    rows = await one.world.rows("select clear_until > $1 as clear from spool", looked.at)
    return looked.next_offset == 2 and bool(rows[0]["clear"])


async def test_the_api_opts_people_out_by_a_token_it_knows_and_does_nothing_else(database_url: str, opened: Open) -> None:
    async with opened(database_url) as worker, opened(database_url) as web:
        control = web.world.parts.control
        tokens = {name: f"smsgw_{name}" for name in ("known", "revoked", "unseen")}
        for name, token in tokens.items():
            await control.create_token(token_hash(token), name, ["clinic"], "test")
        bearers = Bearers(control, token_hash, seconds=0)

        def api_of(one: Spooled) -> Api:
            parts = one.world.parts
            return Api(
                stops=one.requests,
                stories=parts.operate,
                closings=accounts_of(parts),
                bearers=bearers,
                closers=Bearers(Closers(control), token_hash),
                normalise=normal_form,
                metrics=parts.metrics,
                room=Room(16),
            )

        api = api_of(web)

        async def ask(path: str, name: str, **more: Any) -> int:
            return await post(more.pop("of", api), path, tokens[name], {"tenant": "clinic", "number": PERSON, **more})

        assert await ask("/v1/opt-outs", "known", number="1") == 422
        assert await ask("/v1/opt-outs", "revoked", number="1") == 422
        await control.revoke_token("revoked", "test")
        assert await ask("/v1/opt-outs", "revoked", number="1") == 401
        await web.cut_off()
        assert await ask("/v1/opt-outs", "revoked") == 503
        assert await ask("/v1/opt-outs", "unseen") == 503
        assert await ask("/v1/opt-outs", "known", tenant="shop") == 403
        assert await ask("/v1/opt-ins", "known", proof={"at": "2026-01-01T00:00:00Z", "medium": "web"}) == 503
        # PostgreSQL is back a moment after it was asked for the token: still nothing but opting out
        proof = {"at": "2026-01-01T00:00:00Z", "medium": "web"}
        assert await ask("/v1/opt-ins", "known", proof=proof, of=api_of(worker)) == 503
        assert await ask("/v1/opt-outs", "known") == 202
        assert await worker.applier.once()
        assert await worker.consents() == [("clinic", "tenant", "out", 1)]
        rows = await worker.world.rows("select actor, evidence from audit where step = 'opt_out_written'")
        assert [(row["actor"], row["evidence"]) for row in rows] == [("known", "api")]


async def post(app: Any, path: str, token: str, body: dict[str, Any]) -> int:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"authorization", b"Bearer " + token.encode()), (b"content-type", b"application/json")]
    await app({"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}, receive, send)
    return int(sent[0]["status"])


async def test_a_start_is_refused_on_a_spool_of_several_partitions(database_url: str, opened: Open, broker: str) -> None:
    async with opened(database_url) as one:
        topics = one.world.parts.settings.kafka.topics
        names = {name: f"{one.topic}.{name}" for name in type(topics).model_fields}
        settings = one.world.parts.settings
        kafka = settings.kafka.model_copy(update={"topics": topics.model_copy(update=names)})
        day = str(24 * 3600 * 1000)
        config = {"retention.ms": day, "segment.ms": day}
        await apply(broker_address(settings), [TopicSpec(name, 2, config) for name in names.values()])
        with pytest.raises(NotReady, match="has 2 partitions, not one"):
            await check_servers(settings.model_copy(update={"kafka": kafka}), "web")
        source = SpoolSource(broker_address(settings), names["stop_spool"], on_gap=_no_gap)
        with pytest.raises(BrokerUnavailable, match="2 partitions, not one"):
            await source.bounds()
