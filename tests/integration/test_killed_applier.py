"""A real process that applies the spool is killed between two of its transactions: nothing is lost, and nothing counts twice."""

from __future__ import annotations

import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest

from gateway.app.kafka import event_publisher
from gateway.domain.consent import ConsentKey, Scope
from gateway.domain.personal import PhoneNumber
from gateway.flow.conversation import OptIn
from gateway.flow.spooling import Spooling
from tests.integration.processes import LIMIT_SECONDS, environment_on, running_process
from tests.integration.world import World, open_world
from tests.standstill import at_the_offset, at_the_text
from tests.support import until

PEOPLE = [f"+1202555010{number}" for number in range(1, 6)]
THIRD = 2


async def spool_stops(world: World) -> list[str]:
    """A STOP of each of the people in the topic, as a web writes it that does not reach PostgreSQL; the texts' ids."""
    parts = world.parts
    publisher = event_publisher(parts.settings)
    spooling = Spooling(
        publisher, parts.settings.kafka.topics.stop_spool, parts.ring.fingerprint(), parts.vault, parts.metrics, answer_after=0.0
    )
    texts = [world.inbound("STOP", sender=person) for person in PEOPLE]
    try:
        for text in texts:
            stop = parts.replies().stop_without_store(text)
            assert stop is not None
            await spooling.text(text, *stop)
    finally:
        await publisher.stop()
    return [text.provider_message_id for text in texts]


def key_of(world: World, person: str) -> ConsentKey:
    return ConsentKey(world.parts.hasher.subject_id(PhoneNumber(person)), "clinic", Scope.TENANT)


async def consents(world: World) -> dict[str, tuple[str, int]]:
    rows = await world.rows("select subject_id, status, version from consents")
    people = {key_of(world, person).subject_id: person for person in PEOPLE}
    return {people[row["subject_id"]]: (row["status"], row["version"]) for row in rows}


async def offset(world: World) -> int | None:
    rows = await world.rows("select next_offset from spool")
    offset: int | None = rows[0]["next_offset"]
    return offset


@pytest.mark.skipif(sys.platform != "linux", reason="what is frozen is killed by the kernel timer that only Linux has")
@pytest.mark.parametrize("place, blow", [("text", signal.SIGKILL), ("offset", signal.SIGSTOP)])
async def test_another_applier_goes_on_where_the_first_was_killed(
    database_url: str, tmp_path: Path, broker: str, unique: str, place: Literal["text", "offset"], blow: signal.Signals
) -> None:
    environment = await environment_on(database_url, tmp_path, broker, unique, GATEWAY_KAFKA__IDEMPOTENT="false")
    async with open_world(database_url, tmp_path, None, **environment) as world:
        for person in PEOPLE:
            await world.publish(message_id=person[-1], to=person)
        texts = await spool_stops(world)
        done = PEOPLE[:THIRD] if place == "text" else PEOPLE
        in_its_way = at_the_text(database_url, "main", texts[THIRD]) if place == "text" else at_the_offset(database_url)
        topic = world.parts.settings.kafka.topics.stop_spool
        await world.rows("insert into spool (topic, next_offset) values ($1, 0)", topic)  # read to its end some time ago
        async with in_its_way as standstill, running_process(environment, "relay") as first:
            await until(standstill.reached, LIMIT_SECONDS, every=0.005)
            first.send(blow)
            assert await first.gone() == -signal.SIGKILL
            await standstill.end_who_waits()
            assert await consents(world) == dict.fromkeys(done, ("out", 1))
            assert await offset(world) == 0
            # Meanwhile one of them comes back: what is read again must not undo it.
            later = await world.parts.ledger.now() + timedelta(seconds=1)
            assert await world.parts.consents.opt_in(OptIn(key_of(world, PEOPLE[0]), "api", later, actor="test")) == "granted"
        applier = world.parts.spool_applier(topic)
        try:
            assert await applier.once()
        finally:
            await applier.source.close()
        assert await offset(world) == len(PEOPLE)
        assert await consents(world) == {PEOPLE[0]: ("in", 2), **dict.fromkeys(PEOPLE[1:], ("out", 1))}
        assert set((await world.states()).values()) == {"blocked"}
        await world.parts.stop.finish_pending()
        rows = await world.rows("select kind, count(*) as count from messages where kind <> 'outbound' group by kind")
        assert [(row["kind"], row["count"]) for row in rows] == [("confirmation", len(PEOPLE))]
        parked = await world.rows("select step from audit where step in ('spooled_stop_parked', 'records_not_read')")
        assert parked == []
