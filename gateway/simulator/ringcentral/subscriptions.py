"""Webhook subscriptions: made after a handshake, renewed, expired, blacklisted; and the events that they are for.

https://developers.ringcentral.com/guide/notifications/webhooks/creating-webhooks
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from gateway.simulator.config import RingCentralAccount
from gateway.simulator.http_client import NoAnswer
from gateway.simulator.outside import Outside
from gateway.simulator.records import Posted
from gateway.simulator.ringcentral.errors import Fault, not_found, parameter
from gateway.simulator.ringcentral.filters import matches, read_filter
from gateway.simulator.ringcentral.records import Subscription
from gateway.simulator.ringcentral.render import time_text

__all__ = ["Subscriptions"]

_LONGEST: Final = 315_360_000
_USUAL: Final = 604_800
_MOST: Final = 30
_MOST_ANSWERED: Final = 1024
_ADDRESS: Final = re.compile(r"https?://[^/?#\s]+[!-~]*")


class Subscriptions:
    """The subscriptions of one account's application. ``settings`` gives the account's settings as they are now."""

    def __init__(self, outside: Outside, clock: Callable[[], float], settings: Callable[[], RingCentralAccount]) -> None:
        self._outside = outside
        self._clock = clock
        self._settings = settings
        self.all: dict[str, Subscription] = {}
        self._expired: set[str] = set()

    def clear(self) -> None:
        """There is none."""
        self.all.clear()
        self._expired.clear()

    def live(self) -> list[Subscription]:
        """Those that have not expired, blacklisted ones too."""
        now = self._clock()
        for one in [one for one in self.all.values() if one.expires_at <= now]:
            del self.all[one.id]
            self._expired.add(one.id)
        return list(self.all.values())

    def find(self, name: str) -> Subscription | Fault:
        """One by its id."""
        self.live()
        if name in self._expired:
            return Fault(404, "SUB-507", f"Subscription with key [{name}] was expired")
        return self.all.get(name) or not_found("subscriptionId")

    # -- the calls ----------------------------------------------------------------------------------------------------------------

    async def create(self, body: object) -> Subscription | Fault:
        """Make a subscription, if its webhook passes the handshake."""
        filters, lives = self._read(body, need_filters=True)
        mode = body.get("deliveryMode") if isinstance(body, dict) else None
        if isinstance(filters, Fault):
            return filters
        if not isinstance(mode, dict) or mode.get("transportType") != "WebHook":
            return parameter("deliveryMode.transportType")
        address, token = mode.get("address"), mode.get("verificationToken")
        if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
            return parameter("deliveryMode.address")
        if token is not None and not isinstance(token, str):
            return parameter("deliveryMode.verificationToken")
        if len(self.live()) >= _MOST:
            return Fault(403, "SUB-505", "Subscriptions limit exceeded")
        if (fault := await self._shake_hands(address)) is not None:
            return fault
        now = self._clock()
        made = Subscription(str(uuid.uuid4()), filters, address, token, now, now + lives)
        self.all[made.id] = made
        return made

    def renew(self, name: str, body: object = None) -> Subscription | Fault:
        """Lengthen a subscription's life, and change its filters where some are given."""
        found = self.find(name)
        if isinstance(found, Fault):
            return found
        filters, lives = self._read({} if body is None else body, need_filters=False)
        if isinstance(filters, Fault):
            return filters
        found.filters = filters or found.filters
        found.expires_at = self._clock() + lives
        return found

    def cancel(self, name: str) -> Fault | None:
        """End a subscription."""
        found = self.find(name)
        if isinstance(found, Fault):
            return found
        del self.all[name]
        return None

    def as_json(self, one: Subscription, host: str) -> dict[str, Any]:
        """A subscription as the API tells it; never its verification token."""
        told: dict[str, Any] = {
            "uri": f"{host}/restapi/v1.0/subscription/{one.id}",
            "id": one.id,
            "creationTime": time_text(one.created_at),
            "status": "Active" if one.blacklisted_at is None else "Blacklisted",
            "eventFilters": list(one.filters),
            "expirationTime": time_text(one.expires_at),
            "expiresIn": max(int(one.expires_at - self._clock()), 1),
            "deliveryMode": {"transportType": "WebHook", "encryption": False, "address": one.address},
        }
        if one.blacklisted_at is not None:
            told["blacklistedData"] = {"blacklistedAt": time_text(one.blacklisted_at), "reason": one.reason}
        return told

    def _read(self, body: object, *, need_filters: bool) -> tuple[tuple[str, ...] | Fault, int]:
        if not isinstance(body, dict):
            return Fault(400, "CMN-103", "JSON can't be parsed"), 0
        lives, given = body.get("expiresIn", _USUAL), body.get("eventFilters", [])
        if type(lives) is not int or not 1 <= lives <= _LONGEST:
            return parameter("expiresIn"), 0
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given) or (need_filters and not given):
            return parameter("eventFilters"), 0
        filters = []
        for one in given:
            read = read_filter(one, self._settings())
            if isinstance(read, Fault):
                return read, 0
            filters.append(read)
        return tuple(filters), lives

    # -- the webhook --------------------------------------------------------------------------------------------------------------

    async def _shake_hands(self, address: str) -> Fault | None:
        token = str(uuid.uuid4())
        headers = {"Validation-Token": token, "Content-Type": "application/json", "User-Agent": "RingCentral-Webhook/8.3"}
        within = self._settings().webhook_s
        try:
            answer = await self._outside.post(address, headers, b"", connect_within=within, read_within=within)
        except NoAnswer:
            return Fault(400, "SUB-521", "WebHook is not reachable")
        if answer.status != HTTPStatus.OK:
            return Fault(400, "SUB-522", f"WebHook responds with incorrect HTTP status. HTTP status is {answer.status}")
        size = len(answer.body) + sum(len(name) + len(value) + 4 for name, value in answer.headers.items())
        if answer.headers.get(b"validation-token") != token.encode() or size > _MOST_ANSWERED:
            return Fault(400, "SUB-525", "WebHook server response is invalid")
        return None

    async def publish(
        self, path: str, attributes: Mapping[str, str], body: Mapping[str, Any], *, key: str, status: str, forged: bool
    ) -> list[Posted]:
        """Post an event to every subscription that has a filter for it.

        ``attributes`` are what a filter's query may ask for. The same ``key`` makes the same uuid: an event that is told again.
        ``status`` is what it tells, for the book. A forged one lacks the verification token.
        """
        posted = []
        for one in self.live():
            told = next((text for text in one.filters if matches(text, path, attributes)), None)
            if told is None or (one.blacklisted_at is not None and not forged):
                continue
            event = {
                "uuid": str(uuid.uuid5(uuid.UUID(one.id), f"{key}{' forged' * forged}")),
                "event": told,
                "timestamp": time_text(self._clock()),
                "subscriptionId": one.id,
                "ownerId": self._settings().extension,
                "body": body,
            }
            headers = {
                "Content-Type": "application/json; charset=UTF-8",
                "Accept": "application/json",
                "User-Agent": "RingCentral-Webhook/8.3",
            }
            if one.token is not None:
                headers["Verification-Token"] = f"not {one.token}" if forged else one.token
            posted.append(await self._post(one, headers, json.dumps(event).encode(), status, forged=forged))
        return posted

    async def _post(self, one: Subscription, headers: dict[str, str], body: bytes, status: str, *, forged: bool) -> Posted:
        at, began, within = self._clock(), time.monotonic(), self._settings().webhook_s
        http, failure, text = None, None, ""
        try:
            answer = await self._outside.post(one.address, headers, body, connect_within=within, read_within=within)
            http, text = answer.status, answer.body.decode("utf-8", "replace")
        except NoAnswer as no_answer:
            failure = no_answer.kind
        if not forged:
            self._note(one, http, failure)
        return Posted(status, at, http, failure, time.monotonic() - began, 1, text)

    def _note(self, one: Subscription, http: int | None, failure: str | None) -> None:
        """Blacklist a subscription whose webhook has failed for too long."""
        now = self._clock()
        if http == HTTPStatus.OK:
            one.failing_since = None
            return
        one.failing_since = now if one.failing_since is None else one.failing_since
        if one.blacklisted_at is None and now - one.failing_since >= self._settings().blacklist_s:
            reason = "I/O operation is failed. Details: [Read timed out]" if failure else f"Webhook responses with code: [{http}]"
            one.blacklist(now, reason)
