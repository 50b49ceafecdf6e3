"""An operator at the command line: pauses a programme, cancels messages of it that wait, and resumes it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from tests.chaos.calm import Calm
from tests.chaos.processes import command
from tests.chaos.witnessed import Pause, Witnessed

__all__ = ["Operator"]

_CANCELS: Final = 2
_LIMIT: Final = 10.0  # quiet seconds with PostgreSQL up: a command takes one


class Operator:
    """Commands in an environment of the gateway's; what they are told goes into the account."""

    def __init__(self, environment: Mapping[str, str], witnessed: Witnessed, calm: Calm) -> None:
        self._environment = dict(environment)
        self._witnessed = witnessed
        self._calm = calm

    async def pause(self, target: str, seconds: float) -> str:
        """Pause ``tenant/programme`` for so many seconds, and cancel some of what is published for it meanwhile."""
        tenant, _, programme = target.partition("/")
        await self._insist("pause", "--tenant", tenant, "--programme", programme)
        began, at = time.monotonic(), time.time()
        published = len(self._witnessed.published)
        canceled = asked = 0
        while canceled < _CANCELS and time.monotonic() - began < seconds:
            message_id = self._waiting(target, published, asked)
            if message_id is None:
                await asyncio.sleep(0.2)
                continue
            asked += 1
            if await self._run("cancel", "--tenant", tenant, message_id) == 0:  # else it is blocked, or not taken in yet
                self._witnessed.canceled.add((tenant, message_id))
                canceled += 1
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
        self._witnessed.pauses.append(Pause(tenant, programme, at, time.time()))
        await self._insist("resume", "--tenant", tenant, "--programme", programme)
        return f"paused for {time.monotonic() - began:.1f} s, {canceled} messages canceled"

    def _waiting(self, target: str, past: int, skip: int) -> str | None:
        """A message of the programme that was published since."""
        found = [
            one.record.message_id
            for one in self._witnessed.published[past:]
            if one.record.kind == "message" and f"{one.record.programme.tenant}/{one.record.programme.name}" == target
        ]
        return found[skip] if len(found) > skip else None

    async def _insist(self, *words: str) -> None:
        async def done() -> bool:
            return await self._run(*words) == 0

        await self._calm.until(done, _LIMIT, f"gateway {words[0]} is done", kind="a command", without={"postgres"}, every=0.5)

    async def _run(self, *words: str) -> int:
        return (await command(self._environment, *words))[0]
