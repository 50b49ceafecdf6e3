"""One example of each event, as its data stands in a record. The documents and schemas/asyncapi.yaml show them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from gateway.domain.chain import GENESIS, AuditRecord, chained
from gateway.domain.chain import encode as encode_link
from gateway.domain.events import (
    AuditEvent,
    ConsentEvent,
    DeadLetterEvent,
    InboundEvent,
    MetricsEvent,
    OutboundMessage,
    StatusEvent,
)

__all__ = ["examples"]


def examples() -> dict[str, dict[str, Any]]:
    """The examples by the CloudEvents type. The numbers are of those set aside for fiction."""
    return {
        OutboundMessage.TYPE: {
            "message_id": "order-1234-shipped",
            "tenant": "harbour-books",
            "programme": "orders",
            "category": "service",
            "to": "+14155550123",
            "body": "Order 1234 has left our harbour.",
            "recipient_ref": "customer-77",
            "expires_at": "2026-05-01T20:00:00-07:00",
        },
        StatusEvent.TYPE: {
            "message_id": "order-1234-shipped",
            "tenant": "harbour-books",
            "programme": "orders",
            "category": "service",
            "recipient_ref": "customer-77",
            "state": "delivered",
            "reason": "delivered",
            "final": True,
            "version": 3,
            "correction": False,
            "provider": "twilio",
            "parts": 1,
            "occurred_at": "2026-05-01T16:30:00.123000Z",
            "policy": "8b1aeb7691fd",
            "rule": "default.allowed",
            "account": "main",
            "sender": "+14155550111",
            "attempt": 1,
        },
        InboundEvent.TYPE: {
            "inbound_id": "019de43c-30fb-7000-8000-3b1f6a2e9c01",
            "tenant": "harbour-books",
            "programme": "orders",
            "number": "+14155550123",
            "sender": "+14155550111",
            "body": "When will it be here?",
            "recipient_ref": "customer-77",
            "provider": "twilio",
            "account": "main",
            "received_at": "2026-05-01T16:41:07.512000Z",
        },
        ConsentEvent.TYPE: {
            "person": "5f0c3a7e9b1d4862a0c5e7f19b3d6842",
            "tenant": "harbour-books",
            "scope": "programme",
            "name": "orders",
            "status": "out",
            "version": 2,
            "final": True,
            "source": "text",
            "recipient_ref": "customer-77",
            "stated_at": "2026-05-02T08:15:30.100000Z",
            "written_at": "2026-05-02T08:15:30.104000Z",
            "in_force_at": "2026-05-02T08:15:30.109000Z",
        },
        DeadLetterEvent.TYPE: {
            "dead_letter_id": "019de43d-5a10-7000-8000-9c27d4f80b02",
            "reason": "wrong_schema",
            "detail": "category: must be one of marketing, service, security",
            "topic": "sms.outbound.v1",
            "partition": 2,
            "offset": 4711,
            "tenant": "harbour-books",
            "length": 203,
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "sealed": "AQIDBAUGBwg=",
            "sealed_form": 2,
            "key_day": "2026-05-01",
            "replay_of": None,
            "occurred_at": "2026-05-01T16:29:58.002000Z",
        },
        MetricsEvent.TYPE: {
            "tenant": "harbour-books",
            "period": "minute",
            "start": "2026-05-01T16:30:00Z",
            "provider": "twilio",
            "category": "service",
            "state": "delivered",
            "reason": "delivered",
            "merged": [],
            "count": 42,
        },
        AuditEvent.TYPE: _audit(),
    }


def _audit() -> dict[str, Any]:
    """Chained as it would be, so that its hash can be checked."""
    record = AuditRecord(
        at=datetime(2026, 5, 1, 16, 29, 59, 871_000, tzinfo=UTC),
        tenant="harbour-books",
        uid=UUID("019de43c-1d2f-7000-8000-6e0b5d9a4f03"),
        number=1,
        step="decided",
        state="accepted",
        reason="allowed",
        rule="default.allowed",
        policy="8b1aeb7691fd",
        attempt=None,
        provider=None,
        account=None,
        code=None,
        evidence=None,
        actor="worker@gateway-1:7:c8587ce2",
        person=None,
    )
    (link,) = chained(GENESIS, [record], datetime(2026, 5, 1, 16, 29, 59, 903_000, tzinfo=UTC))
    data: dict[str, Any] = json.loads(encode_link(link))
    return data
