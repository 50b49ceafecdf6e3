"""``gateway providers``: the accounts with providers, how they are, and whether they can be signed in to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.cli.commands import Command, Group
from gateway.cli.fields import ALIAS
from gateway.cli.invocation import Invocation
from gateway.cli.output import as_json, json_option, table

if TYPE_CHECKING:
    from gateway.app.wiring import Parts
    from gateway.flow.provider import Provider
    from gateway.settings import Settings

__all__ = ["providers"]


@click.group(cls=Group)
def providers() -> None:
    """Show the accounts with providers, or try one."""


@providers.command(
    cls=Command,
    examples=[
        ("how all are", "gateway providers status"),
        ("for a script", "gateway providers status --json | jq '.accounts[].health'"),
    ],
)
@json_option
@click.pass_obj
def status(invocation: Invocation, as_json_: bool) -> int:
    """Show every account: its health, what holds it up, what waits for it, and who sends by it.

    Health is "well", "held" (until then nothing is claimed), "tried" (one request at a time) or "open" (its breaker, until then).
    A barrier stands until the list of people's texts has been read. Exit code 1 when something that a policy sends by is not well.
    """

    async def look(parts: Parts) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        from gateway.flow.accounts import account_states, held_senders

        rows, queue, raised = await parts.routing.accounts(), await parts.routing.under_way(), await parts.routing.raised()
        accounts = {alias: (one.provider, one.place) for alias, one in parts.settings.accounts.items()}
        return account_states(accounts, rows, queue, raised, parts.routes), held_senders(rows)

    accounts, senders = invocation.with_parts(look)
    if as_json_:
        as_json({"accounts": accounts, "held_senders": senders})
    else:
        if accounts:
            table(list(accounts[0]), [list(row.values()) for row in accounts])
        else:
            click.echo("no account is set")
        if senders:
            click.echo("")
            table(list(senders[0]), [list(row.values()) for row in senders], title="Held senders")
    return int(bool(senders) or any(row["used_by"] and (row["health"] != "well" or row["barrier_since"]) for row in accounts))


@providers.command(cls=Command, examples=[("an account, before it is used", "gateway providers test main")])
@click.argument("alias", type=ALIAS)
@json_option
@click.pass_obj
def test(invocation: Invocation, alias: str, as_json_: bool) -> int:
    """Sign in to the account ALIAS, and look whether it is in order. Nobody is texted.

    It needs neither PostgreSQL nor Kafka. Exit code 1 when something is wrong, 2 when there is no such account.
    """
    import asyncio

    settings = invocation.reach()
    if alias not in settings.accounts:
        known = ", ".join(settings.accounts) or "none"
        raise click.UsageError(f"ALIAS: the settings have no such account; there is {known}")
    findings = [*_by_settings(invocation, settings, alias), asyncio.run(_signed_in(settings, alias))]
    if as_json_:
        as_json({"account": alias, "well": all(one["well"] for one in findings), "findings": findings})
    else:
        table(["what", "well", "found"], [[one["what"], one["well"], one["found"]] for one in findings])
    return int(not all(one["well"] for one in findings))


def _finding(what: str, found: str, *, well: bool = True) -> dict[str, Any]:
    return {"what": what, "well": well, "found": found}


def _by_settings(invocation: Invocation, settings: Settings, alias: str) -> list[dict[str, Any]]:
    """What the settings and policies say of an account."""
    account = settings.accounts[alias]
    policies = invocation.policies()
    uses = sorted({f"{route.tenant}/{route.programme}" for route in policies.routes() if route.account == alias})
    forbidding = sorted(
        {
            policy.tenant
            for policy in policies
            if any(use.startswith(f"{policy.tenant}/") for use in uses)
            and (account.provider not in policy.providers or (policy.regions is not None and account.place not in policy.regions))
        }
    )
    findings = [
        _finding("account", f"{account.provider}, region {account.place}, at {account.api}"),
        _finding("used by", ", ".join(uses) or "no policy sends by it"),
    ]
    if forbidding:
        findings.append(_finding("forbidden by", f"{', '.join(forbidding)}: by providers or regions", well=False))
    return findings


async def _signed_in(settings: Settings, alias: str) -> dict[str, Any]:
    from time import monotonic

    from gateway.app.providers import open_providers
    from gateway.domain.errors import ProviderUnavailable

    provider: Provider = open_providers(settings.model_copy(update={"accounts": {alias: settings.accounts[alias]}}))[alias]
    began = monotonic()
    try:
        await provider.check()
    except ProviderUnavailable as fault:
        return _finding("signs in", str(fault), well=False)
    else:
        return _finding("signs in", f"the account is in order, after {1000 * (monotonic() - began):.0f} ms")
    finally:
        await provider.close()
