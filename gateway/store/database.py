"""The connection pool, and the one way to run a transaction on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Self, TypeVar

import asyncpg

from gateway.domain.errors import StoreRefused, StoreUnavailable
from gateway.domain.lineage import ANY, Expected

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record
    from asyncpg.pool import PoolConnectionProxy

    Session = Connection[Record] | PoolConnectionProxy[Record]

__all__ = ["Database", "Session", "StoreMisused"]

T = TypeVar("T")

_RETRIED: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_TRIES: Final = 5
_FAULTS: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a backend that was cut off inside an acquired connection: "cannot switch to state"
    asyncpg.PostgresError,
    UnicodeEncodeError,
)
_REFUSED: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    UnicodeEncodeError,
)

# Sessions that plan by index only: tables that a moment ago were empty have no statistics worth planning by, and a plan that reads
# a whole partition would stay cached. One generic plan a statement: planning over many partitions costs more than running.
_SESSION: Final = {
    "application_name": "sms-gateway",
    # the claim reads consent in a later statement than its lock: only so does it see what was committed meanwhile
    "default_transaction_isolation": "read committed",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "timezone": "UTC",
    "statement_timeout": "8s",
    "lock_timeout": "5s",
    # a worker frozen inside a claim would hold a STOP up for as long as it sleeps
    "idle_in_transaction_session_timeout": "2s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}

_SINCE_17: Final = {"transaction_timeout": "10s"}


class StoreMisused(Exception):
    """The client refuses how it was called: a wrong number of arguments, one session used by two tasks at once.

    A fault of the program and no :class:`~gateway.domain.errors.GatewayError`: nothing waits for it to pass, so that it ends who made it.
    """


class Database:
    """A pool of sessions with PostgreSQL 15 or later.

    Raises :class:`StoreUnavailable` when PostgreSQL is away or did not answer in time, :class:`StoreRefused` when it will not take
    the values it was given, :class:`StoreMisused` when the program is wrong. None holds a value: PostgreSQL's own texts do.
    """

    def __init__(self, url: str, *, sessions: int = 8) -> None:
        self._url = url
        self._sessions = sessions
        self._pool: Pool[Record] | None = None
        self.expected: Expected = ANY
        """The database that claims, marks, intake and the relay are meant for; in another they do nothing."""
        logging.getLogger("asyncpg").setLevel(logging.CRITICAL)  # its pool logs a traceback when PostgreSQL is away

    async def open(self) -> Self:
        """Connect; raises :class:`StoreUnavailable`."""
        try:
            self._pool = await asyncpg.create_pool(
                self._url,
                reset=_reset,
                min_size=1,
                max_size=self._sessions,
                timeout=5,
                command_timeout=12,
                max_inactive_connection_lifetime=60,
                server_settings=_SESSION | await self._more_settings(),
            )
        except (*_FAULTS, ValueError) as fault:
            raise StoreUnavailable(f"PostgreSQL cannot be reached ({type(fault).__name__})") from None
        return self

    async def _more_settings(self) -> dict[str, str]:
        """What depends on the server: its version, and whether it would forget what it has acknowledged."""
        session = await asyncpg.connect(self._url, timeout=5)
        try:
            more = dict(_SINCE_17) if session.get_server_version().major >= 17 else {}
            if await session.fetchval("show synchronous_commit") in ("off", "local"):
                more["synchronous_commit"] = "on"
            return more
        finally:
            await session.close()

    async def close(self) -> None:
        """Close every session, waiting a little for those in use."""
        if self._pool is not None:
            try:
                async with asyncio.timeout(3):
                    await self._pool.close()
            except _FAULTS:
                self._pool.terminate()
            self._pool = None

    async def transact(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Run ``work`` in one READ COMMITTED transaction; again, from its beginning, after a deadlock or a serialization failure."""

        async def transaction(session: Session) -> T:
            async with session.transaction():
                return await work(session)

        return await self._run(transaction)

    async def fetch(self, statement: str, *arguments: object) -> list[Record]:
        """The rows of one statement that is a transaction of its own."""
        return await self._run(lambda session: session.fetch(statement, *arguments))

    async def read(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Run ``work``, which is one statement and what is made of its rows: a transaction of its own, without a begin and an end."""
        return await self._run(work)

    async def execute(self, statement: str, *arguments: object) -> str:
        """Run one statement that is a transaction of its own; returns PostgreSQL's command tag."""
        return await self._run(lambda session: session.execute(statement, *arguments))

    async def _run(self, work: Callable[[Session], Awaitable[T]]) -> T:
        for attempt in range(1, _TRIES + 1):
            misuse = None
            try:
                async with self._acquired() as session:
                    try:
                        return await work(session)
                    except asyncpg.InterfaceError as fault:
                        misuse = _misuse(session, fault)
                        raise  # giving the session back may raise more: what came first counts
            except _RETRIED as fault:
                if attempt == _TRIES:
                    raise StoreUnavailable(f"PostgreSQL gave up {_TRIES} times ({type(fault).__name__})") from None
                await asyncio.sleep(0.005 * attempt)
            except _FAULTS as fault:
                raise misuse or _told(fault) from None
        raise AssertionError("unreachable")

    def _acquired(self) -> asyncpg.pool.PoolAcquireContext[Record]:
        if self._pool is None:
            raise StoreUnavailable("PostgreSQL is not connected")
        return self._pool.acquire(timeout=5)


async def _reset(_session: Session) -> None:
    """Nothing here sets anything for longer than a transaction: asyncpg's own reset, four statements for every use, has no work.

    A transaction that was left open it ends in any case, before this is called.
    """


def _misuse(session: Session, fault: BaseException) -> StoreMisused | None:
    """A wrong call of the client, told from a session that has gone: asyncpg raises the same for both.

    Whatever it raises it for, a session that has gone is closed by then, so that on one that is well it was called wrongly. A value
    that it cannot encode is a DataError, which is none of these. A rollback that fails too hides what it was for: that one counts.
    """
    while isinstance(fault.__context__, (*_FAULTS, asyncio.CancelledError)):
        fault = fault.__context__
    if not isinstance(fault, asyncpg.InterfaceError) or session.is_closed():
        # of one that the pool has taken back already, is_closed() raises what asyncpg raises for one that has gone
        return None
    misuse = StoreMisused(f"PostgreSQL's client was called wrongly ({type(fault).__name__})")
    return misuse.with_traceback(fault.__traceback__)  # to the very call: lines of code, without values


def _told(fault: Exception) -> StoreRefused | StoreUnavailable:
    """A fault of PostgreSQL's or its client's as one of ours, without its text: that holds values."""
    kind = type(fault).__name__
    if isinstance(fault, asyncpg.CheckViolationError) and fault.constraint_name is None:
        # "no partition of relation found for row": nothing is wrong with the row
        return StoreUnavailable("PostgreSQL has no partition for this day")
    if isinstance(fault, _REFUSED):  # a value that the client cannot encode is a DataError too
        return StoreRefused(f"PostgreSQL refused a value ({kind})")
    return StoreUnavailable(f"PostgreSQL did not answer ({kind})")
