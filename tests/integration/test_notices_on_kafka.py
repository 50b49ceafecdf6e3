"""The five notices on Apache Kafka: in each topic, as ``gateway topics apply`` makes it for a tenant, both sides of each horizon.

How old a record is, its timestamp says. A topic forgets before the tenant's period is over, so three are put into each: one that is just
inside what the topic keeps, one just past that, and one just past the period itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from gateway.app.kafka import kept_limits, topics_wanted
from gateway.bus.address import BrokerAddress
from gateway.bus.replay import replaying
from gateway.bus.retention import KafkaRetention
from gateway.bus.topics import apply
from gateway.domain.policy import Policy
from gateway.domain.policy_files import load_policies
from gateway.domain.policy_retention import RetentionClass
from gateway.settings import Settings, load
from gateway.settings.parts import Topics
from tests.integration.test_retention_kafka import LIMIT_SECONDS, moment, now_ms, producing
from tests.kafka.server import KafkaServer
from tests.notices import TENANTS, Tenant, install
from tests.support import until

MINUTE_MS: Final = 60_000
DAY: Final = timedelta(days=1)
INSIDE, PAST, PAST_THE_PERIOD = range(3)
CLASS_OF: Final[Mapping[str, RetentionClass]] = {
    "outbound": "content", "inbound": "content", "status": "events", "audit": "events", "dead_letter": "dead_letters", "consent": "events",
}  # fmt: skip


def settings_for(tenant: Tenant, folder: Path, servers: str, unique: str) -> Settings:
    """Of a gateway with this tenant alone, whose topics have names of their own."""
    install(folder / "policies", tenant)
    topics = {f"GATEWAY_KAFKA__TOPICS__{name.upper()}": f"{unique}.{name}" for name in Topics.model_fields}
    return load({"GATEWAY_POLICIES_DIRECTORY": str(folder / "policies"), "GATEWAY_KAFKA__SERVERS": servers, **topics})


def just_over(tenant: Tenant, data_class: RetentionClass, policy: Policy, now: datetime) -> datetime | None:
    """When a thing was made whose time was over a minute ago; None where it never is."""
    if tenant.kept[data_class] is None:
        return None
    made = now
    while (end := tenant.end(data_class, made, policy)) is not None and end > now:
        made -= DAY
    return made - timedelta(minutes=1)


@pytest.mark.parametrize("tenant", TENANTS, ids=lambda tenant: tenant.name)
async def test_a_topic_has_what_is_just_inside_and_nothing_that_is_just_past(
    tmp_path: Path, kafka_server: KafkaServer, unique: str, tenant: Tenant
) -> None:
    settings = settings_for(tenant, tmp_path, kafka_server.bootstrap_servers, unique)
    policies = load_policies(settings.policies_directory)
    policy = policies.tenant(tenant.name)
    assert policy is not None
    address, now = BrokerAddress(kafka_server.bootstrap_servers), now_ms()
    wanted = {
        spec.name.partition(".")[2]: spec
        for spec in topics_wanted(settings, policies, partitions=3)
        if spec.name.partition(".")[2] in CLASS_OF
    }
    await apply(address, list(wanted.values()))
    inside: dict[str, int] = {}
    async with producing(kafka_server.bootstrap_servers) as producer:
        for name, spec in wanted.items():
            over = just_over(tenant, CLASS_OF[name], policy, moment(now))
            kept = int(spec.config["max.compaction.lag.ms" if name == "consent" else "retention.ms"])
            at = {INSIDE: now - kept + 10 * MINUTE_MS, PAST: now - kept - MINUTE_MS}
            if over is not None:
                at[PAST_THE_PERIOD] = round(over.timestamp() * 1000)
                assert at[PAST_THE_PERIOD] < at[PAST], "a topic forgets before its time is over"
            inside[name] = at[INSIDE]
            for partition, then in at.items():
                await producer.send_and_wait(spec.name, b"a value", b"k", partition, then - (name == "consent"))
                if name == "consent":  # what is replaced has to be forgotten; what comes later closes a segment
                    await producer.send_and_wait(spec.name, b"another", b"k", partition, then)
                    await producer.send_and_wait(spec.name, b"last", b"other", partition, now)

    async def left(name: str) -> dict[int, int]:
        """How many records each partition has."""
        count = {}
        async with replaying(address, wanted[name].name) as replay:
            for partition, (first, end) in (await replay.spans()).items():
                count[partition] = sum([len(records) async for records in replay.read(partition, first, end)])
        return count

    for name in wanted:
        past = 0 if name != "consent" else 2  # the last word stays, and what came later
        there = {INSIDE: 1 if name != "consent" else 3, PAST: past, PAST_THE_PERIOD: past}
        if tenant.kept[CLASS_OF[name]] is None:
            there[PAST_THE_PERIOD] = 0

        async def as_it_should_be(name: str = name, there: dict[int, int] = there) -> bool:
            return await left(name) == there

        await until(as_it_should_be, LIMIT_SECONDS, f"of {name} is left {there}", every=0.25)
    place = KafkaRetention(address, list(kept_limits(settings, policies).values()))
    found = {one.place.rpartition(".")[2]: one for one in await place.verify(moment(now))}
    assert {name: (one.well, one.why) for name, one in found.items()} == dict.fromkeys(CLASS_OF, (True, ""))
    assert {name: one.oldest for name, one in found.items()} == {name: moment(at) for name, at in inside.items()}
    ends = {name: tenant.end(CLASS_OF[name], moment(at), policy) for name, at in inside.items()}
    later = max((end for end in ends.values() if end is not None), default=moment(now))
    found = {one.place.rpartition(".")[2]: one for one in await place.verify(later)}  # if they were still there then
    assert {name for name, one in found.items() if not one.well} == {name for name, end in ends.items() if end is not None}
