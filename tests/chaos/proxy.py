"""A line that can be hurt: a TCP proxy between the gateway and a peer of its, whose connections are cut, slowed, held or lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Line", "Trap", "Weather"]

Way = Literal["there", "back"]
"""From the client to the server, or from the server to the client."""

_MOST_HELD: Final = 1 << 18  # bytes of one way; above it nothing more is read, as a network would have it


@dataclass(frozen=True, slots=True)
class Weather:
    """What a line does to all that it carries.

    ``delay`` in seconds and ``bytes_per_second`` slow it. ``held`` ways let nothing through until the weather is over, and the other end
    hears of nothing, not even of an end: a half-open connection.
    """

    delay: float = 0.0
    bytes_per_second: float | None = None
    held: frozenset[Way] = frozenset()


@dataclass(slots=True, eq=False)
class Trap:
    """Cuts the next ``left`` connections by which a client sends ``pattern``.

    ``delivered`` says when: once the server has answered, whose answer is lost with the connection; or before it hears of it.
    """

    pattern: bytes
    left: int
    delivered: bool
    caught: int = 0


class Line:
    """A proxy on a loopback port of its own to ``peer``; ``name`` says whose line it is. It must be closed.

    What a client sent is dropped when the client leaves before the weather let it through: so nothing comes to the server from somebody
    who has given up. A network may deliver such bytes later; that is not played here.
    """

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.name = name
        self.peer = host, port
        self._server: asyncio.Server | None = None
        self._weathers: list[Weather] = []
        self._traps: list[Trap] = []
        self.links: set[_Link] = set()

    @property
    def port(self) -> int:
        """Where the gateway finds the line's near end."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def open(self, port: int = 0) -> None:
        """Listen on a port of the loopback address, on a free one unless it is named."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _End(_Link(self), sends="there", gets="back"), "127.0.0.1", port)

    def close(self) -> None:
        """Stop listening, and end all connections."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> int:
        """Reset every connection; returns how many there were."""
        links = list(self.links)
        for link in links:
            link.cut()
        return len(links)

    @contextmanager
    def weather(self, weather: Weather) -> Iterator[None]:
        """Let the line be so while the context lasts. Several weathers add up."""
        self._weathers.append(weather)
        try:
            yield
        finally:
            self._weathers.remove(weather)
            for link in list(self.links):
                link.move()

    @contextmanager
    def trap(self, trap: Trap) -> Iterator[Trap]:
        """Set a trap while the context lasts."""
        self._traps.append(trap)
        try:
            yield trap
        finally:
            self._traps.remove(trap)

    def holds(self, way: Way) -> bool:
        """Whether nothing passes this way now."""
        return any(way in weather.held for weather in self._weathers)

    def due(self, now: float, size: int, last: float) -> float:
        """When so many bytes that come now are let through, the ones before them at ``last``."""
        delay = sum(weather.delay for weather in self._weathers)
        speeds = [weather.bytes_per_second for weather in self._weathers if weather.bytes_per_second is not None]
        gone = max(now, last - delay) + (size / min(speeds) if speeds else 0.0)
        return max(last, gone + delay)

    def sprung(self, data: bytes) -> Trap | None:
        """The trap that is sprung by what a client sends."""
        for trap in self._traps:
            if trap.left and trap.pattern in data:
                trap.left -= 1
                trap.caught += 1
                return trap
        return None


class _Link:
    """One connection of a client, and the one that is made for it. ``move`` lets through what is due."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._ends: dict[Way, asyncio.Transport | None] = {"there": None, "back": None}  # where each way leads
        self._waiting: dict[Way, deque[tuple[float, bytes]]] = {"there": deque(), "back": deque()}
        self._size: dict[Way, int] = {"there": 0, "back": 0}
        self._last: dict[Way, float] = {"there": 0.0, "back": 0.0}
        self._ended: set[Way] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._trap: Trap | None = None
        self._loop = asyncio.get_running_loop()

    def opened(self, way: Way, transport: asyncio.Transport) -> None:
        """An end is there: of ``back`` the client's, of ``there`` the server's."""
        self._ends[way] = transport
        if way == "back":
            self._line.links.add(self)
        self.move()

    def take(self, way: Way, data: bytes) -> None:
        """Bytes have come."""
        if way == "there" and self._trap is None and (trap := self._line.sprung(data)) is not None:
            if not trap.delivered:
                self.cut()
                return
            self._trap = trap
        elif way == "back" and self._trap is not None:
            self.cut()
            return
        self._last[way] = self._line.due(self._loop.time(), len(data), self._last[way])
        self._waiting[way].append((self._last[way], data))
        self._size[way] += len(data)
        if self._size[way] > _MOST_HELD:
            self._source(way, pause=True)
        self.move()

    def left(self, way: Way) -> None:
        """Who sends this way has ended the connection."""
        self._ended.add(way)
        self.move()

    def cut(self) -> None:
        """Reset both ends."""
        self._line.links.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        for end in self._ends.values():
            if end is not None:
                end.abort()

    def move(self) -> None:
        """Let through what is due, connect where the line lets us, and come again for the rest."""
        if self not in self._line.links:
            return
        if self._ends["there"] is None:
            if "there" in self._ended:
                self.cut()
            elif self._connecting is None and not self._line.holds("there") and self._ends["back"] is not None:
                self._connecting = self._loop.create_task(self._connect())
            return
        now, wakes = self._loop.time(), []
        ways: tuple[Way, Way] = ("there", "back")
        for way in ways:
            if self._line.holds(way):
                continue
            waiting, end = self._waiting[way], self._ends[way]
            if way in self._ended and ((waiting and way == "there") or not self._open(way)):
                self.cut()  # the client gave up before the line let its bytes through, or there is nobody to pass them on to
                return
            while waiting and waiting[0][0] <= now:
                _, data = waiting.popleft()
                self._size[way] -= len(data)
                if end is not None:
                    end.write(data)
            if self._size[way] <= _MOST_HELD:
                self._source(way, pause=False)
            if waiting:
                wakes.append(waiting[0][0])
            elif way in self._ended:
                self._end()
                return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(wakes), self.move) if wakes else None

    def _open(self, way: Way) -> bool:
        end = self._ends[way]
        return end is not None and not end.is_closing()

    def _end(self) -> None:
        """One side has left and all it said has been passed on: the other side sees an orderly end."""
        self._line.links.discard(self)
        for end in self._ends.values():
            if end is not None:
                end.close()

    def _source(self, way: Way, *, pause: bool) -> None:
        source = self._ends["back" if way == "there" else "there"]
        if source is not None and not source.is_closing():
            if pause:
                source.pause_reading()
            else:
                source.resume_reading()

    async def _connect(self) -> None:
        try:
            await self._loop.create_connection(lambda: _End(self, sends="back", gets="there"), *self._line.peer)
        except OSError:
            self.cut()  # nobody listens: the client sees a connection that is reset


class _End(asyncio.Protocol):
    """One end of a link: what it is sent goes ``sends``, what it is given comes ``gets``."""

    def __init__(self, link: _Link, *, sends: Way, gets: Way) -> None:
        self._link = link
        self._sends = sends
        self._gets = gets

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._link.opened(self._gets, transport)

    def data_received(self, data: bytes) -> None:
        self._link.take(self._sends, data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._link.left(self._sends)
