"""``gateway schemas``: the events' JSON Schemas, the topics as AsyncAPI, and what a change of them would break."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.commands import Command, Group
from gateway.cli.output import as_json, json_option

__all__ = ["schemas"]

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group(cls=Group)
def schemas() -> None:
    """Write the events' schemas, or check what a change breaks."""


@schemas.command(cls=Command, examples=[("after a change of the models", "gateway schemas export")])
@click.argument("directory", type=_FOLDER, default=Path("schemas"))
def export(directory: Path) -> int:
    """Write the events' JSON Schemas and asyncapi.yaml to DIRECTORY, by default `schemas`.

    The schemas are of 2020-12, one for each event; asyncapi.yaml is an AsyncAPI 3.0 document of all topics.
    """
    from gateway.app import asyncapi
    from gateway.domain import schemas as made

    for path in (*made.export(directory), asyncapi.export(directory)):
        click.echo(path)
    return 0


@schemas.command(
    cls=Command,
    examples=[
        ("as CI does", "gateway schemas check"),
        ("against what one consumer has", "gateway schemas check --released their-schemas"),
    ],
)
@click.option(
    "--released",
    type=_FOLDER,
    default=Path("schemas/released"),
    help="Folder with released schemas, or with a folder of them for each release.",
)
@click.option(
    "--current", type=_FOLDER, default=Path("schemas"), help="Folder that must hold today's schemas; passed over if absent."
)
@json_option
def check(released: Path, current: Path, as_json_: bool) -> int:
    """Check that today's events can be read, and released ones still written.

    Producers write by a released schema and the gateway reads by today's; of what the gateway writes it is the other way round. Exit
    code 1 when something breaks, or a file in `schemas` is not today's.
    """
    from gateway.app import asyncapi
    from gateway.domain import schemas as made

    releases = sorted(path for path in released.glob("*/") if any(path.glob("*.json"))) or [released]
    breaks = [(release.name, one) for release in releases for one in made.check(release)]
    stale = [*made.stale(current), *asyncapi.stale(current)] if current.is_dir() else []
    if as_json_:
        as_json(
            {
                "releases": [str(release) for release in releases],
                "breaks": [{"release": name, "event": one.event, "field": one.field, "what": one.what} for name, one in breaks],
                "stale": [str(path) for path in stale],
            }
        )
    else:
        for name, one in breaks:
            click.echo(f"breaks {name}: {one}")
        for path in stale:
            click.echo(f"{path} is not today's: run gateway schemas export")
        if not breaks and not stale:
            click.echo(f"nothing breaks: checked against {', '.join(str(release) for release in releases)}")
    return 1 if breaks or stale else 0
