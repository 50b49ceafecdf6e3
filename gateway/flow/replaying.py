"""Put dead letters back: the record's own bytes go onto the topic that they came from, and are read as if they had come now.

Published first and marked then: a command that is killed between the two leaves a letter that looks as if it had not been put back. To
put it back once more does no harm, for its message id is remembered; the other order could leave one that only looks as if it had been.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from gateway.domain.errors import CannotOpen, KeyMissing, NotFound
from gateway.domain.ids import uid_time
from gateway.domain.kept_records import KeptRecord
from gateway.domain.publishing import Acknowledged, OutEvent, PublishResult
from gateway.flow.burial import SealedLetter, open_letter
from gateway.flow.records import REPLAY_HEADER, ReplayMarks
from gateway.flow.vault import Vault

__all__ = ["LetterPublisher", "Replay", "ReplayStore", "Replaying"]


class ReplayStore(Protocol):
    """Where dead letters lie."""

    async def sealed(self, uids: Sequence[UUID]) -> list[SealedLetter]:
        """These letters with what is sealed of them, oldest first."""
        ...

    async def begin_replay(self, uids: Sequence[UUID], actor: str) -> None:
        """Write down that these letters are about to be put back."""
        ...

    async def replayed(self, uids: Sequence[UUID], actor: str) -> None:
        """Mark letters as put back, with the audit of it."""
        ...


class LetterPublisher(Protocol):
    """The way onto the topics."""

    async def publish(self, batch: Sequence[OutEvent], limit_seconds: float = ...) -> Sequence[PublishResult]:
        """An answer for each event, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of one letter: ``why`` None when it was put back."""

    uid: UUID
    why: str | None


class Replaying:
    """The chapter. ``topics`` are those that are read; ``window`` is how long message ids are remembered."""

    def __init__(
        self,
        store: ReplayStore,
        publisher: LetterPublisher,
        vault: Vault,
        marks: ReplayMarks,
        *,
        topics: Collection[str],
        window: timedelta,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._vault = vault
        self._marks = marks
        self._topics = topics
        self._window = window

    async def replay(self, uids: Sequence[UUID], actor: str, now: datetime, *, again: bool) -> list[Replay]:
        """Put letters back, oldest first; what became of each. ``again``: also those that were put back before."""
        letters = await self._store.sealed(uids)
        events: dict[UUID, OutEvent] = {}
        results = {uid: Replay(uid, "there is no such dead letter") for uid in uids}
        for letter in letters:
            made = self._event(letter, now, again=again)
            if isinstance(made, str):
                results[letter.uid] = Replay(letter.uid, made)
            else:
                events[letter.uid] = made
        if events:
            await self._store.begin_replay(list(events), actor)
            published = await self._publisher.publish(list(events.values()))
            done = [uid for uid, result in zip(events, published, strict=True) if isinstance(result, Acknowledged)]
            if done:
                await self._store.replayed(done, actor)
            for uid, result in zip(events, published, strict=True):
                results[uid] = Replay(uid, None if isinstance(result, Acknowledged) else f"Kafka has not taken it: {result.why}")
        return list(results.values())

    def _event(self, letter: SealedLetter, now: datetime, *, again: bool) -> OutEvent | str:
        """The record to publish, or why there is none."""
        if letter.replayed and not again:
            return "it was put back before: --again puts it back once more"
        if letter.topic not in self._topics:
            return f"it came from the topic {letter.topic}, which is not read any more"
        try:
            record = open_letter(self._vault, letter)
        except NotFound:
            return "it was too large to keep: there is nothing to put back"
        except KeyMissing:
            return "its key is gone, and with it what was sealed"
        except CannotOpen:
            return "it cannot be opened: it was changed, or sealed by another version"
        came = _came(letter, record)
        if now.timestamp() - came / 1000 > self._window.total_seconds():
            return "it is older than message ids are remembered: it may have been sent since, and nobody would know"
        mark = self._marks.make(letter.replay_of or letter.uid, came, letter.sha256)
        # What has no value leaves as an empty one: Kafka's clients differ in whether a header may be without.
        headers = [(name, value or b"") for name, value in record.headers]
        return OutEvent(
            letter.topic,
            record.key,
            [*headers, (REPLAY_HEADER, mark.encode())],
            record.value,
            ordered_by=letter.uid.bytes if record.key is None else None,
        )


def _came(letter: SealedLetter, record: KeptRecord) -> int:
    """When the record first came, in milliseconds: by its own timestamp where that is known, never later than it was buried."""
    buried = int(uid_time(letter.uid).timestamp() * 1000)
    return min(record.timestamp_ms, buried) if record.timestamp_ms >= 0 else buried
