"""``python -m gateway.cli.document``: the page docs/cli.md, made from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator

import click

from gateway.cli.commands import WIDTH
from gateway.cli.root import root

__all__ = ["commands", "document"]

_HEAD = """\
# Command line

Made by `python -m gateway.cli.document > docs/cli.md` from the commands in `gateway/cli`; change them, not this page. What each says
here it says for `--help` too.

- **Numbers never stand in arguments**, which shells and process lists keep: they come from files, standard input or a prompt that does
  not show them.
- **`--json`** prints one JSON document on standard output, and nothing else there. Logs and errors go to standard error.
- **Exit codes**: 0 done; 1 not done, with one line that says why; 2 wrong usage, settings or policy; 130 interrupted.
- **Settings** come from the environment and the file that `--config` names ([configuration](configuration.md)). Where they name no
  servers, commands use those of the gateway that runs embedded on this machine with the same `state_directory`.
- Colours, tables with lines and progress bars appear on a terminal only.
"""


def commands(command: click.Command = root, name: str = "gateway", above: click.Context | None = None) -> Iterator[click.Context]:
    """A context for every command, groups before what is in them."""
    settings = {**command.context_settings, "terminal_width": WIDTH}
    context = click.Context(command, parent=above, info_name=name, **settings)
    yield context
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from commands(found, inner, context)


def document() -> str:
    """The page."""
    pages = [f"## {context.command_path}\n\n```text\n{context.get_help()}\n```\n" for context in commands()]
    return "\n".join([_HEAD, *pages])


if __name__ == "__main__":
    click.echo(document(), nl=False)
