"""What tests fetch from package registries: once, into a cache that all checkouts of a person share."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["cached"]


def cached(name: str, source: Path, make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` has made of ``source``, a list of packages; made anew when that has changed.

    It is whole or not there, whoever else makes it at the same time.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sms-gateway"
    folder = cache / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=cache) as scratch:
            made = Path(scratch) / "made"
            make(made)
            try:
                made.rename(folder)
            except OSError:  # another run was faster
                if not folder.is_dir():
                    raise
    return folder
