"""A small disk of its own for PostgreSQL, which can be filled: a file system in memory, where this process may mount one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["Disk"]

_CLONE_NEWNS: Final = 0x00020000  # sched.h
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000  # sys/mount.h
_BYTES: Final = 1_000_000_000
_BLOCKS: Final = (1 << 26, 1 << 20, 1 << 12)
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Disk:
    """``folder``, and why it can't be filled, or None where it can.

    All methods, the constructor too, are for the thread that PostgreSQL is started from: the mount is in a namespace of that thread's and
    its children's, so that it is gone with them, however they end. Nobody else sees it.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gateway-chaos-"))
        self.folder.chmod(0o711)  # PostgreSQL's own account must get to what is in it
        self.why_not = _mount(self.folder)
        self._ballast = self.folder / "ballast"

    def fill(self) -> int:
        """Leave no byte free; returns how many were."""
        size = 0
        with self._ballast.open("wb") as file:
            for block in _BLOCKS:
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), size, block)
                        size += block
        return size

    def free(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget all that is on it."""
        if self.why_not is None:
            _libc.umount2(os.fsencode(self.folder), 2)  # MNT_DETACH
        shutil.rmtree(self.folder, ignore_errors=True)


def _mount(folder: Path) -> str | None:
    """Mount a small file system for this thread and its children alone; why that is not possible, if it is not."""
    if not hasattr(_libc, "unshare"):
        return "needs Linux"
    options = f"size={_BYTES},mode=0711".encode()
    calls: tuple[Callable[[], int], ...] = (
        lambda: int(_libc.unshare(_CLONE_NEWNS)),
        lambda: int(_libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None)),
        lambda: int(_libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options)),
    )
    for call in calls:
        if call() != 0:
            return f"needs the right to mount a small disk: {os.strerror(ctypes.get_errno())}"
    return None
