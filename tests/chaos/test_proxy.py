"""A line passes everything on in fair weather, and does what its weather and traps say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from tests.chaos.proxy import Line, Trap, Weather
from tests.support import until


class Echo:
    """A server that answers each line with itself, and remembers what it heard."""

    def __init__(self) -> None:
        self.heard = b""
        self.connections = 0
        self.over = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while line := await reader.readline():
                self.heard += line
                writer.write(line)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.over += 1


Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Client]]


@asynccontextmanager
async def lined() -> AsyncIterator[tuple[Echo, Line, Connect]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    line = Line("echo", "127.0.0.1", server.sockets[0].getsockname()[1])
    await line.open()
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(await asyncio.open_connection("127.0.0.1", line.port))
        return clients[-1]

    try:
        yield echo, line, connect
    finally:
        line.close()
        server.close()
        for _, writer in clients:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()
        await until(lambda: echo.connections == echo.over, 10, "the server has let go of all connections")


async def ask(client: Client, text: bytes, limit: float = 10.0) -> bytes:
    client[1].write(text)
    return await asyncio.wait_for(client[0].readline(), limit)


async def ended(client: Client) -> bool:
    """Whether the connection ends without another byte."""
    try:
        return await asyncio.wait_for(client[0].read(), 10) == b""
    except ConnectionError:
        return True


async def test_fair_weather_passes_all_on_and_an_end_too() -> None:
    async with lined() as (echo, line, connect):
        client = await connect()
        large = b"x" * 50_000 + b"\n"
        assert await ask(client, b"one\n") == b"one\n"
        assert await ask(client, large) == large
        client[1].close()
        await until(lambda: not line.links, 10, "the line has let go of both ends")
        assert echo.heard == b"one\n" + large


async def test_a_cut_resets_every_connection_and_the_next_one_works() -> None:
    async with lined() as (_, line, connect):
        clients = [await connect() for _ in range(3)]
        for client in clients:
            await ask(client, b"here\n")
        assert line.cut() == 3
        assert all([await ended(client) for client in clients])
        assert await ask(await connect(), b"again\n") == b"again\n"


async def test_what_is_slow_comes_late_and_in_order() -> None:
    async with lined() as (_, line, connect):
        client = await connect()
        await ask(client, b"before\n")
        loop = asyncio.get_running_loop()
        with line.weather(Weather(delay=0.05)), line.weather(Weather(bytes_per_second=10_000)):
            began = loop.time()
            assert await ask(client, b"y" * 500 + b"\n") == b"y" * 500 + b"\n"
            assert loop.time() - began >= 0.2  # 0.05 each way, and 501 bytes each way
        assert await ask(client, b"after\n") == b"after\n"


async def test_a_held_line_passes_nothing_not_even_an_end_until_its_weather_is_over() -> None:
    async with lined() as (echo, line, connect):
        stays, leaves = await connect(), await connect()
        for client in (stays, leaves):
            await ask(client, b"before\n")
        with line.weather(Weather(held=frozenset({"there", "back"}))):
            with pytest.raises(TimeoutError):
                await ask(stays, b"kept\n", 0.1)
            leaves[1].write(b"dropped\n")
            await leaves[1].drain()
            leaves[1].close()
            newcomer = await connect()
            newcomer[1].write(b"new\n")
            assert echo.connections == 2
            assert b"kept" not in echo.heard
        assert await asyncio.wait_for(stays[0].readline(), 10) == b"kept\n"
        assert await asyncio.wait_for(newcomer[0].readline(), 10) == b"new\n"
        assert b"dropped" not in echo.heard, "who has given up is not heard later"


async def test_a_mute_line_lets_requests_pass_and_keeps_the_answers() -> None:
    async with lined() as (echo, line, connect):
        client = await connect()
        with line.weather(Weather(held=frozenset({"back"}))):
            with pytest.raises(TimeoutError):
                await ask(client, b"heard\n", 0.1)
            await until(lambda: echo.heard == b"heard\n", 10)
        assert await asyncio.wait_for(client[0].readline(), 10) == b"heard\n"


@pytest.mark.parametrize("delivered", [True, False])
async def test_a_trap_cuts_at_its_pattern_so_often_and_no_more(delivered: bool) -> None:
    async with lined() as (echo, line, connect):
        with line.trap(Trap(b"COMMIT", 1, delivered=delivered)) as trap:
            client = await connect()
            assert await ask(client, b"select\n") == b"select\n"
            client[1].write(b"COMMIT\n")
            assert await ended(client)
            assert trap.caught == 1
            assert (b"COMMIT" in echo.heard) is delivered
            assert await ask(await connect(), b"COMMIT\n") == b"COMMIT\n"


async def test_a_peer_that_is_away_is_a_reset() -> None:
    async with lined() as (_, line, connect):
        line.peer = "127.0.0.1", 1
        assert await ended(await connect())
