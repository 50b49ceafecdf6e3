"""``gateway pause``, ``resume`` and ``pauses``: what is not sent for now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.commands import Command
from gateway.cli.fields import SLUG, WHY
from gateway.cli.invocation import Invocation, actor, tenant_of
from gateway.cli.output import as_json, json_option, table
from gateway.providers.names import PROVIDERS

if TYPE_CHECKING:
    from gateway.app.wiring import Parts

__all__ = ["pause", "pauses", "resume"]


def _what(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--provider", type=click.Choice(PROVIDERS), help="All that goes through a provider."),
        click.option("--programme", type=SLUG, metavar="NAME", help="One programme; with --tenant."),
        click.option("--tenant", type=SLUG, metavar="TENANT", help="All of one tenant."),
    ):
        command = option(command)
    return command


@click.command(
    cls=Command,
    examples=[
        ("everything, at once", "gateway pause --why 'wrong prices in the spring offer'"),
        ("one programme", "gateway pause --tenant harbour-books --programme offers"),
        ("a provider", "gateway pause --provider twilio --why 'incident at the provider'"),
    ],
)
@_what
@click.option("--why", type=WHY, metavar="TEXT", default="", show_default=False, help="For those who find it paused.")
@json_option
@click.pass_obj
def pause(
    invocation: Invocation, tenant: str | None, programme: str | None, provider: str | None, why: str, as_json_: bool
) -> int:
    """Stop sending: everything, or a part.

    In effect within a second, for what waits too; what is under way is finished. Messages are still taken in, and may expire. STOP is
    heeded, but its confirmation waits like any other text.
    """

    async def act(parts: Parts) -> bool:
        return await parts.control.pause(*_scope(parts, tenant, programme, provider), actor(), why)

    return _told(invocation.with_parts(act), "paused", "was paused already", json_wanted=as_json_)


@click.command(
    cls=Command,
    examples=[
        ("what was paused without options", "gateway resume"),
        ("one programme", "gateway resume --tenant harbour-books --programme offers"),
    ],
)
@_what
@json_option
@click.pass_obj
def resume(invocation: Invocation, tenant: str | None, programme: str | None, provider: str | None, as_json_: bool) -> int:
    """Let what was paused go on.

    It takes the same options as the pause: each pause is a thing of its own, and a message goes when none covers it.
    """

    async def act(parts: Parts) -> tuple[bool, int]:
        done = await parts.control.resume(*_scope(parts, tenant, programme, provider), actor())
        return done, len(await parts.control.pauses())

    done, others = invocation.with_parts(act)
    code = _told(done, "resumed", "was not paused", json_wanted=as_json_)
    if others and not as_json_:
        click.echo(f"{others} pause(s) still stand: see gateway pauses")
    return code


@click.command(cls=Command, examples=[("what is paused", "gateway pauses")])
@json_option
@click.pass_obj
def pauses(invocation: Invocation, as_json_: bool) -> int:
    """Show what is paused, since when, by whom and why."""

    async def look(parts: Parts) -> list[dict[str, Any]]:
        return await parts.control.pauses()

    rows = invocation.with_parts(look)
    if as_json_:
        as_json({"pauses": rows})
    elif rows:
        table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        click.echo("nothing is paused")
    return 0


def _scope(parts: Parts, tenant: str | None, programme: str | None, provider: str | None) -> tuple[str, str, str]:
    """The pause's scope, tenant and name. UsageError."""
    if provider is not None:
        if tenant is not None or programme is not None:
            raise click.UsageError("--provider goes alone")
        return "provider", "", provider
    if programme is not None:
        named = tenant_of(parts.policies, tenant)
        policy = parts.policies.tenant(named)
        if policy is None or policy.programme(programme) is None:
            raise click.UsageError(f"--programme: the policy of {named} has no such programme")
        return "programme", named, programme
    return ("all", "", "") if tenant is None else ("tenant", tenant_of(parts.policies, tenant), "")


def _told(done: bool, yes: str, no: str, *, json_wanted: bool) -> int:
    if json_wanted:
        as_json({"changed": done})
    else:
        click.echo(yes if done else no)
    return 0
