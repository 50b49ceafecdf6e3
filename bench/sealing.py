"""What sealing and hashing take of a message's cost: a whole gateway in one process, with each such call timed.

Run as a process of its own in the place of ``gateway run``: ``python -m bench.sealing PAGE``; writes seconds and calls there when it ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.sending import QUICK, all_told, cpu_of, warmed_up
from bench.stage import Figures, Stage

__all__ = ["sealing"]

_KINDS: Final = {
    "sealing": ("seal", "open", "seal_subject", "open_subject"),
    "hashing": ("subject_id", "message_id_hash", "content_digest", "person_key"),
}
_WARM: Final = 100  # messages before the run, which are timed as well


async def sealing(stage: Stage, count: int) -> Figures:
    """CPU of the process a message, and how much of it goes into sealing, opening and keyed hashes; what timing takes is in all three."""
    told = stage.folder / "timed.json"
    async with stage.carrier(*QUICK, "--callbacks", "final") as carrier:
        async with stage.gateway(program=("-m", "bench.sealing", str(told))) as process:
            counter = await warmed_up(stage, carrier)
            before = cpu_of(process)
            await stage.publish(count)
            await counter.accepted(count)
            await carrier.get("/stats?quiet=1&within=120", within=130)
            await all_told(stage)
            cpu = (cpu_of(process) - before) / count
        found = json.loads(told.read_text())
    seconds = {kind: found[kind]["seconds"] / (count + _WARM) for kind in _KINDS}
    return {
        "cost_cpu_ms_all_in_one": round(1000 * cpu, 3),
        "cost_sealing_us": round(1e6 * seconds["sealing"], 1),
        "cost_hashing_us": round(1e6 * seconds["hashing"], 1),
        "cost_sealing_calls": round(found["sealing"]["calls"] / (count + _WARM), 1),
        "cost_hashing_calls": round(found["hashing"]["calls"] / (count + _WARM), 1),
        "cost_sealing_and_hashing_share": round(sum(seconds.values()) / cpu, 4),
    }


def _timed(work: Callable[..., Any], into: dict[str, float]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        began = time.thread_time()
        try:
            return work(*arguments, **named)
        finally:
            into["seconds"] += time.thread_time() - began
            into["calls"] += 1

    return call


def _serve(told: Path) -> None:
    """The gateway's working process; it ends by ``os._exit``."""
    from gateway.cli import main
    from gateway.crypto.sealing import Sealer
    from gateway.crypto.subjects import Subjects

    found: dict[str, dict[str, float]] = {}
    for kind, names in _KINDS.items():
        into = found[kind] = {"seconds": 0.0, "calls": 0}
        for owner in (Sealer, Subjects):
            for name in names:
                if hasattr(owner, name):
                    setattr(owner, name, _timed(getattr(owner, name), into))
    leave = os._exit

    def write_and_leave(code: int) -> None:
        told.write_text(json.dumps(found))
        leave(code)

    os._exit = write_and_leave  # type: ignore[assignment] # it never returns, as the one it stands for
    sys.argv = ["gateway", "run", "--role", "all", "--child", "--ready-fd", str(os.open(os.devnull, os.O_WRONLY))]
    main()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
