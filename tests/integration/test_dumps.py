"""A dump from before the deadlines, restored after them: nothing that the data map calls sealed opens, and nothing else tells of the person."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.app.places import keys_place
from gateway.app.retention import windows_place
from gateway.app.retention_rows import holds_of, rows_of
from gateway.crypto.days import LivingKeys
from gateway.domain.errors import KeyMissing
from gateway.domain.mapped_tables import TABLES
from gateway.domain.outcome import Accepted
from gateway.domain.personal import PhoneNumber
from gateway.flow.holds import hold_key
from gateway.flow.retaining import end_all
from gateway.flow.retention import Place
from tests.canary import CANARY_BODY, CANARY_NUMBER, CANARY_REPLY, traces_in
from tests.integration.dumps import dump, restore
from tests.integration.hands import Hands, settle_by_hand
from tests.integration.world import POLICIES, World, open_world, until

PERIODS = "{content: 3d, address: 4d, events: 5d, dead_letters: 6d, consent_proof: 1mo}"

# Each column: the tenant, class and id that a value is sealed by, and the value.
_OF_MESSAGES = "select m.tenant, '{0}' as data_class, m.uid, {1} as sealed from messages m left join bodies b using (uid) where {1} is not null"
_REPLY = "select tenant, '{0}' as data_class, (reply ->> 'uid')::uuid as uid, decode(reply ->> '{1}', 'hex') as sealed from consents where reply is not null"
SEALED: dict[tuple[str, str], str] = {
    ("messages", "to_sealed"): _OF_MESSAGES.format("address", "m.to_sealed"),
    ("messages", "recipient_sealed"): _OF_MESSAGES.format("recipient", "m.recipient_sealed"),
    ("bodies", "sealed"): _OF_MESSAGES.format("content", "b.sealed"),
    ("consents", "proof_sealed"): (
        "select tenant, 'consent' as data_class, proof_uid as uid, proof_sealed as sealed from consents where proof_sealed is not null"
    ),
    ("consents", "reply"): f"{_REPLY.format('address', 'to_sealed')} union all {_REPLY.format('content', 'body_sealed')}",
    ("propagations", "number_sealed"): (
        "select number_tenant as tenant, 'address' as data_class, number_uid as uid, number_sealed as sealed"
        " from propagations where number_sealed is not null"
    ),
    ("outbox", "recipient_sealed"): (
        "select tenant, 'recipient' as data_class, recipient_uid as uid, recipient_sealed as sealed"
        " from outbox where recipient_sealed is not null"
    ),
    ("outbox", "payload"): "select tenant, kind as data_class, uid, payload as sealed from outbox where kind = 'inbound'",
    (
        "dead_letters",
        "sealed",
    ): "select tenant, 'dead_letters' as data_class, uid, sealed from dead_letters where sealed is not null",
    ("held", "sealed"): "select '' as tenant, 'held' as data_class, hold as uid, sealed from held",
}


@pytest.fixture
def policies(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    for tenant, policy in POLICIES.items():
        (tmp_path / "policies" / f"{tenant}.yaml").write_text(f"{policy}retention: {PERIODS}\n")


async def opened(world: World, place: tuple[str, str]) -> list[bytes | None]:
    """What each value that stands in a column opens to; None for one whose key is gone."""
    return [_opened(world, row) for row in await world.rows(SEALED[place])]


def _opened(world: World, row: dict[str, Any]) -> bytes | None:
    vault, tenant, of, uid, sealed = world.parts.vault, row["tenant"], row["data_class"], row["uid"], row["sealed"]
    if of == "recipient":
        name = vault.open_recipient(tenant, uid, sealed)
        return None if name is None else name.encode()
    try:
        if of != "held":
            return vault.open_payload(tenant, of, uid, sealed)
        kept = json.loads(vault.open_payload(hold_key(uid).tenant, "content", uid, sealed))
        return base64.b64decode(kept.get("body") or kept["number"])
    except KeyMissing:
        return None


def places(world: World) -> list[Place]:
    """Where what a dump has is ended: what providers keep is in none."""
    return [windows_place(world.parts), rows_of(world.parts), keys_place(world.parts)]


async def end_what_is_due(world: World) -> None:
    """Each place in turn, until nothing is left to do."""
    now = await world.parts.ledger.now()
    while sum([await end_all(place, now) for place in places(world)]):
        await published(world)


async def published(world: World) -> None:
    """As if the relay had published everything."""
    await world.rows("delete from outbox")


async def move(world: World, **by: float) -> None:
    await world.shift(timedelta(**by).total_seconds())
    await world.parts.watch.ensure_days()


async def fill(world: World) -> Callable[[], Awaitable[None]]:
    """Put the person into every sealed column, by what brings it there in life; what is returned settles all of it."""
    parts, hands = world.parts, Hands(world, lease=60.0)
    text: dict[str, Any] = {
        "to": CANARY_NUMBER,
        "body": CANARY_BODY,
        "metadata": {"note": CANARY_BODY},
        "recipient_ref": CANARY_BODY.split()[0],
    }
    subject = parts.hasher.subject_id(PhoneNumber(CANARY_NUMBER))
    hold = await holds_of(parts).add("clinic", "a court", "file 7", "test", subject_id=subject)
    await world.publish(message_id="held", **text)
    await move(world, days=4, minutes=20)
    await end_what_is_due(world)
    assert [row["thing"] for row in await world.rows("select thing from held order by thing")] == ["address", "content"]

    said_at = await parts.ledger.now() - timedelta(hours=1)
    proof = {"medium": "web", "at": said_at.isoformat(), "wording": CANARY_BODY}
    await world.publish(message_id="offer", tenant="shop", programme="offers", category="marketing", opt_in_proof=proof, **text)
    await world.publish(message_id="x" * 4000, **text)
    await world.receive(CANARY_REPLY, sender=CANARY_NUMBER)
    await world.publish(message_id="marked", **text)
    claimed = {one.tenant: one for one in await hands.claim()}
    await hands.mark([claimed["clinic"]])
    stopping = asyncio.create_task(world.receive("STOP", sender=CANARY_NUMBER))  # not in force while a request is under way
    await until(lambda: world.rows("select 1 from consents where reply is not null"), what="the opt-out is written")

    async def settled() -> None:
        await settle_by_hand(world, claimed["clinic"], Accepted(world.carrier.new_id(), 1))
        assert await stopping == "stop"
        assert await world.receive("STOP", sender=CANARY_NUMBER, to="+14155550110") == "stop"
        await holds_of(parts).release(hold, "test")

    return settled


async def test_nothing_that_a_dump_has_sealed_opens_after_its_deadline(database_url: str, tmp_path: Path, policies: None) -> None:
    """Both sides: each column of the map opens while the keys are there, and none once the clock has moved and every place has run."""
    mapped = {(area, name) for area, names, held in TABLES.rows() if held.form == "sealed" for name in names.split()}
    assert set(SEALED) == mapped
    file, text = tmp_path / "dump", tmp_path / "dump.sql"
    settings = {"GATEWAY_ACCOUNTS__MAIN__CONSENTS_API": "true"}  # numbers are kept for who is to be told
    async with open_world(database_url, tmp_path, None, **settings) as world:
        settle = await fill(world)
        for place in SEALED:
            values = [value for value in await opened(world, place) if value is not None]
            assert any(map(traces_in, values)), place
        await dump(database_url, file)
        await dump(database_url, text, form="plain")
        await settle()
        await published(world)
        await move(world, days=62)
        await end_what_is_due(world)
        now = await world.parts.ledger.now()
        found = [one for place in places(world) for one in await place.verify(now)]
        assert [one for one in found if not one.well and one.data_class != "events"] == []  # nobody chains the audit here
        assert [key for key in LivingKeys(world.parts.ring).living() if key.day < now.date()] == []
    assert traces_in(text.read_bytes()) == []

    await restore(database_url, file)
    async with open_world(database_url, tmp_path, None, **settings) as world:
        for place in SEALED:
            gone = await opened(world, place)
            assert gone, place
            assert set(gone) == {None}, place
        tables = await world.rows(
            "select c.relname from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'"
        )
        for table in tables:
            rows = await world.rows(f"select t::text as whole from {table['relname']} t")
            assert traces_in("\n".join(one["whole"] for one in rows)) == [], table["relname"]
