"""``gateway policy``: the tenants' files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.commands import Command, Group
from gateway.cli.invocation import Invocation
from gateway.cli.output import as_json, json_option, table
from gateway.cli.policy_route import route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.domain.policy_files import PolicyFile
    from gateway.domain.policy_report import Note
    from gateway.domain.publishers import Publishers

__all__ = ["policy"]

_FILE_OR_DIRECTORY = click.Path(path_type=Path)


@click.group(cls=Group)
def policy() -> None:
    """Check, show and compare the tenants' policies, or ask them for a way out."""


policy.add_command(route)


@policy.command(
    cls=Command,
    examples=[
        ("those in use", "gateway policy check"),
        ("a draft", "gateway policy check drafts/my-shop.yaml"),
    ],
)
@click.argument("path", type=_FILE_OR_DIRECTORY, required=False)
@json_option
@click.pass_obj
def check(invocation: Invocation, path: Path | None, as_json_: bool) -> int:
    """Check policies, and list what to know before they are live.

    PATH is a file or a directory, by default that of the setting policies_directory. The command shows each tenant's version, which every decision names, and who may publish for it: by which topics, signed with which keys.
    Below it lists what is UNSET, providers that are not built, what is kept for ever, and what a policy says and the gateway does not
    enforce, or not wholly. None of these is a fault. Exit code 2 at one, with its file, line and key; what an enabled tenant may not leave UNSET is
    one for `gateway run`.
    """
    from gateway.domain.policy import Policies
    from gateway.domain.policy_files import find_policies
    from gateway.domain.policy_report import notes
    from gateway.providers.names import PROVIDERS

    files = find_policies(path or invocation.settings().policies_directory)
    for one in files:
        one.refuse_unknown_calendar()
    Policies(one.policy for one in files if one.policy.enabled)  # what contradicts itself between them
    rows = [_row(one) for one in files]
    noted = {one.policy.tenant: notes(one, PROVIDERS) for one in files}
    if as_json_:
        as_json({"policies": [{**row, "notes": [asdict(note) for note in noted[str(row["tenant"])]]} for row in rows]})
        return 0
    table(list(rows[0]), [list(row.values()) for row in rows])
    if lines := [line for tenant, found in noted.items() for line in _lines(tenant, found)]:
        click.echo()
        table(["tenant", "what", "key", "where", "more"], lines)
    return 0


@policy.command(cls=Command, examples=[("with where each value comes from", "gateway policy show harbour-books")])
@click.argument("tenant")
@json_option
@click.pass_obj
def show(invocation: Invocation, tenant: str, as_json_: bool) -> int:
    """Show each value of a policy, and the file and line it comes from.

    The policy of TENANT and its overlay are shown together, and of each value whether it is enforced or only stated. What no file says
    is shown with what holds then.
    """
    from gateway.domain.policy_files import find_policies
    from gateway.domain.policy_report import values

    found = {one.policy.tenant: one for one in find_policies(invocation.settings().policies_directory)}
    if tenant not in found:
        raise click.UsageError(f"TENANT: no policy has this tenant: there are {', '.join(found)}")
    shown = values(found[tenant])
    if as_json_:
        version = found[tenant].policy.version
        as_json({"tenant": tenant, "version": version, "values": [asdict(value) for value in shown]})
    else:
        table(["key", "value", "from", "is"], [list(asdict(value).values()) for value in shown], title=f"{tenant}")
    return 0


@policy.command(
    cls=Command, examples=[("a draft with what is live", "gateway policy diff policies/my-shop.yaml drafts/my-shop.yaml")]
)
@click.argument("before", type=_FILE_OR_DIRECTORY)
@click.argument("after", type=_FILE_OR_DIRECTORY)
@json_option
def diff(before: Path, after: Path, as_json_: bool) -> int:
    """Compare policy files by what they say.

    BEFORE and AFTER are files or directories; overlays beside them are laid over. Comments and layout do not count.
    """
    from gateway.domain.policy_files import find_policies
    from gateway.domain.policy_report import leaves

    old, new = (
        {(one.policy.tenant, key): value for one in find_policies(path) for key, value in leaves(one.content).items()}
        for path in (before, after)
    )
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    rows = [{"tenant": key[0], "key": key[1], "before": old.get(key), "after": new.get(key)} for key in keys]
    if as_json_:
        as_json({"changed": rows})
    elif rows:
        table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        click.echo("They say the same.")
    return 0


def _row(file: PolicyFile) -> dict[str, object]:
    one = file.policy
    return {
        "tenant": one.tenant,
        "enabled": one.enabled,
        "version": one.version,
        "opt_out_scope": str(one.opt_out.scope),
        "programmes": list(one.programmes),
        "senders": sorted({sender.number for programme in one.programmes.values() for sender in programme.senders}),
        "regions": list(one.regions) if one.regions is not None else None,
        "publishers": _publishers(one.publishers),
    }


def _lines(tenant: str, noted: Sequence[Note]) -> list[list[object]]:
    """A line for each note; one for all that is stated."""
    said = [note for note in noted if note.what == "stated, not enforced"]
    lines: list[list[object]] = [[tenant, note.what, note.key, note.source, note.more] for note in noted if note not in said]
    return [*lines, [tenant, said[0].what, None, None, [note.key for note in said]]] if said else lines


def _publishers(publishers: Publishers | None) -> list[str] | None:
    """Who may publish; None where anybody may."""
    if publishers is None:
        return None
    keys = [f"key {name}{' (revoked)' if key.revoked else ''}" for name, key in publishers.keys.items()]
    return [*(f"topic {topic}" for topic in publishers.topics), *keys]
