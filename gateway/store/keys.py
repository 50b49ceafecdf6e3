"""A key ring in a PostgreSQL of its own, by the statements of keys.sql."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import asyncpg

from gateway.domain.errors import GatewayError, KeyDestroyed, KeyRingAway
from gateway.flow.keys import KeptKey
from gateway.store.statements import statements

if TYPE_CHECKING:
    from gateway.store.database import Database

    Session = asyncpg.Connection[asyncpg.Record]

__all__ = ["KeyDatabase", "system_of"]

T = TypeVar("T")

_LOCK: Final = 7_227_201_145  # an advisory lock of our own: two processes that start together make the table once
_PAGE: Final = 500
_AGAIN_SECONDS: Final = 0.5
_CONNECT_SECONDS: Final = 5.0
_FAULTS: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError)


class KeyDatabase:
    """Keys in a table of a database, by one session in a thread of its own: who asks for a key does not await.

    ``seconds``, which may be changed, is how long one question may take: it holds the caller's event loop up. After one that was not answered the thread
    connects again by itself, and until it has, every question is refused at once. The table is made when it is absent.
    """

    def __init__(self, url: str, *, seconds: float = 10.0) -> None:
        self._url = url
        self.seconds = seconds
        self._session: Session | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self.shown = f"key ring in PostgreSQL {_shown(url)}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="key-ring", daemon=True)
        self._thread.start()
        try:
            self._in_thread(self._first(), 3 * _CONNECT_SECONDS)
        except BaseException:
            self.close()
            raise

    def read(self, name: str, *, durable: bool = False) -> bytes | None:  # noqa: ARG002 -- the port's; what is committed is durable
        """The wrapped key."""
        rows = self._ask(lambda session: session.fetch(statements("keys")["read"], name))
        if not rows:
            return None
        if rows[0]["wrapped"] is None:
            raise KeyDestroyed(f"key {name} was destroyed: nothing more is sealed or opened with it")
        return bytes(rows[0]["wrapped"])

    def create(self, name: str, wrapped: bytes) -> bytes:
        """Keep a key unless there is one; returns what is kept."""
        self._ask(lambda session: session.execute(statements("keys")["create"], name, wrapped))
        kept = self.read(name)
        if kept is None:
            raise KeyRingAway(f"{self.shown}: a key was removed as it was made")
        return kept

    def replace(self, name: str, old: bytes, new: bytes) -> bool:
        """Exchange what is kept for ``new`` if it is ``old``."""
        return bool(self._ask(lambda session: session.fetch(statements("keys")["replace"], name, old, new)))

    def destroy(self, name: str) -> bool:
        """Take the key out of its row, and have the page cleaned. What the server's log and backups hold of it is still wrapped."""
        was_there = bool(self._ask(lambda session: session.fetchval(statements("keys")["destroy"], name)))
        self._ask(lambda session: session.execute(statements("keys")["vacuum"]))
        return was_there

    def entries(self) -> Iterator[KeptKey]:
        """All keys, a page at a time."""
        last = ""
        while rows := self._ask(lambda session, after=last: session.fetch(statements("keys")["entries"], after, _PAGE)):  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            yield from (KeptKey(row["name"], row["wrapped"]) for row in rows)
            last = rows[-1]["name"]

    def system(self) -> str:
        """Which server it is: see :func:`system_of`."""
        return str(self._ask(lambda session: session.fetchval(statements("keys")["system"])))

    def close(self) -> None:
        """End the session and its thread."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop)
            self._thread.join(5)
        if not self._loop.is_running():
            self._loop.close()

    def _ask(self, work: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
        return self._in_thread(self._answer(work), self.seconds)

    def _in_thread(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except (FutureTimeoutError, TimeoutError):
            future.cancel()
            self._loop.call_soon_threadsafe(self._lost)
            raise KeyRingAway(f"{self.shown}: it did not answer within {seconds:g} s") from None

    # -- in the thread --------------------------------------------------------------------------------------------------------

    async def _first(self) -> None:
        await self._connect()
        session = cast("Session", self._session)
        try:
            if not await session.fetchval(statements("keys")["table"]):
                async with session.transaction():
                    await session.execute("select pg_advisory_xact_lock($1)", _LOCK)
                    await session.execute(statements("keys")["make_table"])
        except asyncpg.PostgresError as fault:
            raise GatewayError(
                f"{self.shown}: its table key_ring is not there, and cannot be made ({type(fault).__name__})"
            ) from None

    async def _answer(self, work: Callable[[Session], Awaitable[T]]) -> T:
        async with self._turn:
            session = self._session
            if session is None or session.is_closed():
                self._lost()
                raise KeyRingAway(f"{self.shown}: it cannot be reached")
            try:
                return await work(session)
            except _FAULTS as fault:
                self._lost()
                raise KeyRingAway(f"{self.shown}: it did not answer ({type(fault).__name__})") from None

    async def _connect(self) -> None:
        try:
            session = await asyncpg.connect(
                self._url,
                timeout=_CONNECT_SECONDS,
                server_settings={
                    "application_name": "sms-gateway keys",
                    "tcp_keepalives_idle": "5",
                    "tcp_keepalives_interval": "2",
                    "tcp_keepalives_count": "3",
                },
            )
            if await session.fetchval("show synchronous_commit") in ("off", "local"):
                await session.execute("set synchronous_commit = on")  # what is sealed must not outlive its key
        except _FAULTS as fault:
            raise KeyRingAway(f"{self.shown}: it cannot be reached ({type(fault).__name__})") from None
        self._session = session

    def _lost(self) -> None:
        """Give the session up, and have another made: nobody waits for it."""
        if self._connecting is not None and not self._connecting.done():
            return
        if self._session is not None:
            self._session.terminate()
            self._session = None
        self._connecting = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        while True:
            try:
                await self._connect()
            except KeyRingAway:
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                return

    async def _end(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._session is not None:
            try:
                await self._session.close(timeout=2)
            except _FAULTS:
                self._session.terminate()
        for _ in range(3):  # transports close in a later turn of the loop
            await asyncio.sleep(0)
        self._loop.stop()


async def system_of(database: Database) -> str:
    """Which PostgreSQL server a database is on. A physical copy of a server is the same: what one's backups hold, the other's do."""
    rows: Sequence[Any] = await database.fetch(statements("keys")["system"])
    return str(rows[0]["system_identifier"])


def _shown(url: str) -> str:
    """An address without its password, for messages."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname or 'by socket'}{f':{parts.port}' if parts.port else ''}{parts.path}"
    except ValueError:
        return "(its address cannot be read)"
