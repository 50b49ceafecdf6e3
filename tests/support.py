"""Helpers of the tests: waiting for a condition, and running a coroutine apart from the test's event loop."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, overload

from gateway.embedded.ports import free_port

__all__ = ["free_port", "run_apart", "until", "until_sync"]

T = TypeVar("T")


@overload
async def until(condition: Callable[[], Awaitable[T]], limit: float = ..., what: str = ..., *, every: float = ...) -> T: ...
@overload
async def until(condition: Callable[[], T], limit: float = ..., what: str = ..., *, every: float = ...) -> T: ...
async def until(condition: Callable[[], Any], limit: float = 10.0, what: str = "", *, every: float = 0.01) -> Any:
    """The first true answer of ``condition`` (a plain or an async function), asked ``every`` so many seconds; fails after ``limit``."""
    deadline = time.monotonic() + limit
    while True:
        answer = condition()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {limit} s: {what or condition}")
        await asyncio.sleep(every)


def until_sync(condition: Callable[[], T], limit: float = 10.0, what: str = "") -> T:
    """The same for tests without an event loop."""
    deadline = time.monotonic() + limit
    while not (value := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {limit} s: {what or condition}")
        time.sleep(0.01)
    return value


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, in a thread with an event loop of its own: session fixtures cannot use a test's loop."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()
