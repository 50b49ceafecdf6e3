"""What operators do with one message: hear its story, or cancel it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from gateway.domain.changes import Change, Held, end
from gateway.domain.errors import NotFound
from gateway.domain.reasons import Reason
from gateway.domain.states import State
from gateway.flow.ledger import Ledger
from gateway.flow.vault import Hasher, Vault

__all__ = ["Operate", "StoryStore"]


class StoryStore(Protocol):
    """Where messages are found by their producer's id."""

    async def story(self, tenant: str, id_hash: bytes) -> dict[str, Any] | None:
        """A message and its steps; None when there is none."""
        ...


class Operate:
    """The chapter."""

    def __init__(self, stories: StoryStore, ledger: Ledger, hasher: Hasher, vault: Vault) -> None:
        self._stories = stories
        self._ledger = ledger
        self._hasher = hasher
        self._vault = vault

    async def find(self, tenant: str, message_id: str) -> Mapping[str, Any] | None:
        """What became of a message, and every step of the way, ready for JSON; None when there is no such message."""
        story = await self._stories.story(tenant, self._hasher.message_id_hash(tenant, message_id))
        if story is None:
            return None
        sealed, clear = story.pop("recipient_sealed"), story["recipient_ref"]
        story["recipient_ref"] = self._vault.open_recipient(tenant, story["uid"], sealed, clear)
        return {
            name: [_plain(step) for step in value] if name == "steps" else _plain_value(value)
            for name, value in story.items()
            if value is not None
        }

    async def cancel(self, tenant: str, message_id: str, actor: str) -> bool:
        """Cancel what no request has begun for. False when it is too late. Raises NotFound."""
        story = await self._stories.story(tenant, self._hasher.message_id_hash(tenant, message_id))
        if story is None:
            raise NotFound("no such message")

        def judge(held: Mapping[UUID, Held], _now: datetime) -> list[Change]:
            return [
                end(one.message, one.queued, State.CANCELED, Reason.CANCELED, "operator.canceled")
                for one in held.values()
                if one.queued is not None and one.queued.state != "marked"
            ]

        return bool(await self._ledger.change([story["uid"]], judge, actor=actor))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in row.items() if value is not None}


def _plain_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    return str(value) if isinstance(value, UUID) else value
