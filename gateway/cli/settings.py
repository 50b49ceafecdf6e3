"""``gateway settings``: what is set, and what can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from gateway.cli.commands import Command
from gateway.cli.invocation import Invocation
from gateway.cli.output import as_json, json_option, table

__all__ = ["settings"]


@click.command(
    cls=Command,
    examples=[
        ("what is in effect", "gateway settings"),
        ("a file to begin with", "gateway settings --example > gateway.toml"),
        ("the page docs/configuration.md", "gateway settings --markdown"),
    ],
)
@click.option("--example", is_flag=True, help="Print a TOML file with every setting, its meaning and default.")
@click.option("--markdown", "--document", "markdown", is_flag=True, help="Print the page of all settings.")
@json_option
@click.pass_obj
def settings(invocation: Invocation, example: bool, markdown: bool, as_json_: bool) -> int:
    """Show the settings, or write them down.

    Without options it shows what is in effect, with secrets hidden; a wrong setting is exit code 2 and a line that names it.
    """
    if example or markdown:
        if example and markdown:
            raise click.UsageError("--example and --markdown do not go together")
        from gateway.settings import document
        from gateway.settings import example as example_file

        click.echo(example_file() if example else document(), nl=False)
        return 0
    effective = invocation.settings().model_dump(mode="json")
    if as_json_:
        as_json(effective)
    else:
        table(["setting", "value"], list(_leaves(effective)))
    return 0


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", None if value == {} else value
