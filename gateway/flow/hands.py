"""What a worker has in its hands: attempts from their claim until they are settled or put back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from gateway.flow.claims import Claimed, Marked
from gateway.flow.pacing import Pacing

__all__ = ["Hands"]


@dataclass(slots=True)
class Hands:
    """What this worker holds.

    ``ready`` are claimed and can be marked, ``marked`` can begin; ``owed`` have surely not begun, and PostgreSQL is still to be told.
    ``attempts`` are all of them and those that have begun, until they are settled.
    """

    ready: dict[str, deque[Claimed]] = field(default_factory=dict)
    marked: dict[str, deque[Marked]] = field(default_factory=dict)
    owed: dict[UUID, int] = field(default_factory=dict)
    attempts: dict[UUID, int] = field(default_factory=dict)

    def waiting(self) -> dict[str, int]:
        """How many have not begun, by account."""
        return {account: len(ready) + len(self.marked.get(account, ())) for account, ready in self.ready.items()}

    def to_mark(self, pacing: Pacing) -> list[Claimed]:
        """Those that can begin now or in a moment, and are not marked yet."""
        batch = []
        for account, ready in self.ready.items():
            slots = pacing.free(account) + pacing.soon(account)
            wanted = slots * pacing.batch(account) - len(self.marked.get(account, ()))
            batch += [ready.popleft() for _ in range(min(wanted, len(ready)))]
        return batch

    def next_request(self, account: str, most: int) -> list[Marked]:
        """What goes out in the next request: the first that is marked, and with it others of its sender, each to another person."""
        marked = self.marked[account]
        first = marked.popleft()
        together = {first.claimed.person: first}
        for _ in range(len(marked) if most > 1 else 0):
            one = marked.popleft()
            fits = one.claimed.sender == first.claimed.sender and one.claimed.person not in together
            if fits and len(together) < most:
                together[one.claimed.person] = one
            else:
                marked.append(one)  # all the way round: those that stay keep their order
        return list(together.values())

    def owe(self, claimed: Iterable[Claimed]) -> None:
        """These have not begun and shall not: they go back."""
        self.owed.update((one.uid, one.attempt) for one in claimed)

    def owe_stale(self, now: float) -> None:
        """What was marked ahead and has found no slot goes back."""
        for queue in self.marked.values():
            while queue and queue[0].stale_at <= now:
                self.owe([queue.popleft().claimed])

    def owe_all(self) -> None:
        """Whatever has not begun goes back."""
        for ready in self.ready.values():
            self.owe(ready)
        for queue in self.marked.values():
            self.owe(marked.claimed for marked in queue)
        self.ready.clear()
        self.marked.clear()

    def forget(self, uid: UUID, attempt: int) -> None:
        """An attempt is settled or put back. The next one, which may be in these hands already, stays."""
        for held in (self.owed, self.attempts):
            if held.get(uid) == attempt:
                del held[uid]
