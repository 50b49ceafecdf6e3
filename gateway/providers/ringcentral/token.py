"""RingCentral's access token: one for all who wait, by the JWT grant, renewed before it ends.

https://developers.ringcentral.com/guide/authentication/jwt-flow. At most five grants a minute are allowed, so a grant that failed is not
repeated at once: who asks meanwhile gets its answer again.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeGuard

from gateway.domain.errors import GatewayError
from gateway.providers.http import MaybeSent, NotSent
from gateway.providers.reading import read_json
from gateway.providers.ringcentral.errors import error_code
from gateway.providers.ringcentral.rates import RateGroup, RateHeld

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.providers.http import Answer, HttpClient

__all__ = ["Credentials", "NoToken", "Tokens"]

GRANTS_A_MINUTE: Final = 5
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# Another token is asked for when this share of the old one's life is left, and the old one is used until the other is there.
RENEWAL_SHARE: Final = 1 / 6
# Not used any more so near its end: its request would arrive after it.
USABLE_SECONDS: Final = 10.0
# What failed may be mended by then. RingCentral locks a user out who signs in wrongly again and again.
PAUSE_SECONDS: Final = 15.0
REFUSED_PAUSE_SECONDS: Final = 60.0
LONGEST_SECONDS: Final = 86_400

OAUTH_ERRORS: Final = ("invalid_client", "invalid_grant", "unauthorized_client", "invalid_request")

_SECRET: Final = re.compile(r"[!-~]{1,8192}")


class NoToken(GatewayError):
    """There is no access token, so nothing was asked of the API. ``operator``: nothing changes until a person acts."""

    def __init__(self, why: str, *, wait: float | None = None, operator: bool = False) -> None:
        self.why = why
        self.wait = wait
        self.operator = operator
        super().__init__(f"no access token: {why}")


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What an application and its user sign in with."""

    client_id: str
    client_secret: str = field(repr=False)
    jwt: str = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class _Token:
    secret: str
    renew_at: float
    ends_at: float


class Tokens:
    """The token of one account in one process; ``clock`` is in seconds."""

    def __init__(self, http: HttpClient, url: str, credentials: Credentials, clock: Callable[[], float]) -> None:
        self._http = http
        self._url = url
        self._credentials = credentials
        self._clock = clock
        self._rate = RateGroup(GRANTS_A_MINUTE, clock)
        self._token: _Token | None = None
        self._grant: asyncio.Task[None] | None = None
        self._failed: NoToken | None = None
        self._failed_until = 0.0

    async def get(self, within_seconds: float) -> str:
        """The token. Waits for a grant that long at most. Raises NoToken."""
        now = self._clock()
        if self._token is None or now >= self._token.renew_at:
            self._ask(now)
        if self._token is not None and now < self._token.ends_at:
            return self._token.secret
        if self._grant is not None:
            await asyncio.wait((self._grant,), timeout=within_seconds)
            if self._token is not None and self._clock() < self._token.ends_at:
                return self._token.secret
        raise self._failed or NoToken("no_answer_yet")

    def drop(self, secret: str) -> None:
        """RingCentral does not know this token: forget it, unless another one is there already."""
        if self._token is not None and self._token.secret == secret:
            self._token = None

    async def close(self) -> None:
        """Wait for a grant under way."""
        if self._grant is not None:
            await asyncio.wait((self._grant,))

    def _ask(self, now: float) -> None:
        """Begin a grant, unless one is under way or has just failed."""
        if (self._grant is not None and not self._grant.done()) or (self._failed is not None and now < self._failed_until):
            return
        try:
            self._rate.begin()
        except RateHeld as held:
            self._fail(NoToken("too_many_grants", wait=held.wait), held.wait)
            return
        self._failed = None
        self._grant = asyncio.create_task(self._obtain(now), name="ringcentral-token")

    def _fail(self, fault: NoToken, pause: float) -> None:
        self._failed = fault
        self._failed_until = self._clock() + pause

    async def _obtain(self, asked_at: float) -> None:
        one = self._credentials
        try:
            answer = await self._http.request(
                "POST",
                self._url,
                headers={"accept": "application/json"},
                form={"grant_type": JWT_BEARER, "assertion": one.jwt},
                basic_auth=(one.client_id, one.client_secret),
            )
        except (NotSent, MaybeSent) as fault:
            self._fail(NoToken(fault.why, wait=PAUSE_SECONDS, operator=fault.why == "bad_request"), PAUSE_SECONDS)
            return
        said = read_json(answer.body)
        wait = self._rate.heed(answer)
        if wait is not None:
            self._fail(NoToken(f"http_{answer.status}", wait=wait), wait)
        elif 200 <= answer.status <= 299:
            self._keep(said, asked_at)
        else:
            refused = 400 <= answer.status <= 499 and answer.status != 408
            pause = REFUSED_PAUSE_SECONDS if refused else PAUSE_SECONDS
            self._fail(NoToken(_why(answer, said), wait=pause, operator=refused), pause)

    def _keep(self, said: object, asked_at: float) -> None:
        fields = said if isinstance(said, dict) else {}
        secret, life = fields.get("access_token"), fields.get("expires_in")
        if not isinstance(secret, str) or not _SECRET.fullmatch(secret) or not _lasts(life):
            self._fail(NoToken("unreadable_answer", wait=PAUSE_SECONDS), PAUSE_SECONDS)
            return
        self._token = _Token(secret, asked_at + life * (1 - RENEWAL_SHARE), asked_at + life - USABLE_SECONDS)


def _lasts(life: object) -> TypeGuard[int]:
    return isinstance(life, int) and not isinstance(life, bool) and USABLE_SECONDS < life <= LONGEST_SECONDS


def _why(answer: Answer, said: object) -> str:
    """RingCentral's code, or the OAuth one that stands beside it (RFC 6749, 5.2), or the status."""
    fields = said if isinstance(said, dict) else {}
    listed = fields.get("errors")
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
    named = next((name for name in OAUTH_ERRORS if name == fields.get("error")), None)
    return error_code(first.get("errorCode")) or error_code(fields.get("errorCode")) or named or f"http_{answer.status}"
