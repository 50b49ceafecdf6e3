"""The public application: webhooks below ``/webhooks/``, the API for everything else."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["PublicApp"]


class PublicApp:
    """Leads each request to the webhooks or the API.

    Where the public URL has a path of its own, requests are taken with it and without, as proxies pass them on.
    """

    def __init__(self, webhooks: ASGIApp, api: ASGIApp, *, public_url: str = "") -> None:
        self._webhooks = webhooks
        self._api = api
        self._prefix = urlsplit(public_url).path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._prefix and scope["path"].startswith(self._prefix + "/"):
            raw = scope.get("raw_path") or scope["path"].encode("utf-8")
            scope = {
                **scope,
                "path": scope["path"].removeprefix(self._prefix),
                "raw_path": raw.removeprefix(self._prefix.encode("utf-8")),
            }
        app = self._webhooks if scope["path"].startswith("/webhooks/") else self._api
        await app(scope, receive, send)
