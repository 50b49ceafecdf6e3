"""``gateway restore``: what to do when the database was restored, or failed over, and may lack what was written to it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from gateway.cli.commands import Command, Group
from gateway.cli.invocation import Invocation, actor
from gateway.cli.output import as_json, json_option, progress, table

if TYPE_CHECKING:
    from gateway.app.wiring import Parts
    from gateway.flow.restoring import Replayed

__all__ = ["restore"]

_SHOWN: Final = 20
_WHAT: Final = {
    "opt_outs": "opt-outs that were missing",
    "opt_ins": "opt-ins that were missing",
    "told_again": "consents whose later word stands here, to be told again",
    "came_on": "messages of which the topic knew more",
    "not_known": "messages that were not known here",
    "audit_records": "audit records that were missing",
    "ended_unknown": "messages that may have been sent, ended as unknown",
    "keys_noted": "destroyed keys that were not noted",
    "keys_destroyed": "keys destroyed that had been before",
}


@click.group(cls=Group)
def restore() -> None:
    """Put right a database that was restored or failed over, and let the gateway go on.

    A gateway whose database went back behind what was written to it is held: it takes people's texts, and sends nothing.
    """


@restore.command(cls=Command, examples=[("is it held, and why", "gateway restore status")])
@json_option
@click.pass_obj
def status(invocation: Invocation, as_json_: bool) -> int:
    """Tell whether the gateway is held, and why. Exit code 1 when it is."""

    async def look(parts: Parts) -> str:
        return parts.lineage.why

    why = invocation.with_parts(look)
    if as_json_:
        as_json({"held": bool(why), "why": why or None})
    else:
        click.echo(f"held: {why}" if why else "not held")
    return 1 if why else 0


@restore.command(
    cls=Command,
    examples=[
        ("after a restore, with the gateway running or not", "gateway restore replay\ngateway restore release"),
        ("when Kafka had every event before the database was lost", "gateway restore replay --keep-waiting"),
    ],
)
@click.option(
    "--keep-waiting",
    is_flag=True,
    help="Send what waits, although it may have been sent: only if the outbox was empty when the database was lost.",
)
@json_option
@click.pass_obj
def replay(invocation: Invocation, keep_waiting: bool, as_json_: bool) -> int:
    """Write what is missing into the database: opt-outs, opt-ins, messages, audit, destroyed keys.

    It is read from the topics of consent, status and audit, and from the key ring. What waits and may have been sent ends as unknown.
    It may be killed and run again. Exit code 1 when something could not be made good, each named.
    """

    async def work(parts: Parts) -> Replayed:
        from gateway.app.restoring import replay as put_right

        return await put_right(parts, actor(), keep_waiting=keep_waiting, tell=progress)

    done = invocation.with_parts(work)
    if as_json_:
        as_json(asdict(done))
    else:
        table(["count", "what"], [[getattr(done, name), what] for name, what in _WHAT.items()])
        for fault in done.faults[:_SHOWN]:
            click.echo(fault, err=True)
        if len(done.faults) > _SHOWN:
            click.echo(f"and {len(done.faults) - _SHOWN} more: --json shows all", err=True)
    return 1 if done.faults else 0


@restore.command(cls=Command, examples=[("after a replay", "gateway restore release")])
@click.option("--incomplete", is_flag=True, help="Although no replay was completed. People may be texted after a STOP.")
@click.pass_obj
def release(invocation: Invocation, incomplete: bool) -> int:
    """Let the gateway go on in this database. The providers' lists of people's texts are read before anything is sent."""

    async def work(parts: Parts) -> None:
        from gateway.app.restoring import release as let_go

        await let_go(parts, actor(), incomplete=incomplete)

    invocation.with_parts(work)
    click.echo("released")
    return 0
