"""``gateway tokens``: bearer tokens, of the API and of what a person may see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.cli.commands import Command, Group
from gateway.cli.fields import SLUG
from gateway.cli.invocation import Invocation, actor, tenant_of
from gateway.cli.output import as_json, json_option, table

if TYPE_CHECKING:
    from gateway.app.wiring import Parts

__all__ = ["RIGHTS", "tokens"]

RIGHTS = ("api", "close-accounts", "read-payloads")


@click.group(cls=Group)
def tokens() -> None:
    """Make, show or revoke bearer tokens.

    A token with the right api lets a tenant's system opt people out and in, and ask what became of a message. One with the right
    read-payloads lets a person see what is in a dead letter; with close-accounts the system that bills closes customer accounts. The
    gateway keeps a hash of it alone.
    """


@tokens.command(
    cls=Command,
    examples=[
        ("for the shop's own system", "gateway tokens create shop-backend --tenant harbour-books"),
        ("into a file", "gateway tokens create support --all-tenants > token"),
        ("for the system that bills", "gateway tokens create billing --all-tenants --right close-accounts"),
        (
            "for a person who may look into dead letters",
            "gateway tokens create jane --tenant harbour-books --right read-payloads",
        ),
    ],
)
@click.argument("name", type=SLUG)
@click.option(
    "--tenant", "tenants", type=SLUG, multiple=True, metavar="TENANT", help="Whose people and messages; several may be given."
)
@click.option("--all-tenants", is_flag=True, help="Everybody's; needed for opt-outs of scope `all`.")
@click.option(
    "--right",
    "rights",
    type=click.Choice(RIGHTS),
    multiple=True,
    default=("api",),
    help="What it is for; several may be given.",
)
@json_option
@click.pass_obj
def create(
    invocation: Invocation, name: str, tenants: tuple[str, ...], all_tenants: bool, rights: tuple[str, ...], as_json_: bool
) -> int:
    """Make a token, and print it: this once, it cannot be shown again.

    NAME stands in the audit for what is done with it. It stays taken when the token is revoked.
    """
    from gateway.crypto.bearer import new_token
    from gateway.domain.errors import GatewayError

    if bool(tenants) is all_tenants:
        raise click.UsageError("give either --tenant, once or several times, or --all-tenants")
    text, hashed = new_token()

    async def make(parts: Parts) -> bool:
        known = [tenant_of(parts.policies, tenant) for tenant in dict.fromkeys(tenants)]
        return await parts.control.create_token(hashed, name, None if all_tenants else known, actor(), sorted({*rights}))

    if not invocation.with_parts(make):
        raise GatewayError(f"a token called {name} is there already, or was: choose another name")
    if as_json_:
        as_json({"name": name, "tenants": None if all_tenants else list(tenants), "rights": sorted({*rights}), "token": text})
    else:
        click.echo(text)
        click.echo("Keep it safe: it cannot be shown again.", err=True)
    return 0


@tokens.command("list", cls=Command, examples=[("all of them", "gateway tokens list")])
@json_option
@click.pass_obj
def list_(invocation: Invocation, as_json_: bool) -> int:
    """Show all tokens' names, tenants, rights and dates; none can be shown itself."""

    async def look(parts: Parts) -> list[dict[str, Any]]:
        return await parts.control.tokens()

    rows = invocation.with_parts(look)
    if as_json_:
        as_json({"tokens": rows})
    elif rows:
        table(
            ["name", "tenants", "rights", "created", "revoked"],
            [
                [
                    row["name"],
                    "all" if row["tenants"] is None else row["tenants"],
                    row["rights"],
                    row["created_at"],
                    row["revoked_at"],
                ]
                for row in rows
            ],
        )
    else:
        click.echo("there is no token; make one with gateway tokens create")
    return 0


@tokens.command(cls=Command, examples=[("one that has leaked", "gateway tokens revoke shop-backend")])
@click.argument("name", type=SLUG)
@json_option
@click.pass_obj
def revoke(invocation: Invocation, name: str, as_json_: bool) -> int:
    """End a token, for good and at once."""
    from gateway.domain.errors import NotFound

    async def end(parts: Parts) -> bool:
        return await parts.control.revoke_token(name, actor())

    if not invocation.with_parts(end):
        raise NotFound(f"no token called {name} is in use")
    if as_json_:
        as_json({"name": name, "revoked": True})
    else:
        click.echo("revoked")
    return 0
