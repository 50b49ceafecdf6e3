"""Open the key ring that the settings name, with its master keys; and refuse one that lies beside the data."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway.crypto.directory import KeyDirectory
from gateway.crypto.files import create_once, root_folder
from gateway.crypto.keyring import SYSTEM_KEYS, KeyRing, day_name, fingerprint_of
from gateway.crypto.master import MasterKeys, is_plain, master_line, read_master_file
from gateway.domain.errors import GatewayError, KeyDestroyed, KeyMissing, KeyUnreadable, SettingsError
from gateway.flow.keys import KeyPlace
from gateway.settings import Settings
from gateway.store.control import Control
from gateway.store.database import Database
from gateway.store.ended import Ended
from gateway.store.keys import KeyDatabase, system_of
from gateway.store.subject_keys import SubjectKeyTable
from gateway.telemetry import get_logger

if TYPE_CHECKING:
    from gateway.app.wiring import Parts

__all__ = [
    "add_subject_key",
    "check_apart",
    "compare",
    "hurry",
    "known_of",
    "open_ring",
    "subject_versions",
    "use_subject_key",
]

_FILE: Final = "keys"
_SAID: Final = "# The master keys of the gateway's key ring. A new one goes last; then: gateway keys rotate\n"
_SHARE_OF_FUSE: Final = 0.5
_MOST_SECONDS: Final = 1.0

log = get_logger("keys")


@contextmanager
def open_ring(settings: Settings, *, make_own: bool) -> Iterator[KeyRing]:
    """The key ring, until the context ends. ``make_own``: whether nothing was written yet: its own keys, and a master key, may be made.

    Raises SettingsError, KeyRingAway, KeyUnreadable, KeyMissing: which key, file or setting is wrong.
    """
    with ExitStack() as stack:
        place: KeyPlace
        if settings.key_ring_url is None:
            place = KeyDirectory(settings.key_ring)
        else:
            place = KeyDatabase(settings.key_ring_url.get_secret_value())
        stack.callback(place.close)
        yield KeyRing(place, _masters(settings, place, make=make_own), make_own=make_own)


def hurry(ring: KeyRing, settings: Settings) -> None:
    """From now on a key that is asked for holds an event loop up, whose fuse burns: a key ring that does not answer counts as away soon."""
    if isinstance(ring.place, KeyDatabase):
        ring.place.seconds = min(_MOST_SECONDS, settings.dispatch.fuse_seconds * _SHARE_OF_FUSE)


async def check_apart(ring: KeyRing, database: Database) -> None:
    """Refuse a key ring on the data's own server: a backup of that would hold the data and the keys. Raises GatewayError."""
    if not isinstance(ring.place, KeyDatabase):
        return
    system = ring.place.system()
    if system == await system_of(database):
        raise GatewayError(
            f"settings: key_ring_url names the PostgreSQL server of database_url (both have the system identifier {system}):"
            " its backups would hold the data and the keys; take another server"
        )


async def known_of(settings: Settings) -> tuple[str | None, list[str]]:
    """The fingerprint of the ring that the database was written with, if it was, and the names of the keys that it knows to be destroyed."""
    async with _database(settings) as database:
        known = await Control(database, "cli").fingerprint()
        return known, [day_name(key.tenant, key.data_class, key.day) for key in await Ended(database).all()]


async def compare(settings: Settings, ring: KeyRing, *, end: bool = False) -> list[str]:
    """What is wrong between the ring and the database, a line each. ``end``: destroy what is there although it was destroyed."""
    faults: list[str] = []
    ended: list[str] = []
    try:
        known, ended = await known_of(settings)
        async with _database(settings) as database:
            await check_apart(ring, database)
        if known is not None and known != ring.fingerprint():
            faults.append(f"{ring.place.shown} is not the key ring that this database was written with")
    except GatewayError as fault:
        faults.append(str(fault))
    for name in ended:
        try:
            if ring.place.read(name) is None:
                continue
            if end:
                ring.place.destroy(name)
            else:
                faults.append(f"key {name} is there, and was destroyed before: run `gateway keys check --end`")
        except KeyDestroyed:
            continue
    return faults


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    if settings.database_url is None:
        raise SettingsError("settings: database_url is missing (set GATEWAY_DATABASE_URL)")
    database = await Database(settings.database_url.get_secret_value(), sessions=2).open()
    try:
        yield database
    finally:
        await database.close()


def _masters(settings: Settings, place: KeyPlace, *, make: bool) -> MasterKeys:
    if settings.master_keys is not None:
        return MasterKeys(settings.master_keys.get_secret_value, "master_keys")
    file = settings.master_keys_file
    if file is None:
        file = settings.state_directory / "master" / _FILE
        _see_to_master(file, place, make=make)
    return MasterKeys(partial(read_master_file, file), f"master_keys_file {file}")


def _see_to_master(file: Path, place: KeyPlace, *, make: bool) -> None:
    """Make a master key for a ring that none has wrapped yet. The ring is looked at first: another process may make both meanwhile."""
    first = place.read(SYSTEM_KEYS[0])
    try:
        if file.exists():
            return
        if first is not None and not is_plain(first):
            raise KeyMissing(f"the master keys of {place.shown} are gone: put {file} back, or set master_keys_file")
        if not make and first is not None:
            raise KeyUnreadable(f"{place.shown}: its keys are not wrapped yet: run `gateway keys rotate`")
        if not make:
            raise KeyMissing(
                f"{place.shown} is empty: put its master keys back as {file}, or set master_keys_file; then `gateway keys restore`"
            )
        with root_folder(file.parent, create=True) as folder:
            line = master_line(f"first-{secrets.token_hex(4)}")
            if create_once(file.name, folder, (_SAID + line).encode("ascii")):
                log.warning("a master key was made: keep a copy of it elsewhere, apart from the key ring", file=str(file))
    except OSError as fault:
        raise SettingsError(f"settings: state_directory: {file} cannot be made ({os.strerror(fault.errno or 0)})") from None


async def subject_versions(parts: Parts) -> list[dict[str, Any]]:
    """The versions of the key that people are hashed with, and how far each has come: ``is`` is a word for it."""
    table = SubjectKeyTable(parts.database, parts.name)
    keys, _ = await table.now()
    first = {"version": 1, "fingerprint": parts.ring.fingerprint(), "is": "in use" if keys.used == 1 else "kept"}
    first |= dict.fromkeys(("added_at", "added_by", "copied_at", "used_at", "used_by", "settled_at"))
    found = [first]
    for row in await table.list():
        row["is"] = "in use" if row["version"] == keys.used else "added" if row["version"] > keys.used else "kept"
        found.append({name: row[name] for name in first})
    return found


async def add_subject_key(parts: Parts, actor: str) -> tuple[int, str]:
    """Make the next version in the key ring, then make it known; its number, and why that could not be: "" when it is done.

    A crash between the two leaves a key that nobody knows: it is the one that is added the next time.
    """
    table = SubjectKeyTable(parts.database, actor)
    keys, _ = await table.now()
    version = keys.newest + 1
    if not keys.settled:
        return version, f"version {keys.newest} is not settled yet"
    key = await asyncio.to_thread(partial(parts.ring.later_subject_key, version, create=True))
    return version, await table.add(version, fingerprint_of(key))


async def use_subject_key(parts: Parts, version: int, actor: str) -> str:
    """Keep new messages under a version; why that cannot be, or "" when it is done."""
    return await SubjectKeyTable(parts.database, actor).use(version)
