"""What can be done to any server: stopped, killed, frozen; one at a time, and it serves again afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar

import psutil

from tests.support import until

__all__ = ["Hurtable", "Server"]

T = TypeVar("T")


class Server(Protocol):
    """``start`` blocks until it is ready, and keeps the port."""

    @property
    def process_id(self) -> int | None: ...
    def alive(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Hurtable:
    """A server and its faults, one after the other: what is stopped is not frozen too. ``thread`` is the one that starts it."""

    def __init__(self, server: Server, thread: ThreadPoolExecutor) -> None:
        self._server = server
        self._thread = thread
        self._hurting = asyncio.Lock()

    def left_alone(self) -> AbstractAsyncContextManager[object]:
        """No fault of the server happens while the context lasts."""
        return self._hurting

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """An orderly stop that cuts every session, and a start once the context is over. It must be :meth:`left_alone` meanwhile."""
        await self._run(self._server.stop)
        try:
            yield
        finally:
            await self._run(self._server.start)

    async def stop(self, seconds: float) -> str:
        """An orderly stop, and a start later."""
        async with self._hurting:
            began = time.monotonic()
            async with self.stopped():
                await asyncio.sleep(seconds)
            return f"stopped, up again after {time.monotonic() - began:.1f} s"

    async def kill(self, seconds: float) -> str:
        """``kill -9`` to its first process, and a start later."""
        async with self._hurting:
            began = time.monotonic()
            os.kill(self._process_id(), signal.SIGKILL)
            await until(lambda: not self._server.alive(), 10, "the server has died")
            await asyncio.sleep(seconds)
            await self._run(self._server.start)
            return f"killed, up again after {time.monotonic() - began:.1f} s"

    async def freeze(self, seconds: float) -> str:
        """SIGSTOP to all its processes, and SIGCONT."""
        async with self._hurting:
            first = psutil.Process(self._process_id())
            frozen = [first, *first.children(recursive=True)]
            try:
                for process in frozen:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.suspend()
                await asyncio.sleep(seconds)
            finally:
                for process in frozen:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.resume()
            return f"{len(frozen)} processes frozen for {seconds:.1f} s"

    def _process_id(self) -> int:
        assert self._server.process_id is not None
        return self._server.process_id

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
