"""The bodies of RingCentral's events, where they are not a resource as the API gives it.

https://developers.ringcentral.com/guide/notifications/event-filters
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.simulator.ringcentral.records import Consent
from gateway.simulator.ringcentral.render import consent_json, time_text

__all__ = ["consents_event", "instant_event", "store_event"]

_TOLD = (
    "to", "from", "type", "creationTime", "lastModifiedTime", "readStatus", "priority", "attachments", "direction", "availability",
    "subject", "messageStatus",
)  # fmt: skip


def instant_event(message: Mapping[str, Any]) -> dict[str, Any]:
    """A text that has come to an extension, from the store's message: identifiers are text here."""
    return {
        "id": str(message["id"]),
        **{name: message[name] for name in _TOLD},
        "conversationId": str(message["conversationId"]),
        "conversation": {"id": message["conversation"]["id"]},
    }


def store_event(extension: str, now: float) -> dict[str, Any]:
    """Something has changed in an extension's message store: how many messages, not which."""
    return {
        "extensionId": extension,
        "lastUpdated": time_text(now),
        "changes": [{"type": "SMS", "newCount": 0, "updatedCount": 1}],
    }


def consents_event(consents: Iterable[Consent]) -> dict[str, Any]:
    """Consents that somebody has changed."""
    return {"records": [consent_json(one, "lastModifiedTime") for one in consents]}
