"""Who may publish as whom: an event that its tenant's policy does not let in is refused before it is decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from gateway.domain.cloudevents import ReceivedEvent
from gateway.domain.errors import NotAllowed
from gateway.domain.event_signature import SIGNATURE_HEADER, EventSignature, read_signature, signed_bytes
from gateway.domain.policy import Policies, Policy
from gateway.flow.records import Record

__all__ = ["PublisherCheck", "Verify"]

Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, what was signed): whether the signature is right."""

_AHEAD: Final = timedelta(hours=1)
"""How far a producer's clock may be ahead: a signature of the future would outlive the memory of message ids."""


class PublisherCheck:
    """The chapter. ``window`` is how long message ids are remembered: within it a repeat is recognised, so no signature lives longer."""

    def __init__(self, policies: Policies, verify: Verify, window: timedelta) -> None:
        self._policies = policies
        self._verify = verify
        self._window = window

    def check(self, record: Record, topic: str, event: ReceivedEvent, policy: Policy, now: datetime) -> None:
        """Raises NotAllowed unless an event of this topic may be one of the policy's tenant."""
        owners = self._policies.owners(topic)
        wanted = policy.publishers
        if owners and policy.tenant not in owners:
            raise NotAllowed("wrong_topic", f"tenant {policy.tenant}: the topic is bound to {', '.join(sorted(owners))}")
        if wanted is None:
            return
        if wanted.topics and topic not in wanted.topics:
            raise NotAllowed("wrong_topic", f"tenant {policy.tenant}: its events come by {', '.join(wanted.topics)} alone")
        if wanted.keys:
            self._signature(record, event, policy, now)

    def _signature(self, record: Record, event: ReceivedEvent, policy: Policy, now: datetime) -> None:
        found = _the_one(record.headers, policy.tenant)
        if (found.event_id, found.source, found.type) != (event.id, event.source, event.type):
            raise NotAllowed("other_event", f"tenant {policy.tenant}: the signature names another id, source or type")
        age = now.timestamp() - found.signed_at
        if not -_AHEAD.total_seconds() <= age <= self._window.total_seconds():
            raise NotAllowed("stale", f"tenant {policy.tenant}: signed too long ago, or in the future")
        key = policy.publishers.keys.get(found.key_id) if policy.publishers is not None else None
        if key is None:
            if self._is_anothers(found.key_id):
                raise NotAllowed("other_tenant", f"tenant {policy.tenant}: signed with another tenant's key")
            raise NotAllowed("unknown_key", f"tenant {policy.tenant}: signed with a key that no policy names")
        if key.revoked:
            raise NotAllowed("revoked_key", f"tenant {policy.tenant}: key {found.key_id} is revoked")
        if not self._verify(key.raw, found.signature, signed_bytes(found.protected, record.value or b"")):
            raise NotAllowed("wrong_signature", f"tenant {policy.tenant}: the signature is not that of key {found.key_id}")

    def _is_anothers(self, key_id: str) -> bool:
        return any(policy.publishers is not None and key_id in policy.publishers.keys for policy in self._policies)


def _the_one(headers: Sequence[tuple[str, bytes | None]], tenant: str) -> EventSignature:
    """The one signature that a record has."""
    held = [value for name, value in headers if name.lower() == SIGNATURE_HEADER]
    if not held:
        raise NotAllowed("not_signed", f"tenant {tenant}: its events must be signed, and there is no header {SIGNATURE_HEADER}")
    if len(held) > 1:
        raise NotAllowed("unreadable", f"tenant {tenant}: there are two headers {SIGNATURE_HEADER}")
    return read_signature(held[0] or b"")
