"""A backup of a key ring: its wrapped keys and its tombstones in a file, and how it comes back without what was destroyed since.

A line of JSON each: a head, the keys by name, an end with an HMAC over all before it, under a key made from a master key. So what
stands in it, its expiry too, is what was written; and without the master keys nothing in it opens.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.crypto.keyring import LINEAGE, SYSTEM_KEYS, KeyRing, fingerprint_of
from gateway.crypto.master import MasterKeys
from gateway.crypto.secret import Secret
from gateway.domain.errors import GatewayError, KeyDestroyed
from gateway.flow.keys import KeptKey

__all__ = ["Backup", "Restored", "read_backup", "restore", "write_backup"]

_FORM: Final = 1
_LABEL: Final = b"gateway key ring backup"


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds, and until when it may be restored."""

    fingerprint: str
    made_at: datetime
    expires_at: datetime
    keys: Sequence[KeptKey]


@dataclass(frozen=True, slots=True)
class Restored:
    """How many keys came back, were there already, and stay destroyed."""

    keys: int
    there: int
    destroyed: int


def write_backup(ring: KeyRing, made_at: datetime, expires_at: datetime) -> Iterator[str]:
    """The lines of a backup. Keys that are made meanwhile may be missing in it."""
    content = bytearray()

    def line(value: dict[str, Any]) -> str:
        text = json.dumps(value, separators=(",", ":")) + "\n"
        content.extend(text.encode())
        return text

    yield line(
        {
            "gateway_key_ring": _FORM,
            "fingerprint": ring.fingerprint(),
            "made_at": made_at.isoformat(),
            "expires_at": expires_at.isoformat(),
        }
    )
    for kept in ring.place.entries():
        if kept.name == LINEAGE:
            continue  # an older one would pass a database that is older as well
        wrapped = None if kept.wrapped is None else base64.b64encode(kept.wrapped).decode("ascii")
        if kept.wrapped is not None:
            ring.masters.unwrap(kept.name, kept.wrapped)  # a backup of what does not open is none
        yield line({"name": kept.name, "wrapped": wrapped})
    master, mac = ring.masters.mac(_LABEL, bytes(content))
    yield json.dumps({"master": master, "mac": mac.hex()}, separators=(",", ":")) + "\n"


def read_backup(text: str, masters: MasterKeys, shown: str) -> Backup:
    """A backup that is whole and unchanged. Raises GatewayError, KeyUnreadable."""
    body, _, last = text.rstrip("\n").rpartition("\n")
    try:
        end = json.loads(last)
        head, *rows = [json.loads(line) for line in body.split("\n")]
        if head["gateway_key_ring"] != _FORM:
            raise GatewayError(f"{shown}: a backup of a form that this version does not know")
        named, mac = str(end["master"]), bytes.fromhex(end["mac"])
        keys = [KeptKey(row["name"], None if row["wrapped"] is None else base64.b64decode(row["wrapped"])) for row in rows]
        backup = Backup(
            head["fingerprint"], datetime.fromisoformat(head["made_at"]), datetime.fromisoformat(head["expires_at"]), keys
        )
    except (ValueError, TypeError, KeyError, binascii.Error):
        raise GatewayError(f"{shown}: no backup of a key ring, or cut short") from None
    if not hmac.compare_digest(mac, masters.mac(_LABEL, body.encode() + b"\n", named)[1]):
        raise GatewayError(f"{shown}: the backup was changed, or its master key {named!r} is another")
    return backup


def restore(
    ring: KeyRing,
    backup: Backup,
    now: datetime,
    ended: Sequence[str],
    tell: Callable[[int], object] = lambda _: None,
) -> Restored:
    """Put back what is missing, and nothing that was destroyed: by the ring, by the backup, or by ``ended``, the names the data knows of.

    Everything is looked at before anything is written. It may be repeated. Raises GatewayError when the backup's time is over, or when
    the ring holds another key by one of its names; KeyUnreadable.
    """
    if now >= backup.expires_at:
        raise GatewayError(f"the backup may be restored until {backup.expires_at.isoformat()}, and no longer")
    gone = {*ended, *(key.name for key in backup.keys if key.wrapped is None)}
    wanted = {key.name: key.wrapped for key in backup.keys if key.wrapped is not None and key.name not in gone}
    _look_ahead(ring, backup, wanted)
    for name in sorted(gone):
        ring.place.destroy(name)
    restored = there = 0
    destroyed = len(gone)
    for name, wrapped in wanted.items():
        try:
            if ring.place.read(name) is None:
                ring.place.create(name, wrapped)
                restored += 1
            else:
                there += 1
        except KeyDestroyed:
            destroyed += 1
        tell(1)
    return Restored(restored, there, destroyed)


def _look_ahead(ring: KeyRing, backup: Backup, wanted: dict[str, bytes]) -> None:
    for name, wrapped in wanted.items():
        key = Secret(ring.masters.unwrap(name, wrapped))
        if name == SYSTEM_KEYS[0] and fingerprint_of(key) != backup.fingerprint:
            raise GatewayError("the backup's subject key is not the one that it names")
        try:
            kept = ring.place.read(name)
        except KeyDestroyed:
            continue
        if kept is not None and Secret(ring.masters.unwrap(name, kept)) != key:
            raise GatewayError(f"{ring.place.shown} holds another key {name} than the backup: nothing was restored")
