"""What the twilio package sends by, in place of its own HTTP client.

The SDK's client ignores its time limit, can post again after a failure, logs query parameters (numbers) at INFO, and keeps the
last request in memory. This one does none of that, keeps nothing, and sends credentials to the API's own address only. What
Twilio refuses is raised as :class:`TwilioRefused` before the SDK builds its own exception, whose text holds Twilio's words, the
number among them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from twilio.http import AsyncHttpClient
from twilio.http.response import Response

from gateway.domain.errors import GatewayError
from gateway.providers.http import NotSent
from gateway.providers.reading import read_json, retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.providers.http import HttpClient

__all__ = ["TwilioRefused", "TwilioTransport"]

SILENT: Final = logging.getLogger("gateway.providers.twilio.silent")


class TwilioRefused(GatewayError):
    """An answer that is not a 2xx: its status, Twilio's code if it names one, and the wait it asks for in seconds."""

    def __init__(self, status: int, code: int | None, retry_after: float | None) -> None:
        self.status = status
        self.code = code
        self.retry_after = retry_after
        super().__init__(f"Twilio answered HTTP {status}, code {code}")


class TwilioTransport(AsyncHttpClient):
    """What the SDK sends by. Raises NotSent and MaybeSent as the HTTP client does, and TwilioRefused."""

    def __init__(self, http: HttpClient, api_base: str) -> None:
        super().__init__(SILENT, is_async=True)
        self._http = http
        self._api = api_base.rstrip("/") + "/"

    async def request(  # type: ignore[override]  # the SDK's own signature, and its own override
        self,
        method: str,
        uri: str,
        params: Mapping[str, object] | None = None,
        data: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002 - the HTTP client has its own, for every request
        allow_redirects: bool = False,  # noqa: ARG002 - never
    ) -> Response:
        """Send one request of the SDK; see :meth:`HttpClient.request`."""
        if not uri.startswith(self._api):
            raise NotSent("bad_request")  # a page that leads elsewhere would take the credentials there
        answer = await self._http.request(
            method,
            f"{uri}?{urlencode(params)}" if params else uri,
            headers=headers or {},
            form={name: str(value) for name, value in data.items()} if data else None,
            basic_auth=auth,
        )
        if not 200 <= answer.status <= 299:
            raise TwilioRefused(answer.status, _code(answer.body), retry_after(answer.headers))
        return Response(answer.status, answer.body.decode("utf-8", "replace"))


def _code(body: bytes) -> int | None:
    """Twilio's error code, in its own form and in RFC 9457's: both call it ``code``."""
    said = read_json(body)
    code = said.get("code") if isinstance(said, dict) else None
    return code if isinstance(code, int) and not isinstance(code, bool) and 0 < code < 1_000_000 else None
