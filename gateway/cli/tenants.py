"""``gateway tenants``: customer accounts that are closed, from which the policies' periods after closing run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.commands import Command, Group
from gateway.cli.fields import SLUG, WHY, moment
from gateway.cli.invocation import Invocation, actor
from gateway.cli.output import as_json, json_option, table

if TYPE_CHECKING:
    from datetime import datetime

    from gateway.app.wiring import Parts

__all__ = ["tenants"]

_SHOWN: Final = ("tenant", "closed_at", "closed", "who", "why", "noted_at", "noted_by")


@click.group(cls=Group)
def tenants() -> None:
    """Close a tenant's customer account, list those that are closed, open one again.

    From its closing on nothing is sent for a tenant: what waits is canceled, and its events are dead letters whose content is not kept.
    A STOP is heeded all the same. What the policy keeps until so long after closing ends from there. The policy stays where it is: it says
    how long the rest is kept.
    """


@tenants.command(
    cls=Command,
    examples=[
        ("now", "gateway tenants close harbour-books --who 'the shop' --why 'notice given'"),
        (
            "at the end of a contract; until then it may be taken back",
            "gateway tenants close harbour-books --at 2027-03-31T22:00:00Z --who billing --why 'contract ended' --json",
        ),
    ],
)
@click.argument("tenant", type=SLUG)
@click.option("--who", type=WHY, required=True, metavar="TEXT", help="Who closes it, such as the customer, or billing.")
@click.option(
    "--why", type=WHY, required=True, metavar="TEXT", help="Why; kept in the clear as long as the customer's account data."
)
@click.option(
    "--at",
    metavar="TIME",
    help="From when on, with its offset; up to a year ahead, or in the past; left out: now.",
    show_default=False,
)
@json_option
@click.pass_obj
def close(invocation: Invocation, tenant: str, who: str, why: str, at: str | None, as_json_: bool) -> int:
    """Note that a tenant's customer account is closed, or will be.

    What ends with it ends within minutes, for good: see `gateway retention plan` first. For five minutes, and until it comes, a closing
    can be taken back.
    """
    from gateway.app.accounts import accounts_of

    if not who.strip() or not why.strip():
        raise click.UsageError("--who and --why must say something")
    named, begins = _with_policy(invocation, tenant), moment("--at", at)

    async def act(parts: Parts) -> datetime:
        return await accounts_of(parts).close(named, who, why, actor(), at=begins)

    closed_at = invocation.with_parts(act)
    if as_json_:
        as_json({"tenant": named, "closed_at": closed_at})
    else:
        click.echo(f"closed from {closed_at.isoformat(timespec='seconds')}")
    return 0


@tenants.command("list", cls=Command, examples=[("those that are closed, or will be", "gateway tenants list")])
@json_option
@click.pass_obj
def list_(invocation: Invocation, as_json_: bool) -> int:
    """Show which accounts are closed or will be: from when on, by whom and why. WHO and WHY go with the customer's account data."""
    from gateway.app.accounts import accounts_of

    async def look(parts: Parts) -> Sequence[Mapping[str, Any]]:
        return await accounts_of(parts).list()

    rows = invocation.with_parts(look)
    if as_json_:
        as_json({"closed": rows})
    elif rows:
        table(list(_SHOWN), [[row[name] for name in _SHOWN] for row in rows])
    else:
        click.echo("no account is closed")
    return 0


@tenants.command(cls=Command, examples=[("one of gateway tenants list", "gateway tenants reopen harbour-books")])
@click.argument("tenant", type=SLUG)
@json_option
@click.pass_obj
def reopen(invocation: Invocation, tenant: str, as_json_: bool) -> int:
    """Take a closing back. What has ended stays ended.

    It must be to come, noted less than five minutes ago, or of an earlier day: in between what there is of that day is ending. Opt-outs
    stand, and events are taken in again.
    """
    from gateway.app.accounts import accounts_of

    async def act(parts: Parts) -> None:
        await accounts_of(parts).reopen(tenant, actor())

    invocation.with_parts(act)
    if as_json_:
        as_json({"tenant": tenant, "reopened": True})
    else:
        click.echo("open again")
    return 0


def _with_policy(invocation: Invocation, tenant: str) -> str:
    """A tenant that has a policy, enabled or not: of one that is not, there may be data. Raises UsageError."""
    from gateway.domain.policy_files import find_policies

    known = [file.policy.tenant for file in find_policies(invocation.settings().policies_directory)]
    if tenant not in known:
        raise click.UsageError(f"TENANT: no policy has this tenant: there are {', '.join(known)}")
    return tenant
