"""The account that a server runs under, and the folder that it can use: PostgreSQL refuses to run as root."""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.domain.errors import GatewayError

__all__ = ["Account", "Place", "find_place", "private_temporary_folder", "unprivileged_account"]

_NOBODY: Final = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """A user and a group by their numbers."""

    user: int
    group: int


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that a server can use. ``notice`` says so in a sentence where it is not the one that was asked for."""

    folder: Path
    notice: str | None


def unprivileged_account() -> Account | None:
    """``nobody`` when this process is root (a number without an account will not do: initdb asks for its name), else None."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam(_NOBODY)
    return Account(entry.pw_uid, entry.pw_gid)


def find_place(wanted: Path, account: Account | None) -> Place:
    """The folder ``wanted``, made where it is missing; or one for temporary files where ``account`` cannot get to ``wanted``.

    The modes of folders that exist are left alone: a folder of mode 0700 above (such as root's home) was made so on purpose.
    """
    wanted = wanted.absolute()
    if not wanted.exists():
        wanted.mkdir(parents=True)
        wanted.chmod(0o700 if account is None else 0o711)
    if account is None or _reaches(account, wanted):
        return Place(wanted, None)
    folder = private_temporary_folder(wanted, mode=0o711)
    notice = f"The embedded PostgreSQL runs as {_NOBODY}, who cannot enter {wanted}: its data are in {folder} instead."
    return Place(folder, notice)


def private_temporary_folder(purpose: Path, *, mode: int) -> Path:
    """A folder of this user's for ``purpose``, always the same one, below the folder for temporary files."""
    name = hashlib.sha256(os.fsencode(purpose)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"sms-gateway-{os.geteuid()}-{name}"
    try:
        folder.mkdir(mode=0o700)
        folder.chmod(mode)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise GatewayError(f"{folder} was made by somebody else: remove it, or name another folder for the state") from None
    return folder


def _reaches(account: Account, folder: Path) -> bool:
    """Asked of the system as that account: modes alone would leave out access lists and mounts."""
    test = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$1"', "sh", str(folder)],
        cwd="/",
        user=account.user,
        group=account.group,
        extra_groups=[],
        check=False,
    )
    return test.returncode == 0
