"""Messages and batches as RingCentral's two message stores tell them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from gateway.simulator.records import Message
from gateway.simulator.ringcentral.errors import delivery_code
from gateway.simulator.ringcentral.records import Batch, Consent

__all__ = ["STATUSES", "a2p_message", "batch_json", "consent_json", "stored_message", "time_text"]

_COST: Final = 0.007

#: The carrier's own words for a message's state, and RingCentral's.
STATUSES: Final = {
    "queued": "Queued", "accepted": "Queued", "sent": "Sent", "delivered": "Delivered", "undelivered": "DeliveryFailed",
    "failed": "SendingFailed", "received": "Received",
}  # fmt: skip


def time_text(at: float) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def a2p_message(message: Message, now: float, *, text: bool, whole: bool = False) -> dict[str, Any]:
    """A message of the A2P store: as in a list, or ``whole`` as by itself, where its id is text."""
    step = message.step(now)
    told: dict[str, Any] = {
        "id": message.sid if whole else int(message.sid),
        "from": message.sender,
        "to": [message.to],
        "creationTime": time_text(message.created_at),
        "lastModifiedTime": time_text(message.starts_at + step.after),
        "messageStatus": "Delivered" if message.plan is None else STATUSES[step.status],
        "segmentCount": message.segments,
        "cost": round(_COST * message.segments, 4),
        "direction": "Inbound" if message.plan is None else "Outbound",
    }
    if message.batch is not None:
        told["batchId"] = message.batch
    if text:
        told["text"] = message.body
    if (code := delivery_code(step.code)) is not None:
        told["errorCode"] = code
    return told


def stored_message(message: Message, now: float, uri: Callable[[str], str], extension: str) -> dict[str, Any]:
    """A message of an extension's message store; ``uri`` makes a link from a path within the extension."""
    step = message.step(now)
    inbound = message.plan is None
    link = uri(f"/message-store/{message.sid}")
    status = STATUSES[step.status]
    # One number and one person have one conversation, whichever of them writes.
    ours, theirs = (message.to, message.sender) if inbound else (message.sender, message.to)
    conversation = int.from_bytes(hashlib.blake2b(f"{ours} {theirs}".encode(), digest_size=6).digest(), "big")
    told: dict[str, Any] = {
        "id": int(message.sid),
        "uri": link,
        "extensionId": extension,
        "to": [{"phoneNumber": message.to, **({"target": True} if inbound else {"messageStatus": status})}],
        "from": {"phoneNumber": message.sender, **({} if inbound else {"extensionId": extension})},
        "type": "SMS",
        "creationTime": time_text(message.created_at),
        "lastModifiedTime": time_text(message.starts_at + step.after),
        "readStatus": "Unread" if inbound else "Read",
        "priority": "Normal",
        "attachments": [
            {"id": int(message.sid), "uri": f"{link}/content/{message.sid}", "type": "Text", "contentType": "text/plain"}
        ],
        "direction": "Inbound" if inbound else "Outbound",
        "availability": "Deleted" if message.binned else "Alive",
        "subject": message.body,
        "messageStatus": status,
        "segmentCount": message.segments,
        "conversationId": conversation,
        "conversation": {"id": str(conversation), "uri": uri(f"/conversation/{conversation}")},
    }
    if not inbound:
        told["smsSendingAttemptsCount"] = 0 if status == "Queued" else 1
    if status == "Delivered":
        told["smsDeliveryTime"] = told["lastModifiedTime"]
    if (code := delivery_code(step.code)) is not None:
        told["deliveryErrorCode"] = code
    return told


def batch_json(batch: Batch, messages: Iterable[Message], now: float) -> dict[str, Any]:
    """A batch as it stands: completed when each of its messages has left the queue. Only the answer that made it tells of rejected ones."""
    steps = [(message, message.step(now)) for message in messages]
    done = [(message, step) for message, step in steps if STATUSES[step.status] != "Queued"]
    completed = len(done) == len(steps)
    told: dict[str, Any] = {
        "id": batch.id,
        "from": batch.sender,
        "batchSize": len(batch.messages),
        "processedCount": len(done) + len(batch.messages) - len(steps),
        "lastModifiedTime": time_text(max((message.starts_at + step.after for message, step in done), default=batch.created_at)),
        "status": "Completed" if completed else "Processing",
        "creationTime": time_text(batch.created_at),
        "rejected": [],
    }
    if completed:
        told["cost"] = round(sum(_COST * message.segments for message, _ in steps), 4)
    return told


def consent_json(consent: Consent, when: str) -> dict[str, Any]:
    """A consent; ``when`` is what its time is called."""
    told = {
        "from": consent.sender,
        "to": consent.to,
        "optStatus": consent.status,
        "source": consent.source,
        when: time_text(consent.at),
    }
    return told if consent.coverage is None else {**told, "coverage": consent.coverage}
