"""``gateway holds``: legal holds. A person is named by number, from standard input or a prompt, never by an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.commands import Command, Group
from gateway.cli.fields import WHY, moment, no_arguments, read_number, tenant_option
from gateway.cli.invocation import Invocation, actor, tenant_of
from gateway.cli.output import as_json, json_option, table

if TYPE_CHECKING:
    from uuid import UUID

    from gateway.app.wiring import Parts

__all__ = ["holds"]

_SHOWN: Final = ("id", "tenant", "of", "who", "why", "added_at", "until_at", "released_at", "kept")


@click.group(cls=Group)
def holds() -> None:
    """Keep what may not be deleted yet: add, list or release legal holds.

    What a hold covers outlives its deadline, sealed under the hold's own key; all else dies as ever. A hold lets nobody be texted: an
    opt-out stands. It reaches nothing whose time was over when it was added.
    """


@holds.command(
    cls=Command,
    examples=[
        (
            "all of a tenant",
            "gateway holds add --tenant harbour-books --who 'Court of Leith' --why 'file 47' --until 2027-06-30T00:00:00Z",
        ),
        (
            "one person; the number is asked for",
            "gateway holds add --tenant harbour-books --person --who 'Court of Leith' --why 'file 47'",
        ),
        (
            "one message, by its uid",
            "gateway holds add --tenant harbour-books --message 01a21113-bfd5-79ae-8379-c1edf19b2686 --who us --why 'a dispute'",
        ),
    ],
)
@no_arguments
@tenant_option
@click.option("--person", is_flag=True, help="Only what is of one person, whose number is asked for.")
@click.option("--message", "uid", type=click.UUID, metavar="UID", help="Only one message or dead letter, by its uid.")
@click.option("--who", type=WHY, required=True, metavar="TEXT", help="Who ordered it.")
@click.option("--why", type=WHY, required=True, metavar="TEXT", help="Why, such as a file number; kept in the clear.")
@click.option("--until", metavar="TIME", help="Until when, with its offset; left out: until it is released.")
@json_option
@click.pass_obj
def add(
    invocation: Invocation,
    /,
    tenant: str | None,
    person: bool,
    uid: UUID | None,
    who: str,
    why: str,
    until: str | None,
    as_json_: bool,
) -> int:
    """Hold all of a tenant, or what is of one person or message. Prints the hold's id."""
    from gateway.app.retention_rows import holds_of

    if person and uid is not None:
        raise click.UsageError("--person and --message exclude each other")
    if not who.strip() or not why.strip():
        raise click.UsageError("--who and --why must say something")
    policies = invocation.policies()
    named, ends = tenant_of(policies, tenant), moment("--until", until)
    policy = policies.tenant(named)
    number = read_number(policy.region if policy is not None else None) if person else None

    async def act(parts: Parts) -> UUID:
        if ends is not None and ends <= await parts.control.now():
            raise click.UsageError("--until lies in the past")
        subject_id = parts.hasher.subject_id(number) if number is not None else None
        return await holds_of(parts).add(named, who, why, actor(), subject_id=subject_id, uid=uid, until=ends)

    hold = invocation.with_parts(act)
    if as_json_:
        as_json({"id": hold})
    else:
        click.echo(str(hold))
    return 0


@holds.command(
    "list",
    cls=Command,
    examples=[("those that stand", "gateway holds list"), ("all there ever were", "gateway holds list --all --json")],
)
@click.option("--all", "ended", is_flag=True, help="Also those that have ended.")
@json_option
@click.pass_obj
def list_(invocation: Invocation, ended: bool, as_json_: bool) -> int:
    """Show the holds: on what, by whom, why, until when, and how much they keep."""
    from gateway.app.retention_rows import holds_of

    async def look(parts: Parts) -> Sequence[Mapping[str, Any]]:
        return await holds_of(parts).list(ended=ended)

    rows = [{**row, "of": _of(row)} for row in invocation.with_parts(look)]
    if as_json_:
        as_json({"holds": rows})
    elif rows:
        table(list(_SHOWN), [[row[name] for name in _SHOWN] for row in rows])
    else:
        click.echo("nothing is held")
    return 0


@holds.command(
    cls=Command, examples=[("one of gateway holds list", "gateway holds release 01a21113-bfd5-79ae-8379-c1edf19b2686")]
)
@click.argument("hold", type=click.UUID, metavar="ID")
@json_option
@click.pass_obj
def release(invocation: Invocation, hold: UUID, as_json_: bool) -> int:
    """Let go of what a hold keeps. What is past its deadline dies with the next run of the retention, within minutes."""
    from gateway.app.retention_rows import holds_of

    async def act(parts: Parts) -> None:
        await holds_of(parts).release(hold, actor())

    invocation.with_parts(act)
    if as_json_:
        as_json({"released": hold})
    else:
        click.echo("released")
    return 0


def _of(row: Mapping[str, Any]) -> str:
    return "a person" if row["person"] else f"message {row['uid']}" if row["uid"] is not None else "all"
