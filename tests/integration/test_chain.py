"""The audit is chained by one process at a time: every record once, whatever is killed where, and published in order."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.bus.producer import EventPublisher
from gateway.domain.chain import Chained
from gateway.domain.outcome import Accepted
from gateway.domain.publishing import Failed, OutEvent, PublishResult, RefusedForGood
from gateway.flow.chain import Binder
from gateway.flow.leading import Leading
from gateway.store.chain import Chains
from tests.integration.audited import chain_of, happenings, open_topic, verify
from tests.integration.hands import Hands, receipt_of
from tests.integration.test_relay import Recorder
from tests.integration.world import World, open_world, running
from tests.support import until

UNCHAINED = "select from audit_unchained"


def told(events: Sequence[OutEvent]) -> list[tuple[str, int]]:
    return [(found["tenant"], found["sequence"]) for found in (json.loads(event.value or b"") for event in events)]


async def chained_and_published(world: World) -> None:
    await until(
        lambda: world.rows(
            "select 1 where not exists (select from audit_unchained)"
            " and not exists (select from audit_heads where published < sequence)"
        )
    )


async def test_each_record_is_chained_once_and_published_by_tenant(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await happenings(world)
        written = await world.rows("select tenant, uid, number, step from audit_unchained order by tenant, id")
        assert {row["tenant"] for row in written} == {"clinic", "shop", "_system"}
        recorder = Recorder()
        async with running(chain_of(world, recorder, batch=4, idle=0.01)):
            await chained_and_published(world)
        rows = await world.rows("select tenant, uid, number, step from audit_chain order by tenant, sequence")
        assert rows == written
        assert {event.topic for event in recorder.events} == {"sms.audit.v1"}
        assert all(event.key == json.loads(event.value or b"")["tenant"].encode() for event in recorder.events)
        for tenant in ("clinic", "shop", "_system"):
            numbers = [number for name, number in told(recorder.events) if name == tenant]
            assert numbers == list(range(1, len(numbers) + 1))
        assert len(recorder.events) == len(written)
        ids = {dict(event.headers)["ce_id"] for event in recorder.events}
        assert len(ids) == len(written)
        await world.parts.watch.measure(world.parts.metrics)
        for name, value in (("unchained_records", 0), ("unpublished_records", 0), ("chained_total", len(written))):
            assert world.parts.registry.get_sample_value(f"sms_gateway_audit_{name}") == value


async def test_a_person_is_called_by_the_tenants_pseudonym_alone(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await happenings(world)
        subjects = {
            row["subject_id"] for row in await world.rows("select subject_id from audit_unchained where subject_id is not null")
        }
        (subject,) = subjects
        recorder = Recorder()
        await chain_of(world, recorder).once()
        people = await world.rows("select distinct tenant, person from audit_chain where person is not null")
        assert people
        for row in people:
            assert row["person"] == world.parts.hasher.person_key(row["tenant"], subject)
        for event in recorder.events:
            data = event.value or b""
            for secret in (subject.hex(), "patient-1", "m-1"):  # nor the producer's names for the person and the message
                assert secret.encode() not in data


async def test_what_commits_late_is_chained_late(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        slow = await asyncpg.connect(database_url)
        try:
            transaction = slow.transaction()
            await transaction.start()
            await slow.execute(
                "insert into audit_unchained (at, tenant, number, step, actor) values (now(), 'clinic', 0, 'slow', 'test')"
            )
            await world.publish()
            chain = chain_of(world, Recorder())
            await chain.once()
            await transaction.commit()
            await chain.once()
            rows = await world.rows("select sequence, step from audit_chain order by sequence")
            assert [(row["sequence"], row["step"]) for row in rows] == [(1, "decided"), (2, "slow")]
        finally:
            await slow.close()


async def test_the_records_of_a_message_stand_in_the_order_of_its_counter(database_url: str, tmp_path: Path) -> None:
    """Chained while they are written, in batches of three."""
    async with open_world(database_url, tmp_path) as world:
        recorder = Recorder()
        async with running(chain_of(world, recorder, batch=3, idle=0.001)):
            for n in range(6):
                await world.publish(message_id=f"m{n}", to=f"+1202555{100 + n:04d}")
                hands = Hands(world)
                (claimed,) = await hands.claim()
                await hands.send([claimed], Accepted(f"SM{n:032x}", 1))
                await world.parts.receipts().receive(receipt_of(claimed, "delivered", f"SM{n:032x}"))
            await chained_and_published(world)
        rows = await world.rows("select uid, array_agg(number order by sequence) as numbers from audit_chain group by uid")
        assert len(rows) == 6
        assert all(row["numbers"] == [1, 2, 3, 4] for row in rows)


async def test_a_change_waits_for_no_head_that_is_locked(database_url: str, tmp_path: Path) -> None:
    """All workers would stand in line."""
    async with open_world(database_url, tmp_path) as world:
        await happenings(world)
        await chain_of(world, Recorder()).once()
        other = await asyncpg.connect(database_url)
        try:
            async with other.transaction():
                assert await other.fetch("select from audit_heads for update")
                async with asyncio.timeout(4):
                    await happenings(world, "again")
        finally:
            await other.close()
        assert await world.rows(UNCHAINED)


class Killed(BaseException):
    """A process that ends here."""


class DyingChains(Chains):
    """Dies at a step."""

    step = ""

    async def chain(self, most: int, bind: Binder) -> list[Chained]:
        async def dying(*arguments: Any) -> list[Chained]:
            links = await bind(*arguments)
            if self.step == "before the commit":
                raise Killed
            return links

        links = await super().chain(most, dying)
        if self.step == "after the commit":
            raise Killed
        return links

    async def mark_published(self, last: Sequence[Chained]) -> None:
        if self.step == "before the mark":
            raise Killed
        await super().mark_published(last)
        if self.step == "after the mark":
            raise Killed


class DyingPublisher:
    """Dies in the middle of a batch: the broker has some of it."""

    def __init__(self, publisher: EventPublisher) -> None:
        self._publisher = publisher

    async def publish(self, batch: Sequence[OutEvent], limit_seconds: float) -> list[PublishResult]:
        await self._publisher.publish(batch[:3], limit_seconds)
        raise Killed


@pytest.mark.parametrize(
    "step", ["before the commit", "after the commit", "in the middle of a publish", "before the mark", "after the mark"]
)
async def test_whoever_is_killed_anywhere_leaves_a_whole_chain(
    database_url: str, tmp_path: Path, broker: str, unique: str, step: str
) -> None:
    async with open_world(database_url, tmp_path) as world, open_topic(world, broker, unique) as publisher:
        await happenings(world)
        await chain_of(world, publisher).once()
        await happenings(world, "second")
        chains = DyingChains(world.parts.database)
        chains.step = step
        dying = chain_of(world, DyingPublisher(publisher) if step == "in the middle of a publish" else publisher, chains=chains)
        with pytest.raises(Killed):
            await dying.once()
        report = await verify(world)
        assert report.whole, report.findings  # as it was left
        await happenings(world, "third")
        async with running(chain_of(world, publisher, batch=5, idle=0.01)):
            await chained_and_published(world)
        report = await verify(world)
        assert report.whole, report.findings
        counts = {row["tenant"]: row["count"] for row in await world.rows("select tenant, count(*) from audit group by tenant")}
        for tenant, looked in report.tenants.items():
            assert looked.head.sequence == looked.published == looked.records == counts[tenant]
            assert (looked.topic_records or 0) - looked.topic_repeats == counts[tenant]
        repeats = sum(looked.topic_repeats for looked in report.tenants.values())
        assert (repeats > 0) == (step in ("in the middle of a publish", "before the mark"))


async def test_what_is_not_acknowledged_goes_out_again_in_order(database_url: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    async with open_world(database_url, tmp_path) as world:
        await happenings(world)
        recorder = Recorder(lambda _event: Failed("away") if chance.random() < 0.3 else None)
        async with running(chain_of(world, recorder, batch=5, idle=0.01)):
            await chained_and_published(world)
        firsts: dict[str, list[int]] = {}
        for tenant, sequence in told(recorder.events):
            seen = firsts.setdefault(tenant, [])
            if sequence not in seen:
                seen.append(sequence)
        assert len(firsts) == 3
        assert all(seen == list(range(1, len(seen) + 1)) for seen in firsts.values())


async def test_no_record_is_left_out_though_the_broker_refuse_it(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await happenings(world)
        refusing = True
        recorder = Recorder(lambda event: RefusedForGood("too_large") if refusing and event.key == b"shop" else None)
        chain = chain_of(world, recorder)
        await chain.once()
        await chain.once()
        heads = {row["tenant"]: row for row in await world.rows("select * from audit_heads")}
        assert heads["shop"]["published"] == 0 < heads["shop"]["sequence"]
        assert heads["clinic"]["published"] == heads["clinic"]["sequence"] > 0
        refusing = False
        await chain.once()
        numbers = [number for name, number in told(recorder.events) if name == "shop"]
        assert numbers == list(range(1, heads["shop"]["sequence"] + 1))


async def test_two_that_chain_at_once_make_one_chain(database_url: str, tmp_path: Path) -> None:
    """A holder that was frozen and thaws: nobody hands out a record twice, and the chain does not fork."""
    async with open_world(database_url, tmp_path) as world:
        for n in range(5):
            await happenings(world, f"round-{n}")
        written = await world.rows(UNCHAINED)
        chains = Chains(world.parts.database)
        binder = chain_of(world, Recorder())._bind

        async def one() -> int:
            count = 0
            while links := await chains.chain(3, binder):
                count += len(links)
            return count

        counts = await asyncio.gather(*(one() for _ in range(4)))
        while await world.rows(UNCHAINED):  # who waited for rows that another took got none of them, and left
            await one()
        assert sum(counts) <= len(written)
        report = await verify(world, topic=False)
        assert report.whole, report.findings
        assert sum(looked.records for looked in report.tenants.values()) == len(written)


async def test_what_another_chained_and_did_not_publish_goes_first(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        recorder = Recorder()
        chain = chain_of(world, recorder)
        await happenings(world)
        await chain.once()
        await chain.once()  # now it knows that the topic has all
        await happenings(world, "second")
        await Chains(world.parts.database).chain(1000, chain_of(world, Recorder())._bind)
        await happenings(world, "third")
        await chain.once()
        await chain.once()
        sequences: dict[str, list[int]] = {}
        for tenant, sequence in told(recorder.events):
            sequences.setdefault(tenant, []).append(sequence)
        assert all(seen == list(range(1, len(seen) + 1)) for seen in sequences.values()), sequences
        assert not await world.rows("select from audit_heads where published < sequence")


async def test_a_busy_tenant_does_not_keep_anothers_chain_from_going_out(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        fill = "insert into audit_unchained (at, tenant, number, step, actor) select now(), $1, 0, 'x', 'test' from generate_series(1, $2::int)"
        await world.parts.database.execute(fill, "shop", 10)
        await Chains(world.parts.database).chain(1000, chain_of(world, Recorder())._bind)
        recorder = Recorder()
        chain = chain_of(world, recorder, batch=4)
        await chain.once()
        for busy in (3, 3, 3, 4, 4, 4):  # less than goes out in one batch, then as much
            await world.parts.database.execute(fill, "clinic", busy)
            await chain.once()
        assert [number for name, number in told(recorder.events) if name == "shop"] == list(range(1, 11))


class Asked(Leading):
    """Counts how often somebody wanted to know whether the name is theirs."""

    count = 0

    async def hold(self) -> bool:
        self.count += 1
        return await super().hold()


async def test_only_who_holds_the_relays_name_chains(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await happenings(world)
        await world.parts.control.hold("relay", "another", 60.0)
        recorder = Recorder()
        leading = Asked(world.parts.control, "relay", world.parts.name)
        async with running(chain_of(world, recorder, leading=leading, idle=0.01)):
            await until(lambda: leading.count > 5)
            assert recorder.events == []
            assert not await world.rows("select from audit_chain")
            await world.parts.control.release("relay", "another")
            await chained_and_published(world)


async def test_a_process_of_the_version_before_goes_on_writing(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.parts.database.execute(
            "with new as materialized (select 'clinic' as tenant), audited as ("
            "insert into audit (at, tenant, number, step, rule, actor, subject_id)"
            " select gateway_now(), tenant, 0, 'paused', 'all:', 'cli', '\\x01' from new) select 1"
        )
        await chain_of(world, Recorder()).once()
        assert [row["step"] for row in await world.rows("select step from audit where sequence = 1")] == ["paused"]


async def test_a_head_never_goes_back_in_time(database_url: str, tmp_path: Path) -> None:
    """Days are dropped whole: a later record in an earlier day would be taken out of the chain's middle."""
    async with open_world(database_url, tmp_path) as world:
        await world.shift(3600)
        await world.publish()
        await chain_of(world, Recorder()).once()
        await world.shift(-3600)
        await world.publish()
        await chain_of(world, Recorder()).once()
        one, other = (row["chained_at"] for row in await world.rows("select chained_at from audit_chain order by sequence"))
        assert one == other
