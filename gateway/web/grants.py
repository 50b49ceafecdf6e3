"""Who may use the API: bearer tokens, found by their hash and remembered for a few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["Bearers", "TokenGrant", "Tokens"]

_MOST_SECONDS: Final = 5.0
_RECALL_SECONDS: Final = 3600.0
_MOST_REMEMBERED: Final = 1024
_LONGEST_TOKEN: Final = 128
_PREFIX: Final = "smsgw_"


class TokenGrant(Protocol):
    """What a token allows: ``tenants`` None means all of them. ``name`` is the token's, for the audit."""

    @property
    def name(self) -> str: ...
    @property
    def tenants(self) -> frozenset[str] | None: ...


class Tokens(Protocol):
    """Finds what a token allows by its hash; None when there is none, it was revoked, or it is not for the API."""

    async def find(self, token_hash: bytes) -> TokenGrant | None: ...


class Bearers:
    """Reads the ``Authorization`` header (RFC 6750). A revoked token is refused after ``seconds`` (at most 5)."""

    def __init__(
        self,
        tokens: Tokens,
        token_hash: Callable[[str], bytes],
        *,
        seconds: float = _MOST_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = tokens
        self._token_hash = token_hash
        self._seconds = min(seconds, _MOST_SECONDS)
        self._monotonic = monotonic
        self._remembered: dict[bytes, tuple[float, TokenGrant]] = {}

    async def grant(self, authorization: bytes | None) -> TokenGrant | None:
        """What the header allows, or None. What looks like none of our tokens is not asked of the store."""
        digest = self._digest(authorization)
        if digest is None:
            return None
        now = self._monotonic()
        held = self._remembered.get(digest)
        if held is not None and now < held[0]:
            return held[1]
        found = await self._tokens.find(digest)
        self._remembered.pop(digest, None)
        if found is not None:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))  # the oldest
            self._remembered[digest] = (now + self._seconds, found)
        return found

    def recall(self, authorization: bytes | None) -> TokenGrant | None:
        """What the header allowed when the store was last asked, within the hour: for opting people out while it is away, and no more."""
        digest = self._digest(authorization)
        held = self._remembered.get(digest) if digest is not None else None
        return held[1] if held is not None and self._monotonic() < held[0] + _RECALL_SECONDS else None

    def _digest(self, authorization: bytes | None) -> bytes | None:
        scheme, _, text = (authorization or b"").decode("latin-1").partition(" ")
        token = text.strip()
        if scheme.lower() != "bearer" or not token.startswith(_PREFIX) or len(token) > _LONGEST_TOKEN or not token.isascii():
            return None
        return self._token_hash(token)
