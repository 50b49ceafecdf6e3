"""Answers of the web: prebuilt ASGI messages, and problem details (RFC 9457) for everything that is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import Send

__all__ = ["FAILED", "OVERLOADED", "UNAVAILABLE", "Answer", "answer", "json_answer", "problem"]

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, ready to be sent as often as needed."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    async def send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def answer(status: int, body: bytes = b"", media: str | None = None, headers: Headers | None = None) -> Answer:
    """An answer with its length; a 204 has neither body nor length (RFC 9110, 8.6)."""
    fields = {"cache-control": "no-store", **(headers or {})}
    if media is not None:
        fields["content-type"] = media
    if status != 204:
        fields["content-length"] = str(len(body))
    return Answer(status, tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()), body)


def json_answer(status: int, content: object, headers: Headers | None = None) -> Answer:
    """An answer in JSON; dates, UUIDs and the like as they write themselves."""
    return answer(status, _json(content), "application/json", headers)


def problem(
    status: int,
    code: str,
    title: str,
    *,
    detail: str | None = None,
    headers: Headers | None = None,
    close: bool = False,
    **more: Any,
) -> Answer:
    """What went wrong, for a person (``title``, ``detail``) and for a program (``code``, a closed list); never what was sent.

    ``close`` ends the connection, for requests whose body was not read to its end.
    """
    content = {
        "type": "about:blank",
        "status": status,
        "title": title,
        "code": code,
        **({"detail": detail} if detail else {}),
        **more,
    }
    fields = {**(headers or {}), **({"connection": "close"} if close else {})}
    return answer(status, _json(content), "application/problem+json", fields)


def _json(content: object) -> bytes:
    return json.dumps(content, default=str, separators=(",", ":"), ensure_ascii=False).encode("utf-8", errors="replace")


_AGAIN: Final = {"retry-after": "2"}

OVERLOADED: Final = problem(503, "overloaded", "Too many requests are under way; try again", headers=_AGAIN, close=True)
UNAVAILABLE: Final = problem(503, "unavailable", "Not now; try again", headers=_AGAIN)
FAILED: Final = problem(500, "failed", "The gateway failed; it has been logged")
