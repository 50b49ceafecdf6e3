"""The publishers of docs/examples, as they are: each publishes to a real broker, and the gateway takes what it published."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.bus.address import BrokerAddress
from gateway.bus.topics import TopicSpec, apply
from gateway.domain.cloudevents import read_event
from gateway.domain.event_reading import read_message
from gateway.domain.events import OutboundMessage, content_bytes
from gateway.domain.personal import MessageBody
from tests.integration.reading import first_records
from tests.integration.world import open_world
from tests.kafka.jars import class_path, java
from tests.kafka.server import KafkaServer
from tests.node.packages import NodeMissing, node, node_modules

EXAMPLES = Path("docs/examples")
NUMBER = "+14155550123"
TEXT = 'Order 1 \\ "Ulysses" is on its way.\nÀ bientôt \U0001f4e6'
PYTHON = (sys.executable, str(EXAMPLES / "publish.py"))


def node_example(folder: Path) -> Sequence[str]:
    """The command of the example in Node, beside the packages that it needs."""
    try:
        runtime = node()
        (folder / "node_modules").symlink_to(node_modules(EXAMPLES / "package.json"))
    except NodeMissing as missing:
        pytest.skip(f"docs/examples/publish.mjs was not run: {missing}")
    program = folder / "publish.mjs"
    program.write_bytes((EXAMPLES / "publish.mjs").read_bytes())
    return (runtime, str(program))


def java_example() -> Sequence[str]:
    """The command of the example in Java. A server's Java has no compiler, and cannot run a source file."""
    program = java()
    modules = subprocess.run([program, "--list-modules"], capture_output=True, text=True, check=True).stdout
    if "jdk.compiler" not in modules:
        pytest.skip(
            "docs/examples/Publish.java was not run: this Java has no compiler (on Debian: apt-get install openjdk-17-jdk-headless)"
        )
    return (program, "-cp", class_path(), str(EXAMPLES / "Publish.java"))


async def is_taken(command: Sequence[str], broker: str, topic: str, database_url: str, folder: Path) -> None:
    await apply(BrokerAddress(broker), [TopicSpec(topic, 1, {})])
    run = [*command, broker, "shop", "orders", "order-1", "customer-77", topic]
    done = await asyncio.to_thread(
        subprocess.run, run, input=f"{NUMBER}\n{TEXT}\n".encode(), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()

    (record,) = await first_records(broker, topic)
    assert record.key == b"customer-77"
    event = read_event(record.headers, record.value)
    assert (event.type, event.id, event.source) == (OutboundMessage.TYPE, "order-1", "/shop/orders")
    assert event.time is not None
    message = read_message(event.data)
    assert message.body == MessageBody(TEXT)
    # The same bytes in each language: what one of them publishes again is the same message.
    assert content_bytes(message) == content_bytes(
        OutboundMessage.model_validate_json(
            b'{"message_id":"order-1","tenant":"shop","programme":"orders","category":"service","recipient_ref":"customer-77",'
            b'"to":"+14155550123","body":"Order 1 \\\\ \\"Ulysses\\" is on its way.\\n\\u00c0 bient\\u00f4t \\ud83d\\udce6"}'
        )
    )
    async with open_world(database_url, folder) as world:
        await world.intake().admit("sms.outbound.v1", 0, [record])
        assert await world.rows("select * from dead_letters") == []
        assert set(await world.states()) == {"order-1"}


async def test_the_publisher_in_python_is_let_in(broker: str, unique: str, database_url: str, tmp_path: Path) -> None:
    await is_taken(PYTHON, broker, f"{unique}.python", database_url, tmp_path)


async def test_the_publisher_in_node_is_let_in(broker: str, unique: str, database_url: str, tmp_path: Path) -> None:
    await is_taken(node_example(tmp_path), broker, f"{unique}.node", database_url, tmp_path)


async def test_the_publisher_in_java_is_let_in(kafka_server: KafkaServer, unique: str, database_url: str, tmp_path: Path) -> None:
    await is_taken(java_example(), kafka_server.bootstrap_servers, f"{unique}.java", database_url, tmp_path)


@pytest.mark.parametrize("language", ["python", "node"])
def test_a_publisher_says_how_it_is_called(language: str, tmp_path: Path) -> None:
    command = PYTHON if language == "python" else node_example(tmp_path)
    done = subprocess.run([*command, "localhost:9092"], input="", capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"usage: {Path(command[-1]).name} BROKER TENANT PROGRAMME MESSAGE_ID RECIPIENT_REF")


def test_the_publisher_in_java_is_tried_with_the_client_that_its_pom_names() -> None:
    named, tried = (
        re.findall(r"<artifactId>kafka(?:-clients|_2\.13)</artifactId>\s*<version>([\d.]+)", pom.read_text(encoding="utf-8"))
        for pom in (EXAMPLES / "pom.xml", Path("tests/kafka/pom.xml"))
    )
    assert named == tried


@pytest.mark.parametrize("name", ["publish.py", "publish.mjs", "Publish.java"])
def test_a_publisher_is_short_enough_to_be_copied(name: str) -> None:
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 60
