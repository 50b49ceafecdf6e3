"""Master keys: what wraps the keys of the ring, so that who has the ring alone has nothing.

Several may be given, one a line, ``name:base64`` of 32 bytes; all unwrap, and the last wraps. A wrapped key says which master key it needs::

    version 2 | length of the name | name | nonce (12) | AES-256-GCM of the key, with its tag (48)

The key's own name is bound to it as associated data, which key wrap by RFC 3394 cannot do: a wrapped key that is moved to another name
does not open.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.crypto.secret import Secret
from gateway.domain.errors import KeyUnreadable, SettingsError

__all__ = ["KEY_BYTES", "MasterKeys", "master_line", "read_master_file"]

KEY_BYTES: Final = 32
_VERSION: Final = b"\x02"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_LINE: Final = re.compile(r"([a-z0-9][a-z0-9._-]{0,31}):([A-Za-z0-9+/]{43}=)")
_OTHERS: Final = 0o027  # a secret that is mounted is often the group's to read


@dataclass(frozen=True, slots=True)
class _Master:
    name: str
    secret: Secret


class MasterKeys:
    """The master keys of a source that may be read again. ``read`` gives its text, and ``shown`` is what people call it.

    Raises :class:`~gateway.domain.errors.SettingsError` when the text is none, naming the line and never what stands in it.
    """

    def __init__(self, read: Callable[[], str], shown: str) -> None:
        self._read = read
        self._shown = shown
        self._lock = threading.Lock()
        self._by_name: dict[str, _Master] = {}
        self._newest = self._take()

    @property
    def newest(self) -> str:
        """The name of the one that wraps."""
        return self._newest.name

    def reload(self) -> None:
        """Read the source again: a master key that was added is known from now on. Raises SettingsError, and then knows what it knew."""
        with self._lock:
            self._newest = self._take()

    def wrap(self, name: str, key: bytes) -> bytes:
        """A key of the ring, wrapped by the newest master key for this name alone. 2^32 may be wrapped by one (NIST SP 800-38D, 8.3)."""
        master = self._newest
        header = _VERSION + bytes([len(master.name)]) + master.name.encode("ascii")
        nonce = os.urandom(_NONCE_BYTES)
        return header + nonce + AESGCM(master.secret.reveal()).encrypt(nonce, key, header + name.encode())

    def unwrap(self, name: str, wrapped: bytes) -> bytes:
        """The key again. Raises KeyUnreadable, which says which master key is missing, or is another."""
        needed = self.needed_by(name, wrapped)
        master = self._by_name.get(needed)
        if master is None:
            self._reload_quietly()  # it may have been added since
            master = self._by_name.get(needed)
        if master is None:
            raise KeyUnreadable(f"key {name}: it needs the master key {needed!r}, which {self._shown} does not hold")
        start = 2 + len(needed)
        nonce, sealed = wrapped[start : start + _NONCE_BYTES], wrapped[start + _NONCE_BYTES :]
        try:
            return AESGCM(master.secret.reveal()).decrypt(nonce, sealed, wrapped[:start] + name.encode())
        except InvalidTag:
            raise KeyUnreadable(
                f"key {name}: the master key {needed!r} of {self._shown} is not the one that wrapped it, or the key was changed"
            ) from None

    def needed_by(self, name: str, wrapped: bytes) -> str:
        """The name of the master key that a wrapped key needs. Raises KeyUnreadable when it is no wrapped key."""
        if is_plain(wrapped):
            raise KeyUnreadable(
                f"key {name}: it is not wrapped, as keys were before there were master keys: run `gateway keys rotate`"
            )
        length = wrapped[1] if len(wrapped) > 1 else 0
        if wrapped[:1] != _VERSION or len(wrapped) != 2 + length + _NONCE_BYTES + KEY_BYTES + _TAG_BYTES:
            raise KeyUnreadable(f"key {name}: damaged, or of a version that this gateway does not know")
        return wrapped[2 : 2 + length].decode("ascii", errors="replace")

    def mac(self, label: bytes, content: bytes, name: str | None = None) -> tuple[str, bytes]:
        """HMAC-SHA256 under a key of its own, made from a master key by ``label``; the newest one's, unless named. With its name."""
        master = self._newest if name is None else self._by_name.get(name)
        if master is None:
            raise KeyUnreadable(f"it needs the master key {name!r}, which {self._shown} does not hold")
        return master.name, hmac.digest(hmac.digest(master.secret.reveal(), label, "sha256"), content, "sha256")

    def _reload_quietly(self) -> None:
        try:
            self.reload()
        except SettingsError:
            return  # what is missing is said in any case

    def _take(self) -> _Master:
        found: dict[str, _Master] = {}
        lines = [line.strip() for line in self._read().replace(",", "\n").splitlines()]
        for number, line in enumerate(lines, start=1):
            if not line or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line)
            if match is None:
                raise SettingsError(f"settings: {self._shown}: line {number} is not name:base64 of 32 bytes")
            name, text = match.groups()
            try:
                secret = Secret(base64.b64decode(text, validate=True))
            except binascii.Error:
                raise SettingsError(f"settings: {self._shown}: line {number} is not name:base64 of 32 bytes") from None
            if name in found:
                raise SettingsError(f"settings: {self._shown}: line {number}: the master key {name!r} is there before")
            known = self._by_name.get(name)
            if known is not None and known.secret != secret:
                raise SettingsError(
                    f"settings: {self._shown}: line {number}: the master key {name!r} was exchanged; a new one needs a new name"
                )
            found[name] = _Master(name, secret)
        if not found:
            raise SettingsError(f"settings: {self._shown} holds no master key")
        self._by_name = found
        return next(reversed(found.values()))


def is_plain(kept: bytes) -> bool:
    """Whether a key is kept as it is, as all were before there were master keys."""
    return len(kept) == KEY_BYTES


def master_line(name: str) -> str:
    """A new master key, as a line of its file."""
    return f"{name}:{base64.b64encode(os.urandom(KEY_BYTES)).decode('ascii')}\n"


def read_master_file(file: Path) -> str:
    """The text of a file of master keys, which others may neither read nor write. Raises SettingsError."""
    try:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & _OTHERS:
                raise SettingsError(f"settings: master keys in {file} are open to others; close the file with: chmod 600 {file}")
            return stream.read(65_536).decode("ascii")
    except UnicodeDecodeError:
        raise SettingsError(f"settings: master keys in {file}: the file is no text in ASCII") from None
    except OSError as problem:
        raise SettingsError(f"settings: master keys in {file} cannot be read: {problem.strerror}") from None
