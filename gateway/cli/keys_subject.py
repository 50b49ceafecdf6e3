"""``gateway keys subject``: exchange the key that people are hashed with, while everything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.commands import Command, Group
from gateway.cli.invocation import Invocation, actor
from gateway.cli.output import as_json, json_option, table

if TYPE_CHECKING:
    from gateway.app.wiring import Parts

__all__ = ["subject"]

_SHOWN: Final = ("version", "is", "added_at", "copied_at", "used_at", "settled_at", "fingerprint")


@click.group(cls=Group)
def subject() -> None:
    """Exchange the key that people are hashed with: add a version, use it, see how far it has come.

    What people have said stands under every version, so that no opt-out is ever missed; new messages are kept under the one in use. Old
    versions stay in the key ring: ids under the new one are made from those under the old.
    """


@subject.command("list", cls=Command, examples=[("how far an exchange has come", "gateway keys subject list")])
@json_option
@click.pass_obj
def list_(invocation: Invocation, as_json_: bool) -> int:
    """Show the versions, and which is in use.

    A version is added; copied, when all that people have said stands under it; used, for new messages; and settled, when nothing waits
    under an older one.
    """

    async def look(parts: Parts) -> list[dict[str, Any]]:
        from gateway.app.keys import subject_versions

        return await subject_versions(parts)

    rows = invocation.with_parts(look)
    if as_json_:
        as_json({"versions": rows})
    else:
        table(list(_SHOWN), [[row[name] for name in _SHOWN] for row in rows])
    return 0


@subject.command(cls=Command, examples=[("the first step of an exchange", "gateway keys subject add")])
@json_option
@click.pass_obj
def add(invocation: Invocation, as_json_: bool) -> int:
    """Make a new version, and have everything that people say written under it too, from now on.

    The gateway then copies to it what they have said before. Take a backup of the key ring before it is used. It may be run again after
    a crash. Exit code 1 while another exchange is not settled.
    """

    async def act(parts: Parts) -> tuple[int, str]:
        from gateway.app.keys import add_subject_key

        return await add_subject_key(parts, actor())

    version, why = invocation.with_parts(act)
    return _said(version, why, f"version {version} is added; in two minutes: gateway keys subject use {version}", as_json_)


@subject.command(cls=Command, examples=[("the second step of an exchange", "gateway keys subject use 2")])
@click.argument("version", type=click.IntRange(1, 9999))
@json_option
@click.pass_obj
def use(invocation: Invocation, version: int, as_json_: bool) -> int:
    """Keep new messages under VERSION from now on.

    Refused with exit code 1, which says why, until every process knows the version and all that people have said stands under it. It may
    be run again.
    """

    async def act(parts: Parts) -> str:
        from gateway.app.keys import use_subject_key

        return await use_subject_key(parts, version, actor())

    return _said(version, invocation.with_parts(act), f"version {version} is in use", as_json_)


def _said(version: int, why: str, done: str, as_json_: bool) -> int:
    if as_json_:
        as_json({"version": version, "done": not why, "why": why or None})
    else:
        click.echo(why or done, err=bool(why))
    return int(bool(why))
