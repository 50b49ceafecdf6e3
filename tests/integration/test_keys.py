"""Key rings where they are kept: a folder, and a PostgreSQL of its own, through one suite; and what commands make of them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from gateway.app.keys import compare
from gateway.cli.root import run
from gateway.crypto.backup import read_backup, restore, write_backup
from gateway.crypto.directory import KeyDirectory
from gateway.crypto.keyring import KeyRing
from gateway.crypto.master import MasterKeys
from gateway.crypto.sealing import Sealer
from gateway.crypto.tending import look_through, rotate
from gateway.domain.errors import GatewayError, KeyDestroyed, KeyMissing, KeyRingAway, KeyUnreadable
from gateway.domain.ids import new_uid, uid_time
from gateway.embedded.postgres import EmbeddedPostgres
from gateway.flow.keys import DayKey, KeptKey, KeyEnding, KeyPlace
from gateway.flow.vault import DataClass
from gateway.store.ended import Ended
from gateway.store.keys import KeyDatabase
from gateway.store.statements import statements
from tests.integration.world import World, open_world
from tests.rings import masters
from tests.support import free_port, run_apart, until, until_sync

DAY = date(2026, 11, 23)
NAME = "acme/content/2026-11-23"
SEALED = b"canary text"
MASTER = f"main:{'A' * 40}BBA="

Open = Callable[[], KeyPlace]


@pytest.fixture(params=["folder", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder's path, or the address of a database with nothing in it."""
    return str(tmp_path / "ring") if request.param == "folder" else str(request.getfixturevalue("empty_database_url"))


@pytest.fixture
def opened(where: str) -> Iterator[Open]:
    """Opens the place, as often as there are processes."""
    places: list[KeyPlace] = []

    def open_() -> KeyPlace:
        places.append(open_place(where))
        return places[-1]

    yield open_
    for place in places:
        place.close()


@pytest.fixture
def place(opened: Open) -> KeyPlace:
    return opened()


def open_place(where: str) -> KeyPlace:
    """Also for the processes that tests start."""
    return KeyDatabase(where, seconds=30) if where.startswith("postgresql:") else KeyDirectory(Path(where))


def test_a_name_is_used_once(opened: Open, place: KeyPlace) -> None:
    assert place.read(NAME) is None
    assert place.create(NAME, b"one") == b"one"
    assert opened().create(NAME, b"another") == b"one"
    assert opened().read(NAME, durable=True) == b"one"
    assert not place.replace(NAME, b"another", b"two")
    assert place.replace(NAME, b"one", b"two")
    assert place.read(NAME) == b"two"
    assert place.destroy(NAME)
    for other in (place, opened()):
        with pytest.raises(KeyDestroyed, match=NAME):
            other.read(NAME)
        with pytest.raises(KeyDestroyed):
            other.create(NAME, b"three")
        assert not other.replace(NAME, b"two", b"three")
        assert not other.destroy(NAME)


def test_what_never_was_can_be_destroyed_and_is_never_made(place: KeyPlace) -> None:
    assert not place.destroy(NAME)
    with pytest.raises(KeyDestroyed):
        place.create(NAME, b"late")
    assert not place.replace("acme/content/2026-11-24", b"one", b"two")
    assert list(place.entries()) == [KeptKey(NAME, None)]


def test_entries_are_all_in_order(place: KeyPlace) -> None:
    wanted = [f"acme/content/2026-11-{day:02}" for day in range(1, 31)]
    for name in reversed(wanted):
        place.create(name, name.encode())
    place.create("_system/subject", b"own")
    place.destroy(wanted[3])
    found = list(place.entries())
    assert [kept.name for kept in found] == ["_system/subject", *wanted]
    assert found[4].wrapped is None
    assert found[5].wrapped == wanted[4].encode()


def test_a_page_ends_nowhere(empty_database_url: str) -> None:
    place = KeyDatabase(empty_database_url, seconds=30)
    try:
        for number in range(501):
            place.create(f"acme/content/{number:04}", b"x")
        assert len({kept.name for kept in place.entries()}) == 501
    finally:
        place.close()


MAKE = """
import hashlib, sys
from datetime import date, timedelta
from gateway.crypto.keyring import KeyRing
from tests.integration.test_keys import open_place
from tests.integration.world import World, open_world
from tests.rings import masters
ring = KeyRing(open_place(sys.argv[1]), masters())
print("ready", flush=True)
sys.stdin.readline()
for number in range(30):
    print(hashlib.sha256(ring.key("acme", "content", date(2026, 11, 1) + timedelta(days=number)).reveal()).hexdigest())
"""


def test_processes_that_make_the_same_keys_at_once_use_the_same(where: str) -> None:
    makers = [
        subprocess.Popen([sys.executable, "-c", MAKE, where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("go\n")
        maker.stdin.flush()
    told = {maker.communicate(timeout=60)[0] for maker in makers}
    assert len(told) == 1
    assert len(set(told.pop().split())) == 30


HOLD = """
import sys
from datetime import date
from gateway.crypto.keyring import KeyRing
from gateway.crypto.master import MasterKeys
from gateway.crypto.sealing import Sealer
from gateway.domain.errors import KeyDestroyed
from tests.integration.test_keys import open_place
from tests.integration.world import World, open_world
from tests.rings import masters
now = 0.0
ring = KeyRing(open_place(sys.argv[1]), masters(), monotonic=lambda: now)
sealer, day = Sealer(ring), date(2026, 11, 23)
sealed = sealer.seal("acme", "content", day, b"canary text", b"uid")
print("cached", flush=True)
for line in sys.stdin:
    now = float(line)
    try:
        print("opened", sealer.open("acme", "content", day, sealed, b"uid") == b"canary text", flush=True)
    except KeyDestroyed:
        try:
            sealer.seal("acme", "content", day, b"late", b"uid")
        except KeyDestroyed as fault:
            print("refused", fault, flush=True)
"""


def test_another_process_that_had_the_key_opens_nothing_a_minute_later(where: str, place: KeyPlace) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        ask, answers = other.stdin, other.stdout
        assert ask is not None
        assert answers is not None
        assert answers.readline() == "cached\n"
        assert KeyRing(place, masters()).destroy("acme", "content", DAY)
        print(59.9, file=ask, flush=True)
        assert answers.readline() == "opened True\n"
        print(60, file=ask, flush=True)
        assert answers.readline() == f"refused key {NAME} was destroyed: nothing more is sealed or opened with it\n"
        ask.close()
    assert other.returncode == 0


def test_a_new_master_key_wraps_while_the_old_one_still_opens(opened: Open) -> None:
    before = KeyRing(opened(), masters("old"))
    sealed = Sealer(before).seal("acme", "content", DAY, SEALED, b"uid")
    both = KeyRing(opened(), masters("old", "new"))
    assert Sealer(both).open("acme", "content", DAY, sealed, b"uid") == SEALED
    both.key("acme", "content", DAY + timedelta(days=1))
    told: list[int] = []
    assert rotate(both, told.append).rewrapped == 1
    assert sum(told) == 2
    assert rotate(both).rewrapped == 0
    assert dict(look_through(both).by_master) == {"new": 2}
    assert Sealer(KeyRing(opened(), masters("new"))).open("acme", "content", DAY, sealed, b"uid") == SEALED
    with pytest.raises(
        KeyUnreadable, match=f"{NAME}: it needs the master key 'new', which master keys of the test does not hold"
    ):
        KeyRing(opened(), masters("old")).key("acme", "content", DAY)


def test_rotation_passes_over_what_it_cannot_unwrap_and_never_brings_back(opened: Open) -> None:
    ring = KeyRing(opened(), masters("old", "new"))
    ring.place.create("acme/content/2026-11-01", masters("lost").wrap("acme/content/2026-11-01", b"k" * 32))
    ring.place.create(NAME, masters("old").wrap("other/content/2026-11-23", b"k" * 32))
    ring.place.create("acme/content/2026-11-24", b"k" * 32)  # from before there were master keys
    ring.place.destroy("acme/content/2026-11-25")
    looked = rotate(ring)
    assert (looked.rewrapped, looked.destroyed, len(looked.faults)) == (1, 1, 2)
    assert "'lost'" in looked.faults[0]
    assert NAME in looked.faults[1]
    assert ring.key("acme", "content", date(2026, 11, 24)).reveal() == b"k" * 32
    with pytest.raises(KeyDestroyed):
        ring.key("acme", "content", date(2026, 11, 25))


DIES = """
import os, signal, sys
from gateway.crypto.directory import KeyDirectory
from gateway.crypto.keyring import KeyRing
from gateway.crypto.tending import rotate
from tests.integration.test_keys import DAY, open_place
from tests.integration.world import World, open_world
from tests.rings import masters
place = open_place(sys.argv[1])
ring = KeyRing(place, masters("old", "new"))
count = 0
def die(*_arguments, **_named):
    os.kill(os.getpid(), signal.SIGKILL)
def after(method, number):
    def call(*arguments, **named):
        global count
        count += 1
        result = method(*arguments, **named)
        if count == number:
            die()
        return result
    return call
what, step, number = sys.argv[2], sys.argv[3], int(sys.argv[4])
if step == "asked":
    place._ask = after(place._ask, number)
elif step == "whole":
    place.replace, place.destroy = after(place.replace, number), after(place.destroy, number)
else:
    setattr(os, step, after(getattr(os, step), number))
rotate(ring) if what == "rotate" else ring.destroy("acme", "content", DAY)
"""

# after how many calls of which function of the system a destruction, or a rotation, in a folder is killed
STEPS = [("write", 1), ("link", 2), ("write", 2), ("rename", 1), ("write", 3), ("unlink", 2)]


def killed(where: str, what: str, step: str, number: int) -> None:
    died = subprocess.run([sys.executable, "-c", DIES, where, what, step, str(number)], check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()


def filled(place: KeyPlace) -> bytes:
    ring = KeyRing(place, masters("old"))
    for number in range(5):
        ring.key("acme", "content", DAY - timedelta(days=number))
    return Sealer(ring).seal("acme", "content", DAY, SEALED, b"uid")


def test_a_rotation_that_is_killed_goes_on(where: str, opened: Open) -> None:
    sealed = filled(opened())
    killed(where, "rotate", "whole", 2)
    ring = KeyRing(opened(), masters("old", "new"))
    assert dict(look_through(ring).by_master) == {"new": 2, "old": 3}
    assert Sealer(ring).open("acme", "content", DAY, sealed, b"uid") == SEALED
    assert rotate(ring).rewrapped == 3
    assert look_through(ring).faults == []


@pytest.mark.parametrize("step, number", [("write", 1), ("rename", 1)])
def test_a_rotation_killed_in_the_middle_of_a_key_leaves_it_whole(tmp_path: Path, step: str, number: int) -> None:
    sealed = filled(KeyDirectory(tmp_path / "ring"))
    killed(str(tmp_path / "ring"), "rotate", step, number)
    ring = KeyRing(KeyDirectory(tmp_path / "ring"), masters("old", "new"))
    assert Sealer(ring).open("acme", "content", DAY, sealed, b"uid") == SEALED
    assert look_through(ring).by_master.total() == 5
    rotate(ring)
    assert dict(look_through(ring).by_master) == {"new": 5}


@pytest.mark.parametrize("step, number", STEPS)
def test_a_destruction_killed_at_any_step_is_finished_by_its_repetition(tmp_path: Path, step: str, number: int) -> None:
    filled(KeyDirectory(tmp_path / "ring"))
    killed(str(tmp_path / "ring"), "destroy", step, number)
    place = KeyDirectory(tmp_path / "ring")
    KeyRing(place, masters("old")).destroy("acme", "content", DAY)
    with pytest.raises(KeyDestroyed):
        place.read(NAME)
    assert not [path for path in (tmp_path / "ring/acme/content").iterdir() if path.name.startswith(f".{DAY}")]
    assert look_through(KeyRing(place, masters("old"))).by_master.total() == 4


def test_a_destruction_in_postgresql_killed_before_the_page_is_cleaned_is_finished_by_its_repetition(
    empty_database_url: str,
) -> None:
    """Its row is empty by then, and the page still has the wrapped key."""
    place = KeyDatabase(empty_database_url, seconds=30)
    filled(place)
    wrapped = place.read(NAME)
    assert wrapped is not None
    killed(empty_database_url, "destroy", "asked", 1)
    with pytest.raises(KeyDestroyed):
        place.read(NAME)
    assert wrapped in run_apart(file_of_keys(empty_database_url))
    KeyRing(place, masters("old")).destroy("acme", "content", DAY)
    assert wrapped not in run_apart(file_of_keys(empty_database_url))
    assert look_through(KeyRing(place, masters("old"))).by_master.total() == 4
    place.close()


async def file_of_keys(url: str) -> bytes:
    """What stands of the ring's table on the disk."""
    session = await asyncpg.connect(url)
    try:
        await session.execute("checkpoint")
        return bytes(await session.fetchval("select pg_read_binary_file(pg_relation_filepath('key_ring'))"))
    finally:
        await session.close()


def test_a_destruction_that_was_acknowledged_by_nobody_stands(where: str, opened: Open) -> None:
    filled(opened())
    killed(where, "destroy", "whole", 1)
    with pytest.raises(KeyDestroyed):
        opened().read(NAME)


def test_a_key_destroyed_between_reading_and_rewrapping_stays_destroyed(opened: Open) -> None:
    filled(opened())
    place, other = opened(), opened()
    entries = place.entries

    def meanwhile() -> Iterator[KeptKey]:
        for kept in list(entries()):
            other.destroy(kept.name)
            yield kept

    place.entries = meanwhile  # type: ignore[method-assign]  # what another process does in that moment
    assert rotate(KeyRing(place, masters("old", "new"))).rewrapped == 0
    assert [kept.wrapped for kept in other.entries()] == [None] * 5


NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def taken(ring: KeyRing) -> str:
    ring.subject_key()
    return "".join(write_backup(ring, NOW, NOW + timedelta(days=7)))


def test_a_backup_brings_back_what_was_lost_and_not_what_was_destroyed(opened: Open, tmp_path: Path) -> None:
    ring = KeyRing(opened(), masters("old", "new"))
    sealed = filled(ring.place)
    ring.destroy("acme", "content", DAY - timedelta(days=4))
    text = taken(ring)
    assert "canary" not in text
    backup = read_backup(text, ring.masters, "the file")
    ring.destroy("acme", "content", DAY - timedelta(days=3))  # since the backup was made
    done = restore(ring, backup, NOW, [])
    assert (done.keys, done.there, done.destroyed) == (0, 4, 2)
    lost = KeyRing(KeyDirectory(tmp_path / "new"), masters("old", "new"), make_own=False)
    done = restore(lost, backup, NOW, ["acme/content/2026-11-20"])  # what the data knows: that day's was destroyed
    assert (done.keys, done.there, done.destroyed) == (4, 0, 2)
    assert restore(lost, backup, NOW, ["acme/content/2026-11-20"]).keys == 0
    assert lost.fingerprint() == ring.fingerprint()
    assert Sealer(lost).open("acme", "content", DAY, sealed, b"uid") == SEALED
    for day in (3, 4):
        with pytest.raises(KeyDestroyed):
            lost.key("acme", "content", DAY - timedelta(days=day))


def test_a_backup_is_refused_when_it_is_too_old_or_changed_or_anothers(opened: Open, tmp_path: Path) -> None:
    ring = KeyRing(opened(), masters("old"))
    filled(ring.place)
    text = taken(ring)
    backup = read_backup(text, ring.masters, "the file")
    fresh = KeyRing(KeyDirectory(tmp_path / "new"), masters("old"), make_own=False)
    with pytest.raises(GatewayError, match="until 2026-12-02T12:00:00"):
        restore(fresh, backup, NOW + timedelta(days=7), [])
    assert list(fresh.place.entries()) == []
    with pytest.raises(GatewayError, match="the file: the backup was changed"):
        read_backup(text.replace("2026-12-02", "2027-12-02"), ring.masters, "the file")
    lines = text.splitlines(keepends=True)
    for wrong in (text[:-40], "".join(lines[:2]), "", "{}\n{}\n", "[]\n[]\n"):
        with pytest.raises(GatewayError, match="the file: no backup"):
            read_backup(wrong, ring.masters, "the file")
    with pytest.raises(KeyUnreadable, match="'old'"):
        read_backup(text, masters("other"), "the file")
    fresh.key("acme", "content", DAY)
    with pytest.raises(GatewayError, match=f"another key {NAME}"):
        restore(fresh, backup, NOW, [])
    assert len(list(fresh.place.entries())) == 1


def test_threads_may_ask_at_once(place: KeyPlace) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda number: place.create(NAME, b"%d" % number), range(100))) == {place.read(NAME)}


def test_own_keys_are_not_made_where_something_was_written_before(place: KeyPlace) -> None:
    with pytest.raises(KeyMissing, match="_system/message_id"):
        KeyRing(place, masters(), make_own=False).message_id_key()
    assert list(place.entries()) == []


def test_a_check_says_what_is_wrong(place: KeyPlace) -> None:
    ring = KeyRing(place, masters())
    ring.subject_key()
    ring.check()
    with pytest.raises(KeyUnreadable, match="_system/subject: it needs the master key 'test'"):
        KeyRing(place, masters("other")).check()
    wrapped = place.read("_system/subject")
    assert wrapped is not None
    place.replace("_system/subject", wrapped, ring.masters.wrap("_system/subject", b"k" * 32))
    with pytest.raises(KeyUnreadable, match="_system/subject was exchanged"):
        ring.check()


def test_a_key_database_that_goes_away_is_refused_at_once_and_found_again(own_postgres: EmbeddedPostgres) -> None:
    place = KeyDatabase(own_postgres.url, seconds=30)
    try:
        assert place.create(NAME, b"one") == b"one"
        own_postgres.stop()
        with pytest.raises(KeyRingAway, match=f"127.0.0.1:{own_postgres.port}"):
            place.read(NAME)
        with pytest.raises(KeyRingAway, match="cannot be reached"):
            place.read(NAME)
        own_postgres.start()
        assert until_sync(lambda: readable(place), 30, "the key ring") == b"one"
    finally:
        place.close()
    with pytest.raises(KeyRingAway) as fault:
        KeyDatabase(f"postgresql://gateway:canary-word@127.0.0.1:{free_port()}/keys")
    assert "canary-word" not in str(fault.value)


def readable(place: KeyPlace) -> bytes | None:
    try:
        return place.read(NAME)
    except KeyRingAway:
        return None


async def test_a_ring_on_the_datas_own_server_is_refused(database_url: str, empty_database_url: str, tmp_path: Path) -> None:
    for url in (database_url, empty_database_url):
        with pytest.raises(GatewayError, match="key_ring_url names the PostgreSQL server of database_url"):
            async with open_world(database_url, tmp_path, GATEWAY_KEY_RING_URL=url, GATEWAY_MASTER_KEYS=MASTER):
                raise AssertionError("opened")


async def test_who_may_do_nothing_else_may_tell_the_server(empty_database_url: str) -> None:
    session = await asyncpg.connect(empty_database_url)
    await session.execute("set role pg_signal_backend")
    assert await session.fetchval(statements("keys")["system"])
    await session.close()


@asynccontextmanager
async def with_ring(database_url: str, folder: Path, server: EmbeddedPostgres, master: str = MASTER) -> AsyncIterator[World]:
    """A gateway whose ring is in that PostgreSQL, with the patience of a test."""
    async with open_world(database_url, folder, GATEWAY_KEY_RING_URL=server.url, GATEWAY_MASTER_KEYS=master) as world:
        assert isinstance(world.parts.ring.place, KeyDatabase)
        world.parts.ring.place.seconds = 30
        yield world


async def test_a_ring_that_is_away_lets_nothing_out_and_a_stop_in(
    database_url: str, own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with with_ring(database_url, tmp_path, own_postgres) as world:
        await world.publish(message_id="one")
        async with world.sending():
            await until(lambda: len(world.carrier.sent) == 1, 30)
        await world.publish(message_id="two")
    async with with_ring(database_url, tmp_path, own_postgres) as world:  # none of the day's keys in memory
        watch = world.parts.key_watch()
        await watch.once()
        level = partial(world.parts.registry.get_sample_value, "sms_gateway_keys_unreadable_seconds")
        assert level() == 0
        own_postgres.stop()
        async with world.sending():
            later = {"account": "main", "outcome": "later"}
            await until(lambda: world.parts.registry.get_sample_value("sms_gateway_requests_total", later), 30)
        assert world.carrier.sent == []
        with pytest.raises(KeyRingAway):
            await world.publish(message_id="three")
        await watch.once()
        await watch.once()
        assert (level() or 0) > 0
        with pytest.raises(KeyRingAway, match=str(own_postgres.port)):
            await watch.check()
        assert await world.receive("STOP", sender="+12025550102") == "stop"
        assert [row["status"] for row in await world.rows("select status from consents")] == ["out"]
        own_postgres.start()
        await until(lambda: _answers(world.parts.ring.place), 30)
        await watch.once()
        assert level() == 0
        await world.publish(message_id="three")


def _answers(place: KeyPlace) -> bool:
    try:
        place.read(NAME)
    except KeyRingAway:
        return False
    return True


async def test_a_start_names_what_is_wrong_with_the_ring(
    database_url: str, own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with with_ring(database_url, tmp_path, own_postgres):
        pass
    for wrong, said in (
        (MASTER.replace("main", "other"), "_system/subject: it needs the master key 'main', which master_keys does not hold"),
        (f"main:{'A' * 43}=", "_system/subject: the master key 'main' of master_keys is not the one that wrapped it"),
    ):
        with pytest.raises(KeyUnreadable, match=said):
            async with with_ring(database_url, tmp_path, own_postgres, wrong):
                raise AssertionError("opened")
    with pytest.raises(KeyMissing, match=f"{tmp_path}/keys is empty"):  # the folder, which is new
        async with open_world(database_url, tmp_path):
            raise AssertionError("opened")
    with pytest.raises(KeyMissing, match=f"{tmp_path}/keys holds no key _system/subject"):
        async with open_world(database_url, tmp_path, GATEWAY_MASTER_KEYS=MASTER):
            raise AssertionError("opened")
    KeyRing(KeyDirectory(tmp_path / "keys"), MasterKeys(lambda: MASTER, "the test's")).subject_key()
    with pytest.raises(KeyMissing, match="no key _system/message_id"):  # never made anew: every message would be let in twice
        async with open_world(database_url, tmp_path, GATEWAY_MASTER_KEYS=MASTER):
            raise AssertionError("opened")
    own_postgres.stop()
    with pytest.raises(KeyRingAway, match="cannot be reached"):
        async with with_ring(database_url, tmp_path, own_postgres):
            raise AssertionError("opened")


async def test_a_master_key_made_by_itself_is_missed_when_it_is_gone(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path):
        pass
    file = tmp_path / "state/master/keys"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = file.read_text()
    file.unlink()
    with pytest.raises(KeyMissing, match=f"put {file} back"):
        async with open_world(database_url, tmp_path):
            raise AssertionError("opened")
    file.write_text(kept)
    file.chmod(0o600)
    async with open_world(database_url, tmp_path):
        pass


BEGIN = """
import os, sys
from gateway.app.keys import open_ring
from gateway.settings import load
with open_ring(load(os.environ), make_own=True) as ring:
    print(ring.fingerprint(), ring.masters.newest)
"""


def test_processes_that_begin_at_once_make_one_master_key(tmp_path: Path) -> None:
    environment = {**os.environ, "GATEWAY_STATE_DIRECTORY": str(tmp_path / "state")}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", BEGIN], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for _ in range(2)
    )
    told = {one.communicate(timeout=60)[0].splitlines()[-1] for one in (first, second)}  # before it: that one was made
    assert first.returncode == second.returncode == 0
    assert len(told) == 1


async def test_a_destruction_is_noted_first_and_finished_by_the_sweep(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url, tmp_path) as world:
        parts, key = world.parts, DayKey("clinic", "content", DAY)
        parts.ring.key("clinic", "content", DAY)
        with pytest.raises(asyncio.CancelledError):  # as if it were killed between the note and the deed
            await KeyEnding(_Dies(), Ended(parts.database)).destroy(key)
        assert parts.ring.place.read("clinic/content/2026-11-23")
        assert await compare(parts.settings, parts.ring) == [
            "key clinic/content/2026-11-23 is there, and was destroyed before: run `gateway keys check --end`"
        ]
        assert await parts.key_ending().finish() == 1
        assert await parts.key_ending().finish() == 0
        assert await compare(parts.settings, parts.ring) == []
        with pytest.raises(KeyDestroyed):
            parts.ring.key("clinic", "content", DAY)
        assert not await parts.key_ending().destroy(key)
        today = uid_time(new_uid(await parts.ledger.now())).date()
        await parts.key_ending().destroy(DayKey("clinic", "content", today))
        with pytest.raises(KeyDestroyed, match=f"clinic/content/{today}"):  # a late writer
            await world.publish(message_id="late")
        assert await world.states() == {}


class _Dies:
    """A key ring that is not reached any more."""

    def destroy(self, _tenant: str, _data_class: DataClass, _day: date) -> bool:
        raise asyncio.CancelledError

    def forget_expired(self) -> None:
        raise NotImplementedError

    def check(self) -> None:
        raise NotImplementedError


async def test_the_commands_from_a_ring_without_master_keys_to_a_restored_one(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        "GATEWAY_DATABASE_URL": database_url,
        "GATEWAY_STATE_DIRECTORY": str(tmp_path / "state"),
        "GATEWAY_KEY_RING_DIRECTORY": str(tmp_path / "keys"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    async def gateway(*arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(run, arguments)
        return code, *capsys.readouterr()

    async with open_world(database_url, tmp_path) as world:
        await world.publish(message_id="one")
        ring, opened = world.parts.ring, {}
        for kept in ring.place.entries():
            assert kept.wrapped is not None
            opened[kept.name] = ring.masters.unwrap(kept.name, kept.wrapped)
    for name, key in opened.items():  # as they were before there were master keys
        (tmp_path / "keys" / f"{name}.key").write_bytes(key)
    (tmp_path / "state/master/keys").unlink()
    with pytest.raises(KeyUnreadable, match="gateway keys rotate"):
        async with open_world(database_url, tmp_path):
            raise AssertionError("opened")
    code, _, err = await gateway("keys", "check")
    assert code == 1
    assert "its keys are not wrapped yet: run `gateway keys rotate`" in err
    code, out, _ = await gateway("keys", "rotate", "--json")
    assert (code, json.loads(out)["rewrapped"]) == (0, len(opened))
    code, out, _ = await gateway("keys", "list")
    assert code == 0
    assert len(out.splitlines()) == 1 + len(opened)
    file = tmp_path / "backup"
    assert (await gateway("keys", "backup", str(file)))[0] == 0
    assert (await gateway("keys", "backup", str(file)))[0] == 1  # never over another
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    async with open_world(database_url, tmp_path) as world:
        await world.parts.key_ending().destroy(
            DayKey("clinic", "address", uid_time(new_uid(await world.parts.ledger.now())).date())
        )
    shutil.rmtree(tmp_path / "keys")
    code, out, _ = await gateway("keys", "restore", str(file), "--json")
    # neither the destroyed one, nor what says how far the database had come: that is of the moment
    assert (code, json.loads(out)) == (0, {"restored": len(opened) - 2, "there": 0, "destroyed": 1})
    code, out, err = await gateway("keys", "check", "--json")
    assert (code, json.loads(out)["destroyed"], err) == (0, 1, "")
    shutil.rmtree(tmp_path / "keys")
    assert (await gateway("keys", "restore", str(file), "--without-database"))[0] == 0
    code, _, err = await gateway("keys", "check")
    assert (code, err.count("was destroyed before")) == (1, 1)
    assert (await gateway("keys", "check", "--end"))[0] == 0
    assert (await gateway("keys", "check"))[0] == 0
    shutil.rmtree(tmp_path / "keys/_system")
    code, out, err = await gateway("keys", "check")
    assert code == 1
    assert "holds no key _system/subject" in err
