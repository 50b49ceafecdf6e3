"""``gateway policy route``: which way a message to a person would take, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.cli.commands import Command
from gateway.cli.fields import SLUG, no_arguments, read_number, tenant_option
from gateway.cli.invocation import Invocation, tenant_of
from gateway.cli.output import as_json, json_option, table

if TYPE_CHECKING:
    from gateway.app.wiring import Parts

__all__ = ["route"]


@click.command(
    cls=Command,
    examples=[
        ("the number is asked for", "gateway policy route --programme offers --category marketing"),
        ("or comes on standard input", "echo +14155550123 | gateway policy route --programme orders --category service --json"),
    ],
)
@tenant_option
@click.option("--programme", type=SLUG, required=True, metavar="NAME", help="The stream of messages.")
@click.option("--category", type=click.Choice(["marketing", "service", "security"]), required=True, help="What kind of message.")
@no_arguments
@json_option
@click.pass_obj
def route(invocation: Invocation, tenant: str | None, programme: str, category: str, as_json_: bool) -> int:
    """Show the way out that a message would take now, and the others in their order.

    It goes by the policies, the person's sender so far, and the health of the accounts; by consent it does not go. Nothing is sent,
    and the number is neither shown nor kept. Exit code 1 when there is no way.
    """

    async def look(parts: Parts) -> dict[str, Any]:
        return await _routed(parts, tenant_of(parts.policies, tenant), programme, category)

    found = invocation.with_parts(look)
    if as_json_:
        as_json(found)
        return int(found["reason"] is not None)
    click.echo(f"country: {found['country'] or 'none'}")
    if found["reason"] is not None:
        click.echo(f"refused: {found['reason']} ({found['rule']})")
    else:
        click.echo(f"decided by: {found['rule']}")
        table(list(found["ways"][0]), [list(way.values()) for way in found["ways"]])
    if found["left_out"]:
        table(list(found["left_out"][0]), [list(way.values()) for way in found["left_out"]], title="Left out")
    return int(found["reason"] is not None)


async def _routed(parts: Parts, tenant: str, programme: str, category: str) -> dict[str, Any]:
    from gateway.domain.phone import BadNumber, normalise, region_of
    from gateway.domain.reasons import Reason
    from gateway.domain.routing import in_order
    from gateway.flow.accept import own_sender
    from gateway.flow.rerouting import ILL_AFTER

    policy = parts.policies.tenant(tenant)
    number = normalise(read_number(policy.region if policy is not None else None).reveal())
    country = None if isinstance(number, BadNumber) else region_of(number)
    found = Reason.BAD_NUMBER if isinstance(number, BadNumber) else parts.router.ways(tenant, programme, category, country or "")
    ways: list[dict[str, Any]] = []
    if not isinstance(found, Reason) and not isinstance(number, BadNumber):
        person = parts.hasher.subject_id(number)
        kept = own_sender(await parts.routing.kept(person, tenant, programme), found.ways)
        ill = await parts.routing.ill(ILL_AFTER)
        weights = parts.router.weights(tenant, programme)
        ways = [
            {
                "sender": way.sender,
                "account": way.account,
                "provider": way.provider,
                "weight": weights.get(way.sender, 1),
                "persons_own": way.sender == kept,
                "well": not {(way.account, ""), (way.account, way.sender)} & ill,
            }
            for way in in_order(found.ways, weights, person, kept, ill)
        ]
    taken = {way["sender"] for way in ways}
    left_out = [
        {"sender": way.sender, "account": way.account, "why": parts.router.forbidden(way) or "not on this route"}
        for way in parts.routes
        if (way.tenant, way.programme) == (tenant, programme) and way.sender not in taken
    ]
    reason = found if isinstance(found, Reason) else None
    return {
        "tenant": tenant,
        "programme": programme,
        "category": category,
        "country": country,
        "reason": reason,
        "rule": f"routing.{reason}" if isinstance(found, Reason) else found.rule,
        "ways": ways,
        "left_out": left_out,
    }
