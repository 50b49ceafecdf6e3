"""Small files that must be private, whole and durable: how the key ring touches the disk.

Everything goes by open directory descriptors and refuses symbolic links, so that a path cannot be exchanged between its check and
its use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from gateway.domain.errors import GatewayError, KeyRingAway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "UnsafeKeyRing",
    "alone",
    "create_once",
    "exchange",
    "folder",
    "put_beyond_use",
    "read_private",
    "root_folder",
    "sweep",
]

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


def read_private(name: str, parent: int, shown: Path, most: int) -> bytes:
    """The content of a private file of at most ``most`` bytes; FileNotFoundError when it is not there."""
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
        content = os.read(descriptor, most + 1)
    finally:
        os.close(descriptor)
    if not 0 < len(content) <= most:
        raise UnsafeKeyRing(f"key ring: {shown} does not hold 1 to {most} bytes: damaged, or not a key")
    return content


def create_once(name: str, parent: int, content: bytes) -> bool:
    """Make a file with all of its content, durably, unless it is there; False when it was there.

    The content is whole and on the disk before the name exists: a crash leaves a temporary file at most, which nothing reads. Of several
    processes one makes the file, and the others see its content.
    """
    temporary = _written(name, parent, content)
    try:
        os.link(temporary, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        return False
    finally:
        with suppress(FileNotFoundError):  # whoever destroys the key sweeps what a crash may have left
            os.unlink(temporary, dir_fd=parent)
    os.fsync(parent)
    return True


def exchange(name: str, parent: int, content: bytes) -> None:
    """Put other content in a file's place, durably and at once: whoever reads finds the one or the other, whole."""
    os.rename(_written(name, parent, content), name, src_dir_fd=parent, dst_dir_fd=parent)
    os.fsync(parent)


def _written(name: str, parent: int, content: bytes) -> str:
    """The name of a temporary file that holds the content, on the disk."""
    temporary = f".{name}.{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        _write(descriptor, content)
    except BaseException:
        os.unlink(temporary, dir_fd=parent)
        raise
    finally:
        os.close(descriptor)
    return temporary


def _write(descriptor: int, content: bytes) -> None:
    if os.write(descriptor, content) != len(content):
        raise OSError(errno.ENOSPC, "key ring: no room for a key")
    os.fsync(descriptor)


def put_beyond_use(name: str, parent: int, tombstone: bytes) -> None:
    """Put ``tombstone`` in a file's place for good, then overwrite what was there, and what crashes left of it.

    First the tombstone: whoever reads finds the key or its end, and a crash leaves at most a second name of it, which nothing reads and
    the repetition overwrites. Overwriting is what a disk makes of it: copy-on-write and flash may keep the old block for a while.
    """
    old = f".{name}.{secrets.token_hex(8)}"
    os.link(name, old, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    exchange(name, parent, tombstone)
    sweep(name, parent)


def sweep(name: str, parent: int) -> int:
    """Overwrite and remove the temporary files of a name, durably; returns how many there were."""
    found = [entry for entry in os.listdir(parent) if entry.startswith(f".{name}.")]
    for entry in found:
        with suppress(FileNotFoundError):  # its maker was faster
            _overwrite(entry, parent)
            os.unlink(entry, dir_fd=parent)
    os.fsync(parent)
    return len(found)


def _overwrite(name: str, parent: int) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.write(descriptor, bytes(os.fstat(descriptor).st_size))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone(parent: int, seconds: float) -> Iterator[None]:
    """Keep others from exchanging files of an open folder meanwhile. KeyRingAway when somebody else does, for longer than ``seconds``.

    The kernel lets go of it when its holder dies.
    """
    ends = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(parent, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= ends:
                raise KeyRingAway(
                    "key ring: another process changes keys of the same folder, and does not end; try again"
                ) from None
            time.sleep(0.005)
    try:
        yield
    finally:
        fcntl.flock(parent, fcntl.LOCK_UN)
