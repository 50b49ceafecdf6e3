"""What the carrier writes down: a create request, a message, and a webhook that was posted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.simulator.plan import Plan, Step

__all__ = ["Message", "Posted", "Request"]


@dataclass(frozen=True, slots=True)
class Posted:
    """One webhook that was sent: which status it told, when it began, and how it ended.

    ``http`` is None when no answer came; ``failure`` then says "connect" or "read". ``seconds`` counts all ``attempts``.
    """

    status: str
    at: float
    http: int | None
    failure: str | None
    seconds: float
    attempts: int
    answer: str = field(default="", repr=False)


@dataclass(slots=True, eq=False)
class Message:
    """A message that the carrier has: one that it accepted, or an inbound one. Times are seconds of the Unix epoch.

    ``service``, ``pool_sender``, ``opt_out_type`` and ``canceled`` are Twilio's; ``batch`` and ``binned`` (deleted, not yet purged)
    are RingCentral's.
    """

    number: int
    sid: str
    account: str
    direction: Literal["inbound", "outbound-api"]
    to: str = field(repr=False)
    sender: str | None = field(repr=False)
    service: str | None
    body: str = field(repr=False)
    segments: int
    created_at: float
    starts_at: float
    plan: Plan | None
    callback: str | None = None
    batch: str | None = None
    pool_sender: str | None = field(default=None, repr=False)
    opt_out_type: str | None = None
    reached: int = -1
    changed_at: float = 0.0
    canceled: bool = False
    binned: bool = False
    deleted: bool = False
    posted: list[Posted] = field(default_factory=list)

    def place(self, now: float) -> int:
        """The index of the last step reached: by the clock, or because its callback has gone out."""
        assert self.plan is not None
        place = self.reached
        steps = self.plan.steps
        while place + 1 < len(steps) and now - self.starts_at >= steps[place + 1].after:
            place += 1
        return place

    def step(self, now: float) -> Step:
        """The status at ``now``; ``after`` counts from ``starts_at``."""
        if self.plan is None:
            return Step(0.0, "received")
        if self.canceled:
            return Step(self.changed_at - self.starts_at, "canceled")
        place = self.place(now)
        if place >= 0:
            return self.plan.steps[place]
        if self.starts_at > self.created_at and now < self.starts_at:
            return Step(0.0, "scheduled")
        return Step(0.0, "accepted" if self.service else "queued")

    def sent_at(self, now: float) -> float | None:
        """When it was sent (or failed), or None where that has not happened."""
        if self.plan is None:
            return self.created_at
        if self.canceled or self.place(now) < 0:
            return None
        return self.starts_at + self.plan.steps[0].after

    def history(self, now: float) -> list[tuple[str, float]]:
        """Each status after the first with its time."""
        if self.plan is None:
            return [("received", self.created_at)]
        reached = self.plan.steps[: self.place(now) + 1]
        steps = [] if self.canceled else [(step.status, self.starts_at + step.after) for step in reached]
        return [*steps, ("canceled", self.changed_at)] if self.canceled else steps

    def complete(self, now: float) -> bool:
        """Whether nothing more will become of it: only then may it be deleted or redacted."""
        return self.plan is None or self.canceled or (bool(self.plan.steps) and self.place(now) == len(self.plan.steps) - 1)


@dataclass(slots=True, eq=False)
class Request:
    """What was asked for one message. ``begun_at`` is when its first byte came; ``answer`` the HTTP status, None while or where none was sent.

    ``ending`` is "" while it is under way, then "answered", "reset", "hung" or "left" (the client went away).
    """

    number: int
    account: str
    begun_at: float
    to: str = field(repr=False)
    sender: str | None = field(repr=False)
    service: str | None
    body_sha256: bytes
    callback: str | None
    message: Message | None = field(default=None, repr=False)
    accepted_at: float | None = None
    ended_at: float | None = None
    answer: int | None = None
    code: int | str | None = None
    ending: str = ""

    def as_json(self, now: float) -> dict[str, Any]:
        """The request and its message as the control API tells them. Numbers are in it: the book is the carrier's."""
        message = self.message
        return {
            "number": self.number,
            "account": self.account,
            "to": self.to,
            "from": self.sender,
            "service": self.service,
            "body_sha256": self.body_sha256.hex(),
            "callback": self.callback,
            "batch": None if message is None else message.batch,
            "begun_at": self.begun_at,
            "accepted_at": self.accepted_at,
            "ended_at": self.ended_at,
            "answer": self.answer,
            "code": self.code,
            "ending": self.ending,
            "sid": None if message is None else message.sid,
            "state": None if message is None else message.step(now).status,
            "history": [] if message is None else message.history(now),
            "callbacks": [] if message is None else [
                {"status": one.status, "at": one.at, "http": one.http, "failure": one.failure,
                 "ms": round(one.seconds * 1000, 3), "attempts": one.attempts} for one in message.posted
            ],
        }  # fmt: skip
