"""Reads what is sent to the web, within bounds of length and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.types import Receive, Scope

__all__ = ["BodyFault", "Limits", "header", "headers_of", "read_body"]

BodyFault = Literal["too_large", "disconnected"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a request: its body in bytes, and the seconds it may take in all. A provider waits 15 for its answer."""

    body: int = 65_536
    seconds: float = 14.0


def header(scope: Scope, name: bytes) -> bytes | None:
    """A header that stands once; None when it is missing, and when it stands twice, as only a forger would have it."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0] if len(values) == 1 else None


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes | BodyFault:
    """The whole body, or why there is none. The caller limits the time."""
    declared = header(scope, b"content-length")
    if declared is not None and declared.isdigit() and int(declared[:20]) > most:
        return "too_large"
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return "disconnected"
        part = message.get("body", b"")
        length += len(part)
        if length > most:
            return "too_large"
        if not message.get("more_body", False):
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers by their lower-case names; one that stands twice is empty, as only a forger would have it."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1")
        headers[key] = "" if key in headers else value.decode("latin-1")
    return headers
