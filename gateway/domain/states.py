"""The states of a message and the moves between them. A state never moves back."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final

__all__ = ["MOVES", "State", "may_move", "mermaid"]


class State(StrEnum):
    """What became of a message, as events and documents say it."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    BLOCKED = "blocked"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELED = "canceled"
    UNKNOWN = "unknown"


_ENDED_BY_US = (State.BLOCKED, State.EXPIRED, State.FAILED, State.CANCELED)
_PROVEN = (State.SENT, State.DELIVERED, State.UNDELIVERED)

# A callback may arrive before the answer to the request that caused it: hence the moves from accepted and deferred to what only a
# provider can say. sending is what a claimed or marked message shows; it is kept in the queue, not told.
MOVES: Final = MappingProxyType(
    {
        State.ACCEPTED: frozenset({State.SENDING, State.DEFERRED, State.UNKNOWN, *_ENDED_BY_US, *_PROVEN}),
        State.DEFERRED: frozenset({State.ACCEPTED, State.SENDING, State.UNKNOWN, *_ENDED_BY_US, *_PROVEN}),
        State.SENDING: frozenset({State.ACCEPTED, State.DEFERRED, State.UNKNOWN, *_ENDED_BY_US, *_PROVEN}),
        State.UNKNOWN: frozenset(_PROVEN),
        State.SENT: frozenset({State.DELIVERED, State.UNDELIVERED}),
        State.DELIVERED: frozenset[State](),
        State.UNDELIVERED: frozenset[State](),
        State.BLOCKED: frozenset[State](),
        State.EXPIRED: frozenset[State](),
        State.FAILED: frozenset[State](),
        State.CANCELED: frozenset[State](),
    },
)


def may_move(current: State, following: State) -> bool:
    """Whether news that says ``following`` changes a message that is ``current``."""
    return following in MOVES[current]


def mermaid() -> str:
    """The state machine as a Mermaid diagram; docs/architecture.md shows it and a test holds the two together."""
    lines = ["stateDiagram-v2", "    [*] --> accepted", "    [*] --> deferred", "    [*] --> blocked", "    [*] --> expired"]
    for current, following in MOVES.items():
        lines += [f"    {current} --> {after}" for after in sorted(following)]
        if not following:
            lines.append(f"    {current} --> [*]")
    return "\n".join(lines) + "\n"
