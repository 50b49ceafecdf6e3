"""Posting to the world outside: webhook URLs, some of which are really somewhere else, as behind a proxy."""

from __future__ import annotations

from urllib.parse import urlsplit

from gateway.simulator.http_client import Answer, HttpClient

__all__ = ["Outside"]


class Outside:
    """Posts to URLs. ``reach`` says where those that start with the first of a pair are really called: at the second."""

    def __init__(self, reach: tuple[tuple[str, str], ...]) -> None:
        self._reach = reach
        self._client = HttpClient()

    async def post(self, url: str, headers: dict[str, str], body: bytes, *, connect_within: float, read_within: float) -> Answer:
        """Post once; the Host header is the one of ``url``, wherever it is called. Raises NoAnswer; times are in seconds."""
        called, host = url, None
        for public, real in self._reach:
            if url.startswith(public):
                parts = urlsplit(url)
                called, host = real + url[len(public) :], parts.netloc
                headers = {**headers, "X-Forwarded-Proto": parts.scheme}
                break
        return await self._client.request(
            "POST", called, headers, body, host=host, connect_within=connect_within, read_within=read_within
        )

    def close(self) -> None:
        """End all connections."""
        self._client.close()
