"""Who may publish as whom: by topic and by signature, through intake, on a real PostgreSQL; and the producer of the documents."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.app.kafka import input_topics
from gateway.bus.address import BrokerAddress
from gateway.bus.records import Record
from gateway.bus.topics import TopicSpec, apply
from gateway.domain.errors import SettingsError
from gateway.domain.event_signature import SIGNATURE_HEADER, protected_header, signature_of
from gateway.domain.policy_files import load_policies
from tests.integration.reading import first_records
from tests.integration.world import POLICIES, World, open_world, raw_record

SHARED, OWN = "sms.outbound.v1", "sms.outbound.clinic.v1"
TYPE = "sms.outbound.message.v1"
PRODUCER, *_ = re.findall(r"```python\n(.*?)```", Path("docs/events.md").read_text(encoding="utf-8"), re.DOTALL)
KEYS = {name: Ed25519PrivateKey.generate() for name in ("clinic", "old", "shop", "stranger")}


def public(name: str) -> str:
    return base64.b64encode(KEYS[name].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


SIGNED = {
    "clinic": f"publishers: {{keys: {{clinic: {{public: {public('clinic')}}}, old: {{public: {public('old')}, revoked: true}}}}}}",
    "shop": f"publishers: {{keys: {{shop: {{public: {public('shop')}}}}}}}",
}


@asynccontextmanager
async def world_with(database_url: str, folder: Path, publishers: dict[str, str]) -> AsyncIterator[World]:
    policies = folder / "policies"
    policies.mkdir()
    for tenant, text in POLICIES.items():
        (policies / f"{tenant}.yaml").write_text(text + publishers.get(tenant, "") + "\n")
    async with open_world(database_url, folder) as world:
        yield world


HEADERS = raw_record(0, b"").headers


def signature(
    value: bytes, key: str, event_id: str = "e1", *, key_id: str = "", at: float | None = None, **changed: str
) -> bytes:
    named = {"event_id": event_id, "source": "test", "event_type": TYPE} | changed
    header = protected_header(key_id=key_id or key, signed_at=int(time.time() if at is None else at), **named)
    return signature_of(header, value, KEYS[key].sign)


def signed(value: bytes, key: str, **more: Any) -> list[tuple[str, bytes]]:
    return [*HEADERS, (SIGNATURE_HEADER, signature(value, key, **more))]


def structured(value: bytes) -> bytes:
    envelope = {"specversion": "1.0", "id": "e1", "source": "test", "type": TYPE, "data": json.loads(value)}
    return json.dumps(envelope, indent=2).encode()


async def fates(world: World, topic: str, *records: Record) -> list[str]:
    """What became of each record: ``accepted``, or why it is a dead letter."""
    await world.intake().admit(topic, 0, records)
    dead = {row["record_offset"]: row for row in await world.rows("select * from dead_letters")}
    assert all(row["tenant"] == "_system" for row in dead.values())  # what it claims is not believed
    return [dead[one.offset]["reason"] if one.offset in dead else "accepted" for one in records]


def counted(world: World) -> dict[str, float]:
    return {
        sample.labels["why"]: sample.value
        for family in world.parts.registry.collect()
        for sample in family.samples
        if sample.name == "sms_gateway_not_allowed_total" and sample.value
    }


async def test_an_event_must_be_signed_by_a_key_of_its_tenant_in_both_modes(database_url: str, tmp_path: Path) -> None:
    async with world_with(database_url, tmp_path, SIGNED) as world:
        value = world.record(message_id="a").value or b""
        other = world.record(message_id="b").value or b""
        whole = structured(world.record(message_id="c").value or b"")
        envelope = [("content-type", b"application/cloudevents+json")]
        now = time.time()
        cases: list[tuple[str, bytes, Sequence[tuple[str, bytes]]]] = [
            ("accepted", value, signed(value, "clinic")),
            ("accepted", whole, [*envelope, (SIGNATURE_HEADER, signature(whole, "clinic"))]),
            ("not_signed", other, HEADERS),
            ("not_signed", whole, envelope),
            ("unreadable", other, [*HEADERS, (SIGNATURE_HEADER, b"nothing")]),
            ("unreadable", other, [*signed(other, "clinic"), (SIGNATURE_HEADER, signature(other, "clinic"))]),
            ("unknown_key", other, signed(other, "stranger")),
            ("wrong_signature", other, signed(other, "stranger", key_id="clinic")),
            ("wrong_signature", other, signed(value, "clinic")),
            ("wrong_signature", whole + b" ", [*envelope, (SIGNATURE_HEADER, signature(whole, "clinic"))]),
            ("wrong_signature", whole, [*envelope, (SIGNATURE_HEADER, signature(structured(value), "clinic"))]),
            ("other_tenant", other, signed(other, "shop")),
            ("revoked_key", other, signed(other, "old")),
            ("other_event", other, signed(other, "clinic", event_id="e2")),
            ("other_event", other, signed(other, "clinic", source="elsewhere")),
            ("other_event", other, signed(other, "clinic", event_type="sms.other.v1")),
            ("stale", other, signed(other, "clinic", at=now - 36 * 86_400)),
            ("stale", other, signed(other, "clinic", at=now + 2 * 3600)),
            ("accepted", other, signed(other, "clinic", at=now - 34 * 86_400)),
        ]
        records = [raw_record(offset, value, headers) for offset, (_, value, headers) in enumerate(cases)]
        expected = ["accepted" if why == "accepted" else "not_allowed" for why, _, _ in cases]
        assert await fates(world, SHARED, *records) == expected
        assert set(await world.states()) == {"a", "b", "c"}
        refused = [why for why, _, _ in cases if why != "accepted"]
        assert counted(world) == {why: refused.count(why) for why in refused}
        details = [row["detail"] for row in await world.rows("select detail from dead_letters order by record_offset")]
        assert all(detail.startswith(("tenant clinic: ", "signature: ")) for detail in details)


async def test_a_signed_event_that_comes_again_is_the_same_message(database_url: str, tmp_path: Path) -> None:
    async with world_with(database_url, tmp_path, SIGNED) as world:
        value = world.record(message_id="a").value or b""
        headers = signed(value, "clinic")
        assert await fates(world, SHARED, *(raw_record(n, value, headers) for n in range(3))) == ["accepted"] * 3
        assert len(await world.rows("select from messages")) == 1


async def test_a_tenants_topic_carries_its_events_alone_and_it_uses_no_other(database_url: str, tmp_path: Path) -> None:
    async with world_with(database_url, tmp_path, {"clinic": f"publishers: {{topics: [{OWN}]}}"}) as world:
        assert input_topics(world.parts.settings, world.parts.policies) == (SHARED, OWN)
        clinic, shop = {"message_id": "a"}, {"message_id": "b", "tenant": "shop", "programme": "orders"}
        assert await fates(world, OWN, world.record(**clinic)) == ["accepted"]
        assert await fates(world, SHARED, world.record(**shop)) == ["accepted"]
        assert await fates(world, OWN, world.record(**shop)) == [
            "not_allowed"
        ]  # though anybody may publish as the shop elsewhere
        assert await fates(world, SHARED, world.record(**clinic)) == ["not_allowed"]
        assert await fates(world, "another", world.record(**clinic)) == ["not_allowed"]
        assert counted(world) == {"wrong_topic": 3}


async def test_a_topic_and_keys_must_both_hold(database_url: str, tmp_path: Path) -> None:
    both = SIGNED["clinic"].replace("publishers: {", f"publishers: {{topics: [{OWN}], ")
    async with world_with(database_url, tmp_path, {"clinic": both, "shop": f"publishers: {{topics: [{OWN}]}}"}) as world:
        value = world.record(message_id="a").value or b""
        good = signed(value, "clinic")
        assert await fates(world, SHARED, raw_record(1, value, good)) == ["not_allowed"]
        assert await fates(world, OWN, raw_record(2, value)) == ["not_allowed"]
        assert await fates(world, OWN, raw_record(3, value, good)) == ["accepted"]
        assert await fates(world, OWN, world.record(tenant="shop", programme="orders")) == ["accepted"]  # a topic of two tenants
        assert counted(world) == {"wrong_topic": 1, "not_signed": 1}


def test_a_topic_that_the_gateway_writes_is_refused_at_the_start(tmp_path: Path) -> None:
    from tests.integration.world import settings_for

    settings = settings_for("postgresql://nobody/nothing", tmp_path)
    file = tmp_path / "policies" / "clinic.yaml"
    file.write_text(file.read_text() + "publishers: {topics: [sms.status.v1]}\n")
    with pytest.raises(SettingsError, match=r"publishers\.topics names sms\.status\.v1"):
        input_topics(settings, load_policies(settings.policies_directory))


async def test_the_documents_producer_is_let_in(database_url: str, tmp_path: Path, broker: str) -> None:
    topic = "docs.outbound.v1"
    await apply(BrokerAddress(broker), [TopicSpec(topic, 1, {})])
    (tmp_path / "producer.py").write_text(PRODUCER.replace('"sms.outbound.v1"', f'"{topic}"'))
    pem = KEYS["clinic"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "shop.pem").write_bytes(pem)
    environment = {"KAFKA": broker, "KEY_FILE": str(tmp_path / "shop.pem"), "PATH": os.environ["PATH"]}
    run = [sys.executable, str(tmp_path / "producer.py")]
    done = await asyncio.to_thread(subprocess.run, run, env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

    records = await first_records(broker, topic)
    policies = tmp_path / "policies"
    policies.mkdir()
    policy = POLICIES["shop"].replace("tenant: shop", "tenant: harbour-books")
    (policies / "harbour-books.yaml").write_text(f"{policy}publishers: {{keys: {{shop-2026: {{public: {public('clinic')}}}}}}}\n")
    async with open_world(database_url, tmp_path) as world:
        assert await fates(world, SHARED, *records) == ["accepted"]
        unsigned = [one._replace(offset=9, headers=[h for h in one.headers if h[0] != SIGNATURE_HEADER]) for one in records]
        assert await fates(world, SHARED, *unsigned) == ["not_allowed"]
