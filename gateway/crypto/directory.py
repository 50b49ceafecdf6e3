"""A key ring in a folder, outside the database and its backups.

Each key is a file, wrapped by a master key::

    ring/acme/content/2026-11-23.key      mode 0600, below folders of mode 0700
    ring/_system/subject.key              a key of the gateway itself

A destroyed key's file stays, and holds a word that is no key: so its name is used up, by the same exclusive creation that lets one of
several makers win.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from gateway.crypto.files import (
    UnsafeKeyRing,
    alone,
    create_once,
    exchange,
    folder,
    put_beyond_use,
    read_private,
    root_folder,
    sweep,
)
from gateway.domain.errors import KeyDestroyed, KeyRingAway
from gateway.flow.keys import KeptKey

__all__ = ["KeyDirectory"]

_SUFFIX: Final = ".key"
_DESTROYED: Final = b"destroyed\n"
_LARGEST: Final = 128
_WAIT_SECONDS: Final = 1.0


class KeyDirectory:
    """Keys in the files of a folder, which several processes may share. It is made when it is absent.

    UnsafeKeyRing is raised when it, or what is in it, is a symbolic link, belongs to another user or is open to others.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._synced: set[tuple[str, ...]] = set()
        self.shown = f"key ring {directory}"
        with ExitStack() as stack:
            self._open(stack, (), create=True)  # refused now rather than with the first message

    def read(self, name: str, *, durable: bool = False) -> bytes | None:
        """The wrapped key. Another process may have made it this instant: ``durable`` sees to it that its folder is on the disk."""
        *place, last = _parts(name)
        with ExitStack() as stack:
            try:
                parent = self._open(stack, tuple(place), create=False)
                kept = self._kept(name, parent, last)
                if durable and (*place, last) not in self._synced:
                    self._sync(tuple(place))
                    os.fsync(parent)
                    self._synced.add((*place, last))
            except FileNotFoundError:
                return None
            except OSError as problem:
                raise self._away(problem) from None
        if kept == _DESTROYED:
            raise KeyDestroyed(f"key {name} was destroyed: nothing more is sealed or opened with it")
        return kept

    def create(self, name: str, wrapped: bytes) -> bytes:
        """Keep a key unless there is one; returns what is kept, durably."""
        *place, last = _parts(name)
        with ExitStack() as stack:
            try:
                parent = self._open(stack, tuple(place), create=True)
                create_once(last, parent, wrapped)
            except FileNotFoundError:
                pass  # it was destroyed this moment, with all that looked like a trace of it
            except OSError as problem:
                raise self._away(problem) from None
        kept = self.read(name, durable=True)
        if kept is None:
            raise KeyRingAway(f"{self.shown}: a key was removed as it was made")
        return kept

    def replace(self, name: str, old: bytes, new: bytes) -> bool:
        """Exchange what is kept for ``new`` if it is ``old``. Nobody destroys it meanwhile: that would bring it back."""
        *place, last = _parts(name)
        with ExitStack() as stack:
            try:
                parent = self._open(stack, tuple(place), create=False)
                with alone(parent, _WAIT_SECONDS):
                    if self._kept(name, parent, last) != old:
                        return False
                    exchange(last, parent, new)
            except FileNotFoundError:
                return False
            except OSError as problem:
                raise self._away(problem) from None
        return True

    def destroy(self, name: str) -> bool:
        """Put the word in the key's place, and overwrite the key; what a crash left of it too."""
        *place, last = _parts(name)
        with ExitStack() as stack:
            try:
                parent = self._open(stack, tuple(place), create=True)
                with alone(parent, _WAIT_SECONDS):
                    if create_once(last, parent, _DESTROYED) or self._kept(name, parent, last) == _DESTROYED:
                        sweep(last, parent)
                        return False
                    put_beyond_use(last, parent, _DESTROYED)
            except OSError as problem:
                raise self._away(problem) from None
        return True

    def entries(self) -> Iterator[KeptKey]:
        """All keys, in the order of their names. What is no key by its name is passed over."""
        yield from self._entries(())

    def close(self) -> None:
        """Nothing is kept open."""

    def _entries(self, place: tuple[str, ...]) -> Iterator[KeptKey]:
        with ExitStack() as stack:
            try:
                parent: int = self._open(stack, place, create=False)
                names = sorted(os.listdir(parent))
            except OSError as problem:
                raise self._away(problem) from None
            for last in names:
                if last.startswith("."):
                    continue
                if not last.endswith(_SUFFIX):
                    yield from self._entries((*place, last))
                    continue
                name = "/".join((*place, last.removesuffix(_SUFFIX)))
                try:
                    kept = self._kept(name, parent, last)
                except OSError as problem:
                    raise self._away(problem) from None
                yield KeptKey(name, None if kept == _DESTROYED else kept)

    def _kept(self, name: str, parent: int, last: str) -> bytes:
        return read_private(last, parent, self._directory / f"{name}{_SUFFIX}", _LARGEST)

    def _open(self, stack: ExitStack, place: tuple[str, ...], *, create: bool) -> int:
        try:
            descriptor = stack.enter_context(root_folder(self._directory, create=create))
        except FileNotFoundError:
            # folders within come and go; without the ring itself a key would only seem to be missing
            raise KeyRingAway(f"{self.shown}: it is not there") from None
        except OSError as problem:
            raise self._away(problem) from None
        for depth, part in enumerate(place, start=1):
            parent, shown = descriptor, self._directory.joinpath(*place[:depth])
            descriptor = stack.enter_context(folder(part, parent, shown, create=create))
            if create and place[:depth] not in self._synced:
                os.fsync(parent)
                self._synced.add(place[:depth])
        return descriptor

    def _sync(self, place: tuple[str, ...]) -> None:
        with ExitStack() as stack:
            self._open(stack, place, create=True)

    def _away(self, problem: OSError) -> KeyRingAway:
        return KeyRingAway(f"{self.shown}: {problem.strerror or errno.errorcode.get(problem.errno or 0, type(problem).__name__)}")


def _parts(name: str) -> list[str]:
    """A key's name as folders and a file. Names are made by the ring, of harmless parts; what is read from a file may not be."""
    parts = name.split("/")
    if not 2 <= len(parts) <= 3 or any(not part or part.startswith(".") or "\0" in part for part in parts):
        raise UnsafeKeyRing("key ring: a key's name would leave the ring")
    return [*parts[:-1], parts[-1] + _SUFFIX]
