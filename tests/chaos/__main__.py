"""``python -m tests.chaos``: the gateway under fire, and an account of what became of every message."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from gateway.domain.errors import GatewayError
from tests.chaos.report import as_json, tables
from tests.chaos.run import Played, Progress, play
from tests.chaos.schedule import Schedule

MINUTES = 4.5


def main() -> int:
    """Play a schedule and show its account. Exit code 1 when a promise was broken, 2 when the run could not be made."""
    given = _parser().parse_args()
    if sys.platform != "linux":
        sys.stderr.write("chaos needs Linux: only there is the kernel timer that the fuse is made of\n")
        return 2
    seed = given.seed if given.seed is not None else secrets.randbelow(1_000_000)
    schedule = Schedule(seed, given.minutes)
    try:
        played = asyncio.run(_play(schedule, Path(given.logs) if given.logs else None))
    except KeyboardInterrupt:
        return 130
    except (AssertionError, OSError, GatewayError, ExceptionGroup) as faults:
        found = _leaves(faults)
        if not all(isinstance(fault, AssertionError | OSError | GatewayError) for fault in found):
            raise  # a mistake of ours
        for fault in found:
            sys.stderr.write(f"chaos could not go on, seed {seed}: {str(fault) or type(fault).__name__}\n")
        return 2
    console = Console(stderr=given.json)
    for table in tables(played):
        console.print(table)
    if given.json:
        sys.stdout.write(json.dumps(as_json(played)) + "\n")
    return 1 if played.account.broken() else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make chaos", description="Real processes under load, hurt in every way a seed draws; then the account."
    )
    parser.add_argument("--seed", type=int, help="what is drawn; a new one each time unless it is given")
    parser.add_argument("--minutes", type=_minutes, default=MINUTES, help="how long the load lasts (%(default)s)")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on standard output, last; all else on standard error"
    )
    parser.add_argument("--logs", metavar="FOLDER", help="keep the processes' logs there")
    return parser


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 1 <= minutes <= 600:
        raise argparse.ArgumentTypeError("from 1 to 600")
    return minutes


async def _play(schedule: Schedule, logs: Path | None) -> Played:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"seed {schedule.seed}: {len(schedule.faults)} faults, at least {schedule.messages} messages")
    progress = Progress(lambda line: console.print(escape(line)))
    with contextlib.ExitStack() as stack:
        if logs is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-chaos-", ignore_cleanup_errors=True)))
        else:
            folder = logs
            folder.mkdir(parents=True, exist_ok=True)
        async with _shown(console, schedule, progress):
            return await play(schedule, folder, progress)


@contextlib.asynccontextmanager
async def _shown(console: Console, schedule: Schedule, progress: Progress) -> AsyncIterator[None]:
    """On a terminal, a line at the bottom that says how far it is."""
    if not console.is_terminal:
        yield
        return
    began = time.monotonic()

    async def refresh(live: Live) -> None:
        while True:
            live.update(
                Text(
                    f"{progress.phase}, {time.monotonic() - began:.0f} s: {progress.published} events published,"
                    f" {progress.faults} of {len(schedule.faults)} faults over",
                    style="bold",
                ),
                refresh=True,
            )
            await asyncio.sleep(0.5)

    with Live(console=console, auto_refresh=False, transient=True) as live:
        refreshing = asyncio.create_task(refresh(live))
        try:
            yield
        finally:
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)


def _leaves(fault: BaseException) -> list[BaseException]:
    """The exceptions in a group, or the one that is none."""
    return [leaf for one in fault.exceptions for leaf in _leaves(one)] if isinstance(fault, BaseExceptionGroup) else [fault]


if __name__ == "__main__":
    sys.exit(main())
