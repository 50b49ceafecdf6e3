"""What becomes of PostgreSQL's faults: tried again, told without values, and never waited for without end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.domain.errors import GatewayError, StoreRefused, StoreUnavailable
from gateway.store.database import Database, StoreMisused
from tests.integration.world import open_world
from tests.support import free_port, until

SECRET = "+13105550147"  # a value that no fault may show


@pytest.fixture
async def database(database_url: str) -> Any:
    opened = await Database(database_url, sessions=6).open()
    yield opened
    await opened.close()


def shown(fault: BaseException) -> str:
    """All that a log could show of it."""
    assert fault.__cause__ is None
    assert fault.__suppress_context__
    return f"{fault!s} {fault!r}"


async def test_a_backend_that_is_ended_in_a_transaction_is_unavailable_and_the_next_one_works(
    database: Database, database_url: str
) -> None:
    killer = await asyncpg.connect(database_url)
    try:

        async def cut(session: Any) -> None:
            await session.execute("insert into facts values ('half', $1)", SECRET)
            pid = await session.fetchval("select pg_backend_pid()")
            await killer.execute("select pg_terminate_backend($1)", pid)
            await session.execute("insert into facts values ('other half', 'x')")

        with pytest.raises(StoreUnavailable) as found:
            await database.transact(cut)
        assert SECRET not in shown(found.value)
        assert await database.fetch("select * from facts where name like '%half'") == []
    finally:
        await killer.close()


async def test_idle_backends_that_are_ended_cost_nobody_more_than_an_answer(database: Database, database_url: str) -> None:
    await asyncio.gather(*(database.fetch("select pg_sleep(0.05)") for _ in range(6)))
    killer = await asyncpg.connect(database_url)
    await killer.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sms-gateway'")
    await killer.close()
    for _ in range(12):
        try:
            await database.fetch("select 1")
        except StoreUnavailable:
            continue
    assert (await database.fetch("select 1"))[0][0] == 1


async def test_a_deadlock_is_tried_again_from_the_beginning(database: Database) -> None:
    await database.execute("insert into facts values ('a', ''), ('b', '')")
    met = asyncio.Barrier(2)
    runs = 0

    def crossing(first: str, second: str) -> Any:
        waited = False

        async def work(session: Any) -> None:
            nonlocal waited, runs
            runs += 1
            await session.execute("set local deadlock_timeout = '20ms'")
            await session.execute("update facts set value = value || 'x' where name = $1", first)
            if not waited:
                waited = True
                await met.wait()
            await session.execute("update facts set value = value || 'x' where name = $1", second)

        return work

    await asyncio.gather(database.transact(crossing("a", "b")), database.transact(crossing("b", "a")))
    assert runs == 3
    assert [row["value"] for row in await database.fetch("select value from facts where name in ('a', 'b')")] == ["xx", "xx"]


async def test_a_serialization_failure_is_tried_a_few_times_only(database: Database) -> None:
    runs = 0

    async def failing(session: Any) -> None:
        nonlocal runs
        runs += 1
        await session.execute("do $$ begin raise exception '+13105550147' using errcode = '40001'; end $$")

    with pytest.raises(StoreUnavailable) as found:
        await database.transact(failing)
    assert runs == 5
    assert SECRET not in shown(found.value)


@pytest.mark.parametrize(
    "statement, arguments, refused",
    [
        ("insert into facts values ('twice', $1), ('twice', $1)", (SECRET,), True),  # its text holds the key
        ("insert into facts values ($1, null)", (SECRET,), True),
        ("select $1::text::int", (SECRET,), True),
        ("select $1::int", (2**40,), True),  # the client refuses it, PostgreSQL never sees it
        ("select $1::int", (SECRET,), True),
        ("select $1::text", ("\ud800" + SECRET,), True),
        ("select $1::text", ("\0" + SECRET,), True),
        ("insert into clock values (true)", (), True),
        ("select no_such_column from facts where name = $1", (SECRET,), False),
        ("do $$ begin raise exception '+13105550147'; end $$", (), False),
        ("do $$ begin raise exception '+13105550147' using errcode = '53100'; end $$", (), False),
        ("do $$ begin raise exception '+13105550147' using errcode = '57014'; end $$", (), False),
    ],
)
async def test_a_refused_value_and_everything_else_are_told_apart_and_no_fault_shows_a_value(
    database: Database, statement: str, arguments: tuple[object, ...], refused: bool
) -> None:
    for run in (database.fetch, database.execute):
        with pytest.raises(StoreRefused if refused else StoreUnavailable) as found:
            await run(statement, *arguments)
        assert SECRET not in shown(found.value)

    async def work(session: Any) -> None:
        await session.execute(statement, *arguments)

    with pytest.raises(StoreRefused if refused else StoreUnavailable) as found:
        await database.transact(work)
    assert SECRET not in shown(found.value)


async def used_by_two(session: Any) -> None:
    """The rollback, and giving the session back, fail for the same reason."""
    busy = asyncio.create_task(session.execute("select pg_sleep(0.2)"))
    busy.add_done_callback(lambda task: task.exception())  # it ends with its session
    await asyncio.sleep(0)
    await session.fetch("select $1::text", SECRET)


async def other_count(session: Any) -> None:
    await session.fetch("select $1::text", SECRET, SECRET)


async def too_many_arguments(session: Any) -> None:
    await session.fetch("select $1::text", *[SECRET] * 40_000)


async def transaction_entered_twice(session: Any) -> None:
    transaction = session.transaction()
    async with transaction, transaction:
        pass


@pytest.mark.parametrize("wrong", [used_by_two, other_count, too_many_arguments, transaction_entered_twice])
async def test_a_wrong_call_is_loud_and_costs_the_next_one_nothing(database: Database, wrong: Any) -> None:
    with pytest.raises(StoreMisused) as found:
        await database.transact(wrong)
    assert not isinstance(found.value, GatewayError)  # which loops bear with
    assert SECRET not in shown(found.value)
    assert wrong.__name__ in [frame.name for frame in found.traceback]  # where it is wrong
    assert (await database.fetch("select 1"))[0][0] == 1
    assert await database.fetch("select pid from pg_stat_activity where state = 'idle in transaction'") == []


async def test_a_wrong_number_of_arguments_is_loud_without_a_transaction_too(database: Database) -> None:
    for call in (database.fetch, database.execute):
        with pytest.raises(StoreMisused):
            await call("select $1::text", SECRET, SECRET)
        with pytest.raises(StoreMisused):
            await call("select 1", SECRET)


async def terminated(session: Any) -> None:
    """As the pool does with the sessions in use when it is closed and waits no longer."""
    session.terminate()


async def closed(session: Any) -> None:
    await session.close()


async def cut(session: Any) -> None:
    with suppress(asyncpg.PostgresError, asyncpg.InternalClientError):
        await session.execute("select pg_terminate_backend(pg_backend_pid())")


@pytest.mark.parametrize("gone", [terminated, closed, cut])
@pytest.mark.parametrize("then", ["statement", "transaction", "listener"])
async def test_a_session_that_has_gone_is_away_whatever_is_asked_of_it(database: Database, gone: Any, then: str) -> None:
    """asyncpg has one exception for that and for a wrong call."""

    async def work(session: Any) -> None:
        await gone(session)
        if then == "transaction":
            async with session.transaction():
                pass
        elif then == "listener":
            await session.add_listener("anything", print)
        await session.fetch("select $1::text", "x")

    for call in (database.transact, database._run):
        with pytest.raises(StoreUnavailable):
            await call(work)
    assert (await database.fetch("select 1"))[0][0] == 1


async def test_a_pool_that_is_ended_under_its_users_is_away(database_url: str) -> None:
    opened = await Database(database_url, sessions=2).open()
    began = asyncio.Event()

    async def work(session: Any) -> None:
        began.set()
        for _ in range(1000):
            await session.fetch("select pg_sleep(0.01)")

    users = [asyncio.create_task(opened.transact(work)) for _ in range(3)]  # one of them waits for a session
    await began.wait()
    assert opened._pool is not None
    opened._pool.terminate()
    found = await asyncio.gather(*users, return_exceptions=True)
    assert {type(one) for one in found} == {StoreUnavailable}
    with pytest.raises(StoreUnavailable):
        await opened.fetch("select 1")
    await opened.close()


async def test_callers_that_are_cancelled_in_a_statement_leave_no_misuse_behind(database: Database) -> None:
    started = asyncio.Semaphore(0)

    async def work(session: Any) -> None:
        started.release()
        for _ in range(5):
            await session.fetch("select pg_sleep(0.01)")

    tasks = [asyncio.create_task(database.transact(work)) for _ in range(24)]
    for place, task in enumerate(tasks):
        if place % 3:
            task.cancel()
        else:
            await started.acquire()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in found} == {type(None), asyncio.CancelledError}


async def test_a_missing_partition_refuses_no_value(database: Database) -> None:
    with pytest.raises(StoreUnavailable, match="no partition"):
        await database.execute("insert into bodies values ('00000000-0000-7000-8000-000000000000', '')")


async def test_every_session_has_its_time_limits(database: Database) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout", "TimeZone")
    found = {name: (await database.fetch(f"show {name}"))[0][0] for name in names}
    assert found == {
        "statement_timeout": "8s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "2s", "transaction_timeout": "10s",
        "TimeZone": "UTC",
    }  # fmt: skip


async def test_what_is_set_in_a_transaction_does_not_outlive_it(database: Database) -> None:
    async def local(session: Any) -> None:
        await session.execute("set local statement_timeout = '1ms'")

    await asyncio.gather(*(database.transact(local) for _ in range(12)))
    found = await asyncio.gather(*(database.fetch("show statement_timeout") for _ in range(12)))
    assert {rows[0][0] for rows in found} == {"8s"}


@pytest.mark.parametrize(
    "limit, then",
    [
        ("set local statement_timeout = '50ms'", "select pg_sleep(5)"),
        ("set local idle_in_transaction_session_timeout = '50ms'", None),
    ],
)
async def test_what_takes_too_long_is_ended(database: Database, limit: str, then: str | None) -> None:
    async def slow(session: Any) -> None:
        await session.execute(limit)
        if then is None:
            await asyncio.sleep(0.3)  # a worker that is frozen inside a claim
            await session.execute("select 1")
        else:
            await session.execute(then)

    async with asyncio.timeout(4):
        with pytest.raises(StoreUnavailable):
            await database.transact(slow)
    assert (await database.fetch("select 1"))[0][0] == 1


async def test_a_transaction_that_takes_too_long_is_ended(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.database._SINCE_17", {"transaction_timeout": "150ms"})
    database = await Database(database_url, sessions=1).open()

    async def slow(session: Any) -> None:
        for _ in range(100):
            await session.execute("select pg_sleep(0.02)")  # each statement in good time

    try:
        async with asyncio.timeout(4):
            with pytest.raises(StoreUnavailable):
                await database.transact(slow)
        assert (await database.fetch("select 1"))[0][0] == 1
    finally:
        await database.close()


async def test_a_lock_is_not_waited_for_without_end(database: Database, database_url: str) -> None:
    holder = await asyncpg.connect(database_url)
    try:
        await database.execute("insert into facts values ('locked', '')")
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("update facts set value = 'x' where name = 'locked'")

        async def waiting(session: Any) -> None:
            await session.execute("set local lock_timeout = '50ms'")
            await session.execute("update facts set value = 'y' where name = 'locked'")

        with pytest.raises(StoreUnavailable):
            await database.transact(waiting)
        await transaction.rollback()
        await database.transact(waiting)
    finally:
        await holder.close()


async def test_a_pool_that_is_used_up_says_so_in_time(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = await Database(database_url, sessions=1).open()
    pool = database._pool
    assert pool is not None
    monkeypatch.setattr(database, "_acquired", lambda: pool.acquire(timeout=0.1))
    try:
        holding = asyncio.create_task(database.fetch("select pg_sleep(60)"))
        await until(lambda: pool.get_idle_size() == 0)
        with pytest.raises(StoreUnavailable):
            await database.fetch("select 1")
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        monkeypatch.undo()
        assert await database.fetch("select 1")
    finally:
        await database.close()


async def test_without_postgresql_the_start_and_every_call_say_so(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable) as found:
        await Database(f"postgresql://someone:{SECRET}@127.0.0.1:{free_port()}/nothing").open()
    assert SECRET not in shown(found.value)
    with pytest.raises(StoreUnavailable):
        await Database("postgresql://nobody").fetch("select 1")


def test_postgresql_stopped_and_started_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("stopped")
    program = f"""
        import asyncio, sys
        from pathlib import Path
        from gateway.domain.errors import StoreUnavailable
        from gateway.embedded.postgres import EmbeddedPostgres
        from gateway.store.database import Database

        async def run():
            server = EmbeddedPostgres(Path({str(folder)!r}), settings={{"fsync": "off"}})
            with server:
                database = await Database(server.url, sessions=3).open()
                await asyncio.gather(*(database.fetch("select pg_sleep(0.02)") for _ in range(3)))
            for call in (database.fetch, database.execute):
                try:
                    await call("select 1")
                except StoreUnavailable:
                    print("away")
            await database.close()

        asyncio.run(run())
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert said.stdout.split() == ["away", "away"], said.stderr
    assert "Traceback" not in said.stderr


async def test_a_fault_of_a_judge_leaves_nothing_half_written(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="a")
        uid = (await world.rows("select uid from messages"))[0]["uid"]

        def faulty(_held: object, _now: object) -> Any:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await world.parts.ledger.change([uid], faulty)
        assert await world.rows("select pid from pg_stat_activity where state = 'idle in transaction'") == []
        assert len(await world.rows("select * from audit where uid is not null")) == 1
