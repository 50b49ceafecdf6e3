"""Fixtures that every test may ask for. Servers are real, start once a session, and listen on loopback ports that were free."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import structlog
from hypothesis import HealthCheck, settings

from gateway.domain.personal import MessageBody, PhoneNumber
from gateway.embedded.broker import EmbeddedBroker
from gateway.embedded.postgres import EmbeddedPostgres
from tests.canary import CANARY_BODY, CANARY_NUMBER
from tests.kafka.server import KafkaServer
from tests.specification_checks import SpecificationChecks
from tests.support import run_apart

# How long an example takes says nothing of a rule on a machine that does other things as well, nor how long it took to make one.
settings.register_profile("gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("gateway")

_numbers = count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kafka", action="store_true", help="Run the tests that use a broker, on Apache Kafka, and no others.")
    SpecificationChecks.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SpecificationChecks(config))
    # A shell's background job ignores Ctrl-C, and so would every process that a test starts to end it by Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What each broker can do: with ``--kafka`` those that ask for a ``broker`` or for the ``kafka_server``, without it all but the latter."""
    on_kafka = config.getoption("--kafka")

    def wanted(item: pytest.Item) -> bool:
        asks_for = set(getattr(item, "fixturenames", ()))
        return bool(asks_for & {"broker", "kafka_server"}) if on_kafka else "kafka_server" not in asks_for

    others = [item for item in items if not wanted(item)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if wanted(item)]


@pytest.fixture(autouse=True)
def _log_of_its_own() -> Iterator[None]:
    """A command that ran in this process has pointed the log at a stream that is closed by now: the next test begins without that."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that need not survive the machine: without fsync."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings={"fsync": "off", "max_connections": "300"}) as server:
        yield server
    shutil.rmtree(server.folder)


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL for this test alone, which it may stop; with nothing in it, and without fsync."""
    with EmbeddedPostgres(tmp_path / "postgres", settings={"fsync": "off"}) as server:
        yield server
    shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: EmbeddedPostgres) -> str:
    """The name of a database with the gateway's schema, of which tests get copies."""
    from gateway.store.migrate import migrate

    run_apart(_execute(postgres_server.url, "CREATE DATABASE migrated"))
    run_apart(migrate(_url_of(postgres_server, "migrated")))
    return "migrated"


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """The address of a fresh database with the gateway's schema, for this test alone."""
    with fresh_database(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """The address of a fresh database with nothing in it, for this test alone."""
    with fresh_database(postgres_server, "template1") as url:
        yield url


@pytest.fixture(scope="session")
def embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port`` of the embedded broker, for tests of what only that one does."""
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as server:
        yield server.bootstrap_servers


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """An Apache Kafka, for tests of what only that one does: they run by ``make test-kafka``. It is shared: do not stop it."""
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> str:
    """``host:port`` of a broker: the embedded one, with ``--kafka`` Apache Kafka. It is shared: give topics and groups names of your own."""
    if request.config.getoption("--kafka"):
        server: KafkaServer = request.getfixturevalue("kafka_server")
        return server.bootstrap_servers
    return str(request.getfixturevalue("embedded_broker"))


@pytest.fixture
def unique() -> str:
    """A short name that no other test has, for topics and groups."""
    return f"t{next(_numbers)}"


@pytest.fixture
def canary_number() -> PhoneNumber:
    return PhoneNumber(CANARY_NUMBER)


@pytest.fixture
def canary_body() -> MessageBody:
    return MessageBody(CANARY_BODY)


@contextmanager
def fresh_database(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    """The address of a copy of a database, for fixtures that live longer than a test."""
    name = f"test_{next(_numbers)}"
    run_apart(_execute(server.url, f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield _url_of(server, name)
    run_apart(_execute(server.url, f"DROP DATABASE {name} WITH (FORCE)"))


def _url_of(server: EmbeddedPostgres, database: str) -> str:
    return urlsplit(server.url)._replace(path=f"/{database}").geturl()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
