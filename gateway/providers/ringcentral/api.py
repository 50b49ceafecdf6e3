"""Calls of RingCentral's API: with the one token, within the rate groups, and within somebody's time. It keeps and logs nothing.

https://developers.ringcentral.com/guide/basics/errors. A 401 that says that the token is over or unknown comes from before anything was
done, so the same call is made once more with another token; nothing else is ever called twice.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote, urlencode

from gateway.domain.errors import GatewayError
from gateway.providers.http import NotSent
from gateway.providers.reading import read_json
from gateway.providers.ringcentral.errors import error_code
from gateway.providers.ringcentral.rates import RateGroup
from gateway.providers.ringcentral.token import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.providers.http import Answer, HttpClient
    from gateway.providers.ringcentral.token import Credentials

__all__ = ["Group", "RingCentralApi", "RingCentralRefused"]

Group = Literal["light", "medium"]

# The group of each call is in RingCentral's API reference ("Usage Plan Group"), and so are these limits of calls a minute.
LIMITS: Final[dict[Group, int]] = {"light": 50, "medium": 40}

# OAU-128: the access token is over. OAU-129 and OAU-149: it is none. OAU-213: it was revoked. Said before the request was looked at.
TOKEN_OVER: Final = frozenset({"OAU-128", "OAU-129", "OAU-149", "OAU-213"})

# Shares of the time limit: for a token is not waited longer than this, and less than that is not enough for a request.
TOKEN_SHARE: Final = 1 / 2
LEAST_SHARE: Final = 1 / 8


class RingCentralRefused(GatewayError):
    """An answer that is not a 2xx: its status, RingCentral's code and the parameter it speaks of if it names any, the wait it asks for."""

    def __init__(self, status: int, code: str | None, parameter: str | None, wait: float | None) -> None:
        self.status = status
        self.code = code
        self.parameter = parameter
        self.wait = wait
        super().__init__(f"RingCentral answered HTTP {status}, code {code}")


class RingCentralApi:
    """One account's calls. ``seconds`` is the limit of one whole call, the wait for a token and a second try with it."""

    def __init__(
        self, http: HttpClient, api_base: str, credentials: Credentials, *, seconds: float, clock: Callable[[], float]
    ) -> None:
        self._http = http
        self._base = api_base.rstrip("/")
        self._seconds = seconds
        self._tokens = Tokens(http, f"{self._base}/restapi/oauth/token", credentials, clock)
        self._groups = {group: RateGroup(limit, clock) for group, limit in LIMITS.items()}

    def deadline(self) -> float:
        """When a call that begins now must have ended, for several that share one call's time."""
        return monotonic() + self._seconds

    async def call(
        self,
        method: str,
        path: str,
        group: Group,
        *,
        query: Sequence[tuple[str, str]] = (),
        json: object = None,
        keep: int = 0,
        deadline: float | None = None,
    ) -> object:
        """One call; what its answer says as JSON, None where that is none. ``keep`` calls of the group are left to others.

        Raises, where nothing was done: NoToken, RateHeld, NotSent; RingCentralRefused; MaybeSent where nobody knows.
        """
        ends = self.deadline() if deadline is None else deadline
        url = f"{self._base}{path}" + ("?" + urlencode(query, quote_via=quote) if query else "")
        first = True
        while True:
            token = await self._tokens.get(min(ends - monotonic(), self._seconds * TOKEN_SHARE))
            left = ends - monotonic()
            if left < self._seconds * LEAST_SHARE:
                raise NotSent("late")
            self._groups[group].begin(keep)
            headers = {"accept": "application/json", "authorization": f"Bearer {token}"}
            answer = await self._http.request(method, url, headers=headers, json=json, within_seconds=left)
            wait = self._groups[group].heed(answer)
            said = read_json(answer.body)
            if 200 <= answer.status <= 299:
                return said
            refused = _refusal(answer, said, wait)
            if answer.status != 401 or refused.code not in TOKEN_OVER:
                raise refused
            self._tokens.drop(token)
            if not first:
                raise refused
            first = False

    async def close(self) -> None:
        """Wait for a grant under way; requests are waited for by the HTTP client."""
        await self._tokens.close()


def _refusal(answer: Answer, said: object, wait: float | None) -> RingCentralRefused:
    """The platform's errors stand in a list; high-volume ones say a code outside of it, too, or only there."""
    fields = said if isinstance(said, dict) else {}
    listed = fields.get("errors")
    errors = [*(listed if isinstance(listed, list) else []), fields]
    for error in errors:
        if isinstance(error, dict) and (code := error_code(error.get("errorCode"))) is not None:
            name = error.get("parameterName")
            parameter = name.partition(".")[0].partition("[")[0] if isinstance(name, str) else None
            return RingCentralRefused(answer.status, code, parameter if parameter in {"to", "from", "text"} else None, wait)
    return RingCentralRefused(answer.status, None, None, wait)
