"""Which faults there are, and when each happens to what: drawn from a seed before anything starts."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FAMILIES", "LINES", "MOMENTS", "STORMS", "Fault", "FaultKind", "draw_faults"]

FaultKind = Literal[
    # the gateway's own processes
    "kill",
    "kill_family",
    "freeze",
    "kill_applier",
    "freeze_applier",
    # PostgreSQL, its connections and its disk
    "cut_sessions",
    "crash_postgres",
    "stop_postgres",
    "freeze_postgres",
    "lock_tables",
    "use_up_sessions",
    "fill_disk",
    # the broker
    "stop_broker",
    "kill_broker",
    "freeze_broker",
    # the lines between the gateway and everybody else
    "cut_line",
    "slow_line",
    "thin_line",
    "hold_line",
    "mute_line",
    "lose_answers",
    "lose_commits",
    "drop_commits",
    # the carrier, and an operator
    "storm",
    "revoke_tokens",
    "bar_subscription",
    "pause",
]

#: How many processes of each role there are, beside the supervisor of each role.
FAMILIES: Final[Mapping[str, int]] = {"worker": 3, "web": 2, "relay": 2, "sweep": 1}
LINES: Final = ("postgres", "broker", "carrier", "web")
STORMS: Final = ("busy", "errors", "resets", "silence", "callbacks")
#: What becomes of the subscription by which RingCentral calls the web.
SUBSCRIPTIONS: Final = ("Blacklisted", "Expired")
#: Where the applier of the spool is hurt: with some of the STOPs applied, or with all of them, and its offset not moved.
MOMENTS: Final = ("records", "offset")
#: How often each fault happens in a round. Those with a choice of targets take them in turn.
_ROUND: Final[Mapping[FaultKind, int]] = {
    "kill_applier": 1,
    "freeze_applier": 1,
    "cut_sessions": 1,
    "crash_postgres": 1,
    "stop_postgres": 1,
    "freeze_postgres": 1,
    "fill_disk": 1,
    "stop_broker": 1,
    "kill_broker": 1,
    "freeze_broker": 1,
    "cut_line": 2,
    "slow_line": 1,
    "thin_line": 1,
    "hold_line": 2,
    "mute_line": 1,
    "lose_answers": 1,
    "lose_commits": 1,
    "drop_commits": 1,
    "storm": 2,
    "revoke_tokens": 1,
    "bar_subscription": 1,
    "pause": 1,
}
#: Kills of a round, by role; two workers and another process are frozen in it too.
_KILLS: Final = {"worker": 3, "web": 1, "relay": 1, "sweep": 1}
#: How long a fault that lasts does so, in seconds: from, to. A lease is four.
_LASTS: Final[Mapping[FaultKind, tuple[float, float]]] = {
    "kill_applier": (11.0, 13.0),  # so that STOPs were answered, and a lease has passed since, when PostgreSQL is back
    "freeze_applier": (4.0, 6.0),
    "stop_postgres": (1.0, 5.0),
    "freeze_postgres": (3.0, 6.0),
    "lock_tables": (2.0, 6.0),
    "use_up_sessions": (2.0, 5.0),
    "fill_disk": (2.0, 6.0),
    "stop_broker": (1.0, 5.0),
    "kill_broker": (0.0, 2.0),
    "freeze_broker": (2.0, 6.0),
    "slow_line": (4.0, 8.0),
    "thin_line": (4.0, 8.0),
    "hold_line": (2.0, 7.0),
    "mute_line": (2.0, 6.0),
    "lose_answers": (3.0, 3.0),
    "lose_commits": (3.0, 3.0),
    "drop_commits": (3.0, 3.0),
    "storm": (4.0, 8.0),
    "revoke_tokens": (3.0, 5.0),
    "bar_subscription": (1.0, 3.0),
    "pause": (8.0, 11.0),
}
ROUND_SECONDS: Final = 85.0
_FIRST_AT: Final = 4.0
_QUIET_AT_THE_END: Final = 4.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something is hurt ``at`` so many seconds of load, for so many ``seconds`` where it lasts; what is not up then is waited for.

    ``target`` is a process (``worker-1``), a role whose supervisor is meant, a line, a storm, a moment of the applier's (``MOMENTS``),
    what a subscription becomes, or "" where there is one thing alone.
    """

    number: int
    at: float
    kind: FaultKind
    target: str = ""
    seconds: float = 0.0

    @property
    def needs_requests(self) -> bool:
        """Whether it is to find requests under way, for which a burst is published."""
        return self.target.startswith("worker") or self.kind in (
            "cut_sessions",
            "crash_postgres",
            "stop_postgres",
            "lose_commits",
        )


def draw_faults(seed: int, load_seconds: float) -> tuple[Fault, ...]:
    """The faults of a load. Every process is hurt in turn, those that send most often; the last fault kills all of the web.

    So the web's start reads what the carrier has, and finds the texts whose webhooks were lost.
    """
    chance = random.Random(f"{seed}:faults")
    rounds = max(1, int(load_seconds // ROUND_SECONDS))
    turns = _Turns(chance)
    hurts: list[tuple[FaultKind, str]] = []
    for _ in range(rounds):
        one = list(_round(turns))
        chance.shuffle(one)
        hurts += one
    hurts.append(("kill_family", "web"))
    step = (load_seconds - _FIRST_AT - _QUIET_AT_THE_END) / len(hurts)
    return tuple(
        Fault(number, round(_FIRST_AT + (number - 1 + chance.random() * 0.8) * step, 2), kind, target, _lasts(chance, kind))
        for number, (kind, target) in enumerate(hurts, start=1)
    )


class _Turns:
    """Targets in a drawn order, each as often as the others."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._left: dict[tuple[str, ...], list[str]] = {}

    def next(self, targets: tuple[str, ...]) -> str:
        left = self._left.setdefault(targets, [])
        if not left:
            left += self._chance.sample(targets, len(targets))
        return left.pop()


def _round(turns: _Turns) -> Iterator[tuple[FaultKind, str]]:
    members = {role: tuple(f"{role}-{number + 1}" for number in range(size)) for role, size in FAMILIES.items()}
    for role, kills in _KILLS.items():
        yield from (("kill", turns.next(members[role])) for _ in range(kills))
    yield from (("freeze", turns.next(members["worker"])) for _ in range(2))
    yield "freeze", turns.next(tuple(name for role in ("web", "relay", "sweep") for name in members[role]))
    yield "kill_family", turns.next(("worker", "relay"))
    pools: tuple[FaultKind, ...] = ("lock_tables", "use_up_sessions")
    yield pools[turns.next(("0", "1")) == "1"], ""
    for kind, count in _ROUND.items():
        for _ in range(count):
            yield kind, turns.next(_targets(kind))


def _targets(kind: FaultKind) -> tuple[str, ...]:
    match kind:
        case "cut_line" | "slow_line" | "thin_line" | "hold_line" | "mute_line":
            return LINES
        case "lose_answers":
            return ("broker", "carrier", "web")
        case "storm":
            return STORMS
        case "bar_subscription":
            return SUBSCRIPTIONS
        case "kill_applier" | "freeze_applier":
            return MOMENTS
        case "pause":
            return ("lantern/offers", "lantern/orders", "ferry/crossings")
        case _:
            return ("",)


def _lasts(chance: random.Random, kind: FaultKind) -> float:
    low, high = _LASTS.get(kind, (0.0, 0.0))
    return round(chance.uniform(low, high), 1)
