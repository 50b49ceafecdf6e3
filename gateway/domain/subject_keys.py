"""Versions of the key that people are hashed with: which is the newest, and which is in use."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SubjectKeys"]


@dataclass(frozen=True, slots=True)
class SubjectKeys:
    """``newest``: what people say is written under all versions up to it. ``used``: what new messages are kept under.

    ``settled``: nothing waits under an older version than the one in use, and none is newer.
    """

    newest: int = 1
    used: int = 1
    settled: bool = True

    @property
    def text(self) -> str:
        """As it is kept, in one row that processes compare."""
        return f"{self.newest}/{self.used}/{'settled' if self.settled else 'open'}"

    @classmethod
    def of(cls, text: str) -> SubjectKeys:
        """The inverse of :attr:`text`."""
        newest, used, word = text.split("/")
        return cls(int(newest), int(used), word == "settled")
