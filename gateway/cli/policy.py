"""``gateway policy``: the tenants' files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.commands import Command, Group
from gateway.cli.invocation import Invocation
from gateway.cli.output import as_json, json_option, table

if TYPE_CHECKING:
    from gateway.domain.publishers import Publishers

__all__ = ["policy"]


@click.group(cls=Group)
def policy() -> None:
    """Check the tenants' policies."""


@policy.command(cls=Command, examples=[("those in use", "gateway policy check"), ("a draft", "gateway policy check drafts")])
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), required=False)
@json_option
@click.pass_obj
def check(invocation: Invocation, directory: Path | None, as_json_: bool) -> int:
    """Read the policies of DIRECTORY, by default those that the setting policies_directory names.

    It shows each tenant's version, which every decision names, and who may publish for it: by which topics, signed with which keys.
    Exit code 2 at a fault, with its file, line and key.
    """
    from gateway.domain.policy import load_policies

    policies = load_policies(directory or invocation.settings().policies_directory)
    rows = [
        {
            "tenant": one.tenant,
            "version": one.version,
            "opt_out_scope": str(one.opt_out.scope),
            "programmes": list(one.programmes),
            "senders": sorted({sender.number for programme in one.programmes.values() for sender in programme.senders}),
            "publishers": _publishers(one.publishers),
        }
        for one in policies
    ]
    if as_json_:
        as_json({"policies": rows})
    else:
        table(list(rows[0]), [list(row.values()) for row in rows])
    return 0


def _publishers(publishers: Publishers | None) -> list[str] | None:
    """Who may publish; None where anybody may."""
    if publishers is None:
        return None
    keys = [f"key {name}{' (revoked)' if key.revoked else ''}" for name, key in publishers.keys.items()]
    return [*(f"topic {topic}" for topic in publishers.topics), *keys]
