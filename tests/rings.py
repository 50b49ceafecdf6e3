"""Key rings for tests: in a folder, under a master key that everybody knows."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from gateway.crypto.directory import KeyDirectory
from gateway.crypto.keyring import KeyRing
from gateway.crypto.master import MasterKeys

__all__ = ["masters", "ring_at"]


def masters(*names: str) -> MasterKeys:
    """Master keys of these names, each always the same; the last wraps."""
    text = "\n".join(f"{name}:{base64.b64encode(name.encode().ljust(32)).decode()}" for name in names or ("test",))
    return MasterKeys(lambda: text, "master keys of the test")


def ring_at(directory: Path, *names: str, **more: Any) -> KeyRing:
    """A ring in a folder; its own keys are made when they are absent."""
    return KeyRing(KeyDirectory(directory), masters(*names), **more)
