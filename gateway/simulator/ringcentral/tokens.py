"""Access and refresh tokens: given for a JWT, renewed, expired, revoked.

https://developers.ringcentral.com/guide/authentication/jwt-flow and .../refresh-tokens
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.simulator.config import RingCentralAccount
from gateway.simulator.ringcentral.errors import Fault

__all__ = ["Tokens", "basic", "grant_refused"]

_JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SCOPE: Final = "SMS A2PSMS ReadMessages EditMessages SubscriptionWebhook ReadAccounts"
_SHORTEST: Final = 600
_LONGEST: Final = 3600
_MOST: Final = 1000  # sessions that are remembered; the oldest go first


@dataclass(slots=True, eq=False)
class _Session:
    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_at: float
    refresh_expires_at: float
    revoked: bool = False


class Tokens:
    """The tokens of one account's application."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_access: dict[str, _Session] = {}
        self._by_refresh: dict[str, _Session] = {}

    def clear(self) -> None:
        """Forget all: what was given is no token any more."""
        self._by_access.clear()
        self._by_refresh.clear()

    def revoke(self) -> int:
        """All access tokens, and what renews them, are worth nothing from now on; returns how many that were."""
        live = [session for session in self._by_access.values() if not session.revoked]
        for session in live:
            session.revoked = True
        self._by_refresh.clear()
        return len(live)

    def revoke_one(self, token: str) -> None:
        """The session of an access or refresh token ends, as its application asks."""
        session = self._by_access.get(token) or self._by_refresh.get(token)
        if session is not None:
            session.revoked = True
            self._by_refresh.pop(session.refresh, None)

    def grant(self, settings: RingCentralAccount, form: dict[str, str]) -> bytes | Fault:
        """Answer a token request whose client is known: a TokenInfo, or why not."""
        match form.get("grant_type"):
            case kind if kind == _JWT_GRANT:
                if form.get("assertion") != settings.jwt:
                    return Fault(400, "OAU-213", "Token not found")
            case "refresh_token":
                old = self._by_refresh.get(form.get("refresh_token", ""))
                if old is None or old.refresh_expires_at <= self._clock():
                    return Fault(400, "OAU-213", "Token not found")
                # A refresh token serves once, and ends the access token that it came with.
                del self._by_refresh[old.refresh]
                old.revoked = True
            case _:
                return Fault(400, "OAU-250", "Unsupported grant type", headline="unsupported_grant_type")
        return json.dumps(self._issue(settings, form)).encode()

    def _issue(self, settings: RingCentralAccount, form: dict[str, str]) -> dict[str, Any]:
        asked = form.get("access_token_ttl", "")
        lives = settings.token_s
        if asked.isascii() and asked.isdigit():
            lives = min(lives, max(_SHORTEST, min(int(asked), _LONGEST)))
        now = self._clock()
        session = _Session(_secret(), _secret(), now + lives, now + settings.refresh_s)
        self._by_access[session.access] = session
        if len(self._by_access) > _MOST:
            oldest = self._by_access.pop(next(iter(self._by_access)))
            self._by_refresh.pop(oldest.refresh, None)
        told: dict[str, Any] = {
            "access_token": session.access, "token_type": "bearer", "expires_in": lives, "scope": _SCOPE,
            "owner_id": settings.extension, "endpoint_id": secrets.token_urlsafe(16), "session_id": secrets.token_urlsafe(16),
        }  # fmt: skip
        if settings.refresh_s:
            self._by_refresh[session.refresh] = session
            told |= {"refresh_token": session.refresh, "refresh_token_expires_in": settings.refresh_s}
        return told

    def known(self, token: str) -> bool:
        """Whether the token was given here, whatever it is worth by now."""
        return token in self._by_access

    def fault(self, token: str) -> Fault | None:
        """Why a token that was given here is worth nothing, if so."""
        session = self._by_access[token]
        if session.revoked:
            return Fault(401, "OAU-213", "Token not found", headline="TokenInvalid")
        if session.expires_at <= self._clock():
            return Fault(401, "OAU-128", "Access token expired", headline="TokenExpired")
        return None


def grant_refused(fault: Fault) -> bytes:
    """An error of the token endpoint: RFC 6749's, complemented with RingCentral's own."""
    standard = fault.headline or {"OAU-146": "invalid_client"}.get(fault.code, "invalid_grant")
    one = {"errorCode": fault.code, "message": fault.message}
    return json.dumps({"error": standard, "error_description": fault.message, "errors": [one]}).encode()


def basic(client_id: str, client_secret: str) -> bytes:
    """The Authorization header of an application."""
    return b"Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode())


def _secret() -> str:
    return f"U1BCMDFUMDRKV1MwMX{secrets.token_urlsafe(32)}"
