"""``gateway demo`` and ``gateway simulator``: for trying things out."""

from __future__ import annotations

import click

from gateway.cli.commands import Command
from gateway.cli.output import json_option

__all__ = ["demo", "simulator"]


@click.command(
    cls=Command,
    examples=[("a minute and a half, and a summary that is checked", "gateway demo"), ("for a machine", "gateway demo --json")],
)
@json_option
def demo(as_json_: bool) -> int:
    """Show the gateway at work, and check what it did.

    It starts its own servers and a simulated carrier that misbehaves, publishes messages of two tenants, lets people text STOP, START
    and HELP, and compares what the gateway says with the carrier's book. Nobody is texted. Exit code 1 when a check fails.
    """
    from gateway.demo import main

    return int(main(json=as_json_))


@click.command(
    cls=Command,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=False,
    examples=[
        (
            "an account of your own",
            "gateway simulator --port 9009 --account AC00000000000000000000000000000001:secret",
        ),
        ("all options", "gateway simulator --help"),
    ],
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def simulator(arguments: tuple[str, ...]) -> int:
    """Run a simulated carrier that texts nobody.

    It speaks the APIs of Twilio and RingCentral and keeps a book of what it accepted; docs/simulator.md has the rest.
    It prints `listening on URL` and runs until SIGTERM or Ctrl-C.
    """
    from gateway.simulator.__main__ import main

    return main(list(arguments))
