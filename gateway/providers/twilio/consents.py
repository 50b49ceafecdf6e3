"""Twilio told of opt-outs and opt-ins, by its Consent Management API.

https://www.twilio.com/docs/messaging/features/consent-api: at most 25 in a request, 100 requests a minute, each set to what it says
(an upsert). It is not open to every account, and knows no way to ask what stands there. An opt-in overrides the STOP that a person
texted to Twilio, but not on toll-free numbers in the US, where the network keeps it.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Final, cast
from uuid import uuid4

from gateway.providers.http import HttpClient, MaybeSent, NotSent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.flow.provider import OptOutWord, Told

__all__ = ["SECONDS_BETWEEN", "WORDS_PER_CALL", "TwilioConsents", "consents_base"]

WORDS_PER_CALL: Final = 25
SECONDS_BETWEEN: Final = 0.65  # 100 requests a minute, and a little less

_FAILED: Final = 30646  # https://www.twilio.com/docs/api/errors/30646
_THEIR_FAULT: Final = "INTERNAL_SERVER_ERROR"  # "retry the request"; its other texts say what is wrong with the word


def consents_base(api_base: str) -> str:
    """Where an account's consents are: ``accounts.twilio.com`` beside ``api.twilio.com``, at a simulator the same address."""
    return api_base.replace("://api.", "://accounts.", 1).rstrip("/")


class TwilioConsents:
    """Tells one account. It keeps and logs nothing of what passes."""

    def __init__(self, http: HttpClient, base: str, sid: str, token: str) -> None:
        self._http = http
        self._url = f"{base}/v1/Consents/Bulk"
        self._auth = (sid, token)

    async def tell(self, words: Sequence[OptOutWord]) -> Sequence[Told]:
        """One request; a word for each, in its place. What nobody answered may have been taken: "later", as after a refusal of all.

        Also of HTTP 401, 403 and 404 nobody knows what an operator will make of them: they are tried again until one has.
        """
        ids = [uuid4().hex for _ in words]
        items = [("Items", _item(word, correlation_id)) for word, correlation_id in zip(words, ids, strict=True)]
        try:
            answer = await self._http.request("POST", self._url, headers={}, form=items, basic_auth=self._auth)
        except (NotSent, MaybeSent):
            return ["later"] * len(words)
        results = _results(answer.body) if answer.status == 201 else {}
        return [results.get(correlation_id, "later") for correlation_id in ids]


def _item(word: OptOutWord, correlation_id: str) -> str:
    return json.dumps(
        {
            "contact_id": word.to.reveal(),
            "correlation_id": correlation_id,
            "sender_id": word.sender,
            "status": "opt-out" if word.opted_out else "opt-in",
            "source": "others",
            "date_of_consent": word.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )


def _results(body: bytes) -> dict[str, Told]:
    """What the answer says of each correlation id; whatever cannot be read is left out."""
    try:
        items = json.loads(body)["items"]
        return {cast("str", item["correlation_id"]): _told(item) for item in items}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _told(item: dict[str, object]) -> Told:
    code, why = item["error_code"], item.get("error_messages")
    if code == 0:
        return "confirmed"
    return "refused" if code == _FAILED and isinstance(why, list) and why and _THEIR_FAULT not in why else "later"
