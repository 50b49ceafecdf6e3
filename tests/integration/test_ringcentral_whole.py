"""RingCentral, whole: intake, dispatch, the web and evidence on a real PostgreSQL, and the real adapter at a simulated RingCentral."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.app.providers import open_providers
from gateway.crypto.tokens import AttemptTokens
from gateway.flow.upkeep import Upkeep
from gateway.simulator.carrier import Carrier
from gateway.simulator.config import CarrierConfig, RingCentralAccount
from gateway.simulator.http_client import HttpClient
from gateway.simulator.inbound import InboundResult
from gateway.simulator.server import listening, running_carrier
from gateway.web.hooks import Webhooks
from gateway.web.room import Room
from tests.integration.test_evidence import evidence_of
from tests.integration.world import World, open_world
from tests.support import free_port, until

ACCOUNT, SENDER = "405156321033", "+13105550111"
POLICY = """
tenant: parcels
name: The Parcels
languages: [en]
providers: [ringcentral]
region: US
opt_out: {scope: programme}
programmes:
  news:
    categories: [service]
    senders: [{number: "+13105550111", account: ring}]
    help_contact: help@parcels.example
"""
PEOPLE = tuple(f"+12025550{number}" for number in range(110, 118))
FIRST, SECOND = PEOPLE[:2]


@dataclass
class Ring:
    """A gateway that texts by RingCentral, and is called by it."""

    world: World
    carrier: Carrier

    async def publish(self, *people: str, name: str = "m", body: str = "Your parcel is here.") -> None:
        """A message to each, all of them taken in at once; its id ends in the person's number."""
        records = [
            self.world.record(tenant="parcels", programme="news", message_id=f"{name}{to}", to=to, body=body) for to in people
        ]
        await self.world.intake().admit("sms.outbound.v1", 0, records)

    async def states(self, name: str = "m") -> dict[str, str]:
        """By person."""
        return {said.removeprefix(name): state for said, state in (await self.world.states()).items() if said.startswith(name)}

    async def become(self, *wanted: tuple[str, str], name: str = "m") -> None:
        """Wait until what was published to these people has these states."""

        async def so() -> bool:
            states = await self.states(name)
            return all(states.get(person) == state for person, state in wanted)

        await until(so, 20, f"{len(wanted)} messages have their states")

    async def text(self, person: str, word: str) -> InboundResult:
        return await self.carrier.inbound(person, SENDER, word)

    async def tell_again(self, batch: str | None, record: str) -> None:
        """An event of a message of ours, as RingCentral may post it again."""
        said = {
            "event": f"/restapi/v1.0/account/{ACCOUNT}/a2p-sms/messages?direction=Outbound",
            "body": {"id": record, "batchId": batch},
        }
        client, url = HttpClient(keep_body=None), f"{self.world.parts.settings.public_url}/webhooks/ringcentral/ring/events"
        headers = {"Content-Type": "application/json", "Verification-Token": "v" * 16}
        try:
            answer = await client.request("POST", url, headers, json.dumps(said).encode())
        finally:
            client.close()
        assert answer.status == 200

    def batches(self) -> list[list[str]]:
        """Who was texted together, request by request, the gateway's own answers apart."""
        found: dict[float, list[str]] = {}
        for one in self.carrier.book.requests:
            found.setdefault(one.begun_at, []).append(one.to)
        return list(found.values())


@pytest.fixture
async def ring(database_url: str, tmp_path: Path) -> AsyncIterator[Ring]:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "parcels.yaml").write_text(POLICY)
    account = RingCentralAccount(ACCOUNT, "id", "secret", "jwt", a2p_senders=(SENDER,), webhook_s=15)
    async with running_carrier(CarrierConfig(accounts=(account,), seed=1)) as carrier:
        port = free_port()
        settings = {
            "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "GATEWAY_ACCOUNTS__MAIN__API_BASE": carrier.url,
            "GATEWAY_ACCOUNTS__RING__PROVIDER": "ringcentral",
            "GATEWAY_ACCOUNTS__RING__CLIENT_ID": "id",
            "GATEWAY_ACCOUNTS__RING__CLIENT_SECRET": "secret",
            "GATEWAY_ACCOUNTS__RING__JWT": "jwt",
            "GATEWAY_ACCOUNTS__RING__VERIFICATION_TOKEN": "v" * 16,
            "GATEWAY_ACCOUNTS__RING__API_BASE": carrier.url,
            # Seconds of a request to an answer that never comes; the lease must have room for it and the fuse.
            "GATEWAY_DISPATCH__REQUEST_SECONDS": "3",
        }
        async with open_world(database_url, tmp_path, None, **settings) as world:
            parts = world.parts
            providers = parts.providers = open_providers(parts.settings)
            webhooks = Webhooks(
                public_url=settings["GATEWAY_PUBLIC_URL"],
                accounts=parts.providers,
                tokens=AttemptTokens(parts.ring.token_key()),
                receipts=parts.receipts(),
                replies=parts.replies(),
                opt_outs=parts.learning(),
                metrics=parts.metrics,
                room=Room(20),
            )
            try:
                async with listening(webhooks, port=port):
                    await Upkeep(parts.providers, settings["GATEWAY_PUBLIC_URL"], parts.metrics).renew()
                    async with world.sending():
                        yield Ring(world, carrier)
                    await carrier.quiet()
            finally:
                await asyncio.gather(*(provider.close() for provider in providers.values()))


async def test_many_are_texted_by_one_request_and_events_tell_what_became_of_each(ring: Ring) -> None:
    ring.carrier.script(SECOND, "undelivered")
    await ring.publish(*PEOPLE)
    await ring.become((SECOND, "undelivered"), *((one, "delivered") for one in PEOPLE if one != SECOND))
    assert max(map(len, ring.batches())) > len(PEOPLE) / 2
    rows = await ring.world.rows("select provider_message_id, count(*) as n from messages group by 1 order by 2 desc")
    assert rows[0]["provider_message_id"].startswith("a2p:")
    assert rows[0]["n"] > len(PEOPLE) / 2, "one batch's id, and each of its messages is known by its person"
    assert not ring.carrier.book.duplicates()


async def test_a_part_of_a_batch_is_rejected_and_the_rest_arrives(ring: Ring) -> None:
    ring.carrier.script(FIRST, "not_textable")
    await ring.publish(*PEOPLE)
    await ring.become((FIRST, "failed"), *((one, "delivered") for one in PEOPLE if one != FIRST))
    assert len(ring.carrier.book.requests) == len(PEOPLE), "nobody was asked for twice"


async def test_a_stop_comes_by_event_and_is_in_force_when_it_is_answered(ring: Ring) -> None:
    await ring.publish(FIRST, SECOND)
    await ring.become((FIRST, "delivered"), (SECOND, "delivered"))
    result = await ring.text(FIRST, "STOP")
    assert [one.http for one in result.webhooks] == [200, 200], "the text, and then the opt-out that RingCentral makes of it"
    (consent,) = await ring.world.rows("select status, in_force_at from consents")
    assert consent["status"] == "out"
    assert consent["in_force_at"] is not None
    before = len(ring.carrier.book.requests)
    await ring.publish(FIRST, SECOND, name="later", body="And another.")
    await ring.become((FIRST, "blocked"), (SECOND, "delivered"), name="later")
    asked = list(ring.carrier.book.requests)[before:]
    assert [one.to for one in asked if one.to == SECOND] == [SECOND]


async def test_an_unknown_batch_is_resolved_by_the_list_each_message_by_itself(ring: Ring) -> None:
    ring.carrier.script(FIRST, "hang_after_silent")  # accepts the batch, never answers, and tells nothing of the first
    await ring.publish(*PEOPLE)
    await ring.become((FIRST, "unknown"))
    told = sum(len(batch) for batch in ring.batches() if FIRST in batch)
    assert told > 1, "the others of the batch were asked for with it"
    await ring.world.shift(6)
    evidence = evidence_of(ring.world)

    async def proved() -> bool:
        await evidence.look()
        return set((await ring.states()).values()) == {"delivered"}

    await until(proved, 20, "the list has told of every message")
    rows = await ring.world.rows("select evidence, count(*) as n from audit where step = 'delivered' group by 1")
    assert {row["evidence"]: row["n"] for row in rows}.get("list", 0) >= 1
    assert len(ring.carrier.book.requests) == len(PEOPLE), "and nobody was texted twice"


async def test_a_text_that_was_refused_before_a_start_does_not_undo_it(ring: Ring) -> None:
    """RingCentral takes down a text to somebody who is opted out there, and lists it with its batch whenever that is asked for."""
    await ring.carrier.inbound(FIRST, SENDER, "STOP", deliver=False)
    await ring.publish(FIRST, SECOND)
    await ring.become((FIRST, "undelivered"), (SECOND, "delivered"))

    async def learned() -> bool:
        return bool(await ring.world.rows("select from consents where status = 'out' and in_force_at is not null"))

    await until(learned, 20, "the refusal has told of the opt-out")
    await ring.world.shift(60)
    await ring.carrier.inbound(FIRST, SENDER, "START", age=-20)  # 20 s later, by all clocks
    rows = await ring.world.rows("select status from consents")
    assert [row["status"] for row in rows] == ["in"]
    await ring.world.parts.telling().tell()
    (held,) = await ring.world.rows("select holds, due_at from propagations")
    assert (held["holds"], held["due_at"]) == ("in", None), "what RingCentral says of an opt-out now is no echo"

    refused = next(one for one in ring.carrier.book.requests if one.to == FIRST)  # the answer to START comes later
    assert refused.message is not None
    await ring.tell_again(refused.message.batch, refused.message.sid)
    rows = await ring.world.rows("select status from consents")
    assert [row["status"] for row in rows] == ["in"]
    await ring.publish(FIRST, name="later", body="And another.")
    await ring.become((FIRST, "delivered"), name="later")
