from __future__ import annotations

import asyncio
import gc
import json
import logging
import random
import ssl
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from time import monotonic

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.providers.http import Answer, HttpClient, MaybeSent, NotSent
from tests.contract.wire import Connection, a_full_listener, an_unused_port, wire

CANARY = "+15005550199"
LIMIT = 0.6  # seconds: the shortest that leaves each share of it some room
SLACK = 1.5  # seconds that a busy machine may add


@asynccontextmanager
async def a_client(limit: float = 5.0, connections: int = 8, **more: object) -> AsyncIterator[HttpClient]:
    client = HttpClient(time_limit_seconds=limit, connections=connections, **more)  # type: ignore[arg-type] # options of many types
    try:
        yield client
    finally:
        await client.close()


def post(client: HttpClient, url: str, body: str = CANARY) -> Awaitable[Answer]:
    return client.request(
        "POST", f"{url}/texts?To={CANARY}", headers={"x-of": "ours"}, form={"To": body}, basic_auth=("us", "er")
    )


async def answers(connection: Connection) -> None:
    while True:
        await connection.read()
        await connection.answer(201)


# ------------------------------------------------------------------------------------------------------- what is proven


async def test_a_refused_connection_is_proven_unsent() -> None:
    async with a_client() as client:
        with pytest.raises(NotSent) as fault:
            await post(client, f"http://127.0.0.1:{an_unused_port()}")
    assert fault.value.why == "refused"


async def test_a_name_that_does_not_resolve_is_proven_unsent() -> None:
    async with a_client() as client:
        with pytest.raises(NotSent) as fault:
            await post(client, f"http://{'a' * 64}.localhost:1")  # a label of 64 characters: refused before any query goes out
    assert fault.value.why == "name"


async def test_a_connection_that_is_not_answered_is_proven_unsent() -> None:
    async with a_full_listener() as listener, a_client(LIMIT) as client:
        began = monotonic()
        with pytest.raises(NotSent) as fault:
            await post(client, f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert fault.value.why == "connect_timeout"
    assert monotonic() - began < LIMIT + SLACK


async def test_what_gets_no_place_in_time_is_proven_unsent_and_never_begins() -> None:
    async def hangs(connection: Connection) -> None:
        await connection.read()
        await connection.hang()

    async with wire(hangs) as server, a_client(LIMIT, connections=1) as client:
        first = asyncio.ensure_future(post(client, server.url, "first"))
        await server.arrived.wait()
        with pytest.raises(NotSent) as fault:
            await post(client, server.url, "second")
        with pytest.raises(MaybeSent):
            await first
    assert fault.value.why == "pool"
    assert [request.form["To"] for request in server.requests] == ["first"]


async def test_what_was_held_up_past_its_time_never_begins() -> None:
    async with wire(answers) as server, a_client() as client:
        with pytest.raises(NotSent) as fault:
            await client._exchange("POST", server.url, {}, {}, None, monotonic())
    assert fault.value.why == "late"
    assert server.connections == 0


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:99999/", "ftp://127.0.0.1/"])
async def test_a_request_that_cannot_be_made_is_proven_unsent(url: str) -> None:
    async with a_client() as client:
        with pytest.raises(NotSent) as fault:
            await post(client, url)
    assert fault.value.why == "bad_request"


# ------------------------------------------------------------------------------------------------------ what is doubtful


async def reads_then_hangs(connection: Connection) -> None:
    await connection.read()
    await connection.hang()


async def reads_then_fin(connection: Connection) -> None:
    await connection.read()
    connection.fin()


async def reads_then_rst(connection: Connection) -> None:
    await connection.read()
    connection.rst()


async def rst_before_reading(connection: Connection) -> None:
    await connection.bytes_are_there()
    connection.rst()


async def half_a_body(connection: Connection) -> None:
    await connection.read()
    await connection.write(b"HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\nhalf")


async def half_a_head(connection: Connection) -> None:
    await connection.read()
    await connection.write(b"HTTP/1.1 201 Crea")


async def half_a_chunk(connection: Connection) -> None:
    await connection.read()
    await connection.write(b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\nff\r\nhalf")


async def garbage(connection: Connection) -> None:
    await connection.read()
    await connection.write(b"\x00\xff garbage\r\n\r\n")


async def garbage_unasked(connection: Connection) -> None:
    await connection.write(b"\x00\xff garbage\r\n\r\n")
    await connection.hang()


async def a_body_without_end(connection: Connection) -> None:
    await connection.read()
    await connection.write(b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await connection.write(b"400\r\n" + b"x" * 0x400 + b"\r\n")


async def a_body_that_never_comes(connection: Connection) -> None:
    await connection.read()
    await connection.write(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{")
    await connection.hang()


@pytest.mark.parametrize(
    "script,why",
    [
        (reads_then_hangs, "timeout"),
        (reads_then_fin, "closed"),
        (reads_then_rst, "reset"),
        (rst_before_reading, "reset"),
        (half_a_body, "broken_answer"),
        (half_a_head, "closed"),
        (half_a_chunk, "broken_answer"),
        (garbage, "broken_answer"),
        (garbage_unasked, "broken_answer"),
        (a_body_without_end, "broken_answer"),
        (a_body_that_never_comes, "timeout"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_whatever_else_goes_wrong_may_have_been_sent(script: Callable[[Connection], Awaitable[None]], why: str) -> None:
    async with wire(script) as server, a_client(LIMIT, answer_limit_bytes=4096) as client:
        began = monotonic()
        with pytest.raises(MaybeSent) as fault:
            await post(client, server.url)
        took = monotonic() - began
    assert fault.value.why == why
    assert took < LIMIT + SLACK
    assert server.connections == 1


async def test_a_body_that_trickles_ends_at_the_whole_time_limit() -> None:
    ticks = 0

    async def trickles(connection: Connection) -> None:
        nonlocal ticks
        await connection.read()
        await connection.write(b"HTTP/1.1 201 Created\r\ncontent-length: 1000\r\n\r\n")
        while not connection.writer.is_closing():
            await connection.write(b"x")
            ticks += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(connection.server.over.wait(), LIMIT / 10)

    async with wire(trickles) as server, a_client(LIMIT) as client:
        began = monotonic()
        with pytest.raises(MaybeSent) as fault:
            await post(client, server.url)
        took = monotonic() - began
    assert fault.value.why == "timeout"
    assert ticks > 3
    assert took < LIMIT + SLACK


async def test_an_answer_of_exactly_the_limit_is_read_whole() -> None:
    async def full(connection: Connection) -> None:
        await connection.read()
        await connection.answer(200, b"x" * 300_000)

    async with wire(full) as server, a_client(answer_limit_bytes=300_000) as client:
        assert len((await post(client, server.url)).body) == 300_000
    async with wire(full) as server, a_client(answer_limit_bytes=299_999) as client:
        with pytest.raises(MaybeSent):
            await post(client, server.url)


# ------------------------------------------------------------------------------------------------- never twice, never late


async def test_a_kept_connection_that_ends_while_idle_costs_nothing_and_repeats_nothing() -> None:
    gone = asyncio.Event()

    async def answers_once(connection: Connection) -> None:
        await connection.read()
        await connection.answer(201)
        connection.writer.write_eof()
        await connection.reader.read()  # the client has noticed, and has closed its side
        gone.set()

    async with wire(answers_once) as server, a_client() as client:
        for number in range(20):
            gone.clear()
            await post(client, server.url, str(number))
            await gone.wait()
    assert [request.form["To"] for request in server.requests] == [str(number) for number in range(20)]


@pytest.mark.parametrize("end", ["fin", "rst"])
async def test_a_kept_connection_that_dies_on_the_next_request_is_doubtful_and_never_repeated(end: str) -> None:
    async def dies_on_the_second(connection: Connection) -> None:
        await connection.read()
        await connection.answer(201)
        await connection.read()
        getattr(connection, end)()

    async with wire(dies_on_the_second) as server, a_client(connections=1) as client:
        await post(client, server.url, "first")
        with pytest.raises(MaybeSent):
            await post(client, server.url, "second")
    assert [request.form["To"] for request in server.requests] == ["first", "second"]
    assert server.connections == 1


async def test_among_connections_that_die_at_any_moment_no_request_arrives_twice() -> None:
    """The counting server: whatever the client says must agree with what arrived."""
    chance = random.Random(20261123)

    async def dies_somewhere(connection: Connection) -> None:
        while True:
            moment = chance.random()
            if moment < 0.1:
                await connection.bytes_are_there()
                return connection.rst()
            await connection.read()
            if moment < 0.2:
                return connection.rst()
            if moment < 0.3:
                return connection.fin()
            if moment < 0.4:
                return await connection.write(b"HTTP/1.1 201 Crea")
            await connection.answer(201)
            if moment < 0.6:
                return connection.rst()
            if moment < 0.9:
                return connection.fin()

    fates: dict[str, str] = {}

    async with wire(dies_somewhere) as server, a_client(connections=16) as client:

        async def one(number: int) -> None:
            try:
                fates[str(number)] = f"HTTP {(await post(client, server.url, str(number))).status}"
            except (NotSent, MaybeSent) as fault:
                fates[str(number)] = type(fault).__name__

        for start in range(0, 1600, 160):
            await asyncio.gather(*(one(number) for number in range(start, start + 160)))

    arrived = Counter(request.form["To"] for request in server.requests)
    assert len(fates) == 1600
    assert {fates[number] for number, times in arrived.items() if times > 1} == set()
    assert all(arrived[number] == 1 for number, fate in fates.items() if fate == "HTTP 201")
    assert all(arrived[number] == 0 for number, fate in fates.items() if fate == "NotSent")
    assert Counter(fates.values())["HTTP 201"] > 500


async def test_who_is_cancelled_while_waiting_for_a_place_sends_nothing_later() -> None:
    go = asyncio.Event()

    async def answers_when_told(connection: Connection) -> None:
        while True:
            await connection.read()
            await go.wait()
            await connection.answer(201)

    async with wire(answers_when_told) as server, a_client(connections=1) as client:
        first = asyncio.ensure_future(post(client, server.url, "first"))
        await server.arrived.wait()
        second = asyncio.ensure_future(post(client, server.url, "second"))
        await asyncio.sleep(0)  # lets it begin to wait
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go.set()
        await first
        await post(client, server.url, "third")
    assert [request.form["To"] for request in server.requests] == ["first", "third"]


async def test_who_is_cancelled_under_way_lets_go_only_when_the_request_is_over() -> None:
    go = asyncio.Event()

    async def answers_when_told(connection: Connection) -> None:
        await connection.read()
        await go.wait()
        await connection.answer(201)

    async with wire(answers_when_told) as server, a_client() as client:
        request = asyncio.ensure_future(post(client, server.url))
        await server.arrived.wait()
        for _ in range(3):
            request.cancel()
            await asyncio.sleep(0)
        assert not request.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await request
    assert len(server.requests) == 1


async def test_who_is_cancelled_while_connecting_sends_nothing_after_it_let_go() -> None:
    loop = asyncio.get_running_loop()
    async with a_full_listener() as listener, a_client(LIMIT) as client:
        request = asyncio.ensure_future(post(client, f"http://127.0.0.1:{listener.getsockname()[1]}"))
        await asyncio.sleep(0)  # lets it begin
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        received = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.5):  # longer than the kernel waits before it knocks again
                while True:
                    accepted, _ = await loop.sock_accept(listener)
                    with accepted, suppress(TimeoutError, ConnectionError):
                        accepted.setblocking(False)
                        received += await asyncio.wait_for(loop.sock_recv(accepted, 1000), 0.1)
    assert received == b""


async def test_close_waits_for_what_is_under_way_and_refuses_what_is_new() -> None:
    go = asyncio.Event()

    async def answers_when_told(connection: Connection) -> None:
        await connection.read()
        await go.wait()
        await connection.answer(201)

    async with wire(answers_when_told) as server, a_client() as client:
        under_way = asyncio.ensure_future(post(client, server.url))
        await server.arrived.wait()
        closing = asyncio.ensure_future(client.close())
        await asyncio.sleep(0)
        with pytest.raises(NotSent) as fault:
            await post(client, server.url)
        assert not closing.done()
        go.set()
        assert (await under_way).status == 201
        await closing
    assert fault.value.why == "closing"


# ---------------------------------------------------------------------------------------------------- what goes over it


async def test_a_request_goes_out_as_asked_and_its_answer_comes_back_whole() -> None:
    async def says(connection: Connection) -> None:
        while True:
            await connection.read()
            await connection.answer(429, "Grüße".encode(), "Retry-After: 7\r\n")

    async with wire(says) as server, a_client() as client:
        answer = await client.request("POST", f"{server.url}/a?b=c", headers={"Accept": "x/y"}, form={"a": "é&=+ \U0001f600\n"})
        plain = await client.request("GET", f"{server.url}/d", headers={}, basic_auth=("us", "er"))
    assert (answer.status, answer.headers.get("retry-after"), answer.body.decode()) == (429, "7", "Grüße")
    assert plain.status == 429
    first, second = server.requests
    assert (first.method, first.target, first.form) == ("POST", "/a?b=c", {"a": "é&=+ \U0001f600\n"})
    assert (first.header("accept"), first.header("content-type")) == (["x/y"], ["application/x-www-form-urlencoded"])
    assert first.header("authorization") == []
    assert (second.method, second.body, second.header("authorization")) == ("GET", b"", ["Basic dXM6ZXI="])
    assert server.connections == 1


async def test_a_json_body_goes_out_as_it_is() -> None:
    async with wire(answers) as server, a_client() as client:
        await client.request("PATCH", f"{server.url}/texts", headers={}, json={"to": [CANARY], "text": "\U0001f600 ünï\r\n"})
    assert server.requests[0].method == "PATCH"
    assert json.loads(server.requests[0].body) == {"to": [CANARY], "text": "\U0001f600 ünï\r\n"}
    assert server.requests[0].header("content-type") == ["application/json"]


async def test_a_request_may_have_less_time_than_the_client() -> None:
    async def hangs(connection: Connection) -> None:
        await connection.read()
        await connection.hang()

    began = monotonic()
    async with wire(hangs) as server, a_client(30.0) as client:
        with pytest.raises(MaybeSent) as fault:
            await client.request("GET", server.url, headers={}, within_seconds=LIMIT)
    assert fault.value.why == "timeout"
    assert monotonic() - began < LIMIT + SLACK


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async def redirects(connection: Connection) -> None:
        await connection.read()
        await connection.answer(307, b"", f"location: {connection.server.url}/elsewhere\r\n")

    async with wire(redirects) as server, a_client() as client:
        assert (await post(client, server.url)).status == 307
    assert len(server.requests) == 1


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with wire(answers) as server, wire(answers) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with a_client() as client:
            await post(client, server.url)
    assert (len(server.requests), proxy.connections) == (1, 0)


async def test_no_more_connections_than_allowed() -> None:
    most = now = 0

    async def counts(connection: Connection) -> None:
        nonlocal most, now
        while True:
            await connection.read()
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            await connection.answer(201)

    async with wire(counts) as server, a_client(connections=3) as client:
        await asyncio.gather(*(post(client, server.url, str(number)) for number in range(60)))
    assert most <= 3
    assert server.connections <= 4  # one more: a connection begun while another became free stays for the next
    assert len(server.requests) == 60


# ----------------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "self-signed.pem"
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


@pytest.fixture
def trusted(certificate: Path) -> bytes:
    return certificate.read_bytes().partition(b"-----BEGIN PRIVATE KEY")[0]


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_certificate_that_is_not_trusted_is_proven_unsent(tls: ssl.SSLContext) -> None:
    async with wire(answers, tls) as server, a_client() as client:
        with pytest.raises(NotSent) as fault:
            await post(client, server.url)
        assert server.requests == []
    assert fault.value.why == "tls"


async def test_a_server_that_speaks_no_tls_is_proven_unsent() -> None:
    async def hello(connection: Connection) -> None:
        await connection.bytes_are_there()
        await connection.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with wire(hello) as server, a_client() as client:
        with pytest.raises(NotSent) as fault:
            await post(client, server.url.replace("http:", "https:"))
    assert fault.value.why == "tls"


async def test_a_trusted_certificate_works_and_a_death_behind_it_is_doubtful(tls: ssl.SSLContext, trusted: bytes) -> None:
    async def answers_once_then_dies(connection: Connection) -> None:
        await connection.read()
        await connection.answer(201)
        await connection.read()
        connection.rst()

    async with wire(answers_once_then_dies, tls) as server, a_client(trusted_certificates=trusted) as client:
        assert (await post(client, server.url)).status == 201
        with pytest.raises(MaybeSent):
            await post(client, server.url)
    assert len(server.requests) == 2


# --------------------------------------------------------------------------------------------------------------- privacy


async def test_nothing_of_a_request_is_in_what_it_raises_logs_or_shows(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    async with wire(reads_then_rst) as server, a_client(LIMIT) as client:
        for url in (server.url, f"http://127.0.0.1:{an_unused_port()}", "http://127.0.0.1:99999"):
            with pytest.raises((NotSent, MaybeSent)) as fault:
                await post(client, url)
            assert fault.value.__cause__ is None
            assert fault.value.__context__ is None
            shown += [repr(fault.value), "".join(traceback.format_exception(fault.value, limit=-1))]
    async with wire(answers) as server, a_client() as client:
        shown.append(repr(await post(client, server.url)))
    gc.collect()
    text = "\n".join([*shown, caplog.text])
    assert "5005550199" not in text
    assert "texts?" not in text


# ------------------------------------------------------------------------------------------------------------ the exit


LEAVES = """
import asyncio, socket
from gateway.providers.http import HttpClient, MaybeSent

async def main():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)  # connects, and never answers
    client = HttpClient(time_limit_seconds=0.2, connections=32)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    outcomes = await asyncio.gather(*(client.request("GET", url, headers={}) for _ in range(32)), return_exceptions=True)
    assert all(isinstance(outcome, MaybeSent) for outcome in outcomes)
    await client.close()

asyncio.run(main())
"""


def test_a_process_leaves_cleanly_after_time_outs() -> None:
    for _ in range(5):
        assert subprocess.run([sys.executable, "-c", LEAVES], check=False, cwd=Path(__file__).parents[2]).returncode == 0
