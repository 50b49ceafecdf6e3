"""What the carrier does: a mix of everything that a carrier may do, and storms in which it does one thing to most requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from gateway.simulator.process import CarrierProcess

__all__ = ["Storms", "as_arguments"]

Shares = tuple[tuple[float, Any], ...]
_EARLY: Final = {"after_ms": 600, "sent_ms": 0, "final_ms": 0}  # its callbacks come before the answer
_SLOW: Final = {"sent_ms": 5500, "final_ms": 6000}  # nothing is heard of it before its worker's lease is over

#: What the carrier does with a share of the create requests; the others are accepted, answered and delivered.
MIX: Final[Shares] = (
    (0.220, {"before_ms": 60}),
    (0.100, {"after_ms": 80}),
    (0.050, {"after_ms": 500}),
    (0.120, _SLOW),
    (0.020, _EARLY),
    (0.003, {"answer": "refuse", "status": 429, "code": 20429, "retry_after": 1}),
    (0.010, "reset_before"),
    (0.012, "reset_after"),
    (0.006, "hang_before"),
    (0.006, "hang_after"),
    (0.006, "hang_after_silent"),
    (0.006, "error_before"),
    (0.008, "error_after"),
    (0.004, "broken_answer"),
    (0.004, "cut_answer"),
    (0.012, "undelivered"),
    (0.006, "failed"),
    (0.006, "not_textable"),
    (0.002, "opted_out"),
    (0.010, "callbacks_repeated"),
    (0.010, "callbacks_reversed"),
    (0.010, {"name": "callbacks_late", "late_ms": 3000}),
    (0.006, "callbacks_lost"),
)
_STORMS: Final[Mapping[str, Shares]] = {
    "busy": ((0.8, {"answer": "refuse", "status": 429, "code": 20429, "retry_after": 1}),),
    "errors": (
        (0.25, {"name": "error_before", "status": 503}),
        (0.25, "error_after"),
        (0.1, "broken_answer"),
        (0.1, "cut_answer"),
    ),
    "resets": ((0.35, "reset_before"), (0.35, "reset_after")),
    "silence": ((0.25, "hang_before"), (0.25, "hang_after"), (0.1, "hang_after_silent")),
    "callbacks": (
        (0.3, _EARLY),
        (0.15, "callbacks_repeated"),
        (0.15, "callbacks_reversed"),
        (0.2, {"name": "callbacks_late", "late_ms": 6000}),
        (0.1, "callbacks_lost"),
    ),
}


def as_arguments() -> list[str]:
    """The mix as the simulator's command line takes it."""
    return [
        word
        for share, script in MIX
        for word in ("--mix", f"{share}={script if isinstance(script, str) else json.dumps(script)}")
    ]


class Storms:
    """The storms over a carrier: of several at once each has its share of what the ones before leave."""

    def __init__(self, carrier: CarrierProcess) -> None:
        self._carrier = carrier
        self._blowing: list[str] = []

    async def blow(self, name: str, seconds: float) -> str:
        """Let one of them blow for a while; what the carrier was asked meanwhile."""
        before = (await self._carrier.stats())["requests"]
        self._blowing.append(name)
        try:
            await self._tell()
            await asyncio.sleep(seconds)
        finally:
            self._blowing.remove(name)
            await self._tell()
        return f"{name} for {seconds:.1f} s, {(await self._carrier.stats())['requests'] - before} requests"

    async def _tell(self) -> None:
        shares = [list(share) for name in self._blowing for share in _STORMS[name]]
        await self._carrier.post("/mix", {"mix": [*shares, *(list(share) for share in MIX)] if shares else None})
