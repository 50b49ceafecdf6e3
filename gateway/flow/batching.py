"""Let many callers share one transaction: each waits for the batch that holds its item."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final, Generic, TypeVar

__all__ = ["Batcher"]

_APART: Final = 0.02  # seconds

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Collects items while a batch is being worked on, and works on them all together next.

    A lone item is worked on at once: nothing waits for company. When more come, batches begin twenty milliseconds from each other, so
    that a transaction is worth its while. ``work`` answers each item in its place; when it raises, every caller of the batch gets the
    exception. At most ``largest`` items make a batch.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], *, largest: int = 200) -> None:
        self._work = work
        self._largest = largest
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._running: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def put(self, item: Item) -> Answer:
        """Hand in an item and wait for its answer."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="batcher")
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                began = monotonic()
                batch, self._waiting = self._waiting[: self._largest], self._waiting[self._largest :]
                await self._serve(batch)
                if len(self._waiting) < self._largest:
                    await asyncio.sleep(_APART - (monotonic() - began))
        finally:
            self._running = None

    async def _serve(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = list(await self._work([item for item, _ in batch]))
            if len(answers) != len(batch):
                raise AssertionError(f"{len(answers)} answers to {len(batch)} items")  # noqa: TRY301 -- answered like any other fault
        except BaseException as fault:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(fault if isinstance(fault, Exception) else asyncio.CancelledError())
            if not isinstance(fault, Exception):
                raise
        else:
            for (_, answer), value in zip(batch, answers, strict=True):
                if not answer.done():
                    answer.set_result(value)
