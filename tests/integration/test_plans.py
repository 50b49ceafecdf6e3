"""The plans of the statements that run all the time: by index, into no partition but the one that is meant, and no more rows than asked.

Plans are read with the sessions that the gateway uses: a generic plan, on tables that nobody has analysed, and again on full ones.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.store.chain import Chains
from gateway.store.propagations import PropagationStore
from gateway.store.statements import statements
from tests.integration.audited import chain_of
from tests.integration.hands import Hands
from tests.integration.world import World, open_world

MESSAGES = 400


@pytest.fixture
async def world(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with open_world(database_url, tmp_path) as opened:
        records = [opened.record(to=f"+1202555{n % 90 + 100:04d}", body="x") for n in range(MESSAGES)]
        await opened.intake().admit("sms.outbound.v1", 0, records)
        hands = Hands(opened)
        await hands.send(await hands.claim(room=20))
        if request.param == "analysed":
            await opened.parts.database.execute("analyze")
        yield opened


async def explain(world: World, chapter: str, name: str, *arguments: object) -> dict[str, Any]:
    """The plan of a statement as it ran; what it wrote is undone."""
    found: dict[str, Any] = {}

    async def work(session: Any) -> None:
        await session.execute("set local plan_cache_mode = 'force_generic_plan'")
        rows = await session.fetchval(f"explain (analyze, format json) {statements(chapter)[name]}", *arguments)
        found.update(json.loads(rows)[0])
        raise _Undone

    try:
        await world.parts.database.transact(work)
    except _Undone:
        return found
    raise AssertionError


class _Undone(Exception):
    pass


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in ("Plan", "Plans"):
        for inner in [plan[key]] if isinstance(plan.get(key), dict) else plan.get(key, []):
            yield inner
            yield from nodes(inner)


def scans(plan: dict[str, Any], of: str) -> list[dict[str, Any]]:
    return [node for node in nodes(plan) if node.get("Relation Name", "").startswith(of)]


def run(node: dict[str, Any]) -> bool:
    """Whether a node ran at all: partitions that are pruned stand in a generic plan and are not looked into."""
    return bool(node.get("Actual Loops"))


def check(plan: dict[str, Any], *tables: str) -> None:
    """No table is read from end to end, and of a partitioned one only today's partition is touched."""
    today = f"{datetime.now(UTC):%Y%m%d}"
    for table in tables:
        for node in scans(plan, table):
            if run(node):
                assert node["Node Type"] != "Seq Scan", node
                if node["Relation Name"][-8:].isdigit():
                    assert node["Relation Name"].endswith(today), node["Relation Name"]


FILLED = pytest.mark.parametrize("world", ["filled", "analysed"], indirect=True)


async def uids_of(world: World, count: int = 50) -> list[Any]:
    return [row["uid"] for row in await world.rows("select uid from messages limit $1", count)]


@FILLED
async def test_candidates_are_found_by_route_and_no_more_than_asked(world: World) -> None:
    routes = [route.route_id for route in world.parts.routes]
    now = await world.parts.ledger.now()
    plan = await explain(world, "dispatch", "lock_candidates", routes, [7] * len(routes), now, 100, routes)
    check(plan, "queue", "messages", "bodies")  # what goes on the wire is read with them
    assert [node for node in scans(plan, "bodies") if run(node)]
    used = {node.get("Index Name") for node in nodes(plan) if run(node)}
    assert {"queue_due", "queue_person"} >= {name for name in used if name and name.startswith("queue")}
    assert "queue_due" in used
    for node in nodes(plan):
        if node["Node Type"] == "LockRows":
            assert node["Actual Rows"] <= 7
    top = plan["Plan"]
    assert top["Actual Rows"] <= min(7, MESSAGES)


@FILLED
async def test_messages_are_locked_in_their_own_days_partition(world: World) -> None:
    uids = await uids_of(world)
    check(await explain(world, "ledger", "lock_messages", uids), "messages")
    check(await explain(world, "ledger", "lock_queue", uids), "queue")


@FILLED
async def test_marks_are_made_by_uid(world: World) -> None:
    uids = await uids_of(world)
    plan = await explain(
        world, "dispatch", "mark", uids, [1] * len(uids), "by-hand", 10.0, "spool", *world.parts.database.expected
    )
    check(plan, "queue")


@FILLED
async def test_changes_are_written_by_uid_into_one_day(world: World) -> None:
    """The statement that every step of every message runs."""
    uids = await uids_of(world)
    n = len(uids)
    columns: list[list[Any]] = [
        uids, ["clinic"] * n, ["sent"] * n, [3] * n, ["leave"] * n, [None] * n, [None] * n, [1] * n, ["sent"] * n,
        ["accepted"] * n, [False] * n, [2] * n, [True] * n, [False] * n, [None] * n, [None] * n, ["twilio"] * n, ["main"] * n,
        [None] * n, ["SM1"] * n, [None] * n, [1] * n, [None] * n, [None] * n, [None] * n, [None] * n, [None] * n, [None] * n,
    ]  # fmt: skip
    plan = await explain(world, "ledger", "apply", "w", 10.0, "w", *columns)
    check(plan, "queue", "messages")
    touched = [node for node in scans(plan, "messages") if run(node) and node["Actual Rows"]]
    assert all(node["Actual Rows"] * node["Actual Loops"] <= n for node in touched)


@FILLED
async def test_consent_is_read_by_person(world: World) -> None:
    subjects = [row["subject_id"] for row in await world.rows("select distinct subject_id from messages limit 20")]
    check(await explain(world, "consents", "of", subjects), "consents")
    subject = subjects[0]
    check(await explain(world, "consents", "lock_stoppable", subject, "clinic", "tenant", ""), "queue")
    check(await explain(world, "consents", "under_way", subject, "clinic", "tenant", ""), "queue")
    check(await explain(world, "dispatch", "under_way", subjects), "queue")


@FILLED
async def test_what_is_overdue_is_found_by_index(world: World) -> None:
    for name in ("leases_over", "expired"):
        check(await explain(world, "watch", name, 500), "queue")
    for name in ("news_over", "doubts"):
        plan = await explain(world, "watch", name, 500)
        for node in scans(plan, "messages"):  # its day is not known: every partition is asked, by an index
            assert node["Node Type"] != "Seq Scan", node


@FILLED
async def test_message_ids_are_found_by_index_in_one_partition_each(world: World) -> None:
    plan = await explain(world, "intake", "first_ones", ["clinic"], [b"h" * 16], [b"d" * 16], await one_uid(world))
    asked = [node for node in scans(plan, "message_ids") if run(node)]
    assert len(asked) == 1
    assert all(node["Node Type"] != "Seq Scan" for node in asked)


async def one_uid(world: World) -> list[Any]:
    return await uids_of(world, 1)


@FILLED
async def test_what_is_published_is_removed_and_counted_by_id(world: World) -> None:
    await world.rows("insert into leaders values ('relay', 'test', gateway_now() + interval '1 hour') returning name")
    ids = [row["id"] for row in await world.rows("select id from outbox limit 50")]
    plan = await explain(world, "outbox", "remove", ids, "relay", "test", ["service"] * len(ids))
    check(plan, "outbox")
    assert not list(scans(plan, "messages"))
    assert [node["Actual Rows"] for node in nodes(plan) if node.get("Operation") == "Delete"] == [50]


@FILLED
async def test_counts_are_taken_by_period(world: World) -> None:
    plan = await explain(world, "counts", "take", "minute", 60.0, 15.0, 100)
    check(plan, "outbox", "counts")
    read = sum(node["Actual Rows"] * node["Actual Loops"] for node in scans(plan, "outbox") if run(node))
    assert read <= 1


@FILLED
async def test_the_outbox_is_taken_in_order_without_sorting_it(world: World) -> None:
    plan = await explain(world, "outbox", "take", 50, *world.parts.database.expected)
    check(plan, "outbox", "messages")
    read = sum(node["Actual Rows"] * node["Actual Loops"] for node in scans(plan, "outbox") if run(node))
    assert read <= 50


@FILLED
async def test_the_audit_is_taken_and_published_by_index_and_no_past_day_is_looked_into(world: World) -> None:
    plan = await explain(world, "chain", "take", 100)
    check(plan, "audit_unchained")
    assert plan["Plan"]["Actual Rows"] == 100
    await Chains(world.parts.database).chain(1000, chain_of(world, None)._bind)
    # the last one that was published is of today: what lies before is not looked through for the next
    await world.parts.database.execute("update audit_heads set published = 1, published_at = chained_at")
    plan = await explain(world, "chain", "unpublished", 50, *world.parts.database.expected)
    assert plan["Plan"]["Actual Rows"] == 50
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y%m%d}"
    looked = [node for node in scans(plan, "audit_chain") if run(node)]
    assert looked
    for node in looked:
        assert node["Node Type"] != "Seq Scan", node
        assert not node["Relation Name"].endswith(yesterday)


@FILLED
async def test_pairs_that_are_owed_a_word_are_found_by_index_and_no_more_than_asked(world: World) -> None:
    database, people = world.parts.database, [number.to_bytes(16) for number in range(500)]
    for person in people:
        await database.execute(statements("propagations")["note"], person, ["main"], ["+1"], None, None, None, None, 35.0)
    await database.execute("update propagations set due_at = null where get_byte(subject_id, 15) % 2 = 0")
    plan = await explain(world, "propagations", "take", "main", 25, 35.0)
    check(plan, "propagations")
    for node in scans(plan, "messages"):  # the day of the last text is not known
        assert node["Node Type"] != "Seq Scan", node
    read = [node["Actual Rows"] * node["Actual Loops"] for node in scans(plan, "propagations") if run(node)]
    assert max(read) == 25

    taken = await PropagationStore(database).take("main", 25, 35.0)
    columns = (["+1"] * 25, [one.subject_id for one in taken], [1] * 25, [one.tried_at for one in taken], ["out"] * 25)
    check(await explain(world, "propagations", "say", "main", *columns), "propagations")
    check(await explain(world, "propagations", "settle", "main", *columns, ["confirmed"] * 25, [0.0] * 25), "propagations")
    check(await explain(world, "propagations", "holding", "main", "+1", people[0]), "propagations")
    check(await explain(world, "propagations", "take_up", ["main"]), "propagations")
    check(await explain(world, "propagations", "give_up", ["main"]), "propagations")
    await database.execute(
        "insert into consents (subject_id, tenant, scope, status, version, source, stated_at, written_at)"
        " select subject_id, 'shop', 'tenant', 'out', 1, 'api', now(), now() from propagations"
    )
    check(await explain(world, "propagations", "older_read", people[3], 100), "consents")
    check(await explain(world, "propagations", "note_older", "main", ["+1"] * 25, people[:25]), "propagations")
