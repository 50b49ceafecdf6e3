"""Many callers, one transaction: each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.flow.batching import Batcher


class Worker:
    """Doubles numbers, a batch at a time, when it is let."""

    def __init__(self, *, gated: bool = False, fails: Exception | None = None) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.fails = fails
        if not gated:
            self.gate.set()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.entered.set()
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        return [2 * item for item in items]


async def test_a_lone_item_waits_for_no_company() -> None:
    worker = Worker()
    assert await Batcher(worker).put(3) == 6
    assert worker.batches == [[3]]


async def test_what_comes_meanwhile_goes_together() -> None:
    worker = Worker(gated=True)
    batcher = Batcher(worker, largest=4)
    answers = [asyncio.create_task(batcher.put(item)) for item in range(10)]
    await worker.entered.wait()
    assert len(batcher) == 10 - len(worker.batches[0])
    worker.gate.set()
    assert await asyncio.gather(*answers) == [2 * item for item in range(10)]
    assert [item for batch in worker.batches for item in batch] == list(range(10))
    assert max(map(len, worker.batches)) == 4
    assert len(batcher) == 0


async def test_a_fault_reaches_every_caller_of_its_batch_and_no_other() -> None:
    worker = Worker(gated=True, fails=ValueError("no"))
    batcher = Batcher(worker)
    failing = [asyncio.create_task(batcher.put(item)) for item in range(3)]
    await worker.entered.wait()
    worker.gate.set()
    assert [type(answer) for answer in await asyncio.gather(*failing, return_exceptions=True)] == [ValueError] * 3
    worker.fails = None
    assert await batcher.put(5) == 10


async def test_a_caller_who_leaves_hurts_nobody() -> None:
    worker = Worker(gated=True)
    batcher = Batcher(worker)
    first = asyncio.create_task(batcher.put(1))
    await worker.entered.wait()
    leaver, stayer = asyncio.create_task(batcher.put(2)), asyncio.create_task(batcher.put(3))
    await asyncio.sleep(0)
    first.cancel()
    leaver.cancel()
    worker.gate.set()
    assert await stayer == 6
    assert worker.batches == [[1], [2, 3]]  # what was handed in is worked on all the same


async def test_too_few_answers_are_a_fault_and_nobody_waits_for_ever() -> None:
    async def forgetful(items: Sequence[int]) -> list[int]:
        return list(items)[1:]

    batcher: Batcher[int, int] = Batcher(forgetful)
    async with asyncio.timeout(2):
        with pytest.raises(AssertionError, match="0 answers to 1 items"):
            await batcher.put(1)


@given(st.lists(st.integers(), min_size=1, max_size=40), st.integers(1, 7))
@settings(deadline=None)
def test_each_answer_is_its_items_own(items: list[int], largest: int) -> None:
    async def run() -> tuple[list[int], list[list[int]]]:
        worker = Worker()
        batcher = Batcher(worker, largest=largest)
        return await asyncio.gather(*(batcher.put(item) for item in items)), worker.batches

    answers, batches = asyncio.run(run())
    assert answers == [2 * item for item in items]
    assert [item for batch in batches for item in batch] == items
    assert all(len(batch) <= largest for batch in batches)
