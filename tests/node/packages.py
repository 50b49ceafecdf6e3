"""Node, and the packages that a package.json names: for what only they can show."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.cached import cached

__all__ = ["NodeMissing", "node", "node_modules"]

SECONDS: Final = 300.0


class NodeMissing(Exception):
    """There is no Node here, or its packages cannot be had; the text says what is missing."""


def node() -> str:
    """The path of Node. Raises NodeMissing."""
    return _program("node")


def node_modules(package: Path) -> Path:
    """The folder ``node_modules`` with what this package.json names; fetched at the first time. Raises NodeMissing."""

    def fetch(folder: Path) -> None:
        folder.mkdir()
        shutil.copy(package, folder / "package.json")
        command = [_program("npm"), "install", "--no-package-lock", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise NodeMissing(f"npm has not fetched what {package} names within {SECONDS:.0f} s") from None
        if done.returncode != 0:
            code = next((line for line in done.stderr.splitlines() if " code " in line), "it does not say why")
            raise NodeMissing(f"npm cannot fetch what {package} names: {code}")

    return cached("node", package, fetch) / "node_modules"


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise NodeMissing(f"there is no {name} in PATH (on Debian: apt-get install nodejs npm)")
    return found
