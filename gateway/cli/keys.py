"""``gateway keys``: look the key ring through, wrap it anew, take and put back its backup."""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.commands import Command, Group
from gateway.cli.invocation import Invocation
from gateway.cli.keys_subject import subject
from gateway.cli.output import as_json, json_option, progress, table

if TYPE_CHECKING:
    from gateway.crypto.keyring import KeyRing
    from gateway.crypto.tending import Looked
    from gateway.flow.keys import KeptKey
    from gateway.settings import Settings

__all__ = ["keys"]

_MOST_FAULTS = 20


@click.group(cls=Group)
def keys() -> None:
    """Look the key ring through, wrap it anew, take and put back its backup.

    They concern every tenant's keys, and may run beside the gateway.
    """


keys.add_command(subject)


@keys.command("list", cls=Command, examples=[("all keys, by name", "gateway keys list")])
@json_option
@click.pass_obj
def list_(invocation: Invocation, as_json_: bool) -> int:
    """Show the keys by name, and which master key each needs; nothing of the keys themselves."""
    with _ring(invocation.reach()) as ring:
        rows = [{"key": kept.name, **_state(ring, kept)} for kept in ring.place.entries()]
    if as_json_:
        as_json({"keys": rows})
    else:
        table(["key", "is", "master"], [list(row.values()) for row in rows])
    return 0


@keys.command(
    cls=Command,
    examples=[
        ("before an old master key is taken away", "gateway keys check"),
        ("after the key ring's server has failed over", "gateway keys check --end"),
    ],
)
@click.option("--end", is_flag=True, help="Destroy the keys that are there although the database knows them to be destroyed.")
@json_option
@click.pass_obj
def check(invocation: Invocation, end: bool, as_json_: bool) -> int:
    """Unwrap every key, and compare the ring with the database.

    Exit code 1 when anything is wrong, each named. A master key that no key needs any more may be taken out of its file.
    """
    from gateway.app.keys import compare
    from gateway.crypto.tending import look_through
    from gateway.domain.errors import SettingsError

    settings = invocation.reach()
    if end and settings.database_url is None:
        raise SettingsError("settings: database_url is missing (set GATEWAY_DATABASE_URL): it knows which keys were destroyed")
    with _ring(settings) as ring:
        faults = [] if settings.database_url is None else asyncio.run(compare(settings, ring, end=end))
        with progress("looking", _count(ring)) as advance:
            looked = look_through(ring, advance)
        looked.faults += faults
        return _told(ring, looked, as_json_)


@keys.command(cls=Command, examples=[("after a new master key was added", "gateway keys rotate")])
@json_option
@click.pass_obj
def rotate(invocation: Invocation, as_json_: bool) -> int:
    """Wrap every key by the newest master key: the last in its file, or setting.

    Every process must know that one, which takes some seconds after it was added to a file. It may be killed and run again, also twice
    at once. Keys from before there were master keys are wrapped too. Exit code 1 when a key cannot be unwrapped: it stays as it is.
    """
    from gateway.crypto.tending import rotate as wrap_anew

    with _ring(invocation.reach(), make_master=True) as ring:
        with progress("wrapping", _count(ring)) as advance:
            looked = wrap_anew(ring, advance)
        return _told(ring, looked, as_json_)


@keys.command(cls=Command, examples=[("once a day, after midnight", "gateway keys backup /backup/keys-$(date +%F)")])
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--days",
    type=click.IntRange(1, 400),
    default=7,
    metavar="N",
    help="For how long it may be restored; no longer than a deletion may take to reach every copy.",
)
@json_option
@click.pass_obj
def backup(invocation: Invocation, file: Path, days: int, as_json_: bool) -> int:
    """Write the key ring to FILE, which must not exist.

    It holds the keys as they are wrapped, and the names of those that were destroyed. Without the master keys, which are not in it,
    nothing in it opens; keep them elsewhere. Delete it when its time is over.
    """
    from gateway.crypto.backup import write_backup

    now = datetime.now(UTC)
    expires_at = now + timedelta(days=days)
    with _ring(invocation.reach()) as ring:
        lines = list(write_backup(ring, now, expires_at))
    try:
        with open(file, "x", encoding="ascii", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
            out.writelines(lines)
            out.flush()
            os.fsync(out.fileno())
    except OSError as fault:
        raise click.ClickException(f"{file} cannot be written: {fault.strerror}") from None
    if as_json_:
        as_json({"file": str(file), "keys": len(lines) - 2, "expires_at": expires_at})
    else:
        click.echo(f"{len(lines) - 2} keys written to {file}, to be restored until {expires_at.isoformat(timespec='seconds')}")
    return 0


@keys.command(cls=Command, examples=[("after the ring was lost", "gateway keys restore /backup/keys-2026-11-25")])
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--without-database",
    is_flag=True,
    help="Do not ask the database which keys were destroyed since. They may come back then.",
)
@json_option
@click.pass_obj
def restore(invocation: Invocation, file: Path, without_database: bool, as_json_: bool) -> int:
    """Put back from FILE what the ring lacks, and nothing that was destroyed.

    What is destroyed in the ring, in FILE or by what the database knows, stays so, and is destroyed in the ring if it is not yet. Nothing is replaced: a ring that holds another key by a name of FILE is refused, as is a FILE whose time is over.
    """
    from gateway.app.keys import known_of
    from gateway.crypto.backup import read_backup
    from gateway.crypto.backup import restore as put_back
    from gateway.domain.errors import GatewayError, SettingsError

    settings = invocation.reach()
    if settings.database_url is None and not without_database:
        raise SettingsError(
            "settings: database_url is missing (set GATEWAY_DATABASE_URL): it knows which keys were destroyed; or --without-database"
        )
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise click.ClickException(f"{file} cannot be read: {getattr(fault, 'strerror', None) or 'no text'}") from None
    with _ring(settings) as ring:
        found = read_backup(text, ring.masters, str(file))
        ended: list[str] = []
        if not without_database:
            known, ended = asyncio.run(known_of(settings))
            if known is not None and known != found.fingerprint:
                raise GatewayError(f"{file} is of another key ring than the one that this database was written with")
        with progress("restoring", len(found.keys)) as advance:
            done = put_back(ring, found, datetime.now(UTC), ended, advance)
    if as_json_:
        as_json({"restored": done.keys, "there": done.there, "destroyed": done.destroyed})
    else:
        click.echo(f"{done.keys} keys restored, {done.there} were there, {done.destroyed} stay destroyed")
    return 0


def _ring(settings: Settings, *, make_master: bool = False) -> AbstractContextManager[KeyRing]:
    from gateway.app.keys import open_ring

    return open_ring(settings, make_own=make_master)


def _state(ring: KeyRing, kept: KeptKey) -> dict[str, str | None]:
    from gateway.crypto.master import is_plain
    from gateway.domain.errors import KeyUnreadable

    if kept.wrapped is None:
        return {"is": "destroyed", "master": None}
    if is_plain(kept.wrapped):
        return {"is": "not wrapped", "master": None}
    try:
        return {"is": "there", "master": ring.masters.needed_by(kept.name, kept.wrapped)}
    except KeyUnreadable:
        return {"is": "damaged", "master": None}


def _count(ring: KeyRing) -> int:
    return sum(1 for _ in ring.place.entries())


def _told(ring: KeyRing, looked: Looked, json_wanted: bool) -> int:
    if json_wanted:
        as_json(
            {
                "ring": ring.place.shown,
                "newest": ring.masters.newest,
                "by_master": dict(looked.by_master),
                "destroyed": looked.destroyed,
                "rewrapped": looked.rewrapped,
                "faults": looked.faults,
            }
        )
    else:
        rows = [
            [count, f"need the master key {name}{' (the newest)' * (name == ring.masters.newest)}"]
            for name, count in looked.by_master.items()
        ]
        table(
            ["keys", f"of the {ring.place.shown}"],
            [*rows, [looked.rewrapped, "were wrapped anew"], [looked.destroyed, "were destroyed"]],
        )
        for fault in looked.faults[:_MOST_FAULTS]:
            click.echo(fault, err=True)
        if len(looked.faults) > _MOST_FAULTS:
            click.echo(f"and {len(looked.faults) - _MOST_FAULTS} more", err=True)
    return 1 if looked.faults else 0
