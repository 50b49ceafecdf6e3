"""Insert messages: the producers' and the gateway's own answers alike, with what waits in the queue, the audit and the first event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.store.statements import statements

if TYPE_CHECKING:
    from gateway.store.database import Session

__all__ = ["insert_messages"]


async def insert_messages(session: Session, rows: Sequence[tuple[Any, ...]], actor: str) -> None:
    """Insert messages, each a tuple in the order of the statement's arrays."""
    if rows:
        await session.execute(statements("intake")["insert"], *map(list, zip(*rows, strict=True)), actor)
