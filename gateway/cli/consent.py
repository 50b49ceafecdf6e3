"""``gateway consent``: what people have said, by number. The number comes from standard input or a prompt, never from an argument."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.commands import Command, Group
from gateway.cli.fields import no_arguments, read_number, tenant_option
from gateway.cli.invocation import Invocation, actor, tenant_of
from gateway.cli.output import as_json, json_option, table

if TYPE_CHECKING:
    from gateway.app.wiring import Parts
    from gateway.domain.consent import Consent, Scope
    from gateway.domain.events import OptInProof
    from gateway.domain.personal import PhoneNumber
    from gateway.domain.policy import Policies
    from gateway.flow.requests import Granted, OptedOut

__all__ = ["consent"]

SCOPES = ("sender", "programme", "tenant", "all")
_WHY_NOT: Final = {
    "proof_from_the_future": "its time lies in the future",
    "account_closed": "the tenant's customer account is closed",
    "opted_out_later": "an opt-out stands that may be later",
}


def _reach(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        json_option,
        click.option("--name", metavar="NAME", help="The programme, or our own sender, that the scope speaks of."),
        click.option("--scope", type=click.Choice(SCOPES), default="tenant", help="How far it reaches."),
        tenant_option,
        no_arguments,
    ):
        command = option(command)
    return command


@click.group(cls=Group)
def consent() -> None:
    """Show, stop, start or import people's consent.

    The number is asked for, or read from the first line of standard input; it is never shown.
    """


@consent.command(
    cls=Command,
    examples=[
        ("the number is asked for", "gateway consent show"),
        ("from another program", "lookup-number 4711 | gateway consent show --json"),
    ],
)
@no_arguments
@tenant_option
@json_option
@click.pass_obj
def show(invocation: Invocation, tenant: str | None, as_json_: bool) -> int:
    """Show what is on record of a person.

    All opt-ins and opt-outs, what they reach, and since when; with --tenant those that bear on this tenant.
    """
    number = read_number(_region(invocation.policies(), tenant))

    async def look(parts: Parts) -> list[Consent]:
        found = await parts.requests("cli").standing(number)
        return [one for one in found if tenant is None or one.key.tenant in (tenant, "*")]

    rows = [
        {
            "tenant": one.key.tenant,
            "scope": str(one.key.scope),
            "name": one.key.name,
            "status": one.status,
            "stated_at": one.stated_at,
            "in_force_at": one.in_force_at,
            "version": one.version,
        }
        for one in invocation.with_parts(look)
    ]
    if as_json_:
        as_json({"consents": rows})
    elif rows:
        table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        click.echo("nothing is on record: neither an opt-in nor an opt-out")
    return 0


@consent.command(
    cls=Command,
    examples=[
        ("no more texts of this tenant", "gateway consent stop --tenant harbour-books"),
        ("none of one programme", "gateway consent stop --tenant harbour-books --scope programme --name offers"),
        ("none of anybody", "gateway consent stop --scope all"),
    ],
)
@_reach
@click.pass_obj
def stop(invocation: Invocation, tenant: str | None, scope: str, name: str | None, as_json_: bool) -> int:
    """Opt a person out.

    It returns when the opt-out is in force: from then on no request for the person and scope begins. When a request under way takes
    too long, it says so: the opt-out is durable, and in force within seconds. While PostgreSQL is away it is written to Kafka, where
    there is a spool, and in force once PostgreSQL is back.
    """
    from gateway.domain.errors import StoreUnavailable

    policies = invocation.policies()
    reach = _checked(policies, tenant, scope, name)
    number = read_number(_region(policies, reach[0]))

    async def act(parts: Parts) -> OptedOut:
        return await parts.requests("cli").opt_out(reach[0], number, reach[1], reach[2], actor())

    try:
        in_force = invocation.with_parts(act).in_force
        later = "written; in force as soon as the requests under way have ended"
    except StoreUnavailable:
        _spool(invocation, reach, number)
        in_force, later = (
            False,
            "written to Kafka; in force soon after PostgreSQL is back, and nothing is claimed for the person before",
        )
    if as_json_:
        as_json({"in_force": in_force})
    else:
        click.echo("in force" if in_force else later)
    return 0


def _spool(invocation: Invocation, reach: tuple[str | None, Scope, str], number: PhoneNumber) -> None:
    import asyncio

    from gateway.app.spooling import spool_opt_out

    asyncio.run(spool_opt_out(invocation.reach(), reach[0], number, reach[1], reach[2], actor()))


@consent.command(
    cls=Command,
    examples=[
        (
            "a form on paper",
            "gateway consent start --tenant harbour-books --medium paper --at 2026-05-01T09:30:00+02:00 --wording 'Yes, text me.'",
        ),
        ("the proof as JSON", "gateway consent start --tenant harbour-books --proof proof.json < number.txt"),
    ],
)
@_reach
@click.option(
    "--medium",
    type=click.Choice(["web", "app", "text", "voice", "paper", "in_person", "other"]),
    help="Where the person said so.",
)
@click.option("--at", metavar="TIME", help="When, with its offset, such as 2026-05-01T09:30:00+02:00.")
@click.option("--wording", metavar="TEXT", help="What the person agreed to, at most 2,000 characters.")
@click.option("--form-version", metavar="ID", help="The version of the form.")
@click.option("--purpose", metavar="TEXT", help="What the person agreed to be texted about.")
@click.option("--seller", metavar="TEXT", help="On whose behalf.")
@click.option("--campaign", metavar="ID", help="The campaign that the form belonged to.")
@click.option("--receipt-id", metavar="ID", help="The consent receipt's id (ISO/IEC TS 27560).")
@click.option(
    "--proof",
    "proof_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="All of the proof as a JSON object, in place of the options above.",
)
@click.pass_obj
def start(
    invocation: Invocation,
    /,
    tenant: str | None,
    scope: str,
    name: str | None,
    as_json_: bool,
    proof_file: Path | None,
    **proof: str | None,
) -> int:
    """Opt a person in, on proof.

    --medium and --at are needed, or --proof. The proof is sealed and kept with the opt-in. Where an opt-out stands that may have been
    said later, the opt-in is not granted, and the exit code is 1.
    """
    proved = _proof(proof_file, {key: value for key, value in proof.items() if value is not None})
    policies = invocation.policies()
    reach = _checked(policies, tenant, scope, name)
    number = read_number(_region(policies, reach[0]))

    async def act(parts: Parts) -> Granted:
        return await parts.requests("cli").opt_in(reach[0], number, reach[1], reach[2], actor(), proved)

    result = invocation.with_parts(act)
    if as_json_:
        as_json({"granted": result.granted, **({} if result.granted else {"why": result.why})})
    elif result.granted:
        click.echo("opted in")
    else:
        click.echo(f"not opted in: {_WHY_NOT[result.why]}", err=True)
    return 0 if result.granted else 1


def _region(policies: Policies, tenant: str | None) -> str | None:
    """How a number without a country code is read: as the tenant's policy says, or the only one's."""
    policy = policies.tenant(tenant) if tenant is not None else next(iter(policies)) if len(policies) == 1 else None
    return policy.region if policy is not None else None


def _checked(policies: Policies, tenant: str | None, scope: str, name: str | None) -> tuple[str | None, Scope, str]:
    from gateway.cli.consent_file import reach_fault
    from gateway.domain.consent import Scope

    wanted = Scope(scope)
    named = tenant if wanted is Scope.ALL else tenant_of(policies, tenant)
    if fault := reach_fault(policies, named, wanted, name or ""):
        raise click.UsageError(fault)
    return named, wanted, name or ""


def _proof(file: Path | None, given: dict[str, str]) -> OptInProof:
    from pydantic import ValidationError

    from gateway.domain.events import OptInProof

    if file is not None and given:
        raise click.UsageError("--proof goes without the other options of the proof")
    text = file.read_bytes() if file is not None else json.dumps(given).encode()
    try:
        return OptInProof.model_validate_json(text)
    except ValidationError as fault:
        errors = fault.errors(include_url=False, include_context=False, include_input=False)
    raise click.UsageError("; ".join(f"{'.'.join(map(str, error['loc'])) or 'the proof'}: {error['msg']}" for error in errors))


@consent.command(
    "import",
    cls=Command,
    examples=[
        ("look at it first", "gateway consent import --dry-run opt-outs.csv"),
        ("take it in", "gateway consent import opt-outs.csv"),
    ],
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE.csv")
@click.option("--dry-run", is_flag=True, help="Read and check every row, and change nothing.")
@click.option(
    "--rejects",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    show_default="FILE.csv.rejects.csv",
    help="Where to write the lines of rejected rows and why; never what they hold.",
)
@json_option
@click.pass_obj
def import_(invocation: Invocation, file: Path, dry_run: bool, rejects: Path | None, as_json_: bool) -> int:
    """Take in a list of consents.

    The first line names the columns number, tenant, scope, name, status (in or out) and stated_at, and for opt-ins those of the proof:
    medium, wording, form_version and so on. Times bear an offset; an opt-out may lack one and counts as said now.

    An import undoes no opt-out, and no opt-in that was said later than the list's opt-out. The same list may be taken in again. Exit
    code 1 when a row was rejected; the others are taken in all the same.
    """
    from gateway.cli.consent_import import import_file

    return import_file(
        invocation, file, rejects or file.with_name(f"{file.name}.rejects.csv"), dry_run=dry_run, json_wanted=as_json_
    )


@consent.command(
    cls=Command,
    examples=[
        ("what each account was told", "gateway consent propagation"),
        ("for a check that runs every minute", "gateway consent propagation --older-than 900 --json"),
    ],
)
@no_arguments
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=900.0,
    metavar="SECONDS",
    help="Exit code 1 when something has waited longer.",
)
@json_option
@click.pass_obj
def propagation(invocation: Invocation, older_than: float, as_json_: bool) -> int:
    """Show what provider accounts were told of opt-outs.

    Of each account, in pairs of a person and a sender: how many words it has confirmed, how many wait and for how long the oldest has, and
    how many it will never hold, by why. The gateway's own list holds in any case. An account that cannot be told confirms none: what waits
    there is to have its scheduled texts canceled.
    """
    from gateway.cli.consent_propagation import show_propagation

    return show_propagation(invocation, older_than, json_wanted=as_json_)
