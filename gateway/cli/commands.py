"""Click's commands and groups as the gateway wants them: with examples, and loaded when they are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import click

__all__ = ["Command", "Group", "LazyGroup"]

WIDTH: Final = 100
CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": WIDTH, "show_default": True}

Example = tuple[str, str]
"""What it does, and the command line."""


class _Exemplary(click.Command):
    """Shows examples below the options, as they are to be typed."""

    def __init__(self, *arguments: Any, examples: Sequence[Example] = (), **keywords: Any) -> None:
        keywords["context_settings"] = {**CONTEXT, **keywords.get("context_settings", {})}
        super().__init__(*arguments, **keywords)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        if self.examples:
            with formatter.section("Examples"):
                for what, line in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}# {what}\n")
                    for piece in line.splitlines():
                        formatter.write(f"{'':{formatter.current_indent}}{piece}\n")
        super().format_epilog(ctx, formatter)


class Command(_Exemplary):
    """A command with examples."""


class Group(_Exemplary, click.Group):
    """A group of commands of one file."""

    command_class: type[click.Command] | None = Command


class LazyGroup(Group):
    """The root: ``sections`` name its commands, where each is (``module:name``) and a line of help, so that ``--help`` imports none."""

    def __init__(
        self, *arguments: Any, sections: Mapping[str, Mapping[str, tuple[str, str]]] | None = None, **keywords: Any
    ) -> None:
        super().__init__(*arguments, **keywords)
        self.sections = sections or {}
        self._places = {name: place for section in self.sections.values() for name, (place, _) in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- Click's signature
        """All names, in the order of the sections."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 -- Click's signature
        """The command, imported now."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 -- Click's signature
        """Write the sections."""
        widest = max(map(len, self._places), default=0)
        for title, section in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), line) for name, (_, line) in section.items()])
