"""Small files that must be private, whole and durable: how the key ring touches the disk.

Everything goes by open directory descriptors and refuses symbolic links, so that a path cannot be exchanged between its check and
its use.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from gateway.domain.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["UnsafeKeyRing", "create_once", "folder", "read_private", "remove", "root_folder"]

FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OTHERS: Final = 0o077


class UnsafeKeyRing(GatewayError):
    """The key ring's folder or one of its files could be read or exchanged by somebody else, or is damaged; nothing is read from it."""


def check_private(status: os.stat_result, where: Path) -> None:
    """Refuse what belongs to another user, or what others may read or write."""
    if status.st_uid != os.geteuid():
        raise UnsafeKeyRing(f"key ring: {where} belongs to user {status.st_uid}, not to user {os.geteuid()} who runs the gateway")
    if status.st_mode & OTHERS:
        wanted = "700" if stat.S_ISDIR(status.st_mode) else "600"
        raise UnsafeKeyRing(f"key ring: {where} is open to others; close it with: chmod {wanted} {where}")


@contextmanager
def root_folder(path: Path, *, create: bool) -> Iterator[int]:
    """The ring's own folder, open and checked; made with mode 0700 when ``create`` and absent. FileNotFoundError when absent."""
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            sync_path(path.parent)
    with _opened(os.fspath(path), None, path) as descriptor:
        yield descriptor


@contextmanager
def folder(name: str, parent: int, shown: Path, *, create: bool) -> Iterator[int]:
    """A folder inside an open one, open and checked; made durably with mode 0700 when ``create`` and absent."""
    if create:
        with suppress(FileExistsError):
            os.mkdir(name, mode=0o700, dir_fd=parent)
    with _opened(name, parent, shown) as descriptor:
        yield descriptor


@contextmanager
def _opened(name: str, parent: int | None, shown: Path) -> Iterator[int]:
    try:
        descriptor = os.open(name, FOLDER, dir_fd=parent)
    except OSError as problem:
        if problem.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise UnsafeKeyRing(f"key ring: {shown} is a symbolic link or no folder; give the folder itself") from None
        raise
    try:
        check_private(os.fstat(descriptor), shown)
        yield descriptor
    finally:
        os.close(descriptor)


def sync_path(path: Path) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(name: str, parent: int, shown: Path, size: int) -> bytes:
    """The content of a private file of exactly ``size`` bytes; FileNotFoundError when it is not there."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise UnsafeKeyRing(f"key ring: {shown} is a symbolic link") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeKeyRing(f"key ring: {shown} is no regular file")
        check_private(status, shown)
        content = os.read(descriptor, size + 1)
    finally:
        os.close(descriptor)
    if len(content) != size:
        raise UnsafeKeyRing(f"key ring: {shown} does not hold {size} bytes: damaged, or not a key")
    return content


def create_once(name: str, parent: int, content: bytes) -> bool:
    """Make a file with all of its content, durably, unless it is there; False when it was there.

    The content is whole and on the disk before the name exists: a crash leaves a temporary file at most, which nothing reads. Of several
    processes one makes the file, and the others see its content.
    """
    temporary = f".{name}.{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        try:
            written = os.write(descriptor, content)
            if written != len(content):
                raise OSError(errno.ENOSPC, "key ring: no room for a key")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(temporary, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            return False
    finally:
        os.unlink(temporary, dir_fd=parent)
    os.fsync(parent)
    return True


def remove(name: str, parent: int) -> bool:
    """Remove a file, and the temporary files that crashes left of it, durably; False when it was not there.

    A crash between link and unlink leaves a second name of the same content: a key would outlive its destruction by it.
    """
    found = False
    for entry in os.listdir(parent):
        if entry == name or entry.startswith(f".{name}."):
            os.unlink(entry, dir_fd=parent)
            found = found or entry == name
    os.fsync(parent)
    return found
