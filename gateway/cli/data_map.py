"""``gateway data-map``: where personal data is."""

from __future__ import annotations

from dataclasses import asdict

import click

from gateway.cli.commands import Command
from gateway.cli.invocation import Invocation
from gateway.cli.output import as_json, json_option, table

__all__ = ["data_map"]


@click.command(
    cls=Command,
    examples=[
        ("what there is of people, and for how long", "gateway data-map"),
        ("all that is in the clear, for a script", "gateway data-map --json | jq '.[] | select(.form == \"clear\")'"),
        ("the page docs/data-map.md", "gateway data-map --markdown"),
    ],
)
@click.option("--markdown", is_flag=True, help="Print the page, with what is no personal data and why.")
@json_option
@click.pass_obj
def data_map(_invocation: Invocation, markdown: bool, as_json_: bool) -> int:
    """Show where personal data is, why, how long, and how it dies.

    It speaks of this version of the gateway, and asks no server. HOW LONG names a policy's key or a setting; `gateway retention plan` says
    when that is.
    """
    if markdown and as_json_:
        raise click.UsageError("--markdown and --json do not go together")
    from gateway.domain.data_page import PARTS, data_page

    if markdown:
        click.echo(data_page(), nl=False)
        return 0
    found = [(part.title, area, names.split(), held) for part in PARTS for area, names, held in part.rows()]
    if as_json_:
        as_json([{"part": title, "where": area, "names": names, **asdict(held)} for title, area, names, held in found])
        return 0
    rows = [[area, names, held.what, held.form, held.until.key] for _, area, names, held in found]
    table(["where", "names", "what", "form", "how long"], rows)
    return 0
