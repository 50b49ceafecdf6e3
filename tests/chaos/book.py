"""The carrier's book, read: every create request with the message that it was for; of a batch every message by itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tests.chaos.schedule import Outgoing
from tests.chaos.witnessed import Witnessed

__all__ = ["Request", "requests_of", "uid_of"]


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for one message; ``published`` is None for an answer of the gateway's own.

    ``named`` is the message that its callback names, where the provider calls back for each; ``uid`` is the same, or else the message that
    has this text, None for an answer of the gateway's own.
    """

    row: Mapping[str, Any]
    published: Outgoing | None
    named: UUID | None
    uid: UUID | None

    @property
    def accepted(self) -> bool:
        return self.row["accepted_at"] is not None

    @property
    def taken_down(self) -> bool:
        """Whether the carrier has a message of it, be it one that will never reach its person."""
        return self.row["sid"] is not None

    @property
    def begun_at(self) -> float:
        """When its first byte came to the carrier, in seconds of the Unix epoch."""
        return float(self.row["begun_at"])


def requests_of(witnessed: Witnessed, book: Mapping[str, Any]) -> list[Request]:
    """All of them. Which message one was for is told by its text, which no other message has."""
    by_body = {one.record.body_sha256: one.record for one in witnessed.published if one.record.kind == "message"}
    uids = {message: uid for uid, message in witnessed.messages.items()}

    def read(row: Mapping[str, Any]) -> Request:
        published, named = by_body.get(row["body_sha256"]), uid_of(row["callback"])
        by_text = uids.get((published.programme.tenant, published.message_id)) if published is not None else None
        return Request(row, published, named, named or by_text)

    return [read(row) for row in book["requests"]]


def uid_of(callback: str | None) -> UUID | None:
    """The message in a callback's URL: the first 16 bytes of its token. None where the provider was given none."""
    if callback is None:
        return None
    token = callback.rpartition("/")[2]
    return UUID(bytes=base64.urlsafe_b64decode(token)[:16])
