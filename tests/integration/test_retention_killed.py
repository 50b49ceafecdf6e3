"""Retention that is killed after each of its statements, in what lies beside the messages: letters, parked events, chains, holds, windows, keys."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.app.places import keys_place
from gateway.app.retention import windows_place
from gateway.app.retention_rows import holds_of, rows_of
from gateway.domain.ids import new_uid
from gateway.domain.policy_files import find_policies
from gateway.domain.retention_days import Terms, midnight
from gateway.flow.chain import Chain
from gateway.flow.holds import hold_key
from gateway.flow.retention import Place
from tests.integration.audited import chain_of, open_topic, verify
from tests.integration.dying import Killed, dying
from tests.integration.test_retention_rows import (
    ALL,
    GONE,
    kept,
    left,
    move_to,
    published,
    readable,
    rows_add_hold,
    run_all,
    text,
    today,
)
from tests.integration.world import World

PERIODS = {"short": "{content: 2d, events: 3d, dead_letters: 3d}", "long": "{content: 9d, events: 9d, dead_letters: 9d}"}
STEP = 2  # things at once, so that there are many steps
PEOPLE = {"short": "+12025550101", "long": "+12025550102"}
SENDERS = {"short": "+12125550130", "long": "+12125550131"}
LETTER = """
insert into dead_letters (topic, partition, record_offset, uid, at, tenant, reason, detail, length, sha256, sealed)
values ('t', 0, $4, $1, gateway_now(), $2, 'nul', '', 1, 'x', $3)
"""
OVER = """
insert into message_ids select 'short', decode(lpad(to_hex(i), 32, '0'), 'hex'), '', $1 from generate_series(1, 3) as i
"""
COUNTS = """
select (select count(*) from dead_letters where tenant = $1)::int as letters,
       (select count(*) from outbox where tenant = $1 and parked is not null and kind = 'inbound')::int as parked_texts,
       (select count(*) from outbox where tenant = $1 and parked is not null and kind <> 'inbound')::int as parked,
       (select count(*) from inbound where tenant = $1 and subject_id is not null)::int as inbound,
       (select count(*) from audit_chain where tenant = $1 and chained_at < $2)::int as chained,
       (select count(*) from message_ids where tenant = $1 and content_digest <> '')::int as ids
"""


async def fill(world: World) -> None:
    """Of each tenant what lies beside its messages, on the store's today; and what the windows have let go long ago."""
    now = await world.parts.ledger.now()
    for tenant, person in PEOPLE.items():
        await text(world, tenant, to=person)
    for number, (tenant, person) in enumerate(PEOPLE.items()):
        for letter in range(3):
            uid = new_uid(now)
            sealed = world.parts.vault.seal_payload(tenant, "dead_letters", uid, b"a record")
            await world.rows(LETTER, uid, tenant, sealed, 3 * number + letter)
        assert await world.receive("Hello?", sender=person, to=SENDERS[tenant]) == "other"
        await world.rows(
            "insert into outbox (kind, tenant, uid, version, created_at) select 'status', tenant, uid, 1, gateway_now() from messages where tenant = $1",
            tenant,
        )
    await world.rows("update outbox set parked = 'test'")
    await world.rows(OVER, new_uid(now - timedelta(days=60)))
    await world.rows(
        "insert into kept_senders values ('\\x01', 'short', 'visits', 's', (gateway_now() - interval '400 days')::date)"
    )


def places(world: World) -> list[Place]:
    """As a process has them that has just begun."""
    return [windows_place(world.parts), rows_of(world.parts), keys_place(world.parts)]


class Days:
    """What may be, and what may not, of the day that the test began on."""

    def __init__(self, world: World, day: date, chain: Chain) -> None:
        self.world, self.day, self.chain = world, day, chain
        self.kept: dict[str, int] = {}  # by hold, while all of it must be there

    async def counts(self, tenant: str) -> dict[str, int]:
        (row,) = await self.world.rows(COUNTS, tenant, midnight(self.day + timedelta(days=1)))
        return row

    def key(self, tenant: str, data_class: Any) -> bool:
        return readable(self.world, tenant, data_class, self.day)

    async def lives(self, tenant: str, before: dict[str, int]) -> None:
        """All of a tenant's is there, and opens."""
        assert await self.counts(tenant) == before
        assert await left(self.world, tenant) == ALL
        assert all(self.key(tenant, one) for one in ("content", "address", "inbound", "dead_letters"))

    async def not_half_dead(self, tenant: str) -> None:
        """Nothing has gone from the tables whose key still opens what a backup has of it; the chains are whole wherever they begin."""
        counts = await self.counts(tenant)
        assert counts["letters"] == 3 or not self.key(tenant, "dead_letters")
        assert counts["parked_texts"] == 1 or not self.key(tenant, "inbound")
        for hold in await self.world.rows(
            "select id, ended_at is not null as ended, (select count(*) from held k where k.hold = h.id)::int as kept from legal_holds h"
        ):
            name = hold_key(hold["id"])
            opens = readable(self.world, name.tenant, name.data_class, name.day)
            assert hold["kept"] >= self.kept.get(str(hold["id"]), 0) or not opens
            assert hold["kept"] == 0 or not hold["ended"]
        assert (await verify(self.world, topic=False)).whole

    async def die(self, now: datetime, tenant: str, other: str | None, before: dict[str, int], over: str = "") -> int:
        """Run until all is over, or what ``over`` asks for is true, killed after each statement; how often that was."""
        for after in range(1, 1000):
            died = True
            with suppress(Killed), dying(self.world, after):
                for place in places(self.world):
                    while await place.run(now, STEP):
                        pass
                died = False
            await self.not_half_dead(tenant)
            if other is not None:
                await self.lives(other, before)
            await published(self.world)
            while await self.chain.once():
                pass
            if over and await self.world.rows(over):
                return after
            if not died and not await self.unwell(tenant):
                return after
        raise AssertionError("it never comes to an end")

    async def unwell(self, tenant: str) -> list[str]:
        now = await self.world.parts.ledger.now()
        found = [one for place in places(self.world) for one in await place.verify(now)]
        return [f"{one.place} {one.why}" for one in found if not one.well and one.tenant in (tenant, "*", "?")]


async def test_what_lies_beside_messages_dies_whole_or_not_at_all(
    database_url: str, tmp_path: Path, broker: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First one tenant's day, then the other's, with which the partitions go. What a hold keeps is kept before, and goes when that is over."""
    async with kept(database_url, tmp_path, **PERIODS) as world, open_topic(world, broker, unique) as publisher:
        terms = Terms(one.policy for one in find_policies(tmp_path / "policies"))
        monkeypatch.setattr("gateway.app.retention_rows.Terms", lambda _: terms)  # reckoned once: the same for every process
        day = await today(world)
        days = Days(world, day, chain_of(world, publisher))
        await fill(world)
        holds = {tenant: await rows_add_hold(world, tenant) for tenant in PERIODS}
        while await days.chain.once():
            pass
        before = await days.counts("long")
        assert before == {"letters": 3, "parked_texts": 1, "parked": 1, "inbound": 1, "chained": before["chained"], "ids": 1}

        now = await move_to(world, midnight(day) + timedelta(days=3, minutes=1))
        kills = await days.die(now, "short", "long", before)
        assert kills > 20
        assert await left(world, "short") == GONE
        gone = await days.counts("short")
        # while a hold of the whole tenant stands, who sent its texts stays known
        assert gone == dict.fromkeys(before, 0) | {"ids": 1, "inbound": 1}
        things = await world.rows(
            "select thing, count(*)::int as n from held where hold = $1 group by 1 order by 1", holds["short"]
        )
        assert {row["thing"]: row["n"] for row in things} == {
            "content": 1,
            "address": 1,
            "events": 1,
            "dead_letters": 3,
            "audit": 5,
        }

        days.kept = {str(holds["short"]): sum(row["n"] for row in things)}
        await holds_of(world.parts).release(holds["short"], "test")
        assert await days.die(now, "short", "long", before, "select 1 from legal_holds where ended_at is not null") > 2
        assert not await world.rows("select 1 from held where hold = $1", holds["short"])
        await run_all(world, now)
        assert (await days.counts("short"))["inbound"] == 0

        now = await move_to(world, midnight(day) + timedelta(days=9, minutes=1))
        await days.die(now, "long", None, before)
        assert await left(world, "long") == GONE
        assert not await world.rows(
            "select 1 from pg_class where relname = any($1)", [f"audit_chain_{day:%Y%m%d}", f"messages_{day:%Y%m%d}"]
        )
        assert (await verify(world)).whole
