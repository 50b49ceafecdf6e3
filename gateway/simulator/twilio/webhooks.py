"""Webhooks as Twilio posts them: signed forms, 15 seconds, and the retries that a URL's fragment asks for."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, quote_plus

from gateway.simulator.http_client import NoAnswer
from gateway.simulator.outside import Outside
from gateway.simulator.records import Posted
from gateway.simulator.twilio.signing import sign

__all__ = ["Overrides", "Webhooks", "read_overrides"]

_LIMIT: Final = 15.0
_MOST_RETRIES: Final = 5
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~-]*").fullmatch


@dataclass(frozen=True, slots=True)
class Overrides:
    """Connection overrides: how often and after what to try again, and time limits in seconds.

    https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
    """

    retries: int = 1
    policy: frozenset[str] = frozenset({"ct"})
    connect_within: float = 5.0
    read_within: float = _LIMIT
    total: float = _LIMIT

    def again(self, http: int | None, failure: str | None) -> bool:
        """Whether an attempt that ended so is repeated."""
        if failure is not None:
            kind = "ct" if failure == "connect" else "rt"
        elif http is not None and http >= 400:
            kind = f"{http // 100}xx"
        else:
            return False
        return kind in self.policy or "all" in self.policy


@lru_cache(maxsize=64)
def read_overrides(fragment: str) -> Overrides:
    """The overrides of a URL's fragment, such as ``rc=5&rp=all``; what is missing, unknown or not a number has its default."""
    given = dict(parse_qsl(fragment))

    def number(name: str, low: int, high: int, default: float) -> float:
        text = given.get(name, "")
        return min(max(int(text), low), high) if text.isascii() and text.isdigit() else default

    return Overrides(
        int(number("rc", 0, _MOST_RETRIES, 1)),
        frozenset(given.get("rp", "ct").split(",")),
        number("ct", 100, 10_000, 5_000) / 1000,
        number("rt", 100, 15_000, 15_000) / 1000,
        number("tt", 100, 15_000, 15_000) / 1000,
    )


class Webhooks:
    """Posts webhooks; the signature is over the URL as it was given, wherever it is really called."""

    def __init__(self, outside: Outside, *, retry_ms: float, clock: Callable[[], float]) -> None:
        self._outside = outside
        self._pause = retry_ms / 1000
        self._clock = clock

    async def post(self, url: str, token: str, status: str, fields: list[tuple[str, str]]) -> Posted:
        """Post one webhook with its retries; ``status`` is what it tells. A failure is part of what comes back."""
        bare, _, fragment = url.partition("#")
        overrides = read_overrides(fragment)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            "User-Agent": "TwilioProxy/1.1",
            "Accept": "*/*",
            "X-Twilio-Signature": sign(token, bare, fields),
            "I-Twilio-Idempotency-Token": str(uuid.uuid4()),
        }
        body = _encode(fields)
        at, began, attempts = self._clock(), time.monotonic(), 0
        while True:
            left = overrides.total - (time.monotonic() - began)
            http, failure, text = None, None, ""
            try:
                answer = await self._outside.post(
                    bare, headers, body,
                    connect_within=min(overrides.connect_within, left), read_within=min(overrides.read_within, left),
                )  # fmt: skip
                http, text = answer.status, answer.body.decode("utf-8", "replace")
            except NoAnswer as no_answer:
                failure = no_answer.kind
            attempts += 1
            pause = self._pause * attempts
            took = time.monotonic() - began
            if attempts > overrides.retries or took + pause >= overrides.total or not overrides.again(http, failure):
                return Posted(status, at, http, failure, took, attempts, text)
            await asyncio.sleep(pause)


def _encode(fields: list[tuple[str, str]]) -> bytes:
    """The form; most values need no quoting, and looking is much cheaper than quoting all."""
    return "&".join(f"{name}={value if _PLAIN(value) else quote_plus(value)}" for name, value in fields).encode()
