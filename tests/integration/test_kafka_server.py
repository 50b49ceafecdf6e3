"""The Apache Kafka that tests start: it keeps its data and its address through stop and kill, and ends with its parent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from gateway.bus.address import BrokerAddress
from gateway.bus.topics import TopicSpec, apply
from tests.kafka.server import KafkaServer
from tests.support import run_apart, until_sync

ROOT = Path(__file__).parents[2]

START_AND_WAIT = """
import sys, time
from pathlib import Path
from tests.kafka.server import KafkaServer
server = KafkaServer(Path(sys.argv[1]))
server.start()
print(server.process_id, flush=True)
time.sleep(600)
"""


async def put(servers: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        await producer.send_and_wait("kept", value, partition=0)


async def count(servers: str) -> int:
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        where = TopicPartition("kept", 0)
        return int((await consumer.end_offsets([where]))[where])


def test_it_keeps_its_data_and_address_through_kill_and_restart(
    kafka_server: KafkaServer,
    tmp_path: Path,
) -> None:
    with KafkaServer(tmp_path) as server:
        servers = server.bootstrap_servers
        run_apart(apply(BrokerAddress(servers), [TopicSpec("kept", 1)]))
        run_apart(put(servers, b"1"))
        server.kill()
        assert not server.alive()
        server.start()
        assert server.bootstrap_servers == servers
        assert run_apart(count(servers)) == 1
        run_apart(put(servers, b"2"))
        server.restart()
        assert run_apart(count(servers)) == 2


def test_it_ends_with_its_parent(kafka_server: KafkaServer, tmp_path: Path) -> None:
    command = [sys.executable, "-c", START_AND_WAIT, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        assert psutil.pid_exists(server)
        parent.kill()
    until_sync(lambda: not psutil.pid_exists(server) or psutil.Process(server).status() == psutil.STATUS_ZOMBIE)
