"""``gateway retention``: what dies when, end what is due, and look whether it is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from gateway.cli.commands import Command, Group
from gateway.cli.fields import ALIAS, CHAIN
from gateway.cli.invocation import Invocation
from gateway.cli.output import as_json, json_option, progress, table

if TYPE_CHECKING:
    from datetime import datetime

    from gateway.app.wiring import Parts
    from gateway.flow.retention import Found, Place, Planned

__all__ = ["retention"]


@click.group(cls=Group)
def retention() -> None:
    """Plan, end and verify what may not be kept any longer.

    Personal data stands in places: PostgreSQL, Kafka's topics, the key ring, each provider account. The policies say how long each class
    of it is kept, docs/data-map.md says of each column and field which class it is. The gateway ends what is due by itself, every minute,
    and looks every hour; these commands are for whoever wants to know now.
    """


@retention.command(
    cls=Command,
    examples=[
        ("what dies when", "gateway retention plan"),
        ("of one tenant, for a script", "gateway retention plan --tenant harbour-books --json"),
    ],
)
@click.option("--tenant", type=CHAIN, help="One tenant's alone, or _system's.")
@json_option
@click.pass_obj
def plan(invocation: Invocation, tenant: str | None, as_json_: bool) -> int:
    """Show what dies next in each place, of which tenant and class, when and how.

    Nothing is changed. Where nothing ends a thing, the last column says why. COUNT is how much there is of what is due, or is due next;
    it is empty where only looking at each would tell. Exit code 1 when a place could not be asked; the others are shown.
    """

    async def ask(parts: Parts) -> tuple[list[Planned], dict[str, str]]:
        from gateway.app.retention import retention_places
        from gateway.flow.retaining import described

        planned: list[Planned] = []
        faults: dict[str, str] = {}
        now = await parts.control.now()
        for place in retention_places(parts):
            try:
                planned += await place.plan(now)
            except Exception as fault:  # noqa: BLE001 -- one place's fault must not keep the others
                faults[place.name] = described(fault)
        return [one for one in planned if tenant in (None, one.tenant)], faults

    planned, faults = invocation.with_parts(ask, with_providers=True)
    if as_json_:
        as_json({"planned": [asdict(one) for one in planned], "not_asked": faults})
    else:
        _rows(
            ["place", "tenant", "class", "due", "count", "how"],
            [list(asdict(one).values()) for one in planned],
            "nothing is planned",
        )
    return _failed(faults, "could not be asked")


@retention.command(
    cls=Command,
    examples=[
        ("end what is due now", "gateway retention run"),
        ("how much it was", "gateway retention run --json | jq .ended"),
    ],
)
@json_option
@click.pass_obj
def run(invocation: Invocation, as_json_: bool) -> int:
    """End what is due, in bounded steps, until no more can be ended now.

    It may be killed at any moment and run again, and may run beside the gateway and beside itself: nothing is half dead, and nothing
    dies that should live. What it ends cannot be brought back: see `gateway retention plan` first. What a legal hold keeps stays. While
    the gateway is held (`gateway restore status`) it ends nothing. Exit code 1 when a place failed, or when something is due there that
    could not be ended: run it again later. The other places have gone on.
    """

    async def end(parts: Parts) -> tuple[dict[str, int], dict[str, str], dict[str, str]]:
        from gateway.app.retention import retention_places
        from gateway.flow.retaining import described, end_all

        ended: dict[str, int] = {}
        faults: dict[str, str] = {}
        left: dict[str, str] = {}
        await parts.lineage.require()
        now = await parts.control.now()
        for place in retention_places(parts):
            ended[place.name] = 0
            try:
                due = await _due(place, now)
                with progress(place.name, due) as advance:
                    await end_all(place, now, partial(_moved, ended, place.name, advance), parts.lineage.require)
                    # a day that is dropped counts as one, however many rows it has
                    advance(max(0, (due or 0) - ended[place.name]))
                if why := await place.left(now):
                    left[place.name] = why
            except Exception as fault:  # noqa: BLE001 -- one place's fault must not keep the others
                faults[place.name] = described(fault)
        return ended, faults, left

    ended, faults, left = invocation.with_parts(end, with_providers=True)
    if as_json_:
        as_json({"ended": ended, "failed": faults, "left": left})
    else:
        _rows(["place", "ended"], [list(one) for one in ended.items()], "there is no place")
    return _failed(left, "is not finished") | _failed(faults, "failed")


@retention.command(
    cls=Command,
    examples=[
        ("everywhere", "gateway retention verify"),
        ("without asking the providers, which takes time", "gateway retention verify --skip-providers"),
        ("what is not well", "gateway retention verify --json | jq '.found[] | select(.well | not)'"),
    ],
)
@click.option("--skip-providers", is_flag=True, help="Do not ask the providers' APIs; what is there is not known then.")
@json_option
@click.pass_obj
def verify(invocation: Invocation, skip_providers: bool, as_json_: bool) -> int:
    """Look in each table, topic, key ring and provider whether what is there may be.

    Of each it says the oldest that it found. It looks by its own means, and believes nothing that the deletion noted. Nothing older than NOT BEFORE may be there. What could not be
    looked at is said, and is not well. Exit code 1 when anything is not well; the gateway's hourly look shows the same as the metric
    `sms_gateway_retention_overdue`. What --skip-providers skips is named, and does not count.
    """

    async def look(parts: Parts) -> tuple[datetime, list[Found]]:
        from gateway.app.retention import retention_places
        from gateway.flow.retaining import look_at

        now = await parts.control.now()
        return now, [one for place in retention_places(parts) for one in await look_at(place, now)]

    now, found = invocation.with_parts(look, with_providers=not skip_providers)
    skipped = sorted(invocation.reach().accounts) if skip_providers else []
    unwell = sum(not one.well for one in found)
    if as_json_:
        as_json({"at": now, "well": not unwell, "found": [asdict(one) for one in found], "skipped": skipped})
        return int(bool(unwell))
    columns = ["place", "tenant", "class", "oldest", "not before", "well", "why"]
    _rows(columns, [list(asdict(one).values()) for one in found], "there is nothing to look at")
    for alias in skipped:
        click.echo(f"skipped: the provider account {alias}; what is there is not known")
    told = f"{unwell} of {len(found)} findings are not well" if unwell else f"all is well: {len(found)} findings"
    click.echo(f"{told}, at {now.isoformat(timespec='seconds')}")
    return int(bool(unwell))


@retention.command(
    cls=Command,
    examples=[("an account that was closed at its provider", "gateway retention abandon old-account")],
)
@click.argument("alias", type=ALIAS)
@json_option
@click.pass_obj
def abandon(invocation: Invocation, alias: str, as_json_: bool) -> int:
    """Let go of the copies at an account that no settings have any more, as nobody will ever erase them.

    Only for one that cannot be set again: closed at its provider, its credentials lost. What the provider still has stays there; it
    must be asked for in another way. Each copy that is let go of is a record in the audit. It may be killed and run again.
    """

    async def let_go(parts: Parts) -> int:
        from gateway.app.copies import lost_accounts

        await parts.lineage.require()
        return await lost_accounts(parts).abandon(alias, await parts.control.now())

    count = invocation.with_parts(let_go)
    if as_json_:
        as_json({"account": alias, "abandoned": count})
    else:
        click.echo(f"{count} copies abandoned")
    return 0


def _moved(ended: dict[str, int], name: str, advance: Callable[[int], None], count: int) -> None:
    ended[name] += count
    advance(count)


async def _due(place: Place, now: datetime) -> int | None:
    """How many things are due, for the bar; None where the place does not know."""
    counts = [one.count for one in await place.plan(now) if one.due_at is not None and one.due_at <= now]
    return None if None in counts else sum(count for count in counts if count is not None)


def _rows(columns: Sequence[str], rows: Sequence[Sequence[object]], nothing: str) -> None:
    if rows:
        table(columns, rows)
    else:
        click.echo(nothing)


def _failed(faults: dict[str, str], what: str) -> int:
    for name, why in faults.items():
        click.echo(f"{name} {what}: {why}", err=True)
    return int(bool(faults))
