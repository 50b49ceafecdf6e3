"""Bearer tokens of the API: shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

__all__ = ["PREFIX", "new_token", "token_hash"]

PREFIX: Final = "smsgw_"
"""Makes a leaked token findable by scanners of code and logs."""


def new_token() -> tuple[str, bytes]:
    """A new token's text, for its owner alone, and its hash, for the store."""
    text = PREFIX + secrets.token_urlsafe(32)
    return text, token_hash(text)


def token_hash(text: str) -> bytes:
    """SHA-256 of a token's text: 32 bytes, by which the store finds it.

    No slow hash: those make guessing dear where secrets are few, as passwords are. A token is 256 random bits, so there is nothing to
    guess; and a slow hash on every request would be a way to stop the API.
    """
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).digest()
